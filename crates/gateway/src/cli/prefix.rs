//! The working directory of a gateway, and the process that runs in it.
//!
//! A running gateway holds a lock on its pid file for as long as it lives; the system lets go of it
//! whatever way the process ends. So a pid file without a lock is a leftover, and the number in it means
//! nothing: it may by now belong to somebody else.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::config::record;

/// How often a state is looked at that somebody else changes.
const POLL: Duration = Duration::from_millis(20);

/// What can go wrong with a prefix and the process in it.
#[derive(Debug, thiserror::Error)]
pub enum PrefixError {
    /// There is no such directory.
    #[error("no such prefix: {}", .0.display())]
    NoSuchPrefix(PathBuf),
    /// A gateway runs there already.
    #[error("Silverback is already running in {}", .0.display())]
    AlreadyRunning(PathBuf),
    /// No gateway runs there.
    #[error("Silverback is not running in prefix: {}", .0.display())]
    NotRunning(PathBuf),
    /// The lock is held by a process that this one cannot see: another container, another machine.
    #[error(
        "the gateway in {} runs in another container or on another machine (there it is process {pid}); \
         it cannot be reached from here", prefix.display()
    )]
    OutOfReach {
        /// The prefix.
        prefix: PathBuf,
        /// Its process id, over there.
        pid: i32,
    },
    /// The process cannot be signalled.
    #[error("could not send {signal} to process {pid}: {source}")]
    Signal {
        /// Which signal.
        signal: Signal,
        /// Which process.
        pid: i32,
        /// What the system said.
        source: Errno,
    },
    /// A file of the prefix cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The working directory of a gateway.
#[derive(Debug, Clone)]
pub struct Prefix(PathBuf);

impl Prefix {
    /// The prefix at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where a gateway in the background writes what it says.
    #[must_use]
    pub fn error_log(&self) -> PathBuf {
        self.0.join("logs").join("error.log")
    }

    fn pid_file(&self) -> PathBuf {
        self.0.join("pids").join("silverback.pid")
    }

    /// Makes the directories that a gateway needs.
    ///
    /// # Errors
    /// [`PrefixError::Io`].
    pub fn prepare(&self) -> Result<(), PrefixError> {
        for (name, mode) in [("logs", 0o755), ("pids", 0o755), ("ssl", 0o700)] {
            let path = self.0.join(name);
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(&path)
                .map_err(|source| PrefixError::Io { path, source })?;
        }
        Ok(())
    }

    /// Notes which configuration file the gateway here uses, for when it is told to reload.
    ///
    /// # Errors
    /// [`PrefixError::Io`].
    pub fn record_file(&self, file: Option<&Path>) -> Result<(), PrefixError> {
        let path = record(&self.0);
        let text = file
            .map(|file| file.display().to_string())
            .unwrap_or_default();
        std::fs::write(&path, text + "\n").map_err(|source| PrefixError::Io { path, source })
    }

    /// Claims the prefix for this process until the answer is dropped.
    ///
    /// # Errors
    /// [`PrefixError::AlreadyRunning`], [`PrefixError::Io`].
    pub fn claim(&self) -> Result<PidFile, PrefixError> {
        let path = self.pid_file();
        let failed = |source| PrefixError::Io {
            path: path.clone(),
            source,
        };
        let until = Instant::now() + Duration::from_millis(500);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // The former owner may have removed the file between our open and our lock.
                Ok(lock) if same_file(&lock, &path) => {
                    lock.set_len(0).map_err(failed)?;
                    (&*lock)
                        .write_all(format!("{}\n", std::process::id()).as_bytes())
                        .map_err(failed)?;
                    return Ok(PidFile { path, _lock: lock });
                }
                Ok(_) => {}
                // Whoever only looks holds the lock for a moment too.
                Err((_, Errno::EWOULDBLOCK)) if Instant::now() < until => sleep(POLL),
                Err((_, Errno::EWOULDBLOCK)) => {
                    return Err(PrefixError::AlreadyRunning(self.0.clone()));
                }
                Err((_, errno)) => return Err(failed(errno.into())),
            }
        }
    }

    /// The gateway that runs here, if one does.
    ///
    /// # Errors
    /// [`PrefixError::NoSuchPrefix`], [`PrefixError::Io`].
    pub fn find(&self) -> Result<Option<Running>, PrefixError> {
        if !self.0.exists() {
            return Err(PrefixError::NoSuchPrefix(self.0.clone()));
        }
        let path = self.pid_file();
        let failed = |source| PrefixError::Io {
            path: path.clone(),
            source,
        };
        let until = Instant::now() + Duration::from_secs(1);
        loop {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed(error)),
            };
            let mut file = match Flock::lock(file, FlockArg::LockSharedNonblock) {
                Ok(_) => return Ok(None),
                Err((file, Errno::EWOULDBLOCK)) => file,
                Err((_, errno)) => return Err(failed(errno.into())),
            };
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(failed)?;
            match text.trim().parse() {
                Ok(pid) if pid > 0 => {
                    return Ok(Some(Running {
                        prefix: self.clone(),
                        pid,
                    }));
                }
                // Locked, but its number is not written yet.
                _ if Instant::now() < until => sleep(POLL),
                _ => return Err(failed(io::Error::other("holds no process id"))),
            }
        }
    }

    /// The gateway that runs here.
    ///
    /// # Errors
    /// Those of [`find`](Self::find), and [`PrefixError::NotRunning`].
    pub fn running(&self) -> Result<Running, PrefixError> {
        self.find()?
            .ok_or_else(|| PrefixError::NotRunning(self.0.clone()))
    }
}

/// The claim of a running gateway on its prefix.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Before the lock goes; if it fails, the file without a lock says the same.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A gateway that runs in a prefix.
#[derive(Debug)]
pub struct Running {
    prefix: Prefix,
    pid: i32,
}

impl Running {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends it a signal. That it is the gateway of this prefix is looked at once more before.
    ///
    /// # Errors
    /// [`PrefixError::NotRunning`] when it has gone meanwhile, [`PrefixError::OutOfReach`],
    /// [`PrefixError::Signal`].
    pub fn signal(&self, signal: Signal) -> Result<(), PrefixError> {
        let prefix = || self.prefix.0.clone();
        if !self.lives()? {
            return Err(PrefixError::NotRunning(prefix()));
        }
        if has_open(self.pid, &self.prefix.pid_file()) == Some(false) {
            return Err(PrefixError::OutOfReach {
                prefix: prefix(),
                pid: self.pid,
            });
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) => Ok(()),
            Err(Errno::ESRCH) => Err(PrefixError::NotRunning(prefix())),
            Err(source) => Err(PrefixError::Signal {
                signal,
                pid: self.pid,
                source,
            }),
        }
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// Those of [`Prefix::find`].
    pub fn lives(&self) -> Result<bool, PrefixError> {
        Ok(self
            .prefix
            .find()?
            .is_some_and(|running| running.pid == self.pid))
    }

    /// Waits until it has gone; false when it still runs after `timeout`.
    ///
    /// # Errors
    /// Those of [`Prefix::find`].
    pub fn wait_gone(&self, timeout: Duration) -> Result<bool, PrefixError> {
        let until = Instant::now() + timeout;
        while self.lives()? {
            if Instant::now() >= until {
                return Ok(false);
            }
            sleep(POLL);
        }
        Ok(true)
    }
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// Whether the process `pid`, as seen from here, has the file open. The lock says that some process has;
/// with a prefix shared between containers the number may mean another process on this side. `None` when
/// it cannot be told: no `/proc`, or no right to look.
fn has_open(pid: i32, path: &Path) -> Option<bool> {
    if !Path::new("/proc/self/fd").exists() {
        return None;
    }
    let ours = std::fs::metadata(path).ok()?;
    let entries = match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(false),
        Err(_) => return None,
    };
    let open = entries
        .flatten()
        .filter_map(|entry| std::fs::metadata(entry.path()).ok())
        .any(|theirs| (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()));
    Some(open)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn prefix() -> (tempfile::TempDir, Prefix) {
        let dir = tempfile::tempdir().unwrap();
        let prefix = Prefix::new(dir.path().join("p"));
        prefix.prepare().unwrap();
        (dir, prefix)
    }

    #[test]
    fn a_claimed_prefix_is_found_running_and_cannot_be_claimed_again() {
        let (_dir, prefix) = prefix();
        assert!(prefix.find().unwrap().is_none());
        let claim = prefix.claim().unwrap();
        let running = prefix.running().unwrap();
        assert_eq!(running.pid(), i32::try_from(std::process::id()).unwrap());
        assert!(running.lives().unwrap());
        assert!(!running.wait_gone(Duration::ZERO).unwrap());
        assert!(
            matches!(prefix.claim(), Err(PrefixError::AlreadyRunning(path)) if path == prefix.path())
        );
        drop(claim);
        assert!(prefix.find().unwrap().is_none());
        assert!(running.wait_gone(Duration::ZERO).unwrap());
        assert!(!prefix.pid_file().exists());
    }

    #[test]
    fn a_leftover_pid_file_is_nobody_and_is_taken_over() {
        let (_dir, prefix) = prefix();
        // Process 1 lives, but does not hold the lock.
        std::fs::write(prefix.pid_file(), "1\n").unwrap();
        assert!(prefix.find().unwrap().is_none());
        assert!(matches!(prefix.running(), Err(PrefixError::NotRunning(_))));
        let _claim = prefix.claim().unwrap();
        assert_eq!(
            std::fs::read_to_string(prefix.pid_file()).unwrap(),
            format!("{}\n", std::process::id())
        );
    }

    #[test]
    fn a_process_that_does_not_hold_the_pid_file_is_never_signalled() {
        let (_dir, prefix) = prefix();
        let mut bystander = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        // As with a prefix shared between containers: locked, but the number means another process here.
        let _claim = prefix.claim().unwrap();
        std::fs::write(prefix.pid_file(), bystander.id().to_string()).unwrap();
        let answer = prefix.running().unwrap().signal(Signal::SIGTERM);
        let alive = bystander.try_wait().unwrap().is_none();
        bystander.kill().unwrap();
        bystander.wait().unwrap();
        assert!(
            matches!(answer, Err(PrefixError::OutOfReach { .. })),
            "{answer:?}"
        );
        assert!(alive);
    }

    #[test]
    fn a_gateway_that_has_gone_is_not_signalled() {
        let (_dir, prefix) = prefix();
        let claim = prefix.claim().unwrap();
        let running = prefix.running().unwrap();
        drop(claim);
        assert!(matches!(
            running.signal(Signal::SIGTERM),
            Err(PrefixError::NotRunning(_))
        ));
    }

    #[test]
    fn the_holder_of_the_pid_file_can_be_signalled() {
        let (_dir, prefix) = prefix();
        let _claim = prefix.claim().unwrap();
        // Ignored by default, so that it does no harm to the process of this test.
        prefix.running().unwrap().signal(Signal::SIGURG).unwrap();
    }

    #[test]
    fn a_prefix_that_is_not_there_is_named() {
        let (_dir, prefix) = prefix();
        let missing = Prefix::new(prefix.path().join("missing"));
        assert_eq!(
            missing.find().unwrap_err().to_string(),
            format!("no such prefix: {}", missing.path().display())
        );
    }

    #[test]
    fn generated_keys_lie_in_a_directory_for_the_owner_only() {
        let (_dir, prefix) = prefix();
        assert_eq!(
            std::fs::metadata(prefix.path().join("ssl")).unwrap().mode() & 0o777,
            0o700
        );
    }
}
