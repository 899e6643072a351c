//! Kong's log levels, which are nginx', and what each lets through.

use std::fmt;
use std::str::FromStr;

use tracing::Level;
use tracing_log::log;
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::LoggingError;

/// Libraries whose own chatter is of little use to whoever operates the gateway.
const CHATTY: &[&str] = &[
    "h2",
    "hickory_proto",
    "hickory_resolver",
    "hyper",
    "hyper_util",
    "mio",
    "pingora",
    "pingora_core",
    "pingora_pool",
    "pingora_proxy",
    "pingora_runtime",
    "redis",
    "refinery_core",
    "rustls",
    "tokio_postgres",
    "tower",
];

/// Kong's `log_level`, least serious first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum LogLevel {
    /// Details for finding a mistake in the gateway.
    Debug,
    /// Details of requests gone wrong.
    Info,
    /// What an operator wants to know; Kong's default.
    #[default]
    Notice,
    /// Something odd that was dealt with.
    Warn,
    /// Something failed.
    Error,
    /// As `error`.
    Crit,
    /// As `error`.
    Alert,
    /// As `error`.
    Emerg,
}

const ALL: [LogLevel; 8] = [
    LogLevel::Debug,
    LogLevel::Info,
    LogLevel::Notice,
    LogLevel::Warn,
    LogLevel::Error,
    LogLevel::Crit,
    LogLevel::Alert,
    LogLevel::Emerg,
];

impl LogLevel {
    /// The name in `kong.conf` and on the Admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Crit => "crit",
            Self::Alert => "alert",
            Self::Emerg => "emerg",
        }
    }

    /// The name under which an event of a tracing level is written.
    pub(super) fn name_of(level: Level) -> &'static str {
        match level {
            Level::TRACE => "debug",
            Level::DEBUG => "info",
            Level::INFO => "notice",
            Level::WARN => "warn",
            Level::ERROR => "error",
        }
    }

    pub(super) fn index(self) -> u8 {
        self as u8
    }

    pub(super) fn from_index(index: u8) -> Self {
        ALL.get(usize::from(index)).copied().unwrap_or_default()
    }

    fn threshold(self) -> LevelFilter {
        match self {
            Self::Debug => LevelFilter::TRACE,
            Self::Info => LevelFilter::DEBUG,
            Self::Notice => LevelFilter::INFO,
            Self::Warn => LevelFilter::WARN,
            Self::Error | Self::Crit | Self::Alert | Self::Emerg => LevelFilter::ERROR,
        }
    }

    pub(super) fn filter(self) -> Targets {
        let chatty = match self {
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            other => other.threshold(),
        };
        Targets::new()
            .with_default(self.threshold())
            .with_targets(CHATTY.iter().map(|name| (*name, chatty)))
    }

    pub(super) fn log_filter(self) -> log::LevelFilter {
        match self {
            Self::Debug => log::LevelFilter::Trace,
            Self::Info => log::LevelFilter::Debug,
            Self::Notice => log::LevelFilter::Info,
            Self::Warn => log::LevelFilter::Warn,
            Self::Error | Self::Crit | Self::Alert | Self::Emerg => log::LevelFilter::Error,
        }
    }
}

impl FromStr for LogLevel {
    type Err = LoggingError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        ALL.into_iter()
            .find(|level| level.as_str() == name)
            .ok_or_else(|| LoggingError::UnknownLevel(name.to_owned()))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_read_back_from_its_name() {
        for level in ALL {
            assert_eq!(level.as_str().parse::<LogLevel>().unwrap(), level);
            assert_eq!(LogLevel::from_index(level.index()), level);
        }
    }

    #[test]
    fn an_unknown_level_is_named_in_the_error() {
        let error = "loud".parse::<LogLevel>().unwrap_err();
        assert_eq!(error.to_string(), "unknown log level: loud");
    }

    #[test]
    fn libraries_are_quieter_than_the_gateway_only_when_details_are_wanted() {
        let info = LogLevel::Info.filter();
        assert!(info.would_enable("silverback_proxy", &Level::DEBUG));
        assert!(!info.would_enable("hyper::proto", &Level::DEBUG));
        let notice = LogLevel::Notice.filter();
        assert!(notice.would_enable("pingora_core", &Level::INFO));
        assert!(!notice.would_enable("silverback_proxy", &Level::DEBUG));
        assert!(
            !LogLevel::Emerg
                .filter()
                .would_enable("silverback", &Level::WARN)
        );
    }
}
