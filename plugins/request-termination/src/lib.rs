//! `request-termination`: answers requests in place of the upstream, always or when a header or query argument asks for it.
//!
//! Learnt from `kong/plugins/request-termination/handler.lua` and `schema.lua`. The answers ignore `Accept` and carry no request id.

mod config;
mod echo;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::header::InvalidHeaderName;
use http::{HeaderName, HeaderValue, StatusCode};
use silverback_plugin::schema::EntityCheck;
use silverback_plugin::shown::arguments;
use silverback_plugin::{
    AccessCtx, Body, ConfigError, Flow, Handler, PhaseResult, Phases, Plugin, PluginEnv, Response,
};

pub use config::Config;
use echo::Echo;

/// The plugin.
#[derive(Debug)]
pub struct RequestTermination {
    trigger: Option<Trigger>,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Fixed(Box<Response>),
    Echo(Echo),
}

impl Plugin for RequestTermination {
    const NAME: &'static str = "request-termination";
    const PRIORITY: i32 = 2;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS;
    type Config = Config;

    fn checks() -> Vec<EntityCheck> {
        config::checks()
    }

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let status = StatusCode::from_u16(config.status_code)
            .map_err(|_| ConfigError::new("status_code", "is no HTTP status"))?;
        let trigger = config.trigger.map(Trigger::new).transpose();
        let trigger = trigger.map_err(|e| ConfigError::new("trigger", e.to_string()))?;
        let message = config
            .message
            .or_else(|| usual(config.status_code).map(str::to_owned));
        let fixed = |response| Answer::Fixed(Box::new(response));
        let answer = match (config.echo, config.body) {
            (true, _) => Answer::Echo(Echo::new(status, message, env.services.node_id())),
            (false, Some(body)) => fixed(raw(status, config.content_type.as_deref(), body)?),
            (false, None) => fixed(match message {
                Some(text) => {
                    Response::json(status, serde_json::json!({ "message": text }).to_string())
                }
                None => Response::empty(status),
            }),
        };
        Ok(RequestTermination { trigger, answer })
    }
}

impl Handler for RequestTermination {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        if self.trigger.as_ref().is_some_and(|t| !t.pulled(ctx)) {
            return Ok(Flow::Next);
        }
        match &self.answer {
            Answer::Fixed(response) => Ok(Flow::Exit(Response::clone(response))),
            Answer::Echo(_) => Ok(Flow::Await),
        }
    }

    async fn access_async(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        match &self.answer {
            Answer::Fixed(response) => Ok(Flow::Exit(Response::clone(response))),
            Answer::Echo(echo) => Ok(Flow::Exit(echo.answer(ctx).await)),
        }
    }
}

/// What Kong says with these statuses when no message is configured; nothing with others.
fn usual(status: u16) -> Option<&'static str> {
    Some(match status {
        401 => "Unauthorized",
        404 => "Not found",
        405 => "Method not allowed",
        500 => "An unexpected error occurred",
        502 => "Bad Gateway",
        503 => "Service unavailable",
        _ => return None,
    })
}

/// Types to which Kong's nginx adds its `charset` (its `charset_types`).
const WITH_CHARSET: [&str; 6] = [
    "text/html",
    "text/xml",
    "text/plain",
    "text/vnd.wap.wml",
    "application/javascript",
    "application/rss+xml",
];

fn raw(
    status: StatusCode,
    content_type: Option<&str>,
    body: String,
) -> Result<Response, ConfigError> {
    // nginx's `default_type`, which Kong leaves as it is.
    let content_type = content_type.unwrap_or("text/plain");
    let charset = WITH_CHARSET
        .iter()
        .any(|t| t.eq_ignore_ascii_case(content_type));
    let content_type = HeaderValue::from_str(&format!(
        "{content_type}{}",
        if charset { "; charset=UTF-8" } else { "" }
    ))
    .map_err(|_| ConfigError::new("content_type", "cannot be a header's value"))?;
    let body = Body::Bytes {
        content_type,
        bytes: Bytes::from(body),
    };
    Ok(Response {
        status,
        headers: Default::default(),
        body,
    })
}

/// A header or query argument that switches the plugin on.
#[derive(Debug)]
struct Trigger {
    header: HeaderName,
    argument: String,
}

impl Trigger {
    fn new(name: String) -> Result<Self, InvalidHeaderName> {
        Ok(Trigger {
            header: HeaderName::from_bytes(name.as_bytes())?,
            argument: name,
        })
    }

    fn pulled(&self, ctx: &AccessCtx<'_>) -> bool {
        ctx.header(&self.header).is_some()
            || arguments(echo::query(ctx)).any(|(name, _)| name == self.argument)
    }
}
