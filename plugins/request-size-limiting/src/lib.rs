//! `request-size-limiting`: refuses requests with long bodies.
//!
//! A length that the request tells is judged at once; a body without one is measured while it goes by, and broken off where it becomes too long.
//!
//! Learnt from `kong/plugins/request-size-limiting/handler.lua` and `schema.lua`.

mod config;
#[cfg(test)]
mod tests;

use http::{HeaderValue, StatusCode, Version, header};
use silverback_plugin::{
    AccessCtx, ConfigError, Flow, Handler, PhaseResult, Phases, Plugin, PluginEnv, Response,
};

pub use config::{Config, Unit};

/// The plugin.
#[derive(Debug)]
pub struct RequestSizeLimiting {
    /// In bytes.
    most: Option<u64>,
    length_required: bool,
}

impl Plugin for RequestSizeLimiting {
    const NAME: &'static str = "request-size-limiting";
    const PRIORITY: i32 = 951;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS;
    type Config = Config;

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        Ok(RequestSizeLimiting {
            most: config.most(),
            length_required: config.require_content_length,
        })
    }
}

impl Handler for RequestSizeLimiting {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let parts = ctx.request.parts;
        let told = ctx
            .request
            .header(header::CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        let encoding = ctx.request.header(header::TRANSFER_ENCODING);
        if told.is_none() && self.length_required && encoding.is_none_or(|e| e != "chunked") {
            return Ok(Flow::Exit(Response::error(
                StatusCode::LENGTH_REQUIRED,
                "A valid Content-Length header is required",
            )));
        }
        let Some(most) = self.most.filter(|most| told.unwrap_or(0) <= *most) else {
            return Ok(Flow::Exit(refusal(ctx)));
        };
        // Over HTTP/1 a request that tells nothing has no body.
        if told.is_none() && (encoding.is_some() || parts.version >= Version::HTTP_2) {
            let refusal = refusal(ctx);
            ctx.upstream.limit_body(most, refusal);
        }
        Ok(Flow::Next)
    }
}

fn refusal(ctx: &AccessCtx<'_>) -> Response {
    let waits = |v: &HeaderValue| {
        let expected = v.as_bytes().trim_ascii();
        expected.eq_ignore_ascii_case(b"100-continue")
    };
    let status = if ctx.request.header(header::EXPECT).is_some_and(waits) {
        StatusCode::EXPECTATION_FAILED
    } else {
        StatusCode::PAYLOAD_TOO_LARGE
    };
    Response::error(status, "Request size limit exceeded")
}
