//! `opentelemetry`: tells upstreams which trace a request is part of, and sends the request's spans to a collector, as OTLP over HTTP.
//!
//! Learnt from `kong/plugins/opentelemetry`, `kong/pdk/tracing.lua`, `kong/observability/otlp` and `kong/observability/tracing`. As in Kong,
//! spans are only measured where the node's setting `tracing_instrumentations` says so; without it, traces pass through the gateway and are
//! marked as not recorded.

mod config;
mod deliver;
mod otlp;
mod spans;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::HeaderValue;
use silverback_export::Queue;
use silverback_export::propagation::{Next, Propagation, TraceId, hex, new_span_id, new_trace_id};
use silverback_plugin::schema::{EntityCheck, Shorthand};
use silverback_plugin::{
    AccessCtx, ConfigError, Flow, Handler, HeaderKey, LogCtx, PhaseResult, Phases, Plugin,
    PluginEnv, PluginError, ResponseCtx, TracingTerms,
};

pub use config::Config;
use deliver::Collector;
use spans::Trace;

/// The plugin.
pub struct OpenTelemetry {
    propagation: Propagation,
    tracing: TracingTerms,
    /// This configuration's share of traces that are recorded.
    sampling_rate: f64,
    response_header: Option<HeaderKey>,
    queue: Arc<Queue<Collector>>,
}

impl Plugin for OpenTelemetry {
    const NAME: &'static str = "opentelemetry";
    const PRIORITY: i32 = 14;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER).and(Phases::LOG);
    type Config = Config;

    fn config_checks() -> Vec<EntityCheck> {
        config::config_checks()
    }

    fn shorthands() -> Vec<Shorthand> {
        config::shorthands()
    }

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        if config.logs_endpoint.is_some() {
            let text = "is not supported: the gateway does not send its error log";
            return Err(ConfigError::new("logs_endpoint", text));
        }
        let endpoint = config.traces_endpoint.as_deref().unwrap_or_default();
        let collector = Collector::new(&config, endpoint, env)?;
        let header = config.http_response_header_for_traceid.as_deref();
        let response_header = header
            .map(HeaderKey::new)
            .transpose()
            .map_err(|e| ConfigError::new("http_response_header_for_traceid", e.to_string()))?;
        let tracing = env.services.tracing();
        let label = format!("opentelemetry to {}", collector.server());
        let name = env.instance.id.to_string();
        Ok(OpenTelemetry {
            propagation: Propagation::new(&config.propagation, config.header_type.as_deref())?,
            tracing,
            sampling_rate: config.sampling_rate.unwrap_or(tracing.sampling_rate),
            response_header,
            queue: Queue::open(env, &name, label, config.terms(), collector),
        })
    }
}

impl Handler for OpenTelemetry {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let extracted = self.propagation.extract(ctx);
        let id = extracted.trace_id.unwrap_or_else(new_trace_id);
        // What the client decided against is not recorded; what it decided for still has to be drawn.
        let wanted = self.tracing.requests && extracted.sampled != Some(false);
        let trace = Trace {
            id,
            root: new_span_id(),
            parent: extracted.span_id.or(extracted.parent_id),
            attempt: self.tracing.attempts.then(new_span_id),
            sampled: wanted && drawn(id, self.sampling_rate),
        };
        let next = Next {
            trace_id: id,
            span_id: trace.attempt.unwrap_or(trace.root),
            parent_id: trace.attempt.map_or(trace.parent, |_| Some(trace.root)),
            sampled: trace.sampled,
            extracted: &extracted,
        };
        self.propagation.inject(ctx, &next);
        if self.tracing.requests || self.response_header.is_some() {
            ctx.facts.slots.insert(trace);
        }
        Ok(Flow::Next)
    }

    fn header_filter(&self, ctx: &mut ResponseCtx<'_>) -> Result<(), PluginError> {
        let Some(header) = &self.response_header else {
            return Ok(());
        };
        // A request that did not get as far as `access` is part of a trace all the same, where requests are measured.
        if self.tracing.requests && ctx.facts.slots.get::<Trace>().is_none() {
            ctx.facts.slots.insert(self.unrelated());
        }
        if let Some(trace) = ctx.facts.slots.get::<Trace>()
            && let Ok(id) = HeaderValue::try_from(hex(&trace.id))
        {
            ctx.head.append(header, id);
        }
        Ok(())
    }

    fn log(&self, ctx: &LogCtx<'_>) {
        if !self.tracing.requests {
            return;
        }
        let known = ctx.facts.slots.get::<Trace>().cloned();
        let trace = known.unwrap_or_else(|| self.unrelated());
        if trace.sampled {
            for span in trace.spans(ctx) {
                self.queue.push(span);
            }
        }
    }
}

impl OpenTelemetry {
    /// A trace of its own, for a request that was answered before `access`. The node's share counts then.
    fn unrelated(&self) -> Trace {
        let id = new_trace_id();
        Trace {
            id,
            root: new_span_id(),
            parent: None,
            attempt: None,
            sampled: drawn(id, self.tracing.sampling_rate),
        }
    }
}

/// Whether a trace is among the share that is recorded. All gateways with the same share draw the same traces: as Kong does, by the first
/// eight bytes of the id, the least significant first.
fn drawn(id: TraceId, rate: f64) -> bool {
    if rate >= 1.0 || rate <= 0.0 {
        return rate >= 1.0;
    }
    // The lowest eight bytes of the number are the first of the id.
    let number = u128::from_le_bytes(id) as u64;
    number < (rate * 2_f64.powi(64)) as u64
}
