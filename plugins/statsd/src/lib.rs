//! `statsd`: tells a StatsD server how many exchanges there were, how they ended, how large they were and how long they took.
//!
//! Learnt from `kong/plugins/statsd/log.lua` and `schema.lua`; what it shares with `datadog` is in `silverback_export::statsd`. The lines of an
//! exchange are written when it ends; the queue sends them.

mod config;
mod metric;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::sync::Arc;

use silverback_export::Queue;
use silverback_export::statsd::{Measured, Replaced, StatsdSender};
use silverback_plugin::env::hostname;
use silverback_plugin::{ConfigError, Handler, LogCtx, Phases, Plugin, PluginEnv};

pub use config::{Config, MetricConfig, Name, ServiceIdentifier, TagStyle, WorkspaceIdentifier};
use metric::Metric;

/// The plugin.
pub struct Statsd {
    prefix: String,
    metrics: Vec<Metric>,
    /// With the name of the machine.
    tags: Option<(TagStyle, String)>,
    /// The statuses of what is measured; all without.
    statuses: Option<Vec<RangeInclusive<u64>>>,
    queue: Arc<Queue<StatsdSender>>,
}

impl Plugin for Statsd {
    const NAME: &'static str = "statsd";
    const PRIORITY: i32 = 11;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::LOG;
    const STREAM_TOO: bool = true;
    type Config = Config;

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let node = Replaced(&hostname(), '.', '_').to_string();
        let mut prefix = config
            .prefix
            .as_deref()
            .unwrap_or(config::PREFIX)
            .to_owned();
        if config.hostname_in_prefix == Some(true) && config.tag_style.is_none() {
            prefix = format!("{prefix}.node.{node}");
        }
        let metrics = config.metrics.iter().flatten();
        let metrics = metrics.filter_map(|m| Metric::new(m, &config)).collect();
        let statuses = config.allow_status_codes.as_deref();
        let (host, port) = (
            config.host.as_deref().unwrap_or(config::HOST),
            config.port.unwrap_or(config::PORT),
        );
        let sender = match config.use_tcp {
            Some(true) => StatsdSender::tcp(host, port),
            // Within the limits of a datagram by the schema.
            _ => StatsdSender::udp(host, port, config.udp_packet_size.unwrap_or(0.0) as usize),
        };
        // As in Kong a queue belongs to a configuration.
        let name = env.instance.id.to_string();
        let label = format!("statsd to {host}:{port}");
        Ok(Statsd {
            prefix,
            metrics,
            tags: config.tag_style.map(|style| (style, node)),
            statuses: statuses.map(|ranges| ranges.iter().filter_map(|r| range(r)).collect()),
            queue: Queue::open(env, &name, label, config.terms(), sender),
        })
    }
}

impl Handler for Statsd {
    fn log(&self, ctx: &LogCtx<'_>) {
        let status = u64::from(ctx.facts.status);
        let allowed =
            |ranges: &Vec<RangeInclusive<u64>>| ranges.iter().any(|r| r.contains(&status));
        if !self.statuses.as_ref().is_none_or(allowed) {
            return;
        }
        let measured = Measured::of(ctx);
        let mut lines = String::with_capacity(1024);
        for metric in &self.metrics {
            // Writing into a text cannot fail.
            let _ = match &self.tags {
                None => metric.write(&mut lines, &self.prefix, ctx, &measured),
                Some((style, node)) => {
                    metric.write_tagged(&mut lines, &self.prefix, *style, node, ctx, &measured)
                }
            };
        }
        if !lines.is_empty() {
            self.queue.push(lines);
        }
    }
}

/// `200-299`: two numbers, which the schema has checked. A status is below what does not fit.
fn range(range: &str) -> Option<RangeInclusive<u64>> {
    let number = |digits: &str| digits.parse().unwrap_or(u64::MAX);
    let (from, to) = range.split_once('-')?;
    Some(number(from)..=number(to))
}
