//! `response-ratelimiting`: so much per caller and window of time, of several things, where the upstream says with each response what
//! it cost.
//!
//! Learnt from `kong/plugins/response-ratelimiting/handler.lua`, `access.lua`, `header_filter.lua`, `log.lua` and `schema.lua`. Before a request
//! is sent on, what is used is read; what clients are told is what was left then. The response's cost is added when its header arrives,
//! also beyond the limit. A response that costs something of which nothing is left is replaced by an empty one with status 429, and costs
//! nothing.

mod config;
mod cost;
mod names;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::TRANSFER_ENCODING;
use http::{HeaderName, HeaderValue, StatusCode};
use silverback_limits::{
    Away, Caller, Identifier, Limit, Meter, Policy, Series, number, unix_seconds,
};
use silverback_plugin::schema::{EntityCheck, Shorthand};
use silverback_plugin::{
    AccessCtx, BodyCtx, ConfigError, Flow, Handler, HeaderKey, PhaseResult, Phases, Plugin,
    PluginEnv, PluginError, Response, ResponseCtx, ResponseHead,
};
use smallvec::SmallVec;

pub use config::{Config, Limits};
use names::Named;

static LENGTH: LazyLock<HeaderKey> = LazyLock::new(|| HeaderKey::from_static("Content-Length"));

/// The plugin.
pub struct ResponseRateLimiting {
    meter: Meter,
    named: Box<[Named]>,
    caller: Caller,
    header: HeaderName,
    block_on_first_violation: bool,
    fault_tolerant: bool,
    hide_headers: bool,
}

/// One number for each limit.
type PerLimit = SmallVec<[u64; 6]>;

/// What was known before the request was sent on.
struct Seen {
    who: Identifier<'static>,
    now: i64,
    used: PerLimit,
    /// The response is replaced.
    stopped: bool,
}

impl Plugin for ResponseRateLimiting {
    const NAME: &'static str = "response-ratelimiting";
    const PRIORITY: i32 = 900;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS
        .and(Phases::HEADER_FILTER)
        .and(Phases::BODY_FILTER);
    type Config = Config;

    fn checks() -> Vec<EntityCheck> {
        config::checks()
    }

    fn shorthands() -> Vec<Shorthand> {
        silverback_limits::redis_shorthands()
    }

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let policy = match config.policy.as_deref() {
            Some("redis") => Policy::Redis(&config.redis),
            Some("cluster") => Policy::Cluster,
            _ => Policy::Local,
        };
        let series = Series::new("response-ratelimit", env.instance);
        let limits = config.limits.iter().flat_map(|(name, of)| {
            let series = series.clone().named(name);
            of.periods().map(move |(p, most)| (series.clone(), p, most))
        });
        let header = config.header_name.as_deref().unwrap_or("x-kong-limit");
        let header = HeaderName::from_bytes(header.as_bytes());
        Ok(ResponseRateLimiting {
            meter: Meter::new(policy, config.fault_tolerant, limits, env)?,
            named: names::all(&config.limits)?,
            caller: match config.limit_by.as_deref() {
                Some("credential") => Caller::Credential,
                Some("ip") => Caller::Ip,
                _ => Caller::Consumer,
            },
            header: header
                .map_err(|_| ConfigError::new("header_name", "is no name of a header"))?,
            block_on_first_violation: config.block_on_first_violation,
            fault_tolerant: config.fault_tolerant,
            hide_headers: config.hide_client_headers,
        })
    }
}

impl Handler for ResponseRateLimiting {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let mut seen = self.nothing_seen(ctx);
        match self.meter.read(seen.who, seen.now, &mut seen.used) {
            Some(read) => self.conclude(ctx, read, seen),
            None => Ok(Flow::Await),
        }
    }

    async fn access_async(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let mut seen = self.nothing_seen(ctx);
        let read = self.meter.read_async(seen.who, seen.now, &mut seen.used);
        let read = read.await;
        self.conclude(ctx, read, seen)
    }

    fn header_filter(&self, ctx: &mut ResponseCtx<'_>) -> Result<(), PluginError> {
        let cost = self.cost(ctx);
        // Between the upstream and the gateway only.
        ctx.head.remove(&self.header);
        let Some(seen) = ctx.facts.slots.get_mut::<Seen>() else {
            return Ok(());
        };
        let over = self.tell(ctx.head, seen, &cost);
        // A connection that was switched to another protocol cannot be taken back.
        if over && ctx.head.status() != StatusCode::SWITCHING_PROTOCOLS {
            seen.stopped = true;
            ctx.head.set_status(StatusCode::TOO_MANY_REQUESTS);
            ctx.head.remove(&TRANSFER_ENCODING);
            ctx.head.set(&LENGTH, HeaderValue::from_static("0"));
        } else {
            self.meter.add(seen.who, seen.now, &cost);
        }
        Ok(())
    }

    fn body_filter(
        &self,
        ctx: &mut BodyCtx<'_>,
        chunk: &mut Option<Bytes>,
        _end: bool,
    ) -> Result<(), PluginError> {
        if ctx.facts.slots.get::<Seen>().is_some_and(|s| s.stopped) {
            *chunk = None;
        }
        Ok(())
    }
}

impl ResponseRateLimiting {
    fn nothing_seen(&self, ctx: &AccessCtx<'_>) -> Seen {
        Seen {
            who: self.caller.of(ctx.facts),
            now: unix_seconds(ctx.facts.now()),
            used: SmallVec::from_elem(0, self.meter.limits().len()),
            stopped: false,
        }
    }

    fn conclude(&self, ctx: &mut AccessCtx<'_>, read: Result<(), Away>, seen: Seen) -> PhaseResult {
        match read {
            Ok(()) => {}
            Err(away) if self.fault_tolerant => {
                tracing::error!(request_id = ctx.facts.request_id(), "{away}");
                return Ok(Flow::Next);
            }
            Err(away) => return Err(PluginError::new(away.to_string())),
        }
        if self.block_on_first_violation
            && let Some(named) = self.named.iter().find(|n| self.least(n, &seen) <= 0.0)
        {
            return Ok(Flow::Exit(Response::error(
                StatusCode::TOO_MANY_REQUESTS,
                format!("API rate limit exceeded for '{}'", named.name),
            )));
        }
        ctx.facts.slots.insert(seen);
        Ok(Flow::Next)
    }

    /// What the response costs of each limit. Only the upstream says that.
    fn cost(&self, ctx: &ResponseCtx<'_>) -> PerLimit {
        let mut cost = SmallVec::from_elem(0, self.meter.limits().len());
        if ctx.facts.local_response {
            return cost;
        }
        let said = ctx.head.headers().get_all(&self.header);
        cost::parse(said, |name, amount| {
            if let Some(named) = self.named.iter().find(|n| n.name.as_bytes() == name) {
                cost[named.limits.clone()].fill(amount);
            }
        });
        cost
    }

    /// Tells the client what is left. Answers whether the response costs something of which nothing is left.
    fn tell(&self, head: &mut dyn ResponseHead, seen: &Seen, cost: &[u64]) -> bool {
        let mut over = false;
        for named in &self.named {
            head.set(&named.remaining, number(self.least(named, seen)));
            for (i, window) in named.limits.clone().zip(&named.windows) {
                let limit = &self.meter.limits()[i];
                let left = left(limit, seen.used[i]);
                over |= cost[i] > 0 && left <= 0.0;
                if !self.hide_headers {
                    let remaining = (left - cost[i] as f64).max(0.0);
                    head.set(&window.limit, number(limit.shown));
                    head.set(&window.remaining, number(remaining));
                }
            }
        }
        over
    }

    /// What is left of the limit of a name that has least left.
    fn least(&self, named: &Named, seen: &Seen) -> f64 {
        let limits = named.limits.clone();
        let left = limits.map(|i| left(&self.meter.limits()[i], seen.used[i]));
        left.fold(f64::INFINITY, f64::min)
    }
}

/// What is left of a limit; less than nothing where more was used.
fn left(limit: &Limit, used: u64) -> f64 {
    limit.shown - used as f64
}
