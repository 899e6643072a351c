//! The schema of the database: SQL in `migrations/`, embedded, brought in by whichever node comes first.
//!
//! Migrations only ever add (expand); what is no longer used goes in a later version (contract), so that nodes of two versions can run at
//! the same time.

use std::time::Duration;

use refinery::error::Kind;
use refinery::{Migration, Runner};
use tokio_postgres::Client;

use crate::PgConfig;
use crate::error::StoreError;
use crate::sql::quote;

/// Our record of what was brought in.
const HISTORY: &str = "silverback_migrations";
/// The lock of whoever migrates: any number no one else uses.
const LOCK: i64 = 0x5B_4D49_4752;
/// Login, TLS and all.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

mod embedded {
    #![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]
    refinery::embed_migrations!("../../migrations");
}

/// One migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its number.
    pub version: i32,
    /// What it does, from the file's name.
    pub name: String,
}

/// Which migrations the database has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// In the database.
    pub applied: Vec<Step>,
    /// Known to this program and not in the database.
    pub pending: Vec<Step>,
}

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// No connection, or lost.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database was migrated by a newer version of this program.
    #[error(
        "the database has migration {version} ({name}), which this version does not know: it was made by a newer version"
    )]
    Newer {
        /// The unknown migration's number.
        version: i32,
        /// Its name.
        name: String,
    },
    /// A migration in the database is not the one this program has under its number.
    #[error("migration {version} ({name}) differs from the one the database was made with")]
    Changed {
        /// Its number.
        version: i32,
        /// Its name.
        name: String,
    },
    /// A migration failed; it left nothing behind.
    #[error("a migration failed: {0}")]
    Failed(String),
}

/// The migrations this program has, in order.
pub fn list() -> Vec<Step> {
    let mut all: Vec<Step> = embedded::migrations::runner()
        .get_migrations()
        .iter()
        .map(step)
        .collect();
    all.sort_by_key(|s| s.version);
    all
}

/// Which migrations the database has. A database that was never migrated has none.
///
/// # Errors
/// `Store`; `Newer` and `Changed` when the database does not fit this program.
pub async fn status(cfg: &PgConfig) -> Result<Status, MigrateError> {
    let mut client = connect(cfg).await?;
    read_status(&mut client).await
}

/// Brings the schema up to date; answers what was done. Safe when several nodes do it at once: they wait for each other.
///
/// # Errors
/// Any of [`MigrateError`].
pub async fn up(cfg: &PgConfig) -> Result<Vec<Step>, MigrateError> {
    let mut client = locked(cfg).await?;
    read_status(&mut client).await?;
    let report = runner().run_async(&mut client).await.map_err(of_refinery)?;
    Ok(report.applied_migrations().iter().map(step).collect())
}

/// Makes the schema (the namespace) if it is configured and not there, then does as [`up`].
///
/// # Errors
/// Any of [`MigrateError`].
pub async fn bootstrap(cfg: &PgConfig) -> Result<Vec<Step>, MigrateError> {
    if let Some(schema) = &cfg.schema {
        let client = locked(cfg).await?;
        let sql = format!("create schema if not exists {}", quote(schema));
        client.batch_execute(&sql).await.map_err(StoreError::from)?;
    }
    up(cfg).await
}

/// Drops all tables that our migrations made, with everything in them. Other tables stay.
///
/// # Errors
/// `Store`.
pub async fn reset(cfg: &PgConfig) -> Result<(), MigrateError> {
    let client = locked(cfg).await?;
    let mut sql = String::from("begin;");
    for table in tables().iter().rev() {
        sql.push_str(&format!("drop table if exists {} cascade;", quote(table)));
    }
    sql.push_str(&format!("drop table if exists {}; commit", quote(HISTORY)));
    client.batch_execute(&sql).await.map_err(StoreError::from)?;
    Ok(())
}

/// The tables the migrations make, in order.
fn tables() -> Vec<String> {
    let mut all: Vec<Migration> = embedded::migrations::runner().get_migrations().clone();
    all.sort();
    all.iter()
        .filter_map(Migration::sql)
        .flat_map(str::lines)
        .filter_map(|line| line.strip_prefix("create table "))
        .filter_map(|rest| rest.split([' ', '(']).next())
        .map(str::to_owned)
        .collect()
}

fn runner() -> Runner {
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name(HISTORY);
    runner
}

fn step(m: &Migration) -> Step {
    Step {
        version: m.version(),
        name: m.name().to_owned(),
    }
}

async fn read_status(client: &mut Client) -> Result<Status, MigrateError> {
    let there = client
        .query_one("select to_regclass($1) is not null", &[&HISTORY])
        .await;
    if !there
        .and_then(|r| r.try_get::<_, bool>(0))
        .map_err(StoreError::from)?
    {
        return Ok(Status {
            applied: Vec::new(),
            pending: list(),
        });
    }
    let applied = runner()
        .get_applied_migrations_async(client)
        .await
        .map_err(of_refinery)?;
    let known: Vec<Migration> = embedded::migrations::runner().get_migrations().clone();
    for a in &applied {
        let Step { version, name } = step(a);
        match known.iter().find(|k| k.version() == version) {
            None => return Err(MigrateError::Newer { version, name }),
            Some(k) if k.checksum() != a.checksum() => {
                return Err(MigrateError::Changed { version, name });
            }
            Some(_) => {}
        }
    }
    let applied: Vec<Step> = applied.iter().map(step).collect();
    let pending = list()
        .into_iter()
        .filter(|s| !applied.contains(s))
        .collect();
    Ok(Status { applied, pending })
}

/// A connection that holds the lock until it is dropped.
async fn locked(cfg: &PgConfig) -> Result<Client, MigrateError> {
    let client = connect(cfg).await?;
    client
        .execute("select pg_advisory_lock($1)", &[&LOCK])
        .await
        .map_err(StoreError::from)?;
    Ok(client)
}

async fn connect(cfg: &PgConfig) -> Result<Client, MigrateError> {
    let work = async {
        let (client, connection) = cfg.driver().connect(cfg.tls()?).await?;
        tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!("the connection for migrations ended: {e}");
            }
        });
        client.batch_execute(&cfg.session_sql()).await?;
        // A migration may take its time, and so may waiting for another node's.
        client
            .batch_execute("set statement_timeout = 0; set idle_in_transaction_session_timeout = 0")
            .await?;
        Ok::<_, StoreError>(client)
    };
    tokio::time::timeout(CONNECT_LIMIT.min(cfg.connect_timeout * 2), work)
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable("no connection in time".into())))
        .map_err(MigrateError::Store)
}

fn of_refinery(e: refinery::Error) -> MigrateError {
    match e.kind() {
        Kind::DivergentVersion(_, m) => MigrateError::Changed {
            version: m.version(),
            name: m.name().to_owned(),
        },
        Kind::MissingVersion(m) => MigrateError::Newer {
            version: m.version(),
            name: m.name().to_owned(),
        },
        Kind::Connection(text, source) => {
            // The text says what was being done, the source why it failed.
            let why = std::error::Error::source(source.as_ref())
                .map(|s| format!(": {s}"))
                .unwrap_or_default();
            MigrateError::Failed(format!("{text}: {source}{why}"))
        }
        other => MigrateError::Failed(other.to_string()),
    }
}
