//! One cluster in a folder: made, started, stopped, killed.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::User;

use super::{USER, programs, psql};
use crate::Error;
use crate::ports;
use crate::process::{self, Process, Program, Signal};

const START: Duration = Duration::from_secs(60);

/// How much a cluster's content is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It must survive a crash: Postgres' own settings, passwords asked for.
    Durable,
    /// It is thrown away: no fsync, no passwords asked for.
    Scratch,
}

/// One cluster: `data/`, `password` and `postgres.log` in a folder that belongs to the user Postgres runs as.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    bin: PathBuf,
    user: Option<User>,
    keep: Keep,
    password: String,
    port: u16,
    process: Option<Process>,
}

impl Cluster {
    /// Opens the cluster in `folder`, making it (`initdb`) when there is none. Does not start it.
    ///
    /// # Errors
    /// [`Error::Missing`] without Postgres, [`Error::Folder`] when another version made the cluster, others when `initdb` fails.
    pub fn open(folder: &Path, keep: Keep) -> Result<Self, Error> {
        let data = folder.join("data");
        let made_by = fs::read_to_string(data.join("PG_VERSION"))
            .ok()
            .map(|v| v.trim().to_owned());
        let bin = programs(made_by.as_deref()).ok_or_else(|| match &made_by {
            None => Error::Missing("no Postgres: apt-get install postgresql".into()),
            Some(version) => Error::Folder {
                folder: folder.to_owned(),
                why: format!("made by Postgres {version}, which is not installed"),
            },
        })?;
        let user = process::unprivileged_user()?;
        let mut cluster = Self {
            folder: folder.to_owned(),
            bin,
            user,
            keep,
            password: String::new(),
            port: 0,
            process: None,
        };
        if made_by.is_none() {
            cluster.create()?;
        }
        cluster.password = fs::read_to_string(cluster.password_file())
            .map_err(Error::io(format!(
                "cannot read {}",
                cluster.password_file().display()
            )))?
            .trim()
            .to_owned();
        Ok(cluster)
    }

    /// Starts it on a free port, the same as before when it has run before, and waits until it answers.
    ///
    /// # Errors
    /// [`Error::Exited`] or [`Error::Timeout`] with the end of its log.
    pub fn start(&mut self) -> Result<(), Error> {
        if self.port == 0 {
            self.port = ports::free_port()?;
        }
        let end = Instant::now() + START;
        loop {
            match self.launch() {
                Ok(process) => {
                    self.process = Some(process);
                    return Ok(());
                }
                // After a `kill -9` the last backends hold the shared memory, and the port, a moment longer.
                Err(Error::Exited { .. }) if Instant::now() < end && self.is_lingering() => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Stops it in order (Postgres' fast shutdown).
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop(Duration::from_secs(20));
        }
    }

    /// Kills the server and its backends at once, as `kill -9` does.
    pub fn kill(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        let backends = children_of(process.id());
        process.kill();
        for pid in backends {
            // Each backend is a session of its own and not of the server's process group.
            let _gone = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid.cast_signed()),
                Signal::SIGKILL,
            );
        }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The port it listens on; 0 before the first start.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password of [`USER`].
    pub fn password(&self) -> &str {
        &self.password
    }

    /// `postgres://user:password@127.0.0.1:port/database`.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{USER}:{}@127.0.0.1:{}/{database}",
            self.password, self.port
        )
    }

    /// Runs SQL with `psql` and returns the rows, unaligned and without headings.
    ///
    /// # Errors
    /// [`Error::Exited`] with what the server said.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String, Error> {
        psql(&self.url(database), sql)
    }

    /// Makes a database unless there is one.
    ///
    /// # Errors
    /// [`Error::Exited`] with what the server said.
    pub fn ensure_database(&self, database: &str) -> Result<(), Error> {
        let there = self.sql(
            "postgres",
            &format!("SELECT 1 FROM pg_database WHERE datname = '{database}'"),
        )?;
        if there.trim().is_empty() {
            self.sql("postgres", &format!("CREATE DATABASE \"{database}\""))?;
        }
        Ok(())
    }

    fn create(&self) -> Result<(), Error> {
        let folder = &self.folder;
        let what = || format!("cannot make {}", folder.display());
        fs::create_dir_all(folder).map_err(Error::io(what()))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
            .map_err(Error::io(what()))?;
        let password = self.password_file();
        write_secret(&password)?;
        if let Some(user) = &self.user {
            for path in [folder, &password] {
                chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                    .map_err(Error::io(what()))?;
            }
        }
        // A cluster half made by an interrupted run has no PG_VERSION yet, and initdb refuses its folder.
        let _none = fs::remove_dir_all(folder.join("data"));
        let mut initdb = Program::new(self.bin.join("initdb")).user(self.user.clone());
        initdb = initdb
            .arg("-D")
            .arg(folder.join("data"))
            .arg("--pwfile")
            .arg(&password);
        initdb = initdb.args([
            "-U",
            USER,
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-instructions",
        ]);
        initdb = match self.keep {
            Keep::Durable => initdb.arg("--auth=scram-sha-256"),
            Keep::Scratch => initdb.args(["--auth=trust", "--no-sync"]),
        };
        initdb.output().map(drop)
    }

    fn launch(&self) -> Result<Process, Error> {
        let sockets = self.folder.to_string_lossy();
        // The path of a unix socket is at most 107 bytes long; TCP alone does as well.
        let sockets = if sockets.len() < 80 {
            sockets
        } else {
            "".into()
        };
        let mut program = Program::new(self.bin.join("postgres"))
            .user(self.user.clone())
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-p", &self.port.to_string()])
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "max_connections=300",
            ])
            .args(["-c", &format!("unix_socket_directories={sockets}")])
            .args([
                "-c",
                "logging_collector=off",
                "-c",
                "log_destination=stderr",
            ])
            .log(self.folder.join("postgres.log"))
            // SIGINT is the fast shutdown, SIGQUIT the immediate one: what a dying parent has left is cleared up all the same.
            .stop_signal(Signal::SIGINT)
            .death_signal(Signal::SIGQUIT);
        if self.keep == Keep::Scratch {
            let off = ["fsync=off", "full_page_writes=off", "shared_buffers=64MB"];
            program = program.args(off.into_iter().flat_map(|setting| ["-c", setting]));
        }
        let mut process = program.spawn()?;
        let pg_isready = Program::new(self.bin.join("pg_isready"))
            .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["-d", "postgres", "-U", USER]);
        process.wait_until(START, || pg_isready.output().is_ok())?;
        Ok(process)
    }

    /// Whether the last start failed only because an earlier server has not quite gone.
    fn is_lingering(&self) -> bool {
        let log = fs::read_to_string(self.folder.join("postgres.log")).unwrap_or_default();
        let last: Vec<_> = log.lines().rev().take(4).collect();
        ["shared memory block", "Address already in use", "lock file"]
            .iter()
            .any(|sign| last.iter().any(|line| line.contains(sign)))
    }

    fn password_file(&self) -> PathBuf {
        self.folder.join("password")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        match self.keep {
            Keep::Durable => self.stop(),
            Keep::Scratch => self.kill(),
        }
    }
}

fn children_of(pid: u32) -> Vec<u32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Writes a new random password, readable by its owner only.
fn write_secret(path: &Path) -> Result<(), Error> {
    let what = || format!("cannot write {}", path.display());
    let mut random = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut random))
        .map_err(Error::io("no randomness"))?;
    let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let file = File::create(path).map_err(Error::io(what()))?;
    file.set_permissions(fs::Permissions::from_mode(0o600))
        .map_err(Error::io(what()))?;
    std::io::Write::write_all(&mut &file, secret.as_bytes()).map_err(Error::io(what()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_durable_cluster_keeps_its_rows_and_password_and_refuses_others() {
        let folder = process::temporary("silverback-postgres-");
        let mut password = String::new();
        for round in 0..2 {
            let mut cluster = Cluster::open(&folder, Keep::Durable).unwrap();
            cluster.start().unwrap();
            cluster.ensure_database("demo").unwrap();
            cluster
                .sql(
                    "demo",
                    "CREATE TABLE IF NOT EXISTS t (a int); INSERT INTO t VALUES (1)",
                )
                .unwrap();
            assert_eq!(
                cluster
                    .sql("demo", "SELECT count(*) FROM t")
                    .unwrap()
                    .trim(),
                (round + 1).to_string()
            );
            assert!(round == 0 || password == cluster.password());
            password = cluster.password().to_owned();
            assert!(psql(&cluster.url("demo").replace(&password, "wrong"), "SELECT 1").is_err());
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
