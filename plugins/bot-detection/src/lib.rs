//! `bot-detection`: keeps bots out, by their `User-Agent`.
//!
//! Learnt from `kong/plugins/bot-detection/handler.lua`, `rules.lua` and `schema.lua`.

mod bots;
mod config;
#[cfg(test)]
mod tests;

use http::{StatusCode, header};
use regex::bytes::RegexSet;
use silverback_plugin::{
    AccessCtx, ConfigError, Flow, Handler, Patterns, PhaseResult, Phases, Plugin, PluginEnv,
    Response, Scopes,
};

pub use config::Config;

/// The plugin.
#[derive(Debug)]
pub struct BotDetection {
    allow: Patterns,
    deny: Patterns,
    known: &'static RegexSet,
}

impl Plugin for BotDetection {
    const NAME: &'static str = "bot-detection";
    const PRIORITY: i32 = 2500;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::NO_CONSUMER;
    type Config = Config;

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let patterns = |field, list: Option<Vec<String>>| {
            let list = list.unwrap_or_default();
            Patterns::new(field, list.iter().map(String::as_str))
        };
        Ok(BotDetection {
            allow: patterns("allow", config.allow)?,
            deny: patterns("deny", config.deny)?,
            known: bots::known(),
        })
    }
}

impl Handler for BotDetection {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let Some(agent) = ctx.header(&header::USER_AGENT) else {
            return Ok(Flow::Next);
        };
        let given = ctx.request.parts.headers.get_all(header::USER_AGENT);
        if given.iter().nth(1).is_some() {
            return Ok(Flow::Exit(Response::error(
                StatusCode::BAD_REQUEST,
                "Only one User-Agent header allowed",
            )));
        }
        let agent = agent.as_bytes().trim_ascii();
        if !self.allow.is_match(agent) && (self.deny.is_match(agent) || self.known.is_match(agent))
        {
            return Ok(Flow::Exit(Response::error(
                StatusCode::FORBIDDEN,
                "Forbidden",
            )));
        }
        Ok(Flow::Next)
    }
}
