//! `basic-auth`: the caller proves who it is with a username and a password, in `Proxy-Authorization` or `Authorization`.
//!
//! Learnt from `kong/plugins/basic-auth/access.lua`, `crypto.lua`, `schema.lua` and `daos.lua`.

mod config;
mod credential;
mod given;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};
use http::{HeaderValue, StatusCode};
use openssl::memcmp;
use serde_json::Value;
use silverback_plugin::schema::EntityDef;
use silverback_plugin::{
    AccessCtx, ConfigError, Credential, Flow, Handler, PhaseResult, Phases, Plugin, PluginEnv,
    Response, Scopes, auth,
};

pub use config::Config;
pub use credential::CREDENTIALS;
use given::Given;

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
        Ok(BasicAuth {
            anonymous: config.anonymous,
            hide: config.hide_credentials,
            challenge: auth::challenge("Basic", Some(&config.realm))?,
        })
    }
}

impl Handler for BasicAuth {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        if auth::proven(ctx, self.anonymous.as_deref()) {
            return Ok(Flow::Next);
        }
        let known = self.known(ctx);
        let found = known
            .as_ref()
            .map(|(credential, given)| (*credential, given.username()));
        auth::conclude(ctx, found.ok_or(()), self.anonymous.as_deref(), |()| {
            let refused = Response::error(StatusCode::UNAUTHORIZED, "Unauthorized");
            auth::challenged(refused, &self.challenge)
        })
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
    let kept = credential.prepared.get_or_make(|| {
        let text = credential.extra.get("password").and_then(Value::as_str);
        text.and_then(credential::kept)
    });
    // In a time that does not tell how much of it is right.
    kept.is_some_and(|kept| memcmp::eq(&kept, &credential::digest(given.password(), owner)))
}
