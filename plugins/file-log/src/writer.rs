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
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    file: Option<fs::File>,
    /// Whether the last line has no end, because there was no room for the rest of it.
    torn: bool,
}

impl File {
    pub(crate) fn new(path: &str) -> Self {
        File {
            path: path.into(),
            open: Mutex::default(),
        }
    }

    fn append(&self, lines: &[u8], reopen: bool) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let before = open.file.take().filter(|_| !reopen);
        let mut file = match before {
            Some(file) => file,
            None => fs::OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o644)
                .open(&self.path)?,
        };
        // It may be another file by now.
        open.torn = open.torn && file.metadata()?.len() > 0;
        write(&mut file, lines, &mut open.torn)?;
        open.file = Some(file);
        Ok(())
    }
}

/// Writes lines, after the end of one that is torn; `torn` tells whether the last one is then, also when that fails.
fn write(to: &mut impl Write, mut lines: &[u8], torn: &mut bool) -> io::Result<()> {
    if *torn {
        to.write_all(b"\n")?;
        *torn = false;
    }
    while !lines.is_empty() {
        match to.write(lines) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                *torn = lines[n - 1] != b'\n';
                lines = &lines[n..];
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A disk with room for so many bytes more.
    #[derive(Default)]
    struct Disk {
        room: usize,
        bytes: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(self.room);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= n;
            self.bytes.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_torn_is_not_continued() {
        let mut disk = Disk::default();
        let mut torn = false;
        for (room, is_torn) in [(6, true), (0, true), (1, false), (4, false)] {
            disk.room = room;
            write(&mut disk, b"one\ntwo\n", &mut torn).unwrap_err();
            assert_eq!(torn, is_torn, "{room}");
        }
        disk.room = 100;
        write(&mut disk, b"last\n", &mut torn).unwrap();
        assert_eq!(disk.bytes, b"one\ntw\none\nlast\n");
    }
}
