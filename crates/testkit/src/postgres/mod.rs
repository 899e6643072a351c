//! Private Postgres clusters: on a free port of 127.0.0.1, in a folder of their own, never the system's.
//!
//! [`Cluster`] is one cluster in a folder, which may survive its process (the demo's does). [`Server`] is what tests use: a
//! throw-away cluster without fsync (a `kill -9` of it loses nothing, a power cut would) and one database per test, copied
//! from a template that was migrated once.

mod cluster;
mod server;

use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::process::{self, Program};

pub use cluster::{Cluster, Keep};
pub use server::{Database, Server};

/// Where [`Server::shared`] looks for a server that a test run has started for all its processes.
pub const URL_VARIABLE: &str = "TESTKIT_POSTGRES_URL";

/// The superuser of every cluster made here.
pub const USER: &str = "silverback";

const PREFIX: &str = "silverback-postgres-";

/// Whether a Postgres server can be started here.
pub fn is_installed() -> bool {
    programs(None).is_some()
}

/// Runs SQL at a connection string with `psql`.
fn psql(url: &str, sql: &str) -> Result<String, Error> {
    Program::new(program("psql")?)
        .args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            url,
            "-c",
            sql,
        ])
        .output()
}

/// Where a program of the newest Postgres lies: `psql`, `pgbench`.
///
/// # Errors
/// [`Error::Missing`] without Postgres.
pub fn program(name: &str) -> Result<PathBuf, Error> {
    programs(None)
        .map(|bin| bin.join(name))
        .filter(|program| program.is_file())
        .ok_or_else(|| Error::Missing(format!("no {name}: apt-get install postgresql")))
}

/// The folder with `initdb` and `postgres`, of this major version or else the newest. Debian keeps it out of `PATH`.
fn programs(version: Option<&str>) -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| version.is_none_or(|v| entry.file_name().to_str() == Some(v)))
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, bin): &(u32, PathBuf)| bin.join("initdb").is_file())
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin).or_else(|| {
        let initdb = fs::canonicalize(process::find_program("initdb")?).ok()?;
        initdb.parent().map(Path::to_owned)
    })
}
