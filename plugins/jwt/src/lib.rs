//! `jwt`: the caller proves who it is with a signed token, in a header, in the query or in a cookie.
//!
//! Learnt from `kong/plugins/jwt/handler.lua`, `jwt_parser.lua`, `schema.lua` and `daos.lua`.

mod config;
mod credential;
mod places;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use http::{HeaderValue, Method, StatusCode};
use serde_json::{Map, Value, json};
use silverback_plugin::schema::field::{number, set, string};
use silverback_plugin::schema::{EntityCheck, EntityDef};
use silverback_plugin::{
    AccessCtx, ConfigError, Credential, Flow, Handler, PhaseResult, Phases, Plugin, PluginEnv,
    Response, Scopes, auth,
};

pub use config::Config;
pub use credential::CREDENTIALS;
use places::{Found, Places};
use token::{Key, Token};

/// The plugin.
#[derive(Debug)]
pub struct Jwt {
    places: Places,
    key_claim: String,
    secret_is_base64: bool,
    claims: Vec<String>,
    anonymous: Option<String>,
    run_on_preflight: bool,
    /// In seconds; 0 for any.
    maximum: f64,
    challenge: HeaderValue,
    challenge_with_error: HeaderValue,
}

impl Plugin for Jwt {
    const NAME: &'static str = "jwt";
    const PRIORITY: i32 = 1450;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::NO_CONSUMER;
    type Config = Config;

    fn checks() -> Vec<EntityCheck> {
        let mut has_exp = set(string());
        has_exp.contains = Some("exp".into());
        vec![EntityCheck::Conditional {
            if_field: "config.maximum_expiration",
            if_match: Box::new(number().gt(0.0)),
            then_field: "config.claims_to_verify",
            then_match: Box::new(has_exp),
            then_err: None,
        }]
    }

    fn entities() -> Vec<EntityDef> {
        vec![credential::def()]
    }

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let base = match &config.realm {
            Some(realm) => format!("Bearer realm=\"{realm}\""),
            None => "Bearer".to_owned(),
        };
        let challenge = |text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| ConfigError::new("realm", "cannot be part of a header"))
        };
        Ok(Jwt {
            places: Places::new(
                config.uri_param_names.unwrap_or_default(),
                config.cookie_names.unwrap_or_default(),
                config.header_names.unwrap_or_default(),
            )?,
            key_claim: config.key_claim_name.unwrap_or_else(|| "iss".to_owned()),
            secret_is_base64: config.secret_is_base64,
            claims: config.claims_to_verify.unwrap_or_default(),
            anonymous: config.anonymous,
            run_on_preflight: config.run_on_preflight,
            maximum: config.maximum_expiration.unwrap_or_default(),
            challenge: challenge(&base)?,
            challenge_with_error: challenge(&format!("{base} error=\"invalid_token\""))?,
        })
    }
}

/// Why a request is refused.
enum Refusal {
    /// There is no token.
    Nothing,
    /// The token is no good.
    Bad(String),
    /// These claims are no good.
    Claims(Map<String, Value>),
}

impl Handler for Jwt {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let preflight = ctx.request.parts.method == Method::OPTIONS;
        if preflight && !self.run_on_preflight || auth::proven(ctx, self.anonymous.as_deref()) {
            return Ok(Flow::Next);
        }
        let found = self.authenticate(ctx);
        let found = match &found {
            Ok((credential, key)) => Ok((*credential, Some(key.as_str()))),
            Err(why) => Err(why),
        };
        auth::conclude(ctx, found, self.anonymous.as_deref(), |why| {
            self.refuse(why)
        })
    }
}

impl Jwt {
    fn refuse(&self, why: &Refusal) -> Response {
        let (body, challenge) = match why {
            Refusal::Nothing => (json!({ "message": "Unauthorized" }), &self.challenge),
            Refusal::Bad(text) => (json!({ "message": text }), &self.challenge_with_error),
            Refusal::Claims(errors) => (errors.clone().into(), &self.challenge_with_error),
        };
        // As in Kong neither in another format nor with the request's id.
        let response = Response::json(StatusCode::UNAUTHORIZED, body.to_string());
        auth::challenged(response, challenge)
    }

    /// Whose token the request carries, and the name of the key it is signed with.
    fn authenticate<'d>(
        &self,
        ctx: &AccessCtx<'d>,
    ) -> Result<(&'d Arc<Credential>, String), Refusal> {
        let bad = |text: &str| Refusal::Bad(text.to_owned());
        let mut found = self.places.look(ctx);
        let text = match (found.pop(), found.is_empty()) {
            (None, _) => return Err(Refusal::Nothing),
            (Some(_), false) => return Err(bad("Multiple tokens provided")),
            (Some(Found::NoText), true) => return Err(bad("Unrecognizable token")),
            (Some(Found::Text(text)), true) => text,
        };
        // What is not even UTF-8 is no base64 either.
        let token = std::str::from_utf8(&text)
            .map_err(|_| "invalid JSON")
            .and_then(Token::parse);
        let token = token.map_err(|why| Refusal::Bad(format!("Bad token; {why}")))?;

        let claim = &self.key_claim;
        let key = match token.named(claim) {
            None => return Err(Refusal::Bad(format!("No mandatory '{claim}' in claims"))),
            Some(Value::String(key)) if key.is_empty() => {
                return Err(Refusal::Bad(format!("Invalid '{claim}' in claims")));
            }
            Some(key) => key.as_str().unwrap_or_default(),
        };
        let credential = ctx.directory.credential(CREDENTIALS, key);
        let credential = credential
            .ok_or_else(|| Refusal::Bad(format!("No credentials found for given '{claim}'")))?;
        let field = |name: &str| credential.extra.get(name).and_then(Value::as_str);
        if token.algorithm() != field("algorithm").unwrap_or("HS256") {
            return Err(bad("Invalid algorithm"));
        }
        let signer = if !token.algorithm().starts_with("HS") {
            let parsed = credential
                .prepared
                .get_or_make(|| field("rsa_public_key").and_then(credential::public_key));
            parsed.as_ref().clone().map(Key::Public)
        } else if self.secret_is_base64 {
            field("secret").and_then(token::decode).map(Key::Secret)
        } else {
            field("secret").map(|s| Key::Secret(s.as_bytes().to_vec()))
        };
        let signer = signer.ok_or_else(|| bad("Invalid key/secret"))?;
        if !token.is_signed_with(&signer) {
            return Err(bad("Invalid signature"));
        }
        let since = ctx.facts.started_at.duration_since(UNIX_EPOCH);
        self.check_claims(&token, since.unwrap_or_default().as_secs() as f64)?;
        Ok((credential, key.to_owned()))
    }

    /// `now` in seconds since 1970.
    fn check_claims(&self, token: &Token<'_>, now: f64) -> Result<(), Refusal> {
        let mut errors = Map::new();
        for name in &self.claims {
            let text = match token
                .claim(name)
                .filter(|v| v.is_number())
                .and_then(Value::as_f64)
            {
                None => "must be a number",
                Some(exp) if name == "exp" && exp <= now => "token expired",
                Some(nbf) if name == "nbf" && nbf > now => "token not valid yet",
                Some(_) => continue,
            };
            errors.insert(name.clone(), text.into());
        }
        if errors.is_empty() && self.maximum > 0.0 {
            let exp = token.claim("exp").and_then(Value::as_f64);
            if exp.is_none_or(|exp| exp - now > self.maximum) {
                errors.insert(
                    "exp".to_owned(),
                    "exceeds maximum allowed expiration".into(),
                );
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Refusal::Claims(errors))
        }
    }
}
