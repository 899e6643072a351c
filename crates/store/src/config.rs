//! How to reach Postgres.

use std::path::PathBuf;
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use crate::StoreError;

/// Where Postgres is and how to talk to it; kong.conf's `pg_*`.
#[derive(Clone)]
pub struct PgConfig {
    /// Name, address, or the folder of a Unix socket when it starts with `/`.
    pub host: String,
    /// TCP port (also part of a Unix socket's name).
    pub port: u16,
    /// The role to log in as.
    pub user: String,
    /// Its password.
    pub password: Option<String>,
    /// The database.
    pub database: String,
    /// The schema our tables are in; the role's `search_path` decides when `None`.
    pub schema: Option<String>,
    /// Speak TLS; a server without TLS is then refused.
    pub ssl: bool,
    /// Verify the server's certificate and its name.
    pub ssl_verify: bool,
    /// The authorities to verify with; the system's when `None`.
    pub ca_file: Option<PathBuf>,
    /// Most connections in the pool. A watcher has one more of its own.
    pub pool_size: usize,
    /// Longest time to make a connection, TLS and login included.
    pub connect_timeout: Duration,
    /// Longest time a statement may take, waiting for locks included; also how long to wait for a free connection of the pool.
    pub statement_timeout: Duration,
}

impl Default for PgConfig {
    fn default() -> Self {
        PgConfig {
            host: "127.0.0.1".into(),
            port: 5432,
            user: "silverback".into(),
            password: None,
            database: "silverback".into(),
            schema: None,
            ssl: false,
            ssl_verify: false,
            ca_file: None,
            pool_size: 16,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(5),
        }
    }
}

impl std::fmt::Debug for PgConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "******"))
            .field("database", &self.database)
            .field("schema", &self.schema)
            .field("ssl", &self.ssl)
            .field("ssl_verify", &self.ssl_verify)
            .field("ca_file", &self.ca_file)
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .finish()
    }
}

impl PgConfig {
    /// What the driver is told.
    pub(crate) fn driver(&self) -> Config {
        let mut c = Config::new();
        c.host(&self.host)
            .port(self.port)
            .user(&self.user)
            .dbname(&self.database)
            .application_name("silverback")
            .connect_timeout(self.connect_timeout)
            // A connection whose other end vanished without a word is noticed after about 5 + 3 * 2 seconds.
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(5))
            .keepalives_interval(Duration::from_secs(2))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(10))
            .ssl_mode(if self.ssl {
                SslMode::Require
            } else {
                SslMode::Disable
            });
        if let Some(p) = &self.password {
            c.password(p);
        }
        c
    }

    /// The TLS side; unused by the driver when `ssl` is off.
    pub(crate) fn tls(&self) -> Result<MakeTlsConnector, StoreError> {
        let bad = |e: openssl::error::ErrorStack| {
            StoreError::Internal(format!("TLS towards Postgres: {e}"))
        };
        let mut b = SslConnector::builder(SslMethod::tls_client()).map_err(bad)?;
        if let Some(file) = &self.ca_file {
            b.set_ca_file(file).map_err(|e| {
                StoreError::Internal(format!(
                    "cannot read the authorities in {}: {e}",
                    file.display()
                ))
            })?;
        }
        if !self.ssl_verify {
            b.set_verify(SslVerifyMode::NONE);
        }
        let mut tls = MakeTlsConnector::new(b.build());
        let verify = self.ssl_verify;
        tls.set_callback(move |c, _| {
            c.set_verify_hostname(verify);
            Ok(())
        });
        Ok(tls)
    }

    /// The statement every new session starts with.
    pub(crate) fn session_sql(&self) -> String {
        let ms = self.statement_timeout.as_millis().max(1);
        // Whoever dies in the middle of a transaction must not keep others waiting for its locks.
        let mut sql = format!(
            "set statement_timeout = {ms}; set idle_in_transaction_session_timeout = {};",
            ms * 2
        );
        if let Some(schema) = &self.schema {
            sql.push_str(&format!("set search_path = {};", crate::sql::quote(schema)));
        }
        sql
    }
}
