//! `hmac-auth`: the caller proves who it is by signing headers of the request, and by them perhaps its body, with a secret.
//!
//! Learnt from `kong/plugins/hmac-auth/access.lua`, `schema.lua` and `daos.lua`.

mod config;
mod credential;
mod signature;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, DATE, PROXY_AUTHORIZATION};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use silverback_plugin::schema::EntityDef;
use silverback_plugin::{
    AccessCtx, ConfigError, Credential, Flow, Handler, PhaseResult, Phases, Plugin, PluginEnv,
    Response, Scopes, auth,
};

pub use config::Config;
pub use credential::CREDENTIALS;
use signature::Signature;

const NO_DATE: &str = "HMAC signature cannot be verified, a valid date or x-date header is required for HMAC Authentication";
const NOT_VALID: &str = "HMAC signature cannot be verified";
const NOT_SAME: &str = "HMAC signature does not match";

/// The longest body that is checked, in bytes; a longer one does not match.
const MAX_BODY: usize = 8 << 20;

const X_DATE: HeaderName = HeaderName::from_static("x-date");
const DIGEST: HeaderName = HeaderName::from_static("digest");

/// The plugin.
#[derive(Debug)]
pub struct HmacAuth {
    hide: bool,
    skew: Duration,
    anonymous: Option<String>,
    check_body: bool,
    enforced: Vec<String>,
    algorithms: Vec<String>,
    challenge: HeaderValue,
}

impl Plugin for HmacAuth {
    const NAME: &'static str = "hmac-auth";
    const PRIORITY: i32 = 1030;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::NO_CONSUMER;
    type Config = Config;

    fn entities() -> Vec<EntityDef> {
        vec![credential::def()]
    }

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let skew = config.clock_skew.unwrap_or(300.0);
        Ok(HmacAuth {
            hide: config.hide_credentials,
            skew: Duration::try_from_secs_f64(skew).unwrap_or(Duration::MAX),
            anonymous: config.anonymous,
            check_body: config.validate_request_body,
            enforced: config.enforce_headers.unwrap_or_default(),
            algorithms: config.algorithms.unwrap_or_default(),
            challenge: auth::challenge("hmac", config.realm.as_deref())?,
        })
    }
}

impl Handler for HmacAuth {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        if auth::proven(ctx, self.anonymous.as_deref()) {
            return Ok(Flow::Next);
        }
        if self.check_body {
            return Ok(Flow::Await);
        }
        let verdict = self.authenticate(ctx);
        self.conclude(ctx, verdict)
    }

    async fn access_async(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let mut verdict = self.authenticate(ctx);
        if verdict.is_ok() && !body_is_as_said(ctx).await {
            verdict = Err(NOT_SAME);
        }
        self.conclude(ctx, verdict)
    }
}

impl HmacAuth {
    fn conclude(
        &self,
        ctx: &mut AccessCtx<'_>,
        verdict: Result<(&Arc<Credential>, String), &'static str>,
    ) -> PhaseResult {
        let found = match &verdict {
            Ok((credential, username)) => Ok((*credential, Some(username.as_str()))),
            Err(text) => Err(*text),
        };
        auth::conclude(ctx, found, self.anonymous.as_deref(), |text| {
            auth::challenged(
                Response::error(StatusCode::UNAUTHORIZED, text),
                &self.challenge,
            )
        })
    }

    /// Whose signature the request carries, by which username; or what is wrong.
    fn authenticate<'d>(
        &self,
        ctx: &mut AccessCtx<'d>,
    ) -> Result<(&'d Arc<Credential>, String), &'static str> {
        let directory = ctx.directory;
        let proxy = ctx.header(&PROXY_AUTHORIZATION);
        let own = ctx.header(&AUTHORIZATION);
        if proxy.is_none() && own.is_none() {
            return Err("Unauthorized");
        }
        if ![&X_DATE, &DATE]
            .iter()
            .any(|name| self.is_timely(ctx, name))
        {
            return Err(NO_DATE);
        }
        let parse = |v: Option<&HeaderValue>| v.and_then(|v| Signature::parse(v.as_bytes()));
        let (found, name) = match parse(proxy) {
            Some(found) => (Some(found), PROXY_AUTHORIZATION),
            None => (parse(own), AUTHORIZATION),
        };
        let verdict = found.ok_or(NOT_VALID).and_then(|given| {
            let enforced = self.enforced.iter().all(|h| given.headers.contains(h));
            if !enforced || !self.algorithms.contains(&given.algorithm) {
                return Err(NOT_VALID);
            }
            let credential = directory.credential(CREDENTIALS, &given.username);
            let credential = credential.ok_or(NOT_VALID)?;
            let secret = credential.extra.get("secret").and_then(Value::as_str);
            if secret.is_some_and(|secret| given.is_of(ctx, secret)) {
                Ok((credential, given.username))
            } else {
                Err(NOT_SAME)
            }
        });
        if self.hide && ctx.header(&name).is_some() {
            ctx.upstream.remove(name);
        }
        verdict
    }

    /// Whether a header has a date that is not too far from now.
    fn is_timely(&self, ctx: &AccessCtx<'_>, name: &HeaderName) -> bool {
        let date = ctx.header(name).and_then(|v| v.to_str().ok());
        let Some(date) = date.and_then(|d| httpdate::parse_http_date(d).ok()) else {
            return false;
        };
        apart(whole(ctx.facts.started_at), date) <= self.skew
    }
}

/// Dates have whole seconds.
fn whole(time: SystemTime) -> SystemTime {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn apart(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b).unwrap_or_else(|e| e.duration())
}

/// Whether the body is what `Digest` says. Without the header it has to be empty.
async fn body_is_as_said(ctx: &mut AccessCtx<'_>) -> bool {
    let Ok(body) = ctx.read_body(MAX_BODY).await else {
        return false;
    };
    let Some(said) = ctx.header(&DIGEST) else {
        return body.is_empty();
    };
    let digest = STANDARD.encode(openssl::sha::sha256(&body));
    said.as_bytes() == format!("SHA-256={digest}").as_bytes()
}
