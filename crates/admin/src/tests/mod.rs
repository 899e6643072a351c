//! The API over a real Postgres, without sockets unless they are what is tested.
#![allow(clippy::unwrap_used)]

mod access;
mod belongings;
mod certificates;
mod changes;
mod contract;
mod credentials;
mod crud;
mod declarative;
mod harness;
mod history;
mod lifetimes;
mod node;
mod plugin_endpoints;
mod plugins;
mod sockets;
mod targets;
mod transport;
