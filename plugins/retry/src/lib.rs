//! `retry`: says which requests may be sent to the upstream again, how often, how fast, and within which budget.
//!
//! Kong has no such plugin: a service's `retries` is all it knows. Terms and budget are those of `silverback-retry`, which explains why
//! a budget is needed; this crate turns a configuration into them. The judgement on each failure is passed there too, by the same rules
//! for requests with and without this plugin.

mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use silverback_plugin::schema::EntityCheck;
use silverback_plugin::{
    AccessCtx, BudgetTerms, ConfigError, Flow, Handler, PhaseResult, Phases, Plugin, PluginEnv,
    RetryTerms,
};

pub use config::{Backoff, Budget, Config};

/// The plugin.
#[derive(Debug)]
pub struct Retry {
    terms: Arc<RetryTerms>,
}

impl Plugin for Retry {
    const NAME: &'static str = "retry";
    /// After authentication and limits, whose refusals are never retried, and before the transformers.
    const PRIORITY: i32 = 890;
    const VERSION: &'static str = "0.1.0";
    const PHASES: Phases = Phases::ACCESS;
    type Config = Config;

    fn checks() -> Vec<EntityCheck> {
        config::checks()
    }

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let millis = |n: Option<u64>| n.map(Duration::from_millis);
        let on = |kind: &str| config.retry_on.iter().any(|k| k == kind);
        let methods = config
            .methods
            .iter()
            .map(|m| Method::from_bytes(m.as_bytes()));
        let methods = methods
            .collect::<Result<_, _>>()
            .map_err(|_| ConfigError::new("methods", "is no HTTP method"))?;
        let mut statuses = if on("status") {
            config.statuses.clone()
        } else {
            Vec::new()
        };
        statuses.sort_unstable();
        let budget = config.budget.as_ref().map(|b| {
            Arc::new(BudgetTerms {
                ratio: b.ratio,
                min_retries_per_second: b.min_retries_per_second,
                ttl: Duration::from_secs(b.ttl),
                ceiling: b.max_retries.map(|n| (n, Duration::from_secs(b.window))),
            })
        });
        let terms = RetryTerms {
            attempts: config.attempts,
            per_try_timeout: millis(config.per_try_timeout),
            deadline: millis(config.total_timeout),
            backoff_base: Duration::from_millis(config.backoff.base),
            backoff_cap: Duration::from_millis(config.backoff.max),
            on_connect_failure: on("connect_failure"),
            on_reset: on("reset"),
            on_timeout: on("timeout"),
            statuses,
            methods,
            honour_retry_after: config.honour_retry_after,
            budget,
        };
        Ok(Retry {
            terms: Arc::new(terms),
        })
    }
}

impl Handler for Retry {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        ctx.facts.retry = Some(self.terms.clone());
        Ok(Flow::Next)
    }

    fn retry_terms(&self) -> Option<&RetryTerms> {
        Some(&self.terms)
    }
}
