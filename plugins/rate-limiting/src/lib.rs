//! `rate-limiting`: so many requests per caller and window of time.
//!
//! Learnt from `kong/plugins/rate-limiting/handler.lua`, `schema.lua` and `policies/init.lua`. Windows are fixed and aligned to the calendar.
//! Refused requests are never counted. Where requests are counted is the policy: `local`, `redis` (with `sync` when nodes
//! only exchange counts now and then), `cluster`.

mod cluster;
mod config;
mod headers;
mod identity;
mod kept;
mod key;
mod local;
mod redis;
mod room;
mod sync;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use http::{HeaderName, StatusCode};
use silverback_plugin::schema::{EntityCheck, Shorthand};
use silverback_plugin::{
    AccessCtx, ConfigError, Flow, Handler, PhaseResult, Phases, Plugin, PluginEnv, PluginError,
    Response, ResponseCtx,
};

use cluster::Cluster;
pub use config::{Config, Redis};
use headers::Told;
use identity::{Identifier, LimitBy};
use kept::Kept;
use key::Place;
use local::{Local, Reading};
use sync::Synced;
use window::Period;

const MAX_LIMITS: usize = Period::ALL.len();

/// The plugin.
pub struct RateLimiting {
    limits: Box<[Limit]>,
    limit_by: LimitBy,
    place: Place,
    /// The place's number in local keys.
    number: u32,
    policy: Policy,
    /// Local counters; the other policies make their keys with it.
    local: Arc<Kept<Local>>,
    fault_tolerant: bool,
    hide_headers: bool,
    status: StatusCode,
    message: String,
}

/// A limit of requests per window.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Limit {
    period: Period,
    /// As configured and as clients are told.
    shown: f64,
    /// How many requests that admits: a limit of 2.5 admits three.
    most: u64,
}

enum Policy {
    Local,
    Redis(redis::Redis),
    Synced(Arc<Kept<Synced>>),
    Cluster(Arc<Kept<Cluster>>),
}

/// The counters are out of reach.
#[derive(Debug, thiserror::Error)]
#[error("failed to get usage: {0}")]
struct Away(String);

impl Plugin for RateLimiting {
    const NAME: &'static str = "rate-limiting";
    const PRIORITY: i32 = 910;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER);
    type Config = Config;

    fn checks() -> Vec<EntityCheck> {
        config::checks()
    }

    fn shorthands() -> Vec<Shorthand> {
        config::shorthands()
    }

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let limits = Period::ALL.into_iter().filter_map(|period| {
            let shown = config.limit(period)?;
            // Limits are positive; beyond what can be counted there is no limit.
            Some(Limit {
                period,
                shown,
                most: (shown.ceil() as u64).min(local::MOST),
            })
        });
        let local = env.shared("local", || {
            let local = Arc::new(Local::default());
            env.services
                .spawn(Box::pin(Local::sweep_forever(Arc::downgrade(&local))));
            Kept(local)
        });
        let place = Place::of(env.instance);
        let missing = |field: &str| ConfigError::new(field, "is needed");
        let limit_by = match config.limit_by.as_deref() {
            Some("credential") => LimitBy::Credential,
            Some("ip") => LimitBy::Ip,
            Some("service") => LimitBy::Service,
            Some("header") => {
                let name = config
                    .header_name
                    .as_deref()
                    .ok_or_else(|| missing("header_name"))?;
                let name = HeaderName::from_bytes(name.as_bytes());
                LimitBy::Header(
                    name.map_err(|_| ConfigError::new("header_name", "is no name of a header"))?,
                )
            }
            Some("path") => LimitBy::Path(config.path.clone().ok_or_else(|| missing("path"))?),
            _ => LimitBy::Consumer,
        };
        let policy = match config.policy.as_deref() {
            Some("redis") if config.sync_rate > 0.0 => {
                Policy::Synced(Synced::shared(&config.redis, config.sync_rate, env)?)
            }
            Some("redis") => Policy::Redis(redis::Redis::shared(&config.redis, env)?),
            Some("cluster") => Policy::Cluster(Cluster::shared(env)?),
            _ => Policy::Local,
        };
        let code = config.error_code.unwrap_or(429.0);
        let status = (code.fract() == 0.0 && (100.0..=599.0).contains(&code))
            .then(|| StatusCode::from_u16(code as u16));
        let status = status
            .and_then(Result::ok)
            .ok_or_else(|| ConfigError::new("error_code", "is no HTTP status"))?;
        Ok(RateLimiting {
            limits: limits.collect(),
            limit_by,
            place,
            number: local.keys.place(place),
            policy,
            local,
            fault_tolerant: config.fault_tolerant,
            hide_headers: config.hide_client_headers,
            status,
            message: config
                .error_message
                .unwrap_or_else(|| "API rate limit exceeded".to_owned()),
        })
    }
}

impl Handler for RateLimiting {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let now = now(ctx);
        let who = self.limit_by.of(ctx);
        let reading = match &self.policy {
            Policy::Local => Ok(self.take(who, now)),
            Policy::Cluster(cluster) => cluster.take(self, who, now),
            Policy::Synced(synced) => match synced.take(self, who, now) {
                Some(reading) => Ok(reading),
                None => return Ok(Flow::Await),
            },
            Policy::Redis(_) => return Ok(Flow::Await),
        };
        self.conclude(ctx, reading, now)
    }

    async fn access_async(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let now = now(ctx);
        let who = self.limit_by.of(ctx);
        let reading = match &self.policy {
            Policy::Redis(redis) => redis.take(self, who, now).await,
            Policy::Synced(synced) => synced.learn_and_take(self, who, now).await,
            // `access` answers for these.
            Policy::Local | Policy::Cluster(_) => return Ok(Flow::Next),
        };
        self.conclude(ctx, reading, now)
    }

    fn header_filter(&self, ctx: &mut ResponseCtx<'_>) -> Result<(), PluginError> {
        if let Some(told) = ctx.facts.slots.get::<Told>() {
            told.write(&self.limits, ctx.head);
        }
        Ok(())
    }
}

impl RateLimiting {
    fn take(&self, who: Identifier<'_>, now: i64) -> Reading {
        let counters = &self.local;
        counters.take(&self.limits, |l| {
            (self.key(who, l.period), l.period.window(now).number)
        })
    }

    fn key(&self, who: Identifier<'_>, period: Period) -> key::Key {
        self.local.keys.key(self.number, who, period)
    }

    fn conclude(
        &self,
        ctx: &mut AccessCtx<'_>,
        reading: Result<Reading, Away>,
        now: i64,
    ) -> PhaseResult {
        let reading = match reading {
            Ok(reading) => reading,
            Err(away) if self.fault_tolerant => {
                tracing::error!(request_id = ctx.facts.request_id(), "{away}");
                return Ok(Flow::Next);
            }
            Err(away) => return Err(PluginError::new(away.to_string())),
        };
        if !self.hide_headers {
            ctx.facts.slots.insert(Told::new(reading, now));
        }
        if reading.admitted {
            return Ok(Flow::Next);
        }
        Ok(Flow::Exit(Response::error(
            self.status,
            self.message.clone(),
        )))
    }
}

fn now(ctx: &AccessCtx<'_>) -> i64 {
    ctx.facts
        .started_at
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}
