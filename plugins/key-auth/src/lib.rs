//! `key-auth`: the caller proves who it is with a key, in a header, in the query or in the body.
//!
//! Learnt from `kong/plugins/key-auth/handler.lua`, `schema.lua` and `daos.lua`.

mod config;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use silverback_plugin::args::{self, Found};
use silverback_plugin::fields::Fields;
use silverback_plugin::schema::EntityDef;
use silverback_plugin::{
    AccessCtx, ConfigError, Credential, Flow, Handler, PhaseResult, Phases, Plugin, PluginEnv,
    Response, Scopes, auth,
};

pub use config::Config;

/// The entity of keys.
pub const CREDENTIALS: &str = "keyauth_credentials";

const NO_KEY: &str = "No API key found in request";
const DUPLICATE: &str = "Duplicate API key found";
const UNAUTHORIZED: &str = "Unauthorized";

/// The longest body that is searched for a key, in bytes; a longer one has none.
const MAX_BODY: usize = 8 << 20;

/// The plugin.
#[derive(Debug)]
pub struct KeyAuth {
    names: Box<[KeyName]>,
    in_header: bool,
    in_query: bool,
    in_body: bool,
    hide: bool,
    anonymous: Option<String>,
    run_on_preflight: bool,
    challenge: HeaderValue,
}

impl Plugin for KeyAuth {
    const NAME: &'static str = "key-auth";
    const PRIORITY: i32 = 1250;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS;
    const SCOPES: Scopes = Scopes::NO_CONSUMER;
    type Config = Config;

    fn entities() -> Vec<EntityDef> {
        vec![config::credentials()]
    }

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let challenge = auth::challenge("Key", config.realm.as_deref())?;
        let names = config
            .key_names
            .into_iter()
            .map(KeyName::new)
            .collect::<Result<_, _>>()?;
        Ok(KeyAuth {
            names,
            in_header: config.key_in_header,
            in_query: config.key_in_query,
            in_body: config.key_in_body,
            hide: config.hide_credentials,
            anonymous: config.anonymous,
            run_on_preflight: config.run_on_preflight,
            challenge,
        })
    }
}

impl Handler for KeyAuth {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        if self.skips(ctx) {
            return Ok(Flow::Next);
        }
        match self.authenticate(ctx, &BodyState::Unread) {
            Verdict::NeedsBody => Ok(Flow::Await),
            verdict => self.conclude(ctx, verdict),
        }
    }

    async fn access_async(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let body = match ctx.read_body(MAX_BODY).await {
            Ok(bytes) => BodyState::Read(Fields::parse(ctx.header(&CONTENT_TYPE), bytes)),
            // As when the body makes no sense: it holds no key.
            Err(_) => BodyState::Read(None),
        };
        let verdict = self.authenticate(ctx, &body);
        self.conclude(ctx, verdict)
    }
}

/// The body as far as it is known.
enum BodyState {
    Unread,
    /// `None` when it has no fields that could be read.
    Read(Option<Fields>),
}

/// What a search for the key came to.
enum Verdict<'d> {
    Known(&'d Arc<Credential>),
    Refused(&'static str),
    NeedsBody,
}

impl KeyAuth {
    fn skips(&self, ctx: &AccessCtx<'_>) -> bool {
        (!self.run_on_preflight && ctx.request.parts.method == Method::OPTIONS)
            || auth::proven(ctx, self.anonymous.as_deref())
    }

    fn conclude(&self, ctx: &mut AccessCtx<'_>, verdict: Verdict<'_>) -> PhaseResult {
        let mut id = [0u8; 36];
        let found = match verdict {
            Verdict::Known(credential) => {
                let id: &str = credential.id.as_hyphenated().encode_lower(&mut id);
                Ok((credential, Some(id)))
            }
            Verdict::Refused(text) => Err(text),
            Verdict::NeedsBody => Err(NO_KEY),
        };
        auth::conclude(ctx, found, self.anonymous.as_deref(), |text| {
            auth::challenged(
                Response::error(StatusCode::UNAUTHORIZED, text),
                &self.challenge,
            )
        })
    }

    fn authenticate<'d>(&self, ctx: &mut AccessCtx<'d>, body: &BodyState) -> Verdict<'d> {
        let directory = ctx.directory;
        let mut place = None;
        for name in &self.names {
            let mut found = if self.in_header {
                name.in_headers(ctx)
            } else {
                Found::Nothing
            };
            if self.in_query && matches!(found, Found::Nothing) {
                found = args::find(ctx.query(), name.text.as_bytes());
            }
            if self.in_body && matches!(found, Found::Nothing) {
                match body {
                    BodyState::Unread if Fields::readable(ctx.header(&CONTENT_TYPE)) => {
                        return Verdict::NeedsBody;
                    }
                    BodyState::Unread | BodyState::Read(None) => {}
                    BodyState::Read(Some(fields)) => found = fields.find(&name.text),
                }
            }
            match found {
                // As in Kong the next name is tried when what is there is no text.
                Found::Nothing | Found::NoText => {}
                Found::Many => return Verdict::Refused(DUPLICATE),
                Found::One(key) => {
                    let read_first = self.hide && self.in_body && matches!(body, BodyState::Unread);
                    if read_first && Fields::readable(ctx.header(&CONTENT_TYPE)) {
                        return Verdict::NeedsBody;
                    }
                    if key.is_empty() {
                        place = Some((name, Verdict::Refused(NO_KEY)));
                    } else {
                        let known = std::str::from_utf8(&key).ok();
                        let known = known.and_then(|k| directory.credential(CREDENTIALS, k));
                        place = Some((
                            name,
                            known.map_or(Verdict::Refused(UNAUTHORIZED), Verdict::Known),
                        ));
                    }
                    break;
                }
            }
        }
        let Some((name, verdict)) = place else {
            return Verdict::Refused(NO_KEY);
        };
        if self.hide {
            name.hide(ctx, body);
        }
        verdict
    }
}

/// A name that a key may go by.
#[derive(Debug)]
struct KeyName {
    text: String,
    header: HeaderName,
    /// Kong also takes `x-key` for `x_key`.
    dashed: Option<HeaderName>,
}

impl KeyName {
    fn new(text: String) -> Result<Self, ConfigError> {
        let header = |name: &str| {
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| ConfigError::new("key_names", "no name of a header"))
        };
        let dashed = if text.contains('_') {
            Some(header(&text.replace('_', "-"))?)
        } else {
            None
        };
        Ok(KeyName {
            header: header(&text)?,
            dashed,
            text,
        })
    }

    fn spellings(&self) -> impl Iterator<Item = &HeaderName> {
        std::iter::once(&self.header).chain(&self.dashed)
    }

    fn in_headers<'a>(&self, ctx: &'a AccessCtx<'_>) -> Found<'a> {
        for name in self.spellings() {
            match ctx.upstream.lookup(name) {
                Some(Some(edited)) => return Found::One(Cow::Borrowed(edited.as_bytes())),
                Some(None) => continue,
                None => {}
            }
            let mut values = ctx.request.parts.headers.get_all(name).iter();
            match (values.next(), values.next()) {
                (None, _) => {}
                (Some(one), None) => return Found::One(Cow::Borrowed(one.as_bytes())),
                (Some(_), Some(_)) => return Found::Many,
            }
        }
        Found::Nothing
    }

    /// Takes the key out of what goes to the upstream: from the query, the headers and, where it is searched, the body.
    fn hide(&self, ctx: &mut AccessCtx<'_>, body: &BodyState) {
        if let Some(rest) = args::without(ctx.query(), self.text.as_bytes()) {
            ctx.upstream.query = Some(rest);
        }
        for name in self.spellings() {
            if ctx.header(name).is_some() {
                ctx.upstream.remove(name.clone());
            }
        }
        if let BodyState::Read(Some(fields)) = body
            && let Some(rest) = fields.without(&self.text)
        {
            ctx.upstream.body = Some(rest);
        }
    }
}
