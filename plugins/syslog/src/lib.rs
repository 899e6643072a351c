//! `syslog`: gives what is logged of each exchange to the machine's syslog daemon.
//!
//! Learnt from `kong/plugins/syslog/handler.lua` and `schema.lua`; the form of the messages from what the C library's `syslog` sends there with
//! `LOG_PID`. The sender is called `kong`, as there, because rules of daemons look at it.

mod config;
mod socket;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Local};
use silverback_export::fields::{Severities, Severity};
use silverback_export::{Entry, Queue, Terms};
use silverback_plugin::{ConfigError, Handler, LogCtx, Phases, Plugin, PluginEnv};

pub use config::Config;
use socket::Socket;

/// Where the daemon listens.
const DAEMON: &str = "/dev/log";

/// The most messages that are given to the daemon in one go.
const AT_ONCE: i64 = 100;

/// The plugin.
pub struct Syslog {
    severities: Severities,
    /// The number of the facility, in its place in a priority.
    facility: u8,
    messages: Arc<Queue<Socket>>,
}

impl Plugin for Syslog {
    const NAME: &'static str = "syslog";
    const PRIORITY: i32 = 4;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::LOG;
    const PROTOCOLS: &'static [&'static str] = &[];
    type Config = Config;

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        Ok(Syslog::to(Path::new(DAEMON), &config, env))
    }
}

impl Syslog {
    /// To a daemon that listens there.
    fn to(daemon: &Path, config: &Config, env: &PluginEnv<'_>) -> Self {
        let name = daemon.to_string_lossy();
        let socket = Socket::new(daemon.to_owned());
        Syslog {
            severities: config.severities(),
            facility: config.facility_number() << 3,
            messages: Queue::open(env, &name, "syslog", Terms::once(AT_ONCE), socket),
        }
    }

    /// What stands before the entry.
    fn head(&self, severity: Severity, at: DateTime<Local>) -> String {
        let priority = self.facility | severity.number();
        let (at, process) = (at.format("%b %e %T"), std::process::id());
        format!("<{priority}>{at} kong[{process}]: ")
    }
}

impl Handler for Syslog {
    fn log(&self, ctx: &LogCtx<'_>) {
        let Some(severity) = self.severities.of(ctx.facts.status) else {
            return;
        };
        let mut message = self.head(severity, Local::now());
        Entry::of(ctx).write_json(&mut message);
        self.messages.push(message);
    }
}
