//! End to end: whole nodes, real sockets, a real Postgres, a real Redis. One binary, a folder for each area.
#![allow(clippy::unwrap_used, missing_docs)]

mod admin;
mod clients;
mod cluster;
mod declarative;
mod golden;
mod outage;
mod plugins;
mod process;
mod proxy;
mod retry;

/// What a test answers with: an error fails it.
type Outcome = anyhow::Result<()>;
