//! `ip-restriction`: lets clients in, or keeps them out, by their address.
//!
//! Learnt from `kong/plugins/ip-restriction/handler.lua` and `schema.lua`.

mod addresses;
mod config;
#[cfg(test)]
mod tests;

use http::StatusCode;
use silverback_plugin::schema::EntityCheck;
use silverback_plugin::{
    AccessCtx, ConfigError, Flow, Handler, PhaseResult, Phases, Plugin, PluginEnv, Response,
};

use addresses::Addresses;
pub use config::Config;

/// The plugin.
#[derive(Debug)]
pub struct IpRestriction {
    allow: Option<Addresses>,
    deny: Option<Addresses>,
    status: StatusCode,
    message: Option<String>,
}

impl Plugin for IpRestriction {
    const NAME: &'static str = "ip-restriction";
    const PRIORITY: i32 = 990;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS;
    const PROTOCOLS: &'static [&'static str] = &["http", "https", "tcp", "tls", "grpc", "grpcs"];
    type Config = Config;

    fn checks() -> Vec<EntityCheck> {
        vec![EntityCheck::AtLeastOneOf(vec![
            "config.allow",
            "config.deny",
        ])]
    }

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let addresses = |field, list: Option<Vec<String>>| {
            let list = list.filter(|l| !l.is_empty());
            list.map(|l| Addresses::compile(field, &l)).transpose()
        };
        Ok(IpRestriction {
            allow: addresses("allow", config.allow)?,
            deny: addresses("deny", config.deny)?,
            status: config.status.map_or(Ok(StatusCode::FORBIDDEN), status)?,
            message: config.message,
        })
    }
}

impl Handler for IpRestriction {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let ip = ctx.facts.client_ip;
        let denied = self.deny.as_ref().is_some_and(|list| list.contains(ip));
        if !denied && self.allow.as_ref().is_none_or(|list| list.contains(ip)) {
            return Ok(Flow::Next);
        }
        let message = match &self.message {
            Some(text) => text.clone(),
            None => format!("IP address not allowed: {ip}"),
        };
        Ok(Flow::Exit(Response::error(self.status, message)))
    }
}

/// A status that ends an exchange.
fn status(number: f64) -> Result<StatusCode, ConfigError> {
    let whole =
        (number.fract() == 0.0 && (100.0..600.0).contains(&number)).then_some(number as u16);
    whole
        .and_then(|n| StatusCode::from_u16(n).ok())
        .ok_or_else(|| ConfigError::new("status", "is no HTTP status"))
}
