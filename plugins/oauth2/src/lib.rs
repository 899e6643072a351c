//! `oauth2`: applications call for users who have allowed it, with tokens that they get here (RFC 6749, 6750, 7636).
//!
//! The plugin has two endpoints below every path that it is configured for, `/oauth2/authorize` and `/oauth2/token`; any other request needs a
//! token. Tokens are rows, which all nodes have in memory. One that is not there is looked for in the database: it may have been made on
//! another node a moment ago.
//!
//! Learnt from `kong/plugins/oauth2/access.lua`, `schema.lua`, `daos.lua` and `secret.lua`.

mod answer;
mod application;
mod authorize;
mod bearer;
mod client;
mod code;
mod config;
mod issue;
mod parameters;
mod pkce;
mod secret;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use silverback_plugin::schema::checks::normalize_path;
use silverback_plugin::schema::{EntityCheck, EntityDef};
use silverback_plugin::{
    AccessCtx, ConfigError, Facts, Flow, Handler, HeaderKey, PhaseResult, Phases, Plugin,
    PluginEnv, PluginError, Response, Rows, RowsError, Scopes, auth,
};
use uuid::Uuid;

use answer::Refusal;
use bearer::{Unproven, refused};
pub use config::Config;
use parameters::{Parameter, Parameters};
use pkce::Pkce;

static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The plugin.
pub struct OAuth2 {
    /// The primary key of the configuration.
    id: Uuid,
    scopes: Option<Vec<String>>,
    mandatory_scope: bool,
    provision_key: String,
    /// In seconds; 0 for any time.
    token_expiration: i64,
    /// In seconds; 0 for any time.
    refresh_token_ttl: i64,
    reuse_refresh_token: bool,
    grants: Grants,
    hide_credentials: bool,
    accept_http_if_already_terminated: bool,
    anonymous: Option<String>,
    global_credentials: bool,
    header: Option<HeaderKey>,
    pkce: Pkce,
    /// The start of all challenges.
    realm: String,
    challenge: HeaderValue,
    challenge_invalid: HeaderValue,
    rows: Option<Arc<dyn Rows>>,
}

/// The ways to a token that are open. Codes that were given out are changed, and tokens refreshed, in any case.
struct Grants {
    code: bool,
    implicit: bool,
    client_credentials: bool,
    password: bool,
}

impl Plugin for OAuth2 {
    const NAME: &'static str = "oauth2";
    const PRIORITY: i32 = 1400;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::NO_CONSUMER;
    type Config = Config;

    fn checks() -> Vec<EntityCheck> {
        config::checks()
    }

    fn config_checks() -> Vec<EntityCheck> {
        config::config_checks()
    }

    fn entities() -> Vec<EntityDef> {
        vec![application::def(), code::def(), token::def()]
    }

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let realm = match &config.realm {
            Some(realm) => format!("Bearer realm=\"{realm}\""),
            None => "Bearer".to_owned(),
        };
        let challenge = |text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| ConfigError::new("realm", "cannot be part of a header"))
        };
        let header = config.auth_header_name.as_deref().map(HeaderKey::new);
        Ok(OAuth2 {
            id: env.instance.id,
            scopes: config.scopes,
            mandatory_scope: config.mandatory_scope,
            provision_key: config.provision_key,
            token_expiration: whole(config.token_expiration),
            refresh_token_ttl: whole(config.refresh_token_ttl),
            reuse_refresh_token: config.reuse_refresh_token,
            grants: Grants {
                code: config.enable_authorization_code,
                implicit: config.enable_implicit_grant,
                client_credentials: config.enable_client_credentials,
                password: config.enable_password_grant,
            },
            hide_credentials: config.hide_credentials,
            accept_http_if_already_terminated: config.accept_http_if_already_terminated,
            anonymous: config.anonymous,
            global_credentials: config.global_credentials,
            header: header
                .transpose()
                .map_err(|_| ConfigError::new("auth_header_name", "no name of a header"))?,
            pkce: Pkce::of(config.pkce.as_deref()),
            challenge: challenge(&realm)?,
            challenge_invalid: challenge(&format!(
                "{realm} error=\"invalid_token\" error_description=\"The access token is invalid or has expired\""
            ))?,
            realm,
            rows: env.services.rows(),
        })
    }
}

impl Handler for OAuth2 {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        if let Some(endpoint) = Endpoint::of(ctx.request.path()) {
            return match ctx.request.parts.method == Method::POST {
                true => Ok(Flow::Await),
                false => Ok(Flow::Exit(self.wrong_method(ctx, endpoint))),
            };
        }
        if auth::proven(ctx, self.anonymous.as_deref()) {
            bearer::forget(ctx);
            return Ok(Flow::Next);
        }
        if self.needs_body(ctx) {
            return Ok(Flow::Await);
        }
        let Some(shown) = self.shown(ctx, None).filter(|s| !s.is_empty()) else {
            return self.conclude(ctx, Unproven::Missing);
        };
        match self.in_memory(ctx, &shown) {
            None if self.rows.is_some() => Ok(Flow::Await),
            token => {
                self.hide(ctx, &shown, None);
                self.conclude_with(ctx, token)
            }
        }
    }

    async fn access_async(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        if let Some(endpoint) = Endpoint::of(ctx.request.path()) {
            let rows = self.rows.as_deref().ok_or_else(|| {
                PluginError::new("tokens cannot be given out: there is no database")
            })?;
            let response = match endpoint {
                Endpoint::Token => self.issue(ctx, rows).await?,
                Endpoint::Authorize => self.authorize(ctx, rows).await?,
            };
            return Ok(Flow::Exit(response));
        }
        let parameters = match self.needs_body(ctx) {
            true => Some(Parameters::read(ctx).await),
            false => None,
        };
        let shown = self.shown(ctx, parameters.as_ref());
        let Some(shown) = shown.filter(|s| !s.is_empty()) else {
            return self.conclude(ctx, Unproven::Missing);
        };
        self.hide(ctx, &shown, parameters.as_ref());
        let mut token = self.in_memory(ctx, &shown);
        if token.is_none()
            && let Some(rows) = &self.rows
        {
            token = self.in_database(ctx, &**rows, &shown).await?;
        }
        self.conclude_with(ctx, token)
    }
}

impl OAuth2 {
    fn wrong_method(&self, ctx: &AccessCtx<'_>, endpoint: Endpoint) -> Response {
        let text = format!(
            "The HTTP method {} is invalid for the {} endpoint",
            ctx.request.parts.method,
            endpoint.name()
        );
        let challenge = format!(
            "{} error=\"invalid_method\" error_description=\"{text}\"",
            self.realm
        );
        let members = Refusal::new("invalid_method", text).members();
        let response = refused(StatusCode::METHOD_NOT_ALLOWED, members);
        match HeaderValue::from_str(&challenge) {
            Ok(challenge) => auth::challenged(response, &challenge),
            Err(_) => response,
        }
    }

    fn conclude_with(
        &self,
        ctx: &mut AccessCtx<'_>,
        token: Option<bearer::Token<'_>>,
    ) -> PhaseResult {
        let verdict = self.judge(ctx, token.as_ref());
        match (verdict, token) {
            (Ok(()), Some(token)) => {
                self.let_in(ctx, &token);
                Ok(Flow::Next)
            }
            (Ok(()), None) => self.conclude(ctx, Unproven::Invalid),
            (Err(why), _) => self.conclude(ctx, why),
        }
    }

    /// What follows when nobody was let in.
    fn conclude(&self, ctx: &mut AccessCtx<'_>, why: Unproven) -> PhaseResult {
        match &self.anonymous {
            // As in Kong nobody may call with a token that is good elsewhere.
            Some(anonymous) if why != Unproven::Global => {
                auth::anonymous(ctx, anonymous)?;
                bearer::forget(ctx);
                Ok(Flow::Next)
            }
            _ => Ok(Flow::Exit(self.refuse(why))),
        }
    }

    /// Whether nobody could listen in on the way to the gateway.
    fn is_secure(&self, ctx: &AccessCtx<'_>) -> Result<(), Refusal> {
        let denied = |text: &str| Err(Refusal::new("access_denied", text));
        if ctx.facts.scheme == "https" {
            return Ok(());
        }
        if !(self.accept_http_if_already_terminated && ctx.facts.peer_trusted) {
            return denied("You must use HTTPS");
        }
        let mut all = ctx.request.parts.headers.get_all(&FORWARDED_PROTO).iter();
        match (all.next().map(HeaderValue::as_bytes), all.next()) {
            (Some(scheme), None) if scheme.eq_ignore_ascii_case(b"https") => Ok(()),
            (Some(scheme), None) if !scheme.contains(&b',') => denied("You must use HTTPS"),
            (None, _) => denied("You must use HTTPS"),
            _ => denied("Only one X-Forwarded-Proto header allowed"),
        }
    }

    fn scopes(&self) -> &[String] {
        self.scopes.as_deref().unwrap_or_default()
    }

    /// The scope that is asked for; `None` when it is none.
    fn scope(&self, parameters: &Parameters) -> Result<Option<String>, Refusal> {
        let invalid = |text: String| Refusal::new("invalid_scope", text);
        let scope = match parameters.get("scope") {
            Parameter::Missing if self.mandatory_scope => {
                return Err(invalid("You must specify a scope".to_owned()));
            }
            Parameter::Missing => return Ok(None),
            // Without words that it may have, a scope says nothing.
            _ if self.scopes.is_none() => return Ok(None),
            Parameter::NoText => return Err(invalid("scope must be a string".to_owned())),
            Parameter::Text(scope) => scope,
        };
        let words: Vec<&str> = scope.split_whitespace().collect();
        let known = |word: &&str| self.scopes().iter().any(|s| s == word);
        match words.iter().find(|word| !known(word)) {
            Some(word) => Err(invalid(format!("\"{word}\" is an invalid scope"))),
            None => Ok((!words.is_empty()).then(|| words.join(" "))),
        }
    }

    /// The service that tokens given out here are good for; `None` for all. Where tokens are good for one service each and there is none,
    /// nothing can be given out.
    fn service(&self, ctx: &AccessCtx<'_>) -> Result<Option<Uuid>, PluginError> {
        if self.global_credentials {
            return Ok(None);
        }
        let here = ctx.service.map(|s| s.id);
        here.map(Some)
            .ok_or_else(|| PluginError::new("the route has no service that tokens could be for"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Authorize,
    Token,
}

impl Endpoint {
    /// The endpoint that a path ends with.
    fn of(path: &[u8]) -> Option<Self> {
        let path = &*normalize_path(path);
        let path = path.strip_suffix(b"/").unwrap_or(path);
        if path.ends_with(b"/oauth2/token") {
            Some(Endpoint::Token)
        } else if path.ends_with(b"/oauth2/authorize") {
            Some(Endpoint::Authorize)
        } else {
            None
        }
    }

    fn name(self) -> &'static str {
        match self {
            Endpoint::Authorize => "authorization",
            Endpoint::Token => "token",
        }
    }
}

/// Whole seconds. A part of one counts as one: 0 would mean that there is no end.
fn whole(seconds: f64) -> i64 {
    seconds.ceil() as i64
}

fn failed(e: RowsError) -> PluginError {
    PluginError::new(e.to_string())
}

/// Seconds since 1970.
fn now(facts: &Facts) -> f64 {
    let since = facts.started_at.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}
