//! `tcp-log`: sends what is logged of each exchange to a server over TCP, with TLS or without, one line of JSON each.
//!
//! Learnt from `kong/plugins/tcp-log/handler.lua` and `schema.lua`. As there, what cannot be sent is lost; here lines wait for each other, so that
//! they come in order on one connection.

mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use silverback_export::fields::milliseconds;
use silverback_export::{Deliver, Entry, Queue, TcpSender, Terms};
use silverback_plugin::{ConfigError, Handler, LogCtx, Phases, Plugin, PluginEnv};

pub use config::Config;

/// The most lines that are sent at once.
const AT_ONCE: i64 = 100;

/// The plugin.
pub struct TcpLog {
    lines: Arc<Queue<Lines>>,
}

impl Plugin for TcpLog {
    const NAME: &'static str = "tcp-log";
    const PRIORITY: i32 = 7;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::LOG;
    const PROTOCOLS: &'static [&'static str] = &[];
    type Config = Config;

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let (timeout, keepalive) = (milliseconds(config.timeout), milliseconds(config.keepalive));
        let name = format!(
            "{}:{}:{:?}:{:?}:{}:{:?}",
            config.host, config.port, timeout, keepalive, config.tls, config.tls_sni
        );
        let label = format!("tcp-log to {}:{}", config.host, config.port);
        let mut sender = TcpSender::new(config.host, config.port, timeout, keepalive);
        if config.tls {
            let tls = sender.tls(config.tls_sni);
            sender = tls.map_err(|e| ConfigError::new("tls", e.to_string()))?;
        }
        let lines = Queue::open(env, &name, label, Terms::once(AT_ONCE), Lines(sender));
        Ok(TcpLog { lines })
    }
}

impl Handler for TcpLog {
    fn log(&self, ctx: &LogCtx<'_>) {
        let mut line = Entry::of(ctx).to_json();
        line.push('\n');
        self.lines.push(line);
    }
}

/// Sends lines, which have their ends.
struct Lines(TcpSender);

impl Deliver for Lines {
    type Entry = String;

    async fn deliver(&self, batch: &[String]) -> Result<(), String> {
        let sent = self.0.send(batch.concat().as_bytes()).await;
        sent.map_err(|e| e.to_string())
    }
}
