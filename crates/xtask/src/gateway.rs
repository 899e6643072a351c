//! The gateway as a process: its configuration file, its migrations, its start.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use silverback_testkit::client::Client;
use silverback_testkit::process::{Process, Program};

/// How long a gateway may take to be ready.
const START: Duration = Duration::from_secs(60);

/// The ports of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) proxy: u16,
    pub(crate) proxy_tls: u16,
    pub(crate) admin: u16,
    pub(crate) status: u16,
}

impl Ports {
    /// Ports that nobody uses.
    pub(crate) fn free() -> Result<Self> {
        let free = silverback_testkit::ports::free_port;
        Ok(Self {
            proxy: free()?,
            proxy_tls: free()?,
            admin: free()?,
            status: free()?,
        })
    }

    pub(crate) fn proxy_addr(self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.proxy).into()
    }

    pub(crate) fn admin_addr(self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.admin).into()
    }
}

/// A Postgres database, as the gateway is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Database {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) name: String,
    pub(crate) tls: bool,
}

impl Database {
    /// Reads `postgres://user:password@host:port/database?sslmode=...`.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .context("a database URL starts with postgres://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (rest, name) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        // An IPv6 address stands in brackets, and its colons are its own.
        let (host, port) = match place.strip_prefix('[').and_then(|p| p.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => place
                .split_once(':')
                .map_or((place, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || name.is_empty() {
            bail!(
                "a database URL names a host and a database: postgres://user:password@host:port/database"
            );
        }
        let mode = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("sslmode="));
        Ok(Self {
            host: decode(host)?,
            port: port
                .map_or(Ok(5432), str::parse)
                .context("the port of the database URL is no number")?,
            user: if user.is_empty() {
                "postgres".into()
            } else {
                decode(user)?
            },
            password: decode(password)?,
            name: decode(name)?,
            tls: matches!(mode, Some("require" | "verify-ca" | "verify-full")),
        })
    }
}

/// One node: where its files are and what its configuration says.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) binary: PathBuf,
    /// Its prefix; the configuration is written beside it, as `<prefix>.conf`.
    pub(crate) prefix: PathBuf,
    pub(crate) ports: Ports,
    /// The address the proxy listens on.
    pub(crate) host: String,
    pub(crate) database: Database,
    pub(crate) workers: Option<usize>,
    /// Further lines of the configuration.
    pub(crate) extra: Vec<(&'static str, String)>,
}

impl Node {
    /// Its configuration file.
    pub(crate) fn conf(&self) -> PathBuf {
        self.prefix.with_extension("conf")
    }

    /// Its log.
    pub(crate) fn log(&self) -> PathBuf {
        self.prefix.with_extension("log")
    }

    /// Writes the configuration, which holds the database's password, for its owner only.
    pub(crate) fn write_conf(&self) -> Result<()> {
        let conf = self.conf();
        fs::create_dir_all(&self.prefix)
            .with_context(|| format!("cannot make {}", self.prefix.display()))?;
        fs::write(&conf, self.settings())
            .with_context(|| format!("cannot write {}", conf.display()))?;
        fs::set_permissions(&conf, fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    /// Brings the database's tables up to date.
    pub(crate) fn migrate(&self) -> Result<()> {
        let program = Program::new(&self.binary)
            .args(["migrations", "up", "-c"])
            .arg(self.conf());
        program.output().context("the migrations failed")?;
        Ok(())
    }

    /// Starts it without waiting.
    pub(crate) fn spawn(&self) -> Result<Process> {
        let program = Program::new(&self.binary)
            .args(["start", "-c"])
            .arg(self.conf());
        Ok(program
            .arg("-p")
            .arg(&self.prefix)
            .log(self.log())
            .spawn()?)
    }

    /// Starts it and waits until it takes requests.
    pub(crate) fn start(&self) -> Result<Process> {
        let mut process = self.spawn()?;
        process
            .wait_until(START, || self.answers())
            .with_context(|| format!("the gateway did not start, see {}", self.log().display()))?;
        Ok(process)
    }

    /// Whether its Admin API and its proxy answer.
    pub(crate) fn answers(&self) -> bool {
        let ask = |addr| {
            Client::new(addr)
                .patience(Duration::from_secs(5))
                .get("/status")
        };
        ask(self.ports.admin_addr()).is_ok_and(|r| r.status == 200)
            && ask(self.ports.proxy_addr()).is_ok()
    }

    fn settings(&self) -> String {
        let Self {
            ports,
            host,
            database,
            ..
        } = self;
        let on_off = |on| if on { "on" } else { "off" };
        let mut lines = vec![
            ("prefix", self.prefix.display().to_string()),
            ("log_level", "notice".to_owned()),
            (
                "proxy_listen",
                format!(
                    "{host}:{}, {host}:{} ssl http2",
                    ports.proxy, ports.proxy_tls
                ),
            ),
            ("admin_listen", format!("127.0.0.1:{}", ports.admin)),
            ("status_listen", format!("127.0.0.1:{}", ports.status)),
            ("pg_host", database.host.clone()),
            ("pg_port", database.port.to_string()),
            ("pg_user", database.user.clone()),
            ("pg_password", database.password.clone()),
            ("pg_database", database.name.clone()),
            ("pg_ssl", on_off(database.tls).to_owned()),
        ];
        if let Some(workers) = self.workers {
            lines.push(("nginx_worker_processes", workers.to_string()));
        }
        lines.extend(self.extra.iter().cloned());
        let mut text = String::new();
        for (name, value) in lines {
            // In this syntax a `#` begins a comment unless it is escaped. Writing to a String cannot fail.
            let _infallible = writeln!(text, "{name} = {}", value.replace('#', "\\#"));
        }
        text
    }
}

/// A gateway's Admin API, for setting things up: every answer but a success is an error.
pub(crate) struct Admin(Client);

impl Admin {
    pub(crate) fn new(ports: Ports) -> Self {
        Self(Client::new(ports.admin_addr()))
    }

    /// Sends JSON and returns the JSON of the answer.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<serde_json::Value> {
        let response = self
            .0
            .json(method, path, body)
            .with_context(|| format!("{method} {path}"))?;
        if !(200..300).contains(&response.status) {
            bail!(
                "{method} {path} was answered {}: {}",
                response.status,
                response.text().trim()
            );
        }
        Ok(response.json())
    }
}

/// The path of a folder made absolute, for configuration files that others read from elsewhere.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("no such place: {}", path.display()))
}

fn decode(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .context("a % without two hex digits")?;
        bytes.push(byte);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).context("the database URL is not UTF-8")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_database_url_is_taken_apart() {
        let database =
            Database::parse("postgres://me:p%40%23s@db.example:6432/kong?sslmode=require&x=y")
                .unwrap();
        let expected = Database {
            host: "db.example".into(),
            port: 6432,
            user: "me".into(),
            password: "p@#s".into(),
            name: "kong".into(),
            tls: true,
        };
        assert_eq!(database, expected);
        let short = Database::parse("postgresql://localhost/kong").unwrap();
        assert_eq!(
            (short.port, short.user.as_str(), short.tls),
            (5432, "postgres", false)
        );
        assert_eq!(
            Database::parse("postgres://u@[::1]:7/d").unwrap().host,
            "::1"
        );
    }

    #[test]
    fn a_database_url_without_its_parts_is_refused() {
        for url in [
            "mysql://h/d",
            "postgres://h",
            "postgres:///d",
            "postgres://h:x/d",
            "postgres://u:%4@h/d",
        ] {
            assert!(Database::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_hash_in_a_password_is_no_comment() {
        let node = Node {
            binary: PathBuf::new(),
            prefix: "/tmp/node".into(),
            ports: Ports {
                proxy: 1,
                proxy_tls: 2,
                admin: 3,
                status: 4,
            },
            host: "127.0.0.1".into(),
            database: Database::parse("postgres://me:a%23b@h/d").unwrap(),
            workers: Some(2),
            extra: vec![("proxy_access_log", "off".into())],
        };
        let text = node.settings();
        assert!(text.contains("pg_password = a\\#b\n"), "{text}");
        assert!(
            text.contains("proxy_listen = 127.0.0.1:1, 127.0.0.1:2 ssl http2\n"),
            "{text}"
        );
        assert!(
            text.ends_with("nginx_worker_processes = 2\nproxy_access_log = off\n"),
            "{text}"
        );
        assert_eq!(node.conf(), PathBuf::from("/tmp/node.conf"));
    }
}
