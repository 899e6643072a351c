//! The Silverback API gateway: the composition root, the command line and the settings.
//!
//! A gateway with a plugin of one's own is a program of a few lines:
//!
//! ```no_run
//! # use silverback::Gateway;
//! fn main() -> std::process::ExitCode {
//!     Gateway::bundled()/* .plugin::<MyPlugin>() */.main()
//! }
//! ```

pub mod cli;
pub mod config;
mod counters;
mod data_plane;
mod declarative;
mod gateway;
mod identity;
mod log_level;
pub mod node;
mod pg;
mod rows;
mod status;
mod tokens;
mod upstreams;

pub use gateway::Gateway;
pub use node::{Node, Stop};

/// The version of Silverback.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
