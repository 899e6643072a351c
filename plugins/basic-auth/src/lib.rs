//! `basic-auth`: the caller proves who it is with a username and a password, in `Proxy-Authorization` or `Authorization`.
//!
//! Learnt from `kong/plugins/basic-auth/access.lua`, `crypto.lua`, `schema.lua` and `daos.lua`.

mod config;
mod credential;
mod given;
#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};
use http::{HeaderValue, StatusCode};
use serde_json::Value;
use silverback_plugin::schema::EntityDef;
use silverback_plugin::{
    AccessCtx, ConfigError, Credential, Flow, Handler, HeaderKey, PhaseResult, Phases, Plugin,
    PluginEnv, Response, Scopes, auth,
};

pub use config::Config;
pub use credential::CREDENTIALS;
use given::Given;

static WWW_AUTHENTICATE: LazyLock<HeaderKey> =
    LazyLock::new(|| HeaderKey::from_static("WWW-Authenticate"));

/// The plugin.
#[derive(Debug)]
pub struct BasicAuth {
    anonymous: Option<String>,
    hide: bool,
    challenge: HeaderValue,
}

impl Plugin for BasicAuth {
    const NAME: &'static str = "basic-auth";
    const PRIORITY: i32 = 1100;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::NO_CONSUMER;
    type Config = Config;

    fn entities() -> Vec<EntityDef> {
        vec![credential::def()]
    }

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let challenge = format!("Basic realm=\"{}\"", config.realm);
        Ok(BasicAuth {
            anonymous: config.anonymous,
            hide: config.hide_credentials,
            challenge: HeaderValue::from_str(&challenge)
                .map_err(|_| ConfigError::new("realm", "cannot be part of a header"))?,
        })
    }
}

impl Handler for BasicAuth {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        // With an anonymous consumer one of several authentication plugins is enough.
        if self.anonymous.is_some() && ctx.facts.credential.is_some() {
            return Ok(Flow::Next);
        }
        match (self.known(ctx), &self.anonymous) {
            (Some((credential, given)), _) => {
                let owner = Some(&credential.consumer);
                auth::authenticate(ctx, owner, Some(credential), given.username());
                Ok(Flow::Next)
            }
            (None, Some(anonymous)) => {
                auth::anonymous(ctx, anonymous)?;
                Ok(Flow::Next)
            }
            (None, None) => {
                let refused = Response::error(StatusCode::UNAUTHORIZED, "Unauthorized");
                let challenge = self.challenge.clone();
                Ok(Flow::Exit(
                    refused.header(WWW_AUTHENTICATE.clone(), challenge),
                ))
            }
        }
    }
}

impl BasicAuth {
    /// Whose username and password the request carries. When the username in `Proxy-Authorization` is nobody's, the other header is
    /// looked at, and only then.
    fn known<'d>(&self, ctx: &mut AccessCtx<'d>) -> Option<(&'d Arc<Credential>, Given)> {
        let directory = ctx.directory;
        for name in [&PROXY_AUTHORIZATION, &AUTHORIZATION] {
            let Some(value) = ctx.header(name) else {
                continue;
            };
            let given = Given::parse(value.as_bytes());
            if self.hide {
                ctx.upstream.remove(name.clone());
            }
            let Some(given) = given else { continue };
            let username = given.username();
            if let Some(found) = username.and_then(|u| directory.credential(CREDENTIALS, u)) {
                return opens(&given, found).then_some((found, given));
            }
        }
        None
    }
}

fn opens(given: &Given, credential: &Credential) -> bool {
    let mut id = [0; 36];
    let owner: &str = credential.consumer.id.as_hyphenated().encode_lower(&mut id);
    let kept = credential.extra.get("password").and_then(Value::as_str);
    kept.is_some_and(|kept| kept == credential::hash(given.password(), owner))
}
