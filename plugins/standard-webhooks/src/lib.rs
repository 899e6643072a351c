//! `standard-webhooks`: lets messages in that are signed as the Standard Webhooks specification says, and are not old.
//!
//! Learnt from `kong/plugins/standard-webhooks/internal.lua` and `schema.lua`, and from the specification for what Kong leaves out: a message may have
//! several signatures, of which one has to be right, so that secrets can be changed while messages arrive.

mod config;
#[cfg(test)]
mod tests;

use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, StatusCode};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use silverback_plugin::{
    AccessCtx, ConfigError, Flow, Handler, PhaseResult, Phases, Plugin, PluginEnv, PluginError,
    Response, Scopes,
};

pub use config::Config;

/// The longest message in bytes.
const MAX_BODY: usize = 8 << 20;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The plugin.
pub struct StandardWebhooks {
    secret: PKey<Private>,
    /// In seconds.
    tolerance: i64,
}

impl Plugin for StandardWebhooks {
    const NAME: &'static str = "standard-webhooks";
    const PRIORITY: i32 = 760;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::NO_CONSUMER;
    type Config = Config;

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let secret = PKey::hmac(config.secret_v1.as_bytes());
        Ok(StandardWebhooks {
            secret: secret.map_err(|e| ConfigError::new("secret_v1", e.to_string()))?,
            tolerance: config.tolerance_second,
        })
    }
}

impl Handler for StandardWebhooks {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let in_time = Signed::of(ctx).is_some_and(|s| self.in_time(ctx, &s));
        Ok(if in_time { Flow::Await } else { refuse() })
    }

    async fn access_async(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let Ok(body) = ctx.read_body(MAX_BODY).await else {
            return Ok(Flow::Exit(Response::error(
                StatusCode::PAYLOAD_TOO_LARGE,
                "Payload too large",
            )));
        };
        let Some(signed) = Signed::of(ctx).filter(|_| !body.is_empty()) else {
            return Ok(refuse());
        };
        let genuine = self
            .is_genuine(&signed, &body)
            .map_err(|e| PluginError::new(e.to_string()))?;
        Ok(if genuine { Flow::Next } else { refuse() })
    }
}

/// What the headers of a message say.
struct Signed<'a> {
    id: &'a [u8],
    timestamp: &'a str,
    signatures: &'a [u8],
}

impl<'a> Signed<'a> {
    fn of(ctx: &'a AccessCtx<'_>) -> Option<Self> {
        Some(Signed {
            id: ctx.header(&ID)?.as_bytes(),
            timestamp: ctx.header(&TIMESTAMP)?.to_str().ok()?,
            signatures: ctx.header(&SIGNATURE)?.as_bytes(),
        })
    }
}

impl StandardWebhooks {
    fn in_time(&self, ctx: &AccessCtx<'_>, signed: &Signed<'_>) -> bool {
        let Ok(sent) = signed.timestamp.parse::<i64>() else {
            return false;
        };
        let now = ctx.facts.started_at.duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
        now.saturating_sub(sent.saturating_mul(1000)) <= self.tolerance.saturating_mul(1000)
    }

    /// Whether one of the signatures is that of the message.
    fn is_genuine(&self, signed: &Signed<'_>, body: &[u8]) -> Result<bool, ErrorStack> {
        let mut signer = Signer::new(MessageDigest::sha256(), &self.secret)?;
        for part in [signed.id, b".", signed.timestamp.as_bytes(), b".", body] {
            signer.update(part)?;
        }
        let expected = format!("v1,{}", STANDARD.encode(signer.sign_to_vec()?));
        let same = |given: &[u8]| {
            given.len() == expected.len() && openssl::memcmp::eq(given, expected.as_bytes())
        };
        Ok(signed.signatures.split(|b| *b == b' ').any(same))
    }
}

fn refuse() -> Flow {
    Flow::Exit(Response::error(StatusCode::BAD_REQUEST, "Bad request"))
}
