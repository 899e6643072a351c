//! A whole node in-process: its own threads, real sockets on free ports, a database of its own.
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! use silverback_testkit::{gateway::Gateway, upstream::Upstream};
//! let upstream = Upstream::start().await?;
//! let gateway = Gateway::start().await?;
//! gateway.service("s", &upstream).paths(["/"]).create().await?;
//! assert_eq!(gateway.get("/x").send().await?.status, 200);
//! # Ok(()) }
//! ```
//! Nobody sleeps: a call to the proxy waits for the revision that the calls to the Admin API before it led to, on whichever
//! node of the same database they were made.

mod blueprint;
mod call;
mod eventually;
mod running;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use silverback::Node;
use silverback::cli::{Action, Commands as _, Migrations};
use silverback::config::{Config, Loader};
use silverback_telemetry::logging::{self, LogConfig};
use tracing::Dispatch;

use crate::postgres::{Database, Server};
use crate::process;

pub use blueprint::Service;
pub use call::{Call, Connection, Endpoint, request_bytes};
pub use eventually::eventually;
pub use running::{Executable, Running, cli};

const PREFIX: &str = "silverback-node-";
const TEMPLATE: &str = "silverback_end_to_end";

/// How long a change may take to be served before a test gives up.
const SETTLE: Duration = Duration::from_secs(20);

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    settings: Vec<(String, String)>,
    database: Option<Arc<Shared>>,
    prefix: Option<PathBuf>,
    extend: Option<fn(silverback::Gateway) -> silverback::Gateway>,
}

/// The database of one or several nodes, and how many calls have changed it.
#[derive(Debug)]
struct Shared {
    database: Database,
    changes: AtomicU64,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// One worker thread, all listeners on free ports of 127.0.0.1, no logs, no TLS.
    pub fn new() -> Self {
        let settings = [
            ("proxy_listen", "127.0.0.1:0"),
            ("admin_listen", "127.0.0.1:0"),
            ("status_listen", "127.0.0.1:0"),
            ("nginx_worker_processes", "1"),
            ("proxy_access_log", "off"),
            ("admin_access_log", "off"),
            ("proxy_error_log", "off"),
            ("db_update_frequency", "1"),
        ];
        Self {
            settings: settings.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec(),
            database: None,
            prefix: None,
            extend: None,
        }
    }

    /// With plugins beside the bundled ones: `|gateway| gateway.plugin::<Mine>()`.
    #[must_use]
    pub fn extend(mut self, with: fn(silverback::Gateway) -> silverback::Gateway) -> Self {
        self.extend = Some(with);
        self
    }

    /// With this setting; the later of two of the same name counts.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.retain(|(n, _)| n != name);
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a second proxy listener that speaks TLS and HTTP/2 ([`Gateway::tls`]).
    #[must_use]
    pub fn tls(self) -> Self {
        self.set("proxy_listen", "127.0.0.1:0, 127.0.0.1:0 ssl http2")
    }

    /// With the files of an earlier node: its id, its snapshot. They are kept when the node goes.
    #[must_use]
    pub fn prefix(mut self, prefix: &Path) -> Self {
        self.prefix = Some(prefix.to_owned());
        self
    }

    /// On a migrated database of this server rather than of the test run's.
    ///
    /// # Errors
    /// When the database cannot be made.
    pub async fn on(self, server: &Server) -> anyhow::Result<Self> {
        let database = server
            .database_like(TEMPLATE, |url| async move { migrate(&url).await })
            .await?;
        Ok(self.shared(database))
    }

    /// On this database, migrated or not.
    #[must_use]
    pub fn database(self, database: Database) -> Self {
        self.shared(database)
    }

    fn shared(mut self, database: Database) -> Self {
        self.database = Some(Arc::new(Shared {
            database,
            changes: AtomicU64::new(0),
        }));
        self
    }

    /// Starts the node; it serves when this returns.
    ///
    /// # Errors
    /// What the node says when it does not start.
    pub async fn start(self) -> anyhow::Result<Gateway> {
        let setup = match self.database {
            Some(_) => self,
            None => self.on(Server::shared()?).await?,
        };
        let shared = setup.database.clone().context("a database was given")?;
        process::sweep_stale(PREFIX);
        let (prefix, keep) = match &setup.prefix {
            Some(prefix) => (prefix.clone(), true),
            None => (process::temporary(PREFIX), false),
        };
        let config = config(&prefix, shared.database.url(), &setup.settings)?;
        let mut program = silverback::Gateway::bundled();
        if let Some(extend) = setup.extend {
            program = extend(program);
        }
        let (node, log) = tokio::task::spawn_blocking(move || {
            let plugins = program.selected(&config)?;
            // A log of its own, which nothing is written to: logging belongs to the process.
            let (log, handle) = logging::build(&LogConfig::default())?;
            Ok::<_, anyhow::Error>((Node::start(&config, plugins, handle)?, log))
        })
        .await??;
        Ok(Gateway {
            node: Some(node),
            _log: log,
            settled: AtomicU64::new(0),
            shared,
            setup,
            prefix,
            keep,
        })
    }
}

/// A running node; stopped when dropped.
pub struct Gateway {
    node: Option<Node>,
    /// Kept because the node changes its level.
    _log: Dispatch,
    settled: AtomicU64,
    shared: Arc<Shared>,
    setup: Setup,
    prefix: PathBuf,
    keep: bool,
}

impl Gateway {
    /// A node on an empty database of its own.
    ///
    /// # Errors
    /// As [`Setup::start`].
    pub async fn start() -> anyhow::Result<Self> {
        Setup::new().start().await
    }

    /// Another node with the same settings on the same database.
    ///
    /// # Errors
    /// As [`Setup::start`].
    pub async fn another(&self) -> anyhow::Result<Self> {
        let mut setup = self.setup.clone();
        setup.prefix = None;
        setup.start().await
    }

    /// Stops the node, waiting up to `grace` for requests in flight. What [`Gateway::setup`] gave starts it again.
    ///
    /// # Errors
    /// When the thread that stops it panicked.
    pub async fn stop(mut self, grace: Duration) -> anyhow::Result<()> {
        if let Some(node) = self.node.take() {
            tokio::task::spawn_blocking(move || node.stop(grace)).await?;
        }
        Ok(())
    }

    /// Settings and database, for a node that takes this one's place.
    pub fn setup(&self) -> Setup {
        self.setup.clone()
    }

    /// The first plain proxy listener, for calls that do not wait for changes to be served.
    pub fn proxy(&self) -> Endpoint {
        Endpoint::plain(self.proxy_addr())
    }

    /// Where the first proxy listener listens.
    pub fn proxy_addr(&self) -> SocketAddr {
        self.running().proxy_addrs()[0]
    }

    /// The listener of [`Setup::tls`].
    pub fn tls(&self) -> Endpoint {
        let addrs = self.running().proxy_addrs();
        Endpoint::tls(addrs[addrs.len() - 1])
    }

    /// The Admin API. Calls to it are told from those to the proxy: see [`Gateway::settle`].
    pub fn admin(&self) -> Admin<'_> {
        Admin(self)
    }

    /// Where the Admin API listens.
    pub fn admin_addr(&self) -> SocketAddr {
        self.running().admin_addrs()[0]
    }

    /// The status listener.
    pub fn status(&self) -> Endpoint {
        Endpoint::plain(self.running().status_addrs()[0])
    }

    /// What the node knows of its configuration.
    pub fn node(&self) -> &Node {
        self.running()
    }

    /// `GET` through the proxy, after [`Gateway::settle`].
    pub fn get(&self, path: &str) -> Call<'_> {
        self.call("GET", path)
    }

    /// A call through the proxy, after [`Gateway::settle`].
    pub fn call(&self, method: &str, path: &str) -> Call<'_> {
        Call::new(self.proxy(), method, path).after_settling(self)
    }

    /// Waits until this node serves everything that was changed through the Admin API of any node of this database.
    ///
    /// # Errors
    /// When Postgres cannot be asked or the node does not get there.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let changes = self.shared.changes.load(Ordering::SeqCst);
        if self.settled.load(Ordering::SeqCst) < changes {
            self.serves(self.revision().await?).await?;
            self.settled.fetch_max(changes, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Waits until this node serves that revision.
    ///
    /// # Errors
    /// When it does not get there.
    pub async fn serves(&self, revision: i64) -> anyhow::Result<()> {
        let engine = self.running().engine();
        if tokio::time::timeout(SETTLE, engine.reached(revision))
            .await
            .is_err()
        {
            bail!(
                "revision {revision} is not served; {} is",
                engine.revision()
            );
        }
        Ok(())
    }

    /// The newest revision in the database.
    ///
    /// # Errors
    /// When Postgres cannot be asked.
    pub async fn revision(&self) -> anyhow::Result<i64> {
        let (client, connection) =
            tokio_postgres::connect(self.shared.database.url(), tokio_postgres::NoTls).await?;
        let ask = async {
            let row = client
                .query_one("select revision from config_revision", &[])
                .await?;
            Ok::<i64, anyhow::Error>(row.try_get(0)?)
        };
        let connection = async {
            let _ends_with_the_client = connection.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = ask => answer,
            () = connection => bail!("Postgres went away"),
        }
    }

    /// Its database.
    pub fn database(&self) -> &Database {
        &self.shared.database
    }

    /// Its working directory.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    pub(crate) fn changed(&self) {
        self.shared.changes.fetch_add(1, Ordering::SeqCst);
    }

    fn running(&self) -> &Node {
        match &self.node {
            Some(node) => node,
            None => {
                unreachable!("the node is taken only by stop and drop, which consume the gateway")
            }
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            // A runtime may not be shut down from within another one, which is where tests run.
            let _panicked = std::thread::spawn(move || node.stop(Duration::ZERO)).join();
        }
        if !self.keep {
            let _swept_later = std::fs::remove_dir_all(&self.prefix);
        }
    }
}

/// The Admin API of a node.
#[derive(Clone, Copy)]
pub struct Admin<'a>(&'a Gateway);

impl<'a> Admin<'a> {
    /// A call.
    pub fn call(&self, method: &str, path: &str) -> Call<'a> {
        Call::new(Endpoint::plain(self.0.admin_addr()), method, path).changing(self.0)
    }

    /// `GET`.
    pub fn get(&self, path: &str) -> Call<'a> {
        self.call("GET", path)
    }

    /// `POST` of JSON.
    pub fn post(&self, path: &str, body: &serde_json::Value) -> Call<'a> {
        self.call("POST", path).json(body)
    }

    /// `PATCH` of JSON.
    pub fn patch(&self, path: &str, body: &serde_json::Value) -> Call<'a> {
        self.call("PATCH", path).json(body)
    }

    /// `PUT` of JSON.
    pub fn put(&self, path: &str, body: &serde_json::Value) -> Call<'a> {
        self.call("PUT", path).json(body)
    }

    /// `DELETE`.
    pub fn delete(&self, path: &str) -> Call<'a> {
        self.call("DELETE", path)
    }
}

fn config(prefix: &Path, url: &str, settings: &[(String, String)]) -> anyhow::Result<Config> {
    let mut loader = Loader::new().set("prefix", &prefix.to_string_lossy());
    for (name, value) in database_settings(url)?.iter().chain(settings) {
        loader = loader.set(name, value);
    }
    Ok(loader.load()?.config)
}

/// The settings `pg_*` for a connection string.
fn database_settings(url: &str) -> anyhow::Result<Vec<(String, String)>> {
    let parsed: tokio_postgres::Config = url.parse()?;
    let host = match parsed.get_hosts().first() {
        Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
        _ => bail!("{url} names no host"),
    };
    let port = parsed.get_ports().first().copied().unwrap_or(5432);
    let password = String::from_utf8_lossy(parsed.get_password().unwrap_or_default()).into_owned();
    let settings = [
        ("pg_host", host),
        ("pg_port", port.to_string()),
        ("pg_user", parsed.get_user().unwrap_or_default().to_owned()),
        ("pg_password", password),
        (
            "pg_database",
            parsed.get_dbname().unwrap_or_default().to_owned(),
        ),
        // A test run has many nodes on one server.
        ("pg_max_concurrent_queries", "4".to_owned()),
    ];
    Ok(settings.map(|(k, v)| (k.to_owned(), v)).to_vec())
}

async fn migrate(url: &str) -> anyhow::Result<()> {
    let config = config(&process::temporary(PREFIX), url, &[])?;
    let what = Migrations {
        action: Action::Bootstrap,
        force: false,
        quiet: true,
        lock_timeout: Duration::from_secs(60),
    };
    let run = move || silverback::Gateway::bundled().migrations(&config, &what);
    match tokio::task::spawn_blocking(run).await?? {
        0 => Ok(()),
        code => bail!("migrations ended with {code}"),
    }
}
