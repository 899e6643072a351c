//! Starting in the background: the command waits until the gateway says that it is ready.
//!
//! The gateway gets one end of a socket pair as its standard input. When it is ready it writes a line
//! there; when it ends before, the system closes the socket, and the command knows.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

const READY: &[u8] = b"ready\n";

/// Lines of the log that are shown when a start fails.
const TAIL: usize = 20;

/// Told once, when the gateway can serve.
#[derive(Debug)]
pub struct Ready {
    parent: Option<UnixStream>,
}

impl Ready {
    /// Nobody waits; it is said on standard output.
    #[must_use]
    pub fn foreground() -> Self {
        Self { parent: None }
    }

    /// The command that started this process waits at the other end of standard input.
    ///
    /// # Errors
    /// When standard input is closed.
    pub(super) fn detached() -> io::Result<Self> {
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self {
            parent: Some(UnixStream::from(stdin)),
        })
    }

    /// Says that the gateway is ready: its listeners are bound and it has a configuration to serve.
    pub fn notify(self) {
        match self.parent {
            // Nobody need read this for the gateway to run.
            None => {
                let _ = writeln!(io::stdout(), "Silverback started");
            }
            Some(mut parent) => {
                // The command may have been interrupted; the gateway runs all the same.
                let _ = parent.write_all(READY);
                if let Ok(null) = File::open("/dev/null") {
                    let _ = nix::unistd::dup2_stdin(null);
                }
            }
        }
    }
}

/// Why a gateway did not start in the background.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// It could not be started at all.
    #[error("could not start {}: {source}", program.display())]
    Spawn {
        /// The program, or the log that it was to write to.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended before it was ready.
    #[error("Silverback did not start ({status}). The end of {}:\n{tail}", log.display())]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The last lines that it wrote.
        tail: String,
    },
    /// It was not ready in time and was stopped.
    #[error("Silverback was not ready after {} s and was stopped. The end of {}:\n{tail}", timeout.as_secs_f64(), log.display())]
    Timeout {
        /// How long it had.
        timeout: Duration,
        /// Its log.
        log: PathBuf,
        /// The last lines that it wrote.
        tail: String,
    },
}

/// Runs `command` in the background with its output appended to `log`; returns its process id once it is
/// ready.
///
/// # Errors
/// See [`DaemonError`].
pub(super) fn spawn(
    mut command: Command,
    log: &Path,
    timeout: Duration,
) -> Result<u32, DaemonError> {
    let program = PathBuf::from(command.get_program());
    let spawning = |program: &Path| {
        let program = program.to_owned();
        move |source| DaemonError::Spawn { program, source }
    };
    let mut output = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .map_err(spawning(log))?;
    let begin = output.seek(SeekFrom::End(0)).map_err(spawning(log))?;
    let (mut ours, theirs) = UnixStream::pair().map_err(spawning(&program))?;
    command
        .stdin(OwnedFd::from(theirs))
        .stdout(output.try_clone().map_err(spawning(log))?)
        .stderr(output);
    let mut child = command.spawn().map_err(spawning(&program))?;
    // It still holds the other end, and would keep us from seeing that the gateway has closed its own.
    drop(command);

    match wait_ready(&mut ours, timeout) {
        Wait::Ready => Ok(child.id()),
        Wait::Closed => {
            let status = child.wait().map_err(spawning(&program))?;
            Err(DaemonError::Ended {
                status,
                log: log.into(),
                tail: tail(log, begin),
            })
        }
        Wait::Timeout => {
            // It may end by itself at this very moment.
            let _ = child.kill();
            let _ = child.wait();
            Err(DaemonError::Timeout {
                timeout,
                log: log.into(),
                tail: tail(log, begin),
            })
        }
    }
}

enum Wait {
    Ready,
    Closed,
    Timeout,
}

fn wait_ready(socket: &mut UnixStream, timeout: Duration) -> Wait {
    let until = Instant::now() + timeout;
    let mut said = Vec::new();
    let mut buffer = [0; 64];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Wait::Timeout;
        }
        // Only a timeout of zero is refused.
        let _ = socket.set_read_timeout(Some(left));
        match socket.read(&mut buffer) {
            Ok(0) => return Wait::Closed,
            Ok(count) => said.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                return Wait::Timeout;
            }
            Err(_) => return Wait::Closed,
        }
        if said.ends_with(READY) {
            return Wait::Ready;
        }
    }
}

/// The last lines of what was written to `log` after `begin`.
fn tail(log: &Path, begin: u64) -> String {
    let mut text = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(begin))?;
        file.take(1 << 20).read_to_end(&mut text)
    });
    if read.is_err() || text.is_empty() {
        return "  (it wrote nothing)".to_owned();
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL)..];
    last.iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> (Result<u32, DaemonError>, String) {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("error.log");
        std::fs::write(&log, "of an earlier start\n").unwrap();
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        let answer = spawn(command, &log, timeout);
        (answer, std::fs::read_to_string(&log).unwrap())
    }

    #[test]
    fn returns_once_the_gateway_says_that_it_is_ready() {
        let (answer, log) = shell("echo hello; echo ready >&0", Duration::from_secs(30));
        assert!(answer.is_ok(), "{answer:?}");
        assert_eq!(log, "of an earlier start\nhello\n");
    }

    #[test]
    fn a_gateway_that_ends_first_is_reported_with_the_end_of_its_log() {
        let (answer, _) = shell(
            "for i in $(seq 30); do echo line $i >&2; done; exit 3",
            Duration::from_secs(30),
        );
        let text = answer.unwrap_err().to_string();
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(
            text.ends_with("  line 30")
                && text.contains("  line 11\n")
                && !text.contains("  line 10\n"),
            "{text}"
        );
        assert!(!text.contains("earlier"), "{text}");
    }

    #[test]
    fn a_gateway_that_hangs_is_stopped() {
        let (answer, _) = shell("exec sleep 600", Duration::from_millis(100));
        assert!(
            matches!(answer, Err(DaemonError::Timeout { .. })),
            "{answer:?}"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let answer = spawn(
            Command::new("/no/such/program"),
            &dir.path().join("log"),
            Duration::from_secs(1),
        );
        assert!(
            answer
                .unwrap_err()
                .to_string()
                .starts_with("could not start /no/such/program: ")
        );
    }

    #[test]
    fn ready_is_said_to_who_waits() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut ready = Ready::foreground();
        ready.parent = Some(theirs);
        ready.notify();
        assert!(matches!(
            wait_ready(&mut ours, Duration::from_secs(30)),
            Wait::Ready
        ));
    }
}
