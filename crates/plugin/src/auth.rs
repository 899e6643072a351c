//! What all authentication plugins do once they know who calls. Learnt from `kong/pdk/client.lua` and `kong/plugins/key-auth/handler.lua`.

use std::sync::{Arc, LazyLock};

use http::HeaderValue;

use crate::ConfigError;
use crate::context::AccessCtx;
use crate::facts::{Consumer, Credential};
use crate::flow::{Flow, PhaseResult, PluginError, Response};
use crate::header::HeaderKey;

static WWW_AUTHENTICATE: LazyLock<HeaderKey> =
    LazyLock::new(|| HeaderKey::from_static("WWW-Authenticate"));

/// The challenge of a refusal: the scheme with its realm, if any, as `WWW-Authenticate` says it.
///
/// # Errors
/// At `realm`, when it cannot be part of a header.
pub fn challenge(scheme: &'static str, realm: Option<&str>) -> Result<HeaderValue, ConfigError> {
    match realm {
        Some(realm) => HeaderValue::from_str(&format!("{scheme} realm=\"{realm}\""))
            .map_err(|_| ConfigError::new("realm", "cannot be part of a header")),
        None => Ok(HeaderValue::from_static(scheme)),
    }
}

/// A refusal with its challenge.
pub fn challenged(response: Response, challenge: &HeaderValue) -> Response {
    response.header(WWW_AUTHENTICATE.clone(), challenge.clone())
}

/// Whether a plugin with this anonymous consumer has nothing to do: one of several authentication plugins is enough then.
pub fn proven(ctx: &AccessCtx<'_>, anonymous: Option<&str>) -> bool {
    anonymous.is_some() && ctx.facts.credential.is_some()
}

/// What follows from what an authentication plugin found: the owner of a credential is let in (the text is what
/// `X-Credential-Identifier` says), else the anonymous consumer if there is one, else nobody: `refuse` answers.
///
/// # Errors
/// When there is no such anonymous consumer.
pub fn conclude<E>(
    ctx: &mut AccessCtx<'_>,
    found: Result<(&Arc<Credential>, Option<&str>), E>,
    anonymous_consumer: Option<&str>,
    refuse: impl FnOnce(E) -> Response,
) -> PhaseResult {
    match (found, anonymous_consumer) {
        (Ok((credential, identifier)), _) => {
            authenticate(
                ctx,
                Some(&credential.consumer),
                Some(credential),
                identifier,
            );
            Ok(Flow::Next)
        }
        (Err(_), Some(id_or_username)) => {
            anonymous(ctx, id_or_username)?;
            Ok(Flow::Next)
        }
        (Err(why), None) => Ok(Flow::Exit(refuse(why))),
    }
}

/// Header names that tell the upstream who calls.
pub struct ConsumerHeaders {
    /// `X-Consumer-ID`.
    pub id: HeaderKey,
    /// `X-Consumer-Custom-ID`.
    pub custom_id: HeaderKey,
    /// `X-Consumer-Username`.
    pub username: HeaderKey,
    /// `X-Credential-Identifier`.
    pub credential: HeaderKey,
    /// `X-Anonymous-Consumer`.
    pub anonymous: HeaderKey,
}

/// Header names that tell the upstream who calls.
pub static HEADERS: LazyLock<ConsumerHeaders> = LazyLock::new(|| ConsumerHeaders {
    id: HeaderKey::from_static("X-Consumer-ID"),
    custom_id: HeaderKey::from_static("X-Consumer-Custom-ID"),
    username: HeaderKey::from_static("X-Consumer-Username"),
    credential: HeaderKey::from_static("X-Credential-Identifier"),
    anonymous: HeaderKey::from_static("X-Anonymous-Consumer"),
});

/// Makes the consumer known to the plugins after this one and to the upstream. Without a credential the consumer is the
/// anonymous one. `identifier` is what `X-Credential-Identifier` says; for key-auth the credential's id.
pub fn authenticate(
    ctx: &mut AccessCtx<'_>,
    consumer: Option<&Arc<Consumer>>,
    credential: Option<&Arc<Credential>>,
    identifier: Option<&str>,
) {
    let h = &*HEADERS;
    match consumer {
        Some(c) => {
            let mut id = [0u8; 36];
            let id = c.id.as_hyphenated().encode_lower(&mut id);
            put(ctx, &h.id, Some(id));
            put(ctx, &h.custom_id, c.custom_id.as_deref());
            put(ctx, &h.username, c.username.as_deref());
        }
        None => {
            for key in [&h.id, &h.custom_id, &h.username] {
                put(ctx, key, None);
            }
        }
    }
    put(ctx, &h.credential, identifier);
    match credential {
        Some(_) => put(ctx, &h.anonymous, None),
        None => ctx
            .upstream
            .set(h.anonymous.clone(), HeaderValue::from_static("true")),
    }
    ctx.facts.consumer = consumer.cloned();
    ctx.facts.credential = credential.cloned();
}

/// Lets the anonymous consumer call, by its id or username.
///
/// # Errors
/// When there is no such consumer.
pub fn anonymous(ctx: &mut AccessCtx<'_>, id_or_username: &str) -> Result<(), PluginError> {
    let consumer = ctx.directory.consumer(id_or_username).cloned();
    let consumer =
        consumer.ok_or_else(|| PluginError::new("the anonymous consumer does not exist"))?;
    authenticate(ctx, Some(&consumer), None, None);
    Ok(())
}

/// Groups that an authentication plugin found the caller to be in, kept in [`Facts::slots`](crate::Facts::slots): for callers that a
/// directory elsewhere knows, and no consumer (`ngx.ctx.authenticated_groups` in Kong).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuthenticatedGroups(pub Vec<Box<str>>);

fn put(ctx: &mut AccessCtx<'_>, key: &HeaderKey, value: Option<&str>) {
    match value.and_then(|v| HeaderValue::from_bytes(v.as_bytes()).ok()) {
        Some(v) => ctx.upstream.set(key.clone(), v),
        // Few requests have such a header: an edit less keeps the list of edits off the heap.
        None if ctx.header(key.name()).is_some() => ctx.upstream.remove(key.name().clone()),
        None => {}
    }
}
