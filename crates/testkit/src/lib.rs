//! What tests, the demo and the benchmarks run against: private Postgres and Redis servers, mock upstreams, and a small
//! HTTP/1.1 client that can also say what no well-behaved client says.
//!
//! | module | what |
//! |---|---|
//! | [`process`] | child processes that die with their parent |
//! | [`ports`] | ports for servers that must be told theirs before they start |
//! | [`postgres`] | a private cluster; one database per test, copied from a migrated template |
//! | [`redis`] | a private Redis |
//! | [`upstream`] | echo and scripted upstreams that count what reaches them (feature `upstream`) |
//! | [`websocket`] | frames, and an upstream that echoes them (feature `upstream`) |
//! | [`echo`] | the answer of an echo upstream, as a pure function |
//! | [`h1`] | HTTP/1.1 as bytes: requests and responses parsed without judging them |
//! | [`gateway`] | whole nodes in-process or as processes, an Admin API client, blueprints (feature `gateway`) |
//! | [`client`] | a blocking keep-alive client and [`client::exchange`] for malformed requests |
//!
//! Without default features the crate needs neither the gateway nor Tokio; that is what `xtask` links.

pub mod client;
pub mod echo;
mod error;
#[cfg(feature = "gateway")]
pub mod gateway;
pub mod h1;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod redis;
#[cfg(feature = "upstream")]
pub mod upstream;
#[cfg(feature = "upstream")]
pub mod websocket;

pub use error::Error;
