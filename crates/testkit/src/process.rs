//! Child processes that never outlive their parent.
//!
//! A test that panics, a run that is killed, a terminal that is closed: none of them may leave a server behind. Each child is
//! its own process group (so that Ctrl-C reaches only the parent, which then stops its children in order), is stopped on
//! `Drop`, and asks the kernel for a signal when its parent dies (`setpriv --pdeathsig`, from util-linux).

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, killpg};
use nix::unistd::{Pid, User, geteuid};

use crate::Error;

pub use nix::sys::signal::Signal;

/// How often a server is asked whether it is ready.
const POLL: Duration = Duration::from_millis(10);

/// A program to start: what [`Command`] is, plus the user it runs as, its log and how it is told that its parent died.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    user: Option<User>,
    log: Option<PathBuf>,
    stop_signal: Signal,
    death_signal: Signal,
}

impl Program {
    /// The program at `path`, or found in `PATH`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            args: Vec::new(),
            envs: Vec::new(),
            user: None,
            log: None,
            stop_signal: Signal::SIGTERM,
            death_signal: Signal::SIGKILL,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it as another user; `None` stays with the caller's. Needs root.
    #[must_use]
    pub fn user(mut self, user: Option<User>) -> Self {
        self.user = user;
        self
    }

    /// Appends its standard output and error to this file; without it they are dropped.
    #[must_use]
    pub fn log(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// The signal that [`Process::stop`] sends; `SIGTERM` unless told.
    #[must_use]
    pub fn stop_signal(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// The signal that the kernel sends when the parent dies; `SIGKILL` unless told.
    #[must_use]
    pub fn death_signal(mut self, signal: Signal) -> Self {
        self.death_signal = signal;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be started or its log not be opened.
    pub fn spawn(&self) -> Result<Process, Error> {
        let name = self.name();
        let mut command = self.command();
        command.stdin(Stdio::null()).process_group(0);
        match &self.log {
            None => command.stdout(Stdio::null()).stderr(Stdio::null()),
            Some(path) => {
                let what = || format!("cannot write {}", path.display());
                let file = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)
                    .map_err(Error::io(what()))?;
                let twin = file.try_clone().map_err(Error::io(what()))?;
                command.stdout(file).stderr(twin)
            }
        };
        let child = spawn_from_lasting_thread(command)
            .map_err(Error::io(format!("cannot start {name}")))?;
        Ok(Process {
            name,
            child,
            log: self.log.clone(),
            stop_signal: self.stop_signal,
        })
    }

    /// Runs it to its end and returns its standard output.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be started, [`Error::Exited`] with its standard error when it fails.
    pub fn output(&self) -> Result<String, Error> {
        let name = self.name();
        let output = self
            .command()
            .stdin(Stdio::null())
            .output()
            .map_err(Error::io(format!("cannot start {name}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let log = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Err(Error::Exited {
            name,
            status: output.status.to_string(),
            log,
        })
    }

    fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or(self.path.as_os_str())
            .to_string_lossy()
            .into_owned()
    }

    fn command(&self) -> Command {
        let mut command = match find_program("setpriv") {
            None => Command::new(&self.path),
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", self.death_signal.as_str()]);
                if let Some(user) = &self.user {
                    command
                        .arg(format!("--reuid={}", user.uid))
                        .arg(format!("--regid={}", user.gid));
                    // A folder that the other user may not enter would make the program complain about it.
                    command.arg("--clear-groups").current_dir("/");
                }
                command.arg("--").arg(&self.path);
                command
            }
        };
        command
            .args(&self.args)
            .envs(self.envs.iter().map(|(k, v)| (k, v)));
        command
    }
}

/// A running child; stopped when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Option<PathBuf>,
    stop_signal: Signal,
}

impl Process {
    /// Its process id, which is also its process group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal; a process that has ended meanwhile is no error.
    pub fn signal(&mut self, signal: Signal) {
        // Only while it has not been waited for: afterwards its id may belong to somebody else.
        if self.is_running() {
            let _gone = kill(self.pid(), signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, Error> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self
                .child
                .try_wait()
                .map_err(Error::io(format!("cannot wait for {}", self.name)))?
            {
                return Ok(status);
            }
            if Instant::now() >= end {
                return Err(Error::Timeout {
                    what: format!("the end of {}", self.name),
                    seconds: limit.as_secs(),
                    log: self.log_tail(),
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Asks it to stop and waits; what remains of its process group after `grace` is killed.
    pub fn stop(&mut self, grace: Duration) {
        self.signal(self.stop_signal);
        if self.wait(grace).is_err() {
            self.kill();
        }
    }

    /// Kills its process group at once (`kill -9`) and waits for the end.
    pub fn kill(&mut self) {
        if self.is_running() {
            let _gone = killpg(self.pid(), Signal::SIGKILL);
            let _status = self.child.wait();
        }
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// [`Error::Exited`] when the process ends first, [`Error::Timeout`] after `limit`; both with the end of its log.
    pub fn wait_until(
        &mut self,
        limit: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<(), Error> {
        let end = Instant::now() + limit;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Error::Exited {
                    name: self.name.clone(),
                    status: status.to_string(),
                    log: self.log_tail(),
                });
            }
            if ready() {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(Error::Timeout {
                    what: format!("{} ready", self.name),
                    seconds: limit.as_secs(),
                    log: self.log_tail(),
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// The last lines of its log, at most 4 KiB; empty without a log.
    pub fn log_tail(&self) -> String {
        self.log.as_deref().map(tail_of).unwrap_or_default()
    }

    fn pid(&self) -> Pid {
        // Linux process ids are below 2^22.
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(5));
    }
}

/// Whom to run a server as that refuses root: `None` when the caller is not root, else `postgres` or `nobody`.
///
/// # Errors
/// [`Error::Missing`] when root finds neither.
pub fn unprivileged_user() -> Result<Option<User>, Error> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Ok(Some(user)) = User::from_name(name) {
            return Ok(Some(user));
        }
    }
    Err(Error::Missing(
        "no user postgres or nobody, and Postgres does not run as root".into(),
    ))
}

/// The program's path, looked up in `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian keeps servers where the PATH of an ordinary user does not reach.
    let extra = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(extra)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Removes what earlier processes left in the temporary folder: `<prefix><pid>-...` of processes that no longer run.
pub fn sweep_stale(prefix: &str) {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|n| n.strip_prefix(prefix))
            .and_then(|n| n.split('-').next());
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else {
            continue;
        };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            // Another user's folder stays; so does one that somebody else is removing.
            let _kept = fs::remove_dir_all(entry.path());
        }
    }
}

/// The name of a new temporary folder of this process, for [`sweep_stale`] to find later.
pub fn temporary(prefix: &str) -> PathBuf {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    std::env::temp_dir().join(format!("{prefix}{}-{number}", std::process::id()))
}

/// The last 4 KiB of a file, from the start of a line.
fn tail_of(path: &Path) -> String {
    let Ok(mut file) = File::open(path) else {
        return String::new();
    };
    let length = file.metadata().map_or(0, |m| m.len());
    let mut bytes = Vec::new();
    let start = length.saturating_sub(4096);
    if file.seek(SeekFrom::Start(start)).is_err() || file.read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match text.split_once('\n') {
        Some((_, rest)) if start > 0 => rest.to_owned(),
        _ => text,
    }
}

/// Spawns from a thread that lives as long as the process: the kernel sends the parent-death signal when the *thread* that
/// forked ends, and a test's thread ends with its test.
fn spawn_from_lasting_thread(command: Command) -> std::io::Result<Child> {
    type Job = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, inbox) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _nobody_waits = reply.send(command.spawn());
            }
        });
        jobs
    });
    let (reply, answer) = mpsc::channel();
    let gone = |_| std::io::Error::other("the thread that starts processes is gone");
    spawner
        .send((command, reply))
        .map_err(|e| gone(e.to_string()))?;
    answer.recv().map_err(|e| gone(e.to_string()))?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_child_started_by_a_thread_survives_that_thread_and_dies_when_dropped() {
        let mut child = std::thread::spawn(|| Program::new("sleep").arg("60").spawn().unwrap())
            .join()
            .unwrap();
        assert!(child.wait(Duration::from_millis(100)).is_err());
        let proc = PathBuf::from(format!("/proc/{}", child.id()));
        drop(child);
        assert!(!proc.exists());
    }

    #[test]
    fn a_failing_program_reports_what_it_wrote() {
        let error = Program::new("sh")
            .args(["-c", "echo broken >&2; exit 3"])
            .output()
            .unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
    }

    #[test]
    fn waiting_for_a_server_that_ends_tells_so_at_once() {
        let mut child = Program::new("false").spawn().unwrap();
        let error = child
            .wait_until(Duration::from_secs(30), || false)
            .unwrap_err();
        assert!(matches!(error, Error::Exited { .. }), "{error}");
    }
}
