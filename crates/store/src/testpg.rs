//! A private Postgres for tests: on a free port, in a folder of its own, gone when the test program is, however it ends.
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::{PgConfig, migrate};

/// A server with one superuser `silverback`.
pub(crate) struct Server {
    dir: PathBuf,
    pub(crate) port: u16,
    postmaster: Child,
    /// When this end is closed, by whatever end of the test program, a shell kills the server and removes the folder.
    _watchdog: ChildStdin,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// `durable` servers flush to the disk as an ordinary one does.
    pub(crate) fn start(durable: bool) -> Server {
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("silverback-store-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        if is_root() {
            assert!(
                Command::new("chown")
                    .arg("postgres")
                    .arg(&dir)
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let data = dir.join("data");
        let out = unprivileged(&bin().join("initdb"))
            .args([
                "-U",
                "silverback",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "-N",
                "-D",
            ])
            .arg(&data)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        if !durable {
            let conf = data.join("postgresql.conf");
            let text = std::fs::read_to_string(&conf).unwrap();
            std::fs::write(&conf, text + "\nfsync = off\nfull_page_writes = off\n").unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        #[allow(clippy::zombie_processes, reason = "it ends after this program")]
        let mut watchdog = Command::new("setsid")
            .args([
                "sh",
                "-c",
                "cat > /dev/null; kill -9 $(head -n 1 \"$0/data/postmaster.pid\"); rm -rf \"$0\"",
            ])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = watchdog.stdin.take().unwrap();
        let postmaster = launch(&dir, port);
        let server = Server {
            dir,
            port,
            postmaster,
            _watchdog: stdin,
        };
        server.wait();
        server
    }

    pub(crate) fn cfg(&self, database: &str) -> PgConfig {
        PgConfig {
            port: self.port,
            database: database.into(),
            ..PgConfig::default()
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// As `kill -9` of the server and all its backends.
    pub(crate) fn kill(&mut self) {
        let pid = self.postmaster.id();
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        self.postmaster.kill().unwrap();
        for child in children.split_whitespace() {
            Command::new("kill")
                .args(["-9", child])
                .stderr(Stdio::null())
                .status()
                .unwrap();
        }
        self.postmaster.wait().unwrap();
    }

    /// After [`Server::kill`]; back on the same port.
    pub(crate) fn again(&mut self) {
        self.postmaster = launch(&self.dir, self.port);
        self.wait();
    }

    /// Runs SQL as someone else would.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> String {
        let out = Command::new(bin().join("psql"))
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "127.0.0.1",
                "-U",
                "silverback",
            ])
            .args(["-p", &self.port.to_string(), "-d", database, "-c", sql])
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    fn wait(&self) {
        for _ in 0..600 {
            let ready = Command::new(bin().join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status()
                .unwrap();
            if ready.success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut log = String::new();
        std::fs::File::open(self.dir.join("log"))
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        panic!("Postgres does not start: {log}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.postmaster.kill();
        let _ = self.postmaster.wait();
    }
}

/// A migrated, empty database on a server that all tests share.
pub(crate) async fn database() -> PgConfig {
    let (server, name) = empty();
    let cfg = server.cfg(&name);
    migrate::up(&cfg).await.unwrap();
    cfg
}

/// A database without anything.
pub(crate) fn empty() -> (&'static Server, String) {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let server = SERVER.get_or_init(|| Server::start(false));
    let name = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    server.psql("postgres", &format!("create database {name}"));
    (server, name)
}

/// Postgres' programs.
pub(crate) fn bin() -> &'static Path {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(|| {
        let asked = Command::new("pg_config").arg("--bindir").output().ok();
        let asked = asked.map(|o| PathBuf::from(String::from_utf8_lossy(&o.stdout).trim()));
        let mut installed: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .map(|d| d.flatten().map(|e| e.path().join("bin")).collect())
            .unwrap_or_default();
        installed.sort();
        installed
            .into_iter()
            .rev()
            .chain(asked)
            .find(|p| p.join("initdb").exists())
            .expect("these tests need Postgres: apt-get install postgresql")
    })
}

fn launch(dir: &Path, port: u16) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .unwrap();
    unprivileged(&bin().join("postgres"))
        .arg("-D")
        .arg(dir.join("data"))
        .args([
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "max_connections=200",
            "-p",
            &port.to_string(),
            "-k",
        ])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Postgres refuses to run as root.
fn unprivileged(program: &Path) -> Command {
    let mut c;
    if is_root() {
        c = Command::new("setpriv");
        c.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
            .arg(program);
    } else {
        c = Command::new(program);
    }
    c.current_dir("/");
    c
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}
