//! Where the error log goes. Lines are written at once, by the thread that says them: what is said right
//! before a crash must not be lost, and at Kong's default level there is little of it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing_subscriber::fmt::MakeWriter;

use super::LoggingError;
use crate::access_log::open_for_append;

/// The destination of the error log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ErrorTarget {
    /// Standard error.
    #[default]
    Stderr,
    /// A file, appended to and created when missing.
    File(PathBuf),
}

impl ErrorTarget {
    /// Reads one of Kong's `*_error_log` settings: a path, relative ones taken from `prefix`; `/dev/stderr`
    /// and `stderr` mean the stream.
    pub fn parse(setting: &str, prefix: &Path) -> Self {
        match setting {
            "/dev/stderr" | "stderr" => Self::Stderr,
            path => Self::File(prefix.join(path)),
        }
    }
}

/// A file that can be opened again while others write to it. Writers share no lock: the file is opened in
/// append mode and each line is one `write`.
#[derive(Debug, Clone)]
pub(super) struct ErrorFile {
    path: Arc<Path>,
    file: Arc<ArcSwap<File>>,
}

impl ErrorFile {
    pub(super) fn open(path: &Path) -> Result<Self, LoggingError> {
        let file = open(path)?;
        Ok(Self {
            path: path.into(),
            file: Arc::new(ArcSwap::from_pointee(file)),
        })
    }

    pub(super) fn reopen(&self) -> Result<(), LoggingError> {
        self.file.store(Arc::new(open(&self.path)?));
        Ok(())
    }
}

fn open(path: &Path) -> Result<File, LoggingError> {
    open_for_append(path).map_err(|source| LoggingError::Open {
        path: path.to_owned(),
        source,
    })
}

impl<'a> MakeWriter<'a> for ErrorFile {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(self.file.load_full())
    }
}

/// The file as it was when a line was begun.
pub(super) struct Line(Arc<File>);

impl Write for Line {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        (&*self.0).write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.0).flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_the_stream_or_a_file_below_the_prefix() {
        let prefix = Path::new("/usr/local/kong");
        assert_eq!(
            ErrorTarget::parse("/dev/stderr", prefix),
            ErrorTarget::Stderr
        );
        let file = ErrorTarget::File("/usr/local/kong/logs/error.log".into());
        assert_eq!(ErrorTarget::parse("logs/error.log", prefix), file);
    }

    #[test]
    fn a_failed_reopening_keeps_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("logs");
        std::fs::create_dir(&inner).unwrap();
        let log = ErrorFile::open(&inner.join("error.log")).unwrap();
        let moved = folder.path().join("moved");
        std::fs::rename(&inner, &moved).unwrap();
        assert!(matches!(log.reopen(), Err(LoggingError::Open { .. })));
        log.make_writer().write_all(b"still here\n").unwrap();
        assert_eq!(
            std::fs::read_to_string(moved.join("error.log")).unwrap(),
            "still here\n"
        );
    }
}
