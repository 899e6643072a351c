//! One line per request, in the format Kong gives nginx (`log_format kong_log_format` in
//! `kong/templates/nginx_kong.lua`) or as JSON.

mod output;
mod record;

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use output::LogTarget;
pub(crate) use output::open_for_append;
pub use record::AccessRecord;

use crate::sink::{DEFAULT_CAPACITY, Sink, SinkStats};
use crate::striped::default_stripes;

/// The layout of an access log's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Kong's `kong_log_format`: the combined format and the request id.
    #[default]
    Kong,
    /// nginx' built-in `combined`.
    Combined,
    /// One JSON object per line.
    Json,
}

/// Why an access log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The setting names a format that does not exist.
    #[error("unknown log format \"{0}\" (known: kong_log_format, combined, json)")]
    UnknownFormat(String),
    /// The setting names a destination that is not supported.
    #[error("unsupported log destination \"{0}\"")]
    UnsupportedTarget(String),
    /// The setting has more than a destination and a format.
    #[error("expected \"<path> [<format>]\", got \"{0}\"")]
    Malformed(String),
    /// The file cannot be opened for appending.
    #[error("cannot open log file {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The writer's thread cannot be started.
    #[error("cannot start the log writer: {0}")]
    Spawn(io::Error),
}

/// An open access log. Share it in an `Arc`; dropping the last one writes out what is buffered.
///
/// Lines wait at most about 100 ms in memory. When the destination is slower than the traffic, buffers of
/// 4 MiB each fill up and then lines are dropped and counted ([`SinkStats::dropped_lines`]); requests are
/// never held up. Lines of different threads may appear in an order other than that of their time stamps.
#[derive(Debug)]
pub struct AccessLog {
    sink: Option<Sink>,
    format: LogFormat,
    stats: Arc<SinkStats>,
}

impl AccessLog {
    /// A log that swallows everything.
    pub fn off() -> Self {
        Self {
            sink: None,
            format: LogFormat::default(),
            stats: Arc::default(),
        }
    }

    /// Opens `target` for appending and starts its writer.
    ///
    /// # Errors
    /// [`AccessLogError::Open`] and [`AccessLogError::Spawn`].
    pub fn open(target: &LogTarget, format: LogFormat) -> Result<Self, AccessLogError> {
        let Some(output) = output::open(target)? else {
            return Ok(Self::off());
        };
        let sink = Sink::spawn(output, default_stripes(), DEFAULT_CAPACITY)
            .map_err(AccessLogError::Spawn)?;
        let stats = Arc::clone(sink.stats());
        Ok(Self {
            sink: Some(sink),
            format,
            stats,
        })
    }

    /// Whether lines go anywhere: when not, the caller need not gather a record.
    #[inline]
    pub fn enabled(&self) -> bool {
        self.sink.is_some()
    }

    /// Writes one line, stamped with the present time. Never blocks; allocates nothing once the thread has
    /// written a line as long as this one. Returns whether the line was accepted (also when the log is off).
    pub fn log(&self, record: &AccessRecord<'_>) -> bool {
        /// A line this long, from a monstrous header, is not worth keeping the memory for.
        const KEEP_CAPACITY: usize = 64 * 1024;
        thread_local! {
            static LINE: RefCell<String> = const { RefCell::new(String::new()) };
        }
        let Some(sink) = &self.sink else {
            return true;
        };
        LINE.with_borrow_mut(|line| {
            line.clear();
            record.append(self.format, SystemTime::now(), line);
            let accepted = sink.append(line.as_bytes());
            if line.capacity() > KEEP_CAPACITY {
                *line = String::new();
            }
            accepted
        })
    }

    /// Opens the file again, after rotation has moved it away (nginx does so on `SIGUSR1`, and on reload).
    /// Returns at once; what was logged before still goes to the old file. Nothing happens to a log that is
    /// off or goes to standard output.
    pub fn reopen(&self) {
        if let Some(sink) = &self.sink {
            sink.reopen();
        }
    }

    /// Waits until everything logged, and every re-opening asked for, before this call is done, at most
    /// `timeout`; returns whether it is. Not for proxy threads.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.sink.as_ref().is_none_or(|sink| sink.flush(timeout))
    }

    /// What became of the lines, for [`crate::Registry::watch_log`].
    pub fn stats(&self) -> &Arc<SinkStats> {
        &self.stats
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    const LONG: Duration = Duration::from_secs(20);

    fn record(id: &str) -> AccessRecord<'_> {
        AccessRecord {
            status: 200,
            request_id: id,
            method: b"GET",
            target: b"/",
            ..AccessRecord::default()
        }
    }

    #[test]
    fn after_rotation_new_lines_go_to_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let moved = folder.path().join("access.log.1");
        let log = AccessLog::open(&LogTarget::File(path.clone()), LogFormat::Kong).unwrap();

        assert!(log.log(&record("before")));
        assert!(log.flush(LONG));
        fs::rename(&path, &moved).unwrap();
        assert!(log.log(&record("between")));
        log.reopen();
        assert!(log.flush(LONG));
        assert!(log.log(&record("after")));
        assert!(log.flush(LONG));

        let old = fs::read_to_string(moved).unwrap();
        let new = fs::read_to_string(path).unwrap();
        assert!(
            old.contains("\"before\"") && old.contains("\"between\"") && !old.contains("\"after\"")
        );
        assert!(
            new.contains("\"after\"")
                && !new.contains("\"before\"")
                && !new.contains("\"between\"")
        );
        assert_eq!(new.lines().count(), 1);
        assert_eq!(log.stats().dropped_lines(), 0);
    }

    #[test]
    fn an_existing_file_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        fs::write(&path, "old line\n").unwrap();
        let log = AccessLog::open(&LogTarget::File(path.clone()), LogFormat::Kong).unwrap();
        assert!(log.log(&record("new")));
        drop(log);
        let text = fs::read_to_string(path).unwrap();
        assert!(text.starts_with("old line\n"));
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn a_log_that_is_off_takes_everything_and_writes_nothing() {
        let log = AccessLog::open(&LogTarget::Off, LogFormat::Kong).unwrap();
        assert!(!log.enabled());
        assert!(log.log(&record("x")));
        log.reopen();
        assert!(log.flush(Duration::ZERO));
        assert_eq!(log.stats().written_bytes(), 0);
    }

    #[test]
    fn a_file_in_a_missing_folder_is_an_error_naming_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("access.log");
        let error = AccessLog::open(&LogTarget::File(path.clone()), LogFormat::Kong).unwrap_err();
        assert!(matches!(&error, AccessLogError::Open { path: named, .. } if *named == path));
        assert!(error.to_string().contains("missing/access.log"), "{error}");
    }
}
