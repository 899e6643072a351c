//! End to end: whole nodes, real sockets, a real Postgres, a real Redis. One binary, a folder for each area.
#![allow(clippy::unwrap_used, missing_docs)]

mod golden;

/// What a test answers with: an error fails it.
type Outcome = anyhow::Result<()>;
