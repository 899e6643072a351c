//! `prometheus`: says what is measured of requests, beside what is counted in any case. `GET /metrics` shows it.
//!
//! The measuring is the gateway's own (`crates/telemetry`), so that it costs the same whoever asks for it; this plugin takes part in no
//! phase. Learnt from `kong/plugins/prometheus/handler.lua`, `exporter.lua` and `schema.lua`.

mod config;
#[cfg(test)]
mod tests;

use silverback_plugin::{ConfigError, Handler, MetricTerms, Phases, Plugin, PluginEnv};

pub use config::Config;

/// The plugin.
#[derive(Debug)]
pub struct Prometheus {
    terms: MetricTerms,
}

impl Plugin for Prometheus {
    const NAME: &'static str = "prometheus";
    const PRIORITY: i32 = 13;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::NONE;
    const STREAM_TOO: bool = true;
    type Config = Config;

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let on = |switch: Option<bool>| switch == Some(true);
        Ok(Prometheus {
            terms: MetricTerms {
                latency: on(config.latency_metrics),
                bandwidth: on(config.bandwidth_metrics),
                per_consumer: on(config.per_consumer),
                upstream_health: on(config.upstream_health_metrics),
            },
        })
    }
}

impl Handler for Prometheus {
    fn metric_terms(&self) -> Option<MetricTerms> {
        Some(self.terms)
    }
}
