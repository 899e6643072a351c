//! Entities compiled into the [`Snapshot`] a node serves from.
//!
//! [`Builder`] turns rows into snapshots on a thread of its own ([`Engine`]), [`Current`] is where the proxy finds the newest
//! one, [`Chain`] runs a route's plugins, and [`registry`] holds the state that outlives a snapshot.

pub mod builder;
pub mod chain;
pub mod directory;
pub mod engine;
pub mod file;
mod refusing;
pub mod registry;
mod sharded;
mod shown;
pub mod snapshot;
pub mod vault;

pub use builder::{Builder, Problem, build};
pub use chain::{Chain, Instance, Outcome, Picks, Step};
pub use directory::DirectoryIndex;
pub use engine::{Engine, EngineConfig, EngineStatus, Update};
pub use registry::{NodeServices, Pools, Registries};
pub use snapshot::{
    ClientCertificate, Current, Destination, RouteRuntime, ServiceRuntime, Snapshot,
};
pub use vault::Environment;
