//! Entities compiled into the [`Snapshot`] a node serves from.

pub mod chain;
pub mod directory;
pub mod snapshot;

pub use chain::{Chain, Instance, Outcome, Picks, Step};
pub use directory::DirectoryIndex;
pub use snapshot::{Current, RouteRuntime, ServiceRuntime, Snapshot};
