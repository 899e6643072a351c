//! Fields that the configurations of several plugins have.

use std::time::Duration;

use serde_json::{Map, Value};
use silverback_plugin::schema::Field;
use silverback_plugin::schema::field::{map, number, string};

/// `custom_fields_by_lua`. There is no Lua here: what is not empty is refused, rather than logged without its fields.
pub fn custom_fields_by_lua() -> Field {
    map(string().len_min(1), string().len_min(1)).check(no_lua)
}

/// The type of [`custom_fields_by_lua`] in a configuration.
pub type CustomFieldsByLua = Option<Map<String, Value>>;

fn no_lua(fields: &Value) -> Result<(), String> {
    match fields.as_object() {
        Some(fields) if !fields.is_empty() => {
            Err("Lua is not supported: fields cannot be computed by Lua code".to_owned())
        }
        _ => Ok(()),
    }
}

/// A timeout in milliseconds, with Kong's default of ten seconds.
pub fn timeout() -> Field {
    number().default(10_000)
}

/// How long an idle connection is kept, in milliseconds; with Kong's default of a minute.
pub fn keepalive() -> Field {
    number().default(60_000)
}

/// Milliseconds of a configuration; nothing and less stand for nginx' default of a minute.
pub fn milliseconds(ms: Option<f64>) -> Duration {
    match ms {
        Some(ms) if ms > 0.0 => crate::queue::seconds(ms / 1000.0),
        _ => Duration::from_secs(60),
    }
}

/// How grave a message is, in syslog's words: `info` unless said otherwise.
pub fn severity() -> Field {
    string().default("info").one_of(Severity::NAMES)
}

/// How grave a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Severity(u8);

impl Severity {
    /// The names, from the least grave on.
    pub const NAMES: [&str; 8] = [
        "debug", "info", "notice", "warning", "err", "crit", "alert", "emerg",
    ];

    /// The severity of that name; `info` for another.
    pub fn of(name: &str) -> Self {
        let n = Self::NAMES.iter().position(|n| *n == name).unwrap_or(1);
        Severity(7 - n as u8)
    }

    /// Syslog's number: 0 for the gravest, 7 for the least grave.
    pub fn number(self) -> u8 {
        self.0
    }
}

/// How grave responses are by their status, and from when on they are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Severities {
    /// What is less grave is not logged.
    pub log_level: Severity,
    /// Of statuses below 400.
    pub successful: Severity,
    /// Of statuses from 400.
    pub client_errors: Severity,
    /// Of statuses from 500.
    pub server_errors: Severity,
}

impl Severities {
    /// The severity of a response, when it is to be logged.
    pub fn of(&self, status: u16) -> Option<Severity> {
        let severity = match status {
            500.. => self.server_errors,
            400.. => self.client_errors,
            _ => self.successful,
        };
        (severity <= self.log_level).then_some(severity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_less_grave_than_the_level_is_not_logged() {
        let by = |level: &str| Severities {
            log_level: Severity::of(level),
            successful: Severity::of("debug"),
            client_errors: Severity::of("warning"),
            server_errors: Severity::of("crit"),
        };
        let numbers = |level: &str| [200, 404, 503].map(|s| by(level).of(s).map(Severity::number));
        assert_eq!(numbers("debug"), [Some(7), Some(4), Some(2)]);
        assert_eq!(numbers("info"), [None, Some(4), Some(2)]);
        assert_eq!(numbers("warning"), [None, Some(4), Some(2)]);
        assert_eq!(numbers("err"), [None, None, Some(2)]);
        assert_eq!(numbers("emerg"), [None, None, None]);
    }
}
