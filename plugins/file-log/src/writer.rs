//! Writes lines to a file.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use silverback_export::{Deliver, Queued};

/// A line with its end.
pub(crate) struct Line {
    pub(crate) text: String,
    /// Whether it is for the file that has the name now, which may be another than the one that is open.
    pub(crate) reopen: bool,
}

impl Queued for Line {
    fn bytes(&self) -> usize {
        self.text.len()
    }
}

/// A file that lines are appended to; open from the first one on.
pub(crate) struct File {
    path: PathBuf,
    /// Only the thread that writes takes it.
    open: Mutex<Option<fs::File>>,
}

impl File {
    pub(crate) fn new(path: &str) -> Self {
        File {
            path: path.into(),
            open: Mutex::new(None),
        }
    }

    fn append(&self, lines: &[u8], reopen: bool) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let before = open.take().filter(|_| !reopen);
        let mut file = match before {
            Some(file) => file,
            None => fs::OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o644)
                .open(&self.path)?,
        };
        file.write_all(lines)?;
        *open = Some(file);
        Ok(())
    }
}

/// The receiver of the lines.
pub(crate) struct Writer(pub(crate) Arc<File>);

impl Deliver for Writer {
    type Entry = Line;

    async fn deliver(&self, batch: &[Line]) -> Result<(), String> {
        let reopen = batch.iter().any(|line| line.reopen);
        let mut lines = Vec::with_capacity(batch.iter().map(Queued::bytes).sum());
        for line in batch {
            lines.extend_from_slice(line.text.as_bytes());
        }
        let file = self.0.clone();
        // A file may block for as long as its disk likes.
        let written = tokio::task::spawn_blocking(move || file.append(&lines, reopen)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(format!("failed to write {}: {e}", self.0.path.display())),
            Err(e) => Err(e.to_string()),
        }
    }
}
