//! `loggly`: sends what is logged of each exchange to Loggly over UDP, as messages of syslog (RFC 5424).
//!
//! Learnt from `kong/plugins/loggly/handler.lua` and `schema.lua`. The sender is called `kong`, as there, because receivers look at it.

mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

use silverback_export::fields::{Severities, milliseconds};
use silverback_export::{Entry, Queue, Terms, UdpSender};
use silverback_plugin::env::hostname;
use silverback_plugin::{ConfigError, Handler, LogCtx, Phases, Plugin, PluginEnv};
use time::OffsetDateTime;

pub use config::Config;

/// The most datagrams that are sent in one go.
const AT_ONCE: i64 = 100;

/// Syslog's facility for messages of users' programs, as part of a priority.
const USER: u8 = 8;

/// The plugin.
pub struct Loggly {
    severities: Severities,
    /// What stands between a message's time and the entry.
    head: String,
    datagrams: Arc<Queue<UdpSender>>,
}

impl Plugin for Loggly {
    const NAME: &'static str = "loggly";
    const PRIORITY: i32 = 6;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::LOG;
    const PROTOCOLS: &'static [&'static str] = &[];
    type Config = Config;

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let head = head(&hostname(), &config.key, config.tags.as_deref());
        let severities = config.severities();
        let host = config.host.unwrap_or_else(|| config::HOST.to_owned());
        let port = config.port.unwrap_or(config::PORT);
        let timeout = milliseconds(config.timeout);
        let name = format!("loggly:{host}:{port}:{timeout:?}");
        let label = format!("loggly at {host}:{port}");
        let sender = UdpSender::new(host, port, timeout);
        let datagrams = Queue::open(env, &name, label, Terms::once(AT_ONCE), sender);
        Ok(Loggly {
            severities,
            head,
            datagrams,
        })
    }
}

impl Handler for Loggly {
    fn log(&self, ctx: &LogCtx<'_>) {
        let Some(severity) = self.severities.of(ctx.facts.status) else {
            return;
        };
        let priority = USER + severity.number();
        let mut message = format!("<{priority}>1 {} {} ", now(SystemTime::now()), self.head);
        Entry::of(ctx).write_json(&mut message);
        self.datagrams.push(message);
    }
}

/// Who sends, and with what key and tags.
fn head(hostname: &str, key: &str, tags: Option<&[String]>) -> String {
    let tags = tags.unwrap_or_default().iter();
    let tags: Vec<String> = tags.map(|t| format!("tag=\"{t}\"")).collect();
    format!("{hostname} kong - - [{key}@41058 {}]", tags.join(" "))
}

/// A time to the second, in UTC.
fn now(t: SystemTime) -> String {
    let t = OffsetDateTime::from(t);
    let (year, month, day) = t.to_calendar_date();
    let (hour, minute, second) = t.to_hms();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
