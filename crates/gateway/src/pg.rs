//! The settings `pg_*` for the store, and `silverback migrations`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;
use silverback_store::PgConfig;
use silverback_store::migrate::{self, MigrateError, Status, Step};

use crate::cli::{Action, Migrations};
use crate::config::{Config, PemSource, TrustedCertificate};

/// Connections of a node when `pg_max_concurrent_queries` leaves the number to us: enough to keep a local Postgres busy.
const POOL: usize = 16;

/// Where Postgres is, by the node's settings.
///
/// # Errors
/// When the trusted authorities cannot be read.
pub(crate) fn settings(config: &Config) -> anyhow::Result<PgConfig> {
    Ok(PgConfig {
        host: config.pg_host.clone(),
        port: config.pg_port,
        user: config.pg_user.clone(),
        password: config.pg_password.as_ref().map(|p| p.expose().to_owned()),
        database: config.pg_database.clone(),
        schema: config.pg_schema.clone(),
        ssl: config.pg_ssl,
        ssl_verify: config.pg_ssl_verify,
        ca_file: trusted_authorities(config)?,
        pool_size: match usize::try_from(config.pg_max_concurrent_queries) {
            Ok(0) | Err(_) => POOL,
            Ok(n) => n,
        },
        connect_timeout: config.pg_timeout,
        statement_timeout: config.pg_timeout,
    })
}

/// The bundle of `lua_ssl_trusted_certificate`: one file as it is, several put together below the prefix.
///
/// # Errors
/// When one of them cannot be read.
pub(crate) fn trusted_authorities(config: &Config) -> anyhow::Result<Option<PathBuf>> {
    let system = || TrustedCertificate::system_bundle().map(PathBuf::from);
    match config.lua_ssl_trusted_certificate.as_slice() {
        [] | [TrustedCertificate::System] => Ok(system()),
        [TrustedCertificate::Pem(PemSource::File(path))] => Ok(Some(path.clone())),
        several => {
            let mut bundle = Vec::new();
            for one in several {
                match one {
                    TrustedCertificate::System => {
                        if let Some(path) = system() {
                            bundle.extend(
                                std::fs::read(&path).with_context(|| path.display().to_string())?,
                            );
                        }
                    }
                    TrustedCertificate::Pem(source) => {
                        bundle.extend(
                            source
                                .read()
                                .context("lua_ssl_trusted_certificate cannot be read")?,
                        );
                    }
                }
                bundle.push(b'\n');
            }
            let dir = config.prefix.join("ssl");
            std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
            let path = dir.join("trusted-authorities.pem");
            std::fs::write(&path, bundle).with_context(|| path.display().to_string())?;
            Ok(Some(path))
        }
    }
}

/// Does what `silverback migrations` was told, and prints it. The exit codes of `list` are Kong's.
///
/// # Errors
/// When the database cannot be reached or refuses.
pub(crate) fn migrations(config: &Config, what: &Migrations) -> anyhow::Result<u8> {
    let pg = settings(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let say = |text: &str| {
        if !what.quiet {
            println!("{text}");
        }
    };
    let names = |steps: &[Step]| {
        steps
            .iter()
            .map(|s| format!("  V{} {}", s.version, s.name))
            .collect::<Vec<_>>()
    };
    runtime.block_on(async {
        match what.action {
            Action::Bootstrap | Action::Up => {
                if what.action == Action::Bootstrap && what.force {
                    in_time(what.lock_timeout, migrate::reset(&pg)).await?;
                    say("Database erased");
                }
                let done = match what.action {
                    Action::Bootstrap => {
                        in_time(what.lock_timeout, migrate::bootstrap(&pg)).await?
                    }
                    _ => in_time(what.lock_timeout, migrate::up(&pg)).await?,
                };
                if done.is_empty() {
                    say(match what.action {
                        Action::Bootstrap => "Database already bootstrapped",
                        _ => "Database is already up-to-date",
                    });
                } else {
                    names(&done).iter().for_each(|n| say(n));
                    say(&format!("{} migrations processed", done.len()));
                    say("Database is up-to-date");
                }
                Ok(0)
            }
            Action::List => {
                let Status { applied, pending } = migrate::status(&pg).await?;
                if !applied.is_empty() {
                    say("Executed migrations:");
                    names(&applied).iter().for_each(|n| say(n));
                }
                if pending.is_empty() {
                    return Ok(0);
                }
                if applied.is_empty() {
                    say("Database needs bootstrapping or is older than Silverback.");
                    say("Run 'silverback migrations bootstrap' to bootstrap a new database.");
                    return Ok(3);
                }
                say("New migrations available:");
                names(&pending).iter().for_each(|n| say(n));
                say("Run 'silverback migrations up' to proceed");
                Ok(5)
            }
            Action::Status => {
                let Status { applied, pending } = migrate::status(&pg).await?;
                let list = |steps: &[Step]| {
                    steps
                        .iter()
                        .map(|s| format!("V{}__{}", s.version, s.name))
                        .collect::<BTreeSet<_>>()
                };
                let state = json!({
                    "needs_bootstrap": applied.is_empty(),
                    "executed_migrations": list(&applied),
                    "new_migrations": list(&pending),
                });
                println!("{}", serde_json::to_string_pretty(&state)?);
                Ok(0)
            }
            Action::Reset => {
                in_time(what.lock_timeout, migrate::reset(&pg)).await?;
                say("Database successfully reset");
                Ok(0)
            }
        }
    })
}

/// What keeps a node from starting on this database; `None` when Postgres is away, which is a matter of its own.
///
/// # Errors
/// With a text that says what to run.
pub(crate) async fn ready_for_start(pg: &PgConfig) -> anyhow::Result<Option<()>> {
    match migrate::status(pg).await {
        Ok(Status { applied, pending }) => {
            if applied.is_empty() {
                bail!(
                    "Database needs bootstrapping or is older than Silverback.\n\n  \
                     To start a new installation from scratch, run 'silverback migrations bootstrap'."
                );
            }
            if !pending.is_empty() {
                bail!("New migrations available; run 'silverback migrations up' to proceed");
            }
            Ok(Some(()))
        }
        Err(MigrateError::Store(silverback_store::StoreError::Unavailable(why))) => {
            tracing::error!("Postgres is out of reach: {why}");
            Ok(None)
        }
        Err(e) => Err(e).context("the database cannot be used"),
    }
}

async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, MigrateError>>,
) -> anyhow::Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => Ok(done?),
        Err(_) => bail!(
            "timed out after {} s: is another node migrating?",
            limit.as_secs()
        ),
    }
}
