//! The error log: what the gateway has to say about itself, through the `tracing` macros.
//!
//! Kong's levels map one to one onto tracing's, so nothing is lost and lines carry Kong's names:
//!
//! | Kong                            | tracing |
//! |---------------------------------|---------|
//! | `debug`                         | `trace` |
//! | `info`                          | `debug` |
//! | `notice` (Kong's default)       | `info`  |
//! | `warn`                          | `warn`  |
//! | `error`, `crit`, `alert`, `emerg` | `error` |
//!
//! Libraries that chatter (HTTP, TLS, DNS and database clients, the proxy engine) are held one level lower at
//! `info` and `debug`. Records of the `log` crate come along.
//!
//! A message that belongs to a request names it with a field, not with a span, because making a span costs
//! every request something: `tracing::warn!(request_id, "...")`. The text format puts that field last, where
//! Kong puts it (`lua_kong_error_log_request_id`).

mod format;
mod level;
mod target;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Dispatch;
use tracing_log::LogTracer;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;

pub use format::ErrorFormat;
pub use level::LogLevel;
pub use target::ErrorTarget;

use format::NginxLike;
use target::ErrorFile;

/// How to set up the error log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogConfig {
    /// Least serious level that is written.
    pub level: LogLevel,
    /// Layout of a line.
    pub format: ErrorFormat,
    /// Where lines go.
    pub target: ErrorTarget,
}

/// Why the error log cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// No such level.
    #[error("unknown log level: {0}")]
    UnknownLevel(String),
    /// The file cannot be opened for appending.
    #[error("cannot open log file {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Somebody set up logging in this process before.
    #[error("logging is already set up in this process")]
    AlreadyInitialised,
    /// The subscriber is gone.
    #[error("the log level cannot be changed: {0}")]
    Reload(#[from] reload::Error),
}

/// Changes a running error log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
    level: Arc<AtomicU8>,
    /// Two callers changing the level at once must not leave name and filter apart.
    changing: Arc<Mutex<()>>,
    file: Option<ErrorFile>,
}

impl LogHandle {
    /// The level in force.
    pub fn level(&self) -> LogLevel {
        LogLevel::from_index(self.level.load(Ordering::Relaxed))
    }

    /// Changes the level for the whole process at once. Not for proxy threads.
    ///
    /// # Errors
    /// [`LoggingError::Reload`] when the subscriber no longer exists.
    pub fn set_level(&self, level: LogLevel) -> Result<(), LoggingError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.filter.reload(level.filter())?;
        self.level.store(level.index(), Ordering::Relaxed);
        // The `log` crate has a threshold of its own, looked at before tracing is asked.
        tracing_log::log::set_max_level(level.log_filter());
        Ok(())
    }

    /// Opens the log file again after rotation. Nothing happens when the log goes to standard error.
    ///
    /// # Errors
    /// [`LoggingError::Open`]; the old file then stays in use.
    pub fn reopen(&self) -> Result<(), LoggingError> {
        self.file.as_ref().map_or(Ok(()), ErrorFile::reopen)
    }
}

/// Sets up logging for this process. Records of the `log` crate are taken in too, unless it has a logger
/// already.
///
/// # Errors
/// [`LoggingError::Open`], [`LoggingError::AlreadyInitialised`].
pub fn init(config: &LogConfig) -> Result<LogHandle, LoggingError> {
    let (dispatch, handle) = build(config)?;
    tracing::dispatcher::set_global_default(dispatch)
        .map_err(|_| LoggingError::AlreadyInitialised)?;
    // A logger that somebody else gave the `log` crate before stays; tracing is set up all the same.
    let _ = LogTracer::builder()
        .with_max_level(config.level.log_filter())
        .init();
    Ok(handle)
}

/// What [`init`] sets up, without making it the process's: for a gateway run inside another program.
///
/// # Errors
/// [`LoggingError::Open`].
pub fn build(config: &LogConfig) -> Result<(Dispatch, LogHandle), LoggingError> {
    let (filter, reload) = reload::Layer::new(config.level.filter());
    let file = match &config.target {
        ErrorTarget::Stderr => None,
        ErrorTarget::File(path) => Some(ErrorFile::open(path)?),
    };
    let layer = tracing_subscriber::fmt::layer().event_format(NginxLike::new(config.format));
    let subscriber = tracing_subscriber::registry().with(filter);
    let dispatch = match &file {
        None => Dispatch::new(subscriber.with(layer.with_ansi(false).with_writer(io::stderr))),
        Some(file) => {
            Dispatch::new(subscriber.with(layer.with_ansi(false).with_writer(file.clone())))
        }
    };
    let handle = LogHandle {
        filter: reload,
        level: Arc::new(AtomicU8::new(config.level.index())),
        changing: Arc::default(),
        file,
    };
    Ok((dispatch, handle))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    fn in_file(
        level: LogLevel,
        format: ErrorFormat,
    ) -> (tempfile::TempDir, PathBuf, Dispatch, LogHandle) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("error.log");
        let config = LogConfig {
            level,
            format,
            target: ErrorTarget::File(path.clone()),
        };
        let (dispatch, handle) = build(&config).unwrap();
        (folder, path, dispatch, handle)
    }

    #[test]
    fn the_level_can_be_changed_while_running() {
        let (_folder, path, dispatch, handle) = in_file(LogLevel::Error, ErrorFormat::Text);
        tracing::dispatcher::with_default(&dispatch, || {
            let say = |text: &str| tracing::info!("{text}");
            say("first");
            handle.set_level(LogLevel::Notice).unwrap();
            say("second");
            handle.set_level(LogLevel::Warn).unwrap();
            say("third");
        });
        assert_eq!(handle.level(), LogLevel::Warn);
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains("second"));
        assert!(!text.contains("first") && !text.contains("third"), "{text}");
    }

    #[test]
    fn a_text_line_has_nginx_shape_and_ends_with_the_request_id() {
        let (_folder, path, dispatch, _handle) = in_file(LogLevel::Notice, ErrorFormat::Text);
        tracing::dispatcher::with_default(&dispatch, || {
            let request_id = "abc\"\n[emerg] forged";
            tracing::warn!(request_id, attempts = 3, peer = %"10.0.0.1:80\nx", "upstream failed");
        });
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(" [warn] "), "{text}");
        let pid = std::process::id();
        assert!(text.contains(&format!("] {pid}#")), "{text}");
        let tail = "upstream failed, attempts: 3, peer: 10.0.0.1:80\\x0Ax, \
                    request_id: \"abc\\x22\\x0A[emerg] forged\"\n";
        assert!(text.ends_with(tail), "{text}");
    }

    #[test]
    fn json_lines_carry_level_message_and_fields() {
        let (_folder, path, dispatch, _handle) = in_file(LogLevel::Debug, ErrorFormat::Json);
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::trace!(request_id = %"r1", count = 7_u64, ratio = 0.5, ok = true, nan = f64::NAN, "a\n\"b\"");
        });
        let text = fs::read_to_string(path).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["level"], "debug");
        assert_eq!(value["message"], "a\n\"b\"");
        assert_eq!(value["request_id"], "r1");
        assert_eq!(value["count"], 7);
        assert_eq!(value["ratio"], 0.5);
        assert_eq!(value["ok"], true);
        assert_eq!(value["nan"], "NaN");
        assert_eq!(value["pid"], std::process::id());
        assert!(value["time"].as_str().unwrap().contains('T'));
    }

    #[test]
    fn spans_are_named_in_front_of_the_message() {
        let (_folder, path, dispatch, _handle) = in_file(LogLevel::Notice, ErrorFormat::Text);
        tracing::dispatcher::with_default(&dispatch, || {
            let _outer = tracing::info_span!("reload", revision = 4).entered();
            tracing::info!("built");
        });
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains("(reload{revision=4}) built"), "{text}");
    }

    #[test]
    fn after_rotation_new_messages_go_to_a_new_file() {
        let (folder, path, dispatch, handle) = in_file(LogLevel::Notice, ErrorFormat::Text);
        let moved = folder.path().join("error.log.1");
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::error!("before");
            fs::rename(&path, &moved).unwrap();
            tracing::error!("between");
            handle.reopen().unwrap();
            tracing::error!("after");
        });
        let old = fs::read_to_string(moved).unwrap();
        let new = fs::read_to_string(path).unwrap();
        assert!(old.contains("before") && old.contains("between") && !old.contains("after"));
        assert!(new.contains("after") && !new.contains("between"));
    }

    #[test]
    fn setting_up_twice_is_an_error() {
        let config = LogConfig {
            level: LogLevel::Emerg,
            ..LogConfig::default()
        };
        let first = init(&config).unwrap();
        assert!(matches!(
            init(&config),
            Err(LoggingError::AlreadyInitialised)
        ));
        assert_eq!(first.level(), LogLevel::Emerg);
    }

    #[test]
    fn records_of_the_log_crate_come_along_under_their_own_target() {
        // The bridge belongs to the process: whichever test sets it up first, errors pass its threshold.
        let _ = LogTracer::init();
        let (_folder, path, dispatch, _handle) = in_file(LogLevel::Notice, ErrorFormat::Text);
        tracing::dispatcher::with_default(&dispatch, || {
            tracing_log::log::error!(target: "pingora_core", "no listener");
        });
        let text = fs::read_to_string(path).unwrap();
        assert!(text.ends_with(": pingora_core: no listener\n"), "{text}");
        assert!(text.contains(" [error] "), "{text}");
    }
}
