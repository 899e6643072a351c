//! `rate-limiting`: so many requests per caller and window of time.
//!
//! Learnt from `kong/plugins/rate-limiting/handler.lua`, `schema.lua` and `policies/init.lua`. Windows are fixed and aligned to the calendar.
//! Refused requests are never counted. Where requests are counted is the policy, which `silverback-limits` knows.

mod config;
mod headers;
mod identity;
#[cfg(test)]
mod tests;

use http::{HeaderName, StatusCode};
use silverback_limits::{Away, Caller, Meter, Period, Policy, Series, unix_seconds};
use silverback_plugin::schema::{EntityCheck, Shorthand};
use silverback_plugin::{
    AccessCtx, ConfigError, Flow, Handler, PhaseResult, Phases, Plugin, PluginEnv, PluginError,
    Response, ResponseCtx,
};

pub use config::Config;
use headers::Told;
use identity::LimitBy;
pub use silverback_limits::Redis;

const MAX_LIMITS: usize = Period::ALL.len();

/// The plugin.
pub struct RateLimiting {
    meter: Meter,
    limit_by: LimitBy,
    fault_tolerant: bool,
    hide_headers: bool,
    status: StatusCode,
    message: String,
}

/// What was used before a request, per limit, and whether it was admitted.
#[derive(Clone, Copy, Debug)]
struct Reading {
    used: [u64; MAX_LIMITS],
    admitted: bool,
}

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
        silverback_limits::redis_shorthands()
    }

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let missing = |field: &str| ConfigError::new(field, "is needed");
        let limit_by = match config.limit_by.as_deref() {
            Some("credential") => LimitBy::Caller(Caller::Credential),
            Some("ip") => LimitBy::Caller(Caller::Ip),
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
            _ => LimitBy::Caller(Caller::Consumer),
        };
        let policy = match config.policy.as_deref() {
            Some("redis") if config.sync_rate > 0.0 => {
                Policy::Synced(&config.redis, config.sync_rate)
            }
            Some("redis") => Policy::Redis(&config.redis),
            Some("cluster") => Policy::Cluster,
            _ => Policy::Local,
        };
        let series = Series::new("ratelimit", env.instance);
        let limits = Period::ALL
            .into_iter()
            .filter_map(|period| Some((series.clone(), period, config.limit(period)?)));
        let meter = Meter::new(policy, config.fault_tolerant, limits, env)?;
        let code = config.error_code.unwrap_or(429.0);
        let status = (code.fract() == 0.0 && (100.0..=599.0).contains(&code))
            .then(|| StatusCode::from_u16(code as u16));
        let status = status
            .and_then(Result::ok)
            .ok_or_else(|| ConfigError::new("error_code", "is no HTTP status"))?;
        Ok(RateLimiting {
            meter,
            limit_by,
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
        let now = unix_seconds(ctx.facts.now());
        let who = self.limit_by.of(ctx);
        let mut used = [0; MAX_LIMITS];
        match self.meter.take(who, now, &mut used) {
            Some(taken) => self.conclude(ctx, taken, used, now),
            None => Ok(Flow::Await),
        }
    }

    async fn access_async(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let now = unix_seconds(ctx.facts.now());
        let who = self.limit_by.of(ctx);
        let mut used = [0; MAX_LIMITS];
        let taken = self.meter.take_async(who, now, &mut used).await;
        self.conclude(ctx, taken, used, now)
    }

    fn header_filter(&self, ctx: &mut ResponseCtx<'_>) -> Result<(), PluginError> {
        if let Some(told) = ctx.facts.slots.get::<Told>() {
            told.write(self.meter.limits(), ctx.head);
        }
        Ok(())
    }
}

impl RateLimiting {
    fn conclude(
        &self,
        ctx: &mut AccessCtx<'_>,
        taken: Result<bool, Away>,
        used: [u64; MAX_LIMITS],
        now: i64,
    ) -> PhaseResult {
        let admitted = match taken {
            Ok(admitted) => admitted,
            Err(away) if self.fault_tolerant => {
                tracing::error!(request_id = ctx.facts.request_id(), "{away}");
                return Ok(Flow::Next);
            }
            Err(away) => return Err(PluginError::new(away.to_string())),
        };
        if !self.hide_headers {
            let reading = Reading { used, admitted };
            ctx.facts.slots.insert(Told::new(reading, now));
        }
        if admitted {
            return Ok(Flow::Next);
        }
        Ok(Flow::Exit(Response::error(
            self.status,
            self.message.clone(),
        )))
    }
}
