//! What tests use: one throw-away server, one database each.

use std::fs::{self, File};
use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Cluster, Keep, PREFIX, URL_VARIABLE, psql};
use crate::Error;
use crate::process;

/// A throw-away Postgres, of our own or (from [`Server::shared`]) of the test run.
#[derive(Debug)]
pub struct Server {
    url: String,
    own: Option<Cluster>,
}

impl Server {
    /// Starts one of our own, for tests that kill it.
    ///
    /// # Errors
    /// As [`Cluster::open`] and [`Cluster::start`].
    pub fn start() -> Result<Self, Error> {
        process::sweep_stale(PREFIX);
        let mut cluster = Cluster::open(&process::temporary(PREFIX), Keep::Scratch)?;
        cluster.start()?;
        Ok(Self {
            url: cluster.url("postgres"),
            own: Some(cluster),
        })
    }

    /// The server of this test run: the one named by [`URL_VARIABLE`], else one per process, started by the first that asks.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn shared() -> Result<&'static Self, Error> {
        static SHARED: OnceLock<Result<Server, String>> = OnceLock::new();
        let start = || match std::env::var(URL_VARIABLE) {
            Ok(url) => Ok(Self { url, own: None }),
            Err(_) => Self::start().map_err(|e| e.to_string()),
        };
        SHARED
            .get_or_init(start)
            .as_ref()
            .map_err(|e| Error::Missing(e.clone()))
    }

    /// The connection string of one of its databases.
    pub fn url(&self, database: &str) -> String {
        let base = self
            .url
            .rsplit_once('/')
            .map_or(self.url.as_str(), |(base, _)| base);
        format!("{base}/{database}")
    }

    /// A new, empty database.
    ///
    /// # Errors
    /// [`Error::Exited`] with what the server said.
    pub fn database(&self) -> Result<Database, Error> {
        self.create("template0")
    }

    /// A new database like the template `name`. The first caller of the whole test run makes the template: `prepare` gets the
    /// connection string of an empty database, fills it (migrations) and closes its connections.
    ///
    /// # Errors
    /// The error of `prepare`, in words, or what the server said.
    pub async fn database_like<F, Fut, E>(&self, name: &str, prepare: F) -> Result<Database, Error>
    where
        F: FnOnce(String) -> Fut,
        Fut: Future<Output = Result<(), E>>,
        E: std::fmt::Display,
    {
        let there = format!("SELECT 1 FROM pg_database WHERE datname = '{name}'");
        if psql(&self.url, &there)?.trim().is_empty() {
            // Other tests, perhaps in other processes, wait here for the one that prepares.
            let port = self
                .url
                .rsplit_once(':')
                .map_or("", |(_, rest)| rest)
                .split('/')
                .next()
                .unwrap_or_default();
            let path = std::env::temp_dir().join(format!("{PREFIX}template-{port}-{name}.lock"));
            let what = || format!("cannot lock {}", path.display());
            let lock = File::create(&path).map_err(Error::io(what()))?;
            lock.lock().map_err(Error::io(what()))?;
            if psql(&self.url, &there)?.trim().is_empty() {
                let draft = format!("{name}_draft");
                psql(
                    &self.url,
                    &format!("DROP DATABASE IF EXISTS \"{draft}\" WITH (FORCE)"),
                )?;
                psql(&self.url, &format!("CREATE DATABASE \"{draft}\""))?;
                prepare(self.url(&draft)).await.map_err(|e| Error::Exited {
                    name: format!("the preparation of template {name}"),
                    status: "failed".into(),
                    log: e.to_string(),
                })?;
                // A pool that is being dropped may hold its connections a moment longer, and the rename needs none left.
                psql(
                    &self.url,
                    &format!(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{draft}'"
                    ),
                )?;
                psql(
                    &self.url,
                    &format!("ALTER DATABASE \"{draft}\" RENAME TO \"{name}\""),
                )?;
            }
            let _gone = fs::remove_file(&path);
        }
        self.create(name)
    }

    /// Kills it at once, as `kill -9` does, with connections open. A server of the test run is left alone: start one.
    pub fn kill(&mut self) {
        if let Some(cluster) = self.own.as_mut() {
            cluster.kill();
        }
    }

    /// Starts it again on the same port and data after [`Server::kill`].
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn restart(&mut self) -> Result<(), Error> {
        self.own.as_mut().map_or(Ok(()), Cluster::start)
    }

    /// Runs SQL on one of its databases and returns the rows, unaligned and without headings.
    ///
    /// # Errors
    /// [`Error::Exited`] with what the server said.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String, Error> {
        psql(&self.url(database), sql)
    }

    fn create(&self, template: &str) -> Result<Database, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "test_{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        psql(
            &self.url,
            &format!("CREATE DATABASE \"{name}\" TEMPLATE \"{template}\""),
        )?;
        Ok(Database {
            url: self.url(&name),
            server: self.url.clone(),
            name,
            thrown_away: self.own.is_some(),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(cluster) = self.own.take() {
            let folder = cluster.folder().to_owned();
            drop(cluster);
            let _left_for_the_next_sweep = fs::remove_dir_all(folder);
        }
    }
}

/// A database of one test; dropped with this value.
#[derive(Debug)]
pub struct Database {
    url: String,
    name: String,
    server: String,
    thrown_away: bool,
}

impl Database {
    /// Its connection string.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs SQL on it and returns the rows, unaligned and without headings.
    ///
    /// # Errors
    /// [`Error::Exited`] with what the server said.
    pub fn sql(&self, sql: &str) -> Result<String, Error> {
        psql(&self.url, sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A server of our own goes as a whole, and may be dead by now.
        if !self.thrown_away {
            let sql = format!("DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)", self.name);
            let _left_to_the_end_of_the_run = psql(&self.server, &sql);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn databases_are_separate_copies_of_a_template_made_once() {
        let server = Server::start().unwrap();
        let mut prepared = 0;
        let mut databases = Vec::new();
        for _ in 0..2 {
            let database = server
                .database_like("seeded", async |url| {
                    prepared += 1;
                    psql(&url, "CREATE TABLE t (a int); INSERT INTO t VALUES (7)").map(drop)
                })
                .await
                .unwrap();
            databases.push(database);
        }
        assert_eq!(prepared, 1);
        databases[0].sql("UPDATE t SET a = 8").unwrap();
        assert_eq!(databases[1].sql("SELECT a FROM t").unwrap().trim(), "7");
    }

    #[test]
    fn rows_survive_a_kill_and_the_port_stays() {
        let mut server = Server::start().unwrap();
        let database = server.database().unwrap();
        database
            .sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
            .unwrap();
        for _ in 0..2 {
            server.kill();
            assert!(database.sql("SELECT 1").is_err());
            server.restart().unwrap();
            assert_eq!(database.sql("SELECT count(*) FROM t").unwrap().trim(), "1");
        }
    }
}
