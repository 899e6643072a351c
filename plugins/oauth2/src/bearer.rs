//! Requests with a token (`do_authentication` in `kong/plugins/oauth2/access.lua`, RFC 6750).

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Map, Value};
use silverback_plugin::args::{self, Found};
use silverback_plugin::{
    AccessCtx, Credential, HeaderKey, PluginError, Prepared, Response, Rows, auth,
};
use uuid::Uuid;

use crate::answer::{Members, Refusal};
use crate::application::APPLICATIONS;
use crate::parameters::Parameters;
use crate::token::TOKENS;
use crate::{OAuth2, failed, now};

static SCOPE: LazyLock<HeaderKey> =
    LazyLock::new(|| HeaderKey::from_static("X-Authenticated-Scope"));
static USER: LazyLock<HeaderKey> =
    LazyLock::new(|| HeaderKey::from_static("X-Authenticated-UserId"));

/// The token of a request.
pub(crate) struct Shown {
    text: String,
    in_header: bool,
}

impl Shown {
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// A token that is known.
pub(crate) struct Token<'t> {
    fields: Cow<'t, Map<String, Value>>,
    credential: Arc<Credential>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unproven {
    Missing,
    Invalid,
    /// The token is good for all services, but this one takes only its own.
    Global,
}

impl OAuth2 {
    /// The token in the header, or in a parameter: of the query, or of a body that was read.
    pub(crate) fn shown(
        &self,
        ctx: &AccessCtx<'_>,
        parameters: Option<&Parameters>,
    ) -> Option<Shown> {
        if let Some(header) = self.header.as_ref().and_then(|h| ctx.header(h.name())) {
            let text = String::from_utf8_lossy(header.as_bytes());
            let mut words = text.split_ascii_whitespace();
            let (kind, token) = (words.next(), words.next());
            let named = |k: &str| {
                ["token", "bearer"]
                    .iter()
                    .any(|w| k.eq_ignore_ascii_case(w))
            };
            return Some(match token {
                Some(token) if kind.is_some_and(named) && words.next().is_none() => Shown {
                    text: token.to_owned(),
                    in_header: true,
                },
                // The header may have nothing but the token.
                _ => Shown {
                    text: text.into_owned(),
                    in_header: false,
                },
            });
        }
        let text = match parameters {
            Some(parameters) => parameters.text("access_token")?.into_owned(),
            None => match args::find(ctx.query(), b"access_token") {
                Found::One(text) => String::from_utf8(text.into_owned()).ok()?,
                _ => return None,
            },
        };
        Some(Shown {
            text,
            in_header: false,
        })
    }

    /// Whether the body has to be read to know the token, or to take it out.
    pub(crate) fn needs_body(&self, ctx: &AccessCtx<'_>) -> bool {
        let header = self.header.as_ref().and_then(|h| ctx.header(h.name()));
        if header.is_none() {
            return Parameters::are_in_body(ctx);
        }
        false
    }

    /// Takes the token out of what goes to the upstream.
    pub(crate) fn hide(
        &self,
        ctx: &mut AccessCtx<'_>,
        shown: &Shown,
        parameters: Option<&Parameters>,
    ) {
        if !self.hide_credentials {
            return;
        }
        if shown.in_header {
            if let Some(header) = &self.header {
                ctx.upstream.remove(header.name().clone());
            }
            return;
        }
        if let Some(rest) = args::without(ctx.query(), b"access_token") {
            ctx.upstream.query = Some(rest);
        }
        let is_form = ctx.header(&CONTENT_TYPE).is_some_and(|t| {
            let kind = b"application/x-www-form-urlencoded";
            t.as_bytes().get(..kind.len()) == Some(kind)
        });
        if is_form
            && ctx.request.parts.method != Method::GET
            && let Some(rest) = parameters.and_then(|p| p.form_without("access_token"))
        {
            ctx.upstream.body = Some(rest);
        }
    }

    /// A token that is in memory.
    pub(crate) fn in_memory<'d>(&self, ctx: &AccessCtx<'d>, shown: &Shown) -> Option<Token<'d>> {
        let issued = ctx.directory.issued(TOKENS, &shown.text)?;
        Some(Token {
            fields: Cow::Borrowed(&issued.fields),
            credential: issued.credential.clone()?,
        })
    }

    /// A token that the database has: made a moment ago, or not at all.
    pub(crate) async fn in_database(
        &self,
        ctx: &mut AccessCtx<'_>,
        rows: &dyn Rows,
        shown: &Shown,
    ) -> Result<Option<Token<'static>>, PluginError> {
        let row = rows.find(TOKENS, "access_token", &shown.text).await;
        let Some(fields) = row.map_err(failed)? else {
            return Ok(None);
        };
        let id = fields.get("credential").and_then(|c| c.get("id")?.as_str());
        let Some(id) = id else {
            return Ok(None);
        };
        let row = rows.find(APPLICATIONS, "id", id).await.map_err(failed)?;
        let credential = row.and_then(|row| application(ctx, row));
        Ok(credential.map(|credential| Token {
            fields: Cow::Owned(fields),
            credential,
        }))
    }

    /// Whether the token is good here and now.
    pub(crate) fn judge(
        &self,
        ctx: &AccessCtx<'_>,
        token: Option<&Token<'_>>,
    ) -> Result<(), Unproven> {
        let token = token.ok_or(Unproven::Invalid)?;
        let service = token
            .fields
            .get("service")
            .and_then(|s| s.get("id")?.as_str());
        match service {
            None if !self.global_credentials => return Err(Unproven::Global),
            Some(id) if Uuid::parse_str(id).ok() != ctx.service.map(|s| s.id) => {
                return Err(Unproven::Invalid);
            }
            _ => {}
        }
        let number = |name| token.fields.get(name).and_then(Value::as_i64).unwrap_or(0);
        let lasts = number("expires_in");
        if lasts > 0 && now(ctx.facts) - number("created_at") as f64 > lasts as f64 {
            return Err(Unproven::Invalid);
        }
        Ok(())
    }

    /// Lets the owner of the token's application in.
    pub(crate) fn let_in(&self, ctx: &mut AccessCtx<'_>, token: &Token<'_>) {
        let credential = &token.credential;
        let name = std::str::from_utf8(&credential.lookup).ok();
        auth::authenticate(ctx, Some(&credential.consumer), Some(credential), name);
        for (field, key) in [("scope", &*SCOPE), ("authenticated_userid", &*USER)] {
            let value = token.fields.get(field).and_then(Value::as_str);
            match value.and_then(|v| HeaderValue::from_bytes(v.as_bytes()).ok()) {
                Some(value) => ctx.upstream.set(key.clone(), value),
                None => remove(ctx, key),
            }
        }
    }

    /// The refusal of a request without a good token.
    pub(crate) fn refuse(&self, why: Unproven) -> Response {
        let invalid = "The access token is invalid or has expired";
        let (refusal, challenge) = match why {
            Unproven::Missing => (
                Refusal::request("The access token is missing"),
                &self.challenge,
            ),
            Unproven::Invalid => (
                Refusal::new("invalid_token", invalid),
                &self.challenge_invalid,
            ),
            Unproven::Global => (
                Refusal::new(
                    "invalid_token",
                    "The access token is global, but the current plugin is configured without 'global_credentials'",
                ),
                &self.challenge_invalid,
            ),
        };
        auth::challenged(
            refused(StatusCode::UNAUTHORIZED, refusal.members()),
            challenge,
        )
    }
}

/// What only a token says of a caller is taken away.
pub(crate) fn forget(ctx: &mut AccessCtx<'_>) {
    remove(ctx, &SCOPE);
    remove(ctx, &USER);
}

pub(crate) fn refused(status: StatusCode, members: Members) -> Response {
    Response::json(status, Value::Object(members).to_string())
}

fn remove(ctx: &mut AccessCtx<'_>, key: &HeaderKey) {
    if ctx.header(key.name()).is_some() {
        ctx.upstream.remove(key.name().clone());
    }
}

/// An application: as it is in memory, or made from its row, when it has just come.
fn application(ctx: &AccessCtx<'_>, mut row: Map<String, Value>) -> Option<Arc<Credential>> {
    let client_id = row.get("client_id")?.as_str()?;
    if let Some(known) = ctx.directory.credential(APPLICATIONS, client_id) {
        return Some(known.clone());
    }
    let consumer = row.get("consumer")?.get("id")?.as_str()?;
    let consumer = ctx.directory.consumer(consumer)?.clone();
    let id = row.get("id")?.as_str()?.parse().ok()?;
    let lookup = client_id.as_bytes().into();
    for own in ["id", "consumer", "created_at", "tags", "client_id"] {
        row.remove(own);
    }
    row.retain(|_, v| !v.is_null());
    Some(Arc::new(Credential {
        lookup,
        consumer,
        expires_at: None,
        id,
        extra: row,
        prepared: Prepared::default(),
    }))
}
