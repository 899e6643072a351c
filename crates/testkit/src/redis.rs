//! A private Redis: nothing is saved, it listens on 127.0.0.1 only, and it dies with its owner.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::Error;
use crate::ports;
use crate::process::{self, Process, Program};

/// Where [`Server::shared`] looks for a server that a test run has started for all its processes.
pub const URL_VARIABLE: &str = "TESTKIT_REDIS_URL";

const PREFIX: &str = "silverback-redis-";
const START: Duration = Duration::from_secs(20);

/// A Redis server of our own, or (from [`Server::shared`]) of the test run.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    folder: PathBuf,
    process: Option<Process>,
}

impl Server {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// [`Error::Missing`] without the program, [`Error::Exited`] or [`Error::Timeout`] when it does not start.
    pub fn start() -> Result<Self, Error> {
        process::sweep_stale(PREFIX);
        let folder = process::temporary(PREFIX);
        std::fs::create_dir_all(&folder)
            .map_err(Error::io(format!("cannot make {}", folder.display())))?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free_port()?));
        let mut server = Self {
            addr,
            own: Some(Own {
                folder,
                process: None,
            }),
        };
        server.restart()?;
        Ok(server)
    }

    /// The server of this test run: the one named by [`URL_VARIABLE`], else one per process.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn shared() -> Result<&'static Self, Error> {
        static SHARED: OnceLock<Result<Server, String>> = OnceLock::new();
        let start = || {
            let given = std::env::var(URL_VARIABLE).ok();
            match given
                .as_deref()
                .and_then(|url| url.strip_prefix("redis://"))
                .map(str::parse)
            {
                Some(Ok(addr)) => Ok(Self { addr, own: None }),
                _ => Self::start().map_err(|e| e.to_string()),
            }
        };
        SHARED
            .get_or_init(start)
            .as_ref()
            .map_err(|e| Error::Missing(e.clone()))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `redis://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// What a plugin's `config.redis` says of it.
    pub fn settings(&self) -> serde_json::Value {
        serde_json::json!({ "host": self.addr.ip(), "port": self.addr.port(), "database": 1 })
    }

    /// The number of a logical database that nobody else of this run uses.
    ///
    /// # Errors
    /// [`Error::Io`] when the server is away or all 1,000 are taken.
    pub fn database(&self) -> Result<u16, Error> {
        let reply = self.command("INCR testkit:databases")?;
        match reply.trim_start_matches(':').parse() {
            Ok(number) if number < 1000 => Ok(number),
            _ => Err(Error::Io {
                what: format!("no Redis database left ({reply})"),
                source: std::io::ErrorKind::QuotaExceeded.into(),
            }),
        }
    }

    /// Sends one inline command and returns the first line of the reply.
    ///
    /// # Errors
    /// [`Error::Io`] when the server is away.
    pub fn command(&self, command: &str) -> Result<String, Error> {
        ask(self.addr, command).map_err(Error::io(format!("cannot ask Redis at {}", self.addr)))
    }

    /// Kills it at once, as `kill -9` does. What it held is gone. A server of the test run cannot be killed: start one.
    pub fn kill(&mut self) {
        if let Some(process) = self.own.as_mut().and_then(|own| own.process.as_mut()) {
            process.kill();
        }
    }

    /// Starts it again on the same port after [`Server::kill`]; a server of the test run is left alone.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn restart(&mut self) -> Result<(), Error> {
        let addr = self.addr;
        let Some(own) = self.own.as_mut() else {
            return Ok(());
        };
        own.process = None;
        let port = addr.port().to_string();
        let mut process = Program::new(program(&own.folder)?)
            .args([
                "--port",
                &port,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .args(["--databases", "1000", "--daemonize", "no", "--dir"])
            .arg(&own.folder)
            .log(own.folder.join("redis.log"))
            .spawn()?;
        process.wait_until(START, || {
            ask(addr, "PING").is_ok_and(|reply| reply == "+PONG")
        })?;
        own.process = Some(process);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(own) = self.own.as_mut() {
            own.process = None;
            let _left_for_the_next_sweep = std::fs::remove_dir_all(&own.folder);
        }
    }
}

/// Whether a Redis server can be started here.
pub fn is_installed() -> bool {
    process::find_program("redis-server").is_some()
        || process::find_program("redis-check-rdb").is_some()
}

/// The program. Debian's `redis-tools` has it under another name, and installing that package starts no service: the program
/// looks at the name it is called by.
fn program(folder: &Path) -> Result<PathBuf, Error> {
    if let Some(program) = process::find_program("redis-server") {
        return Ok(program);
    }
    let same = process::find_program("redis-check-rdb")
        .ok_or_else(|| Error::Missing("no Redis: apt-get install redis-tools".into()))?;
    let link = folder.join("redis-server");
    if !link.exists() {
        symlink(same, &link).map_err(Error::io(format!("cannot make {}", link.display())))?;
    }
    Ok(link)
}

fn ask(addr: SocketAddr, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_empty_on_the_same_port_after_being_killed() {
        let mut server = Server::start().unwrap();
        let addr = server.addr();
        assert_eq!(server.command("SET a b").unwrap(), "+OK");
        server.kill();
        assert!(server.command("PING").is_err());
        server.restart().unwrap();
        assert_eq!(server.addr(), addr);
        assert_eq!(server.command("EXISTS a").unwrap(), ":0");
        assert_ne!(server.database().unwrap(), server.database().unwrap());
    }
}
