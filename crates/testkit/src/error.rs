//! What can go wrong around a test rather than in it.

use std::path::PathBuf;

/// Why a server could not be started, reached or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operating system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A program or user that a Debian package would bring is not there.
    #[error("{0}")]
    Missing(String),
    /// A program ended although it was to go on, or ended with a failure.
    #[error("{name} ended ({status}){}", tail(log))]
    Exited {
        /// The program.
        name: String,
        /// Its exit status in words.
        status: String,
        /// The last lines it wrote.
        log: String,
    },
    /// Something did not happen in time.
    #[error("{what} not within {seconds} s{}", tail(log))]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long, in seconds.
        seconds: u64,
        /// The last lines of the server's log, if it has one.
        log: String,
    },
    /// A folder was made by another version.
    #[error("{}: {why}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A peer did not speak HTTP/1.1.
    #[error("not HTTP/1.1: {0}")]
    Http(String),
}

impl Error {
    /// Says what was being done when `source` came up.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

fn tail(log: &str) -> String {
    if log.trim().is_empty() {
        String::new()
    } else {
        format!(":\n{}", log.trim_end())
    }
}
