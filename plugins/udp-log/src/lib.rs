//! `udp-log`: sends what is logged of each exchange to a server over UDP, a datagram of JSON each.
//!
//! Learnt from `kong/plugins/udp-log/handler.lua` and `schema.lua`. An entry that is longer than a datagram may be (65,507 bytes) is lost.

mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use silverback_export::fields::milliseconds;
use silverback_export::{Entry, Queue, Terms, UdpSender};
use silverback_plugin::{ConfigError, Handler, LogCtx, Phases, Plugin, PluginEnv};

pub use config::Config;

/// The most datagrams that are sent in one go.
const AT_ONCE: i64 = 100;

/// The plugin.
pub struct UdpLog {
    datagrams: Arc<Queue<UdpSender>>,
}

impl Plugin for UdpLog {
    const NAME: &'static str = "udp-log";
    const PRIORITY: i32 = 8;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::LOG;
    const PROTOCOLS: &'static [&'static str] = &[];
    type Config = Config;

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let timeout = milliseconds(config.timeout);
        let name = format!("udp-log:{}:{}:{timeout:?}", config.host, config.port);
        let label = format!("udp-log to {}:{}", config.host, config.port);
        let sender = UdpSender::new(config.host, config.port, timeout);
        let datagrams = Queue::open(env, &name, label, Terms::once(AT_ONCE), sender);
        Ok(UdpLog { datagrams })
    }
}

impl Handler for UdpLog {
    fn log(&self, ctx: &LogCtx<'_>) {
        self.datagrams.push(Entry::of(ctx).to_json());
    }
}
