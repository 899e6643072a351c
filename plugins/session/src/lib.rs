//! `session`: who has proven once who it is need not do it again with each request: a cookie says so.
//!
//! The plugin comes before all authentication plugins. In `access` it lets the owner of a session in, so that those with an `anonymous`
//! consumer have nothing left to do; in `header_filter` it gives a session to whom one of them has let in.
//!
//! Learnt from `kong/plugins/session/access.lua`, `header_filter.lua`, `session.lua`, `schema.lua` and `daos.lua`.

mod config;
mod cookies;
mod entity;
mod logout;
mod parts;
mod seal;
mod session;
mod storage;
#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};
use std::time::UNIX_EPOCH;

use futures::FutureExt;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::Map;
use silverback_plugin::auth::{self, AuthenticatedGroups};
use silverback_plugin::schema::{EntityDef, Shorthand};
use silverback_plugin::{
    AccessCtx, ConfigError, Consumer, Credential, Directory, Facts, Flow, Handler, HeaderKey,
    Lookup, PhaseResult, Phases, Plugin, PluginEnv, PluginError, Prepared, RequestView, Response,
    ResponseCtx, ResponseHead, Scopes, cookie,
};
use uuid::Uuid;

pub use config::Config;
use cookies::{Attributes, SetCookie};
use logout::Logout;
use seal::Secret;
use session::{Cookie, Deed, Effects, Kind, Property, Session, Terms};
use storage::Storage;

static GROUPS: LazyLock<HeaderKey> =
    LazyLock::new(|| HeaderKey::from_static("X-Authenticated-Groups"));

const NO_DATABASE: &str = "there is no database";

/// The plugin.
pub struct Sessions {
    terms: Terms,
    logout: Logout,
    /// Properties that the upstream is told, and the header of each.
    to_upstream: Vec<(Property, HeaderKey)>,
    /// Those that the client is told.
    to_client: Vec<(Property, HeaderKey)>,
    storage: Option<Arc<Storage>>,
}

/// What `access` found out, kept for `header_filter`.
struct Found {
    session: Option<Session>,
    /// Whether it is for this audience, so that its owner was let in.
    is_open: bool,
    cookies: Vec<SetCookie>,
}

impl Plugin for Sessions {
    const NAME: &'static str = "session";
    const PRIORITY: i32 = 1900;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER);
    const SCOPES: Scopes = Scopes::NO_CONSUMER;
    const STREAM_TOO: bool = true;
    type Config = Config;

    fn shorthands() -> Vec<Shorthand> {
        config::shorthands()
    }

    fn entities() -> Vec<EntityDef> {
        vec![entity::def()]
    }

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let secret = match config.secret.as_deref() {
            Some(text) if !text.is_empty() => Secret::new(text),
            _ => Secret::random(),
        };
        let secret = secret.map_err(|e| ConfigError::new("secret", e.to_string()))?;
        let attributes = Attributes::new(
            config.cookie_domain.as_deref(),
            config.cookie_path.as_deref().unwrap_or("/"),
            config.cookie_same_site.as_deref().unwrap_or("Lax"),
            config.cookie_secure.unwrap_or(false),
            config.cookie_http_only.unwrap_or(true),
        );
        if !attributes.are_valid() {
            return Err(ConfigError::new(
                "cookie_path",
                "cannot be part of a header",
            ));
        }
        let usual = Cookie {
            name: cookie_name("cookie_name", config.cookie_name, "session")?,
            rolling_timeout: config.rolling_timeout.unwrap_or(3600.0),
            absolute_timeout: config.absolute_timeout.unwrap_or(86_400.0),
            kind: Kind::Usual,
        };
        let name = cookie_name(
            "remember_cookie_name",
            config.remember_cookie_name,
            "remember",
        )?;
        let remember = Cookie {
            name,
            rolling_timeout: config.remember_rolling_timeout.unwrap_or(604_800.0),
            absolute_timeout: config.remember_absolute_timeout.unwrap_or(2_592_000.0),
            kind: Kind::Remember,
        };
        let stored = config.storage.as_deref() == Some("kong");
        let methods = config.logout_methods.unwrap_or_default();
        let reads = config.read_body_for_logout.unwrap_or(false);
        Ok(Sessions {
            terms: Terms {
                secret,
                stored,
                audience: config.audience.unwrap_or_else(|| "default".to_owned()),
                idling_timeout: config.idling_timeout.unwrap_or(900.0),
                stale_ttl: config.stale_ttl.unwrap_or(10.0),
                usual,
                remember: config.remember.unwrap_or(false).then_some(remember),
                attributes,
            },
            logout: Logout {
                methods: methods
                    .iter()
                    .filter_map(|m| Method::from_bytes(m.as_bytes()).ok())
                    .collect(),
                argument: config.logout_query_arg,
                field: config.logout_post_arg.filter(|_| reads),
            },
            to_upstream: properties(config.request_headers),
            to_client: properties(config.response_headers),
            storage: if stored { Storage::shared(env) } else { None },
        })
    }
}

impl Handler for Sessions {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let cookies = std::iter::once(&self.terms.usual).chain(&self.terms.remember);
        let headers = &ctx.request.parts.headers;
        if !cookies
            .into_iter()
            .any(|c| cookie::find(headers, &c.name).is_some())
        {
            return Ok(Flow::Next);
        }
        if self.terms.stored || self.logout.needs_body(ctx) {
            return Ok(Flow::Await);
        }
        // With neither the database nor the body there is nothing to wait for.
        self.attend(ctx).now_or_never().unwrap_or(Ok(Flow::Await))
    }

    async fn access_async(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        self.attend(ctx).await
    }

    fn header_filter(&self, ctx: &mut ResponseCtx<'_>) -> Result<(), PluginError> {
        let now = now(ctx.facts);
        let owner = owner(ctx.facts);
        let groups = ctx.facts.slots.get::<AuthenticatedGroups>().cloned();
        let mut nothing = Found::nothing();
        let found = ctx.facts.slots.get_mut::<Found>();
        let found = found.unwrap_or(&mut nothing);
        for cookie in found.cookies.drain(..) {
            cookie.put(ctx.head);
        }
        // Nobody gets a session who has not proven who it is.
        let Some((consumer, credential)) = owner else {
            self.tell_client(found, ctx.head);
            return Ok(());
        };
        let known = found.session.as_ref().filter(|_| found.is_open);
        let is_known = known.is_some_and(|s| {
            s.text(0) == Some(consumer.id.to_string().as_str())
                && s.text(1) == Some(credential.to_string().as_str())
        });
        if !is_known {
            let session = found.session.take();
            let mut session = session.unwrap_or_else(|| Session::new(&self.terms, now));
            let id = consumer.id.to_string();
            let subject = consumer
                .username
                .as_deref()
                .or(consumer.custom_id.as_deref());
            session.assign(
                &id,
                &credential.to_string(),
                groups.as_ref().map(|g| &*g.0),
                subject.unwrap_or(&id),
            );
            let kept = session
                .save(&self.terms, &ctx.request.parts.headers, now)
                .map_err(|e| e.to_string())
                .and_then(|effects| {
                    self.carry_out_later(effects.deeds)?;
                    Ok(effects.cookies)
                });
            match kept {
                Ok(cookies) => {
                    for cookie in cookies {
                        cookie.put(ctx.head);
                    }
                    found.session = Some(session);
                    found.is_open = true;
                }
                Err(e) => tracing::error!("a session cannot be begun: {e}"),
            }
        }
        self.tell_client(found, ctx.head);
        Ok(())
    }
}

/// What a request's cookies come to.
enum Opened {
    /// A session, and what follows from its opening.
    Session(Session, Effects),
    /// One that only other audiences know.
    OfOthers(Session),
    /// None.
    Nothing,
}

impl Sessions {
    async fn attend(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let now = now(ctx.facts);
        let request = ctx.request;
        let (mut session, mut effects) = match self.open(request, ctx.directory, now).await {
            Opened::Session(session, effects) => (session, effects),
            Opened::OfOthers(session) => {
                ctx.facts.slots.insert(Found {
                    session: Some(session),
                    ..Found::nothing()
                });
                return Ok(Flow::Next);
            }
            Opened::Nothing => return Ok(Flow::Next),
        };
        if self.logout.is_asked_for(ctx).await {
            let cookies = self.log_out(session, request, now).await;
            let mut response = Response::empty(StatusCode::OK);
            response
                .headers
                .extend(cookies.into_iter().map(SetCookie::header));
            return Ok(Flow::Exit(response));
        }
        let consumer = session.text(0).and_then(|id| ctx.directory.consumer(id));
        let Some(consumer) = consumer.cloned() else {
            tracing::debug!("a session ends: its consumer is gone");
            let cookies = self.log_out(session, request, now).await;
            ctx.facts.slots.insert(Found {
                cookies,
                ..Found::nothing()
            });
            return Ok(Flow::Next);
        };
        match session.refresh(&self.terms, now) {
            Ok(more) => match self.carry_out(more.deeds).await {
                Ok(()) => effects.cookies.extend(more.cookies),
                Err(e) => tracing::warn!("a session is not renewed: {e}"),
            },
            Err(e) => tracing::warn!("a session is not renewed: {e}"),
        }
        for (property, key) in &self.to_upstream {
            if let Some(value) = session.property(&self.terms, *property) {
                ctx.upstream.set(key.clone(), value);
            }
        }
        let groups = session.groups();
        match groups
            .as_ref()
            .map(|g| HeaderValue::from_str(&g.join(", ")))
        {
            Some(Ok(value)) => ctx.upstream.set(GROUPS.clone(), value),
            _ if ctx.header(GROUPS.name()).is_some() => ctx.upstream.remove(GROUPS.name().clone()),
            _ => {}
        }
        if let Some(groups) = groups {
            ctx.facts.slots.insert(AuthenticatedGroups(groups));
        }
        let identifier = session.text(1).map(str::to_owned);
        let credential = identifier.as_deref().map(|id| credential(&consumer, id));
        auth::authenticate(
            ctx,
            Some(&consumer),
            credential.as_ref(),
            identifier.as_deref(),
        );
        ctx.facts.slots.insert(Found {
            session: Some(session),
            is_open: true,
            cookies: effects.cookies,
        });
        Ok(Flow::Next)
    }

    /// The session of a request, or the one that it is remembered by.
    async fn open(&self, request: RequestView<'_>, directory: &dyn Directory, now: u64) -> Opened {
        match self.read(&self.terms.usual, request, directory, now).await {
            Ok(Ok(session)) => return Opened::Session(session, Effects::default()),
            Ok(Err(of_others)) => return Opened::OfOthers(of_others),
            Err(why) => tracing::debug!("no session: {why}"),
        }
        let Some(remember) = &self.terms.remember else {
            return Opened::Nothing;
        };
        let mut session = match self.read(remember, request, directory, now).await {
            Ok(Ok(session)) => session,
            Ok(Err(_)) => return Opened::Nothing,
            Err(why) => {
                tracing::debug!("nothing remembered: {why}");
                return Opened::Nothing;
            }
        };
        let resumed = match session.resume(&self.terms, remember, now) {
            Ok(mut effects) => {
                let deeds = std::mem::take(&mut effects.deeds);
                self.carry_out(deeds).await.map(|()| effects)
            }
            Err(e) => Err(e.to_string()),
        };
        match resumed {
            Ok(effects) => Opened::Session(session, effects),
            Err(why) => {
                tracing::warn!("a session cannot be made anew: {why}");
                Opened::Nothing
            }
        }
    }

    async fn read(
        &self,
        cookie: &Cookie,
        request: RequestView<'_>,
        directory: &dyn Directory,
        now: u64,
    ) -> Result<Result<Session, Session>, String> {
        let headers = &request.parts.headers;
        let shown = cookie.shown(&self.terms, headers, now)?;
        let payload = match (self.terms.stored, &self.storage) {
            (false, _) => shown.payload(&cookie.name, headers),
            (true, None) => return Err(NO_DATABASE.to_owned()),
            (true, Some(storage)) => {
                let found = storage.payload(directory, &shown.key()).await;
                found.map_err(|e| e.to_string())?
            }
        };
        let payload = payload.ok_or("what it holds is not there")?;
        let session = shown.read(&self.terms, cookie, &payload, now);
        session.map_err(|e| e.to_string())
    }

    /// Ends a session; what the browser is told.
    async fn log_out(
        &self,
        session: Session,
        request: RequestView<'_>,
        now: u64,
    ) -> Vec<SetCookie> {
        match session.log_out(&self.terms, &request.parts.headers, now) {
            Ok(effects) => match self.carry_out(effects.deeds).await {
                Ok(()) => return effects.cookies,
                Err(e) => tracing::warn!("a session does not end: {e}"),
            },
            Err(e) => tracing::warn!("a session does not end: {e}"),
        }
        Vec::new()
    }

    async fn carry_out(&self, deeds: Vec<Deed>) -> Result<(), String> {
        match &self.storage {
            _ if deeds.is_empty() => Ok(()),
            Some(storage) => storage.carry_out(deeds).await.map_err(|e| e.to_string()),
            None => Err(NO_DATABASE.to_owned()),
        }
    }

    fn carry_out_later(&self, deeds: Vec<Deed>) -> Result<(), String> {
        match &self.storage {
            _ if deeds.is_empty() => Ok(()),
            Some(storage) if storage.carry_out_later(deeds) => Ok(()),
            Some(_) => Err("too many are waiting to be written".to_owned()),
            None => Err(NO_DATABASE.to_owned()),
        }
    }

    fn tell_client(&self, found: &Found, head: &mut dyn ResponseHead) {
        let Some(session) = found.session.as_ref().filter(|_| found.is_open) else {
            return;
        };
        for (property, key) in &self.to_client {
            if let Some(value) = session.property(&self.terms, *property) {
                head.set(key, value);
            }
        }
    }
}

impl Found {
    fn nothing() -> Self {
        Found {
            session: None,
            is_open: false,
            cookies: Vec::new(),
        }
    }
}

/// Who was let in, with which credential: nobody when it was the anonymous consumer.
fn owner(facts: &Facts) -> Option<(Arc<Consumer>, Uuid)> {
    let credential = facts.credential.as_ref()?;
    Some((facts.consumer.clone()?, credential.id))
}

/// What the session says of a credential, in the form of one.
fn credential(consumer: &Arc<Consumer>, id: &str) -> Arc<Credential> {
    Arc::new(Credential {
        lookup: Lookup::new(),
        consumer: consumer.clone(),
        expires_at: None,
        // Some plugins know callers that have no row.
        id: Uuid::parse_str(id).unwrap_or(consumer.id),
        extra: Map::new(),
        prepared: Prepared::default(),
    })
}

fn cookie_name(field: &str, name: Option<String>, default: &str) -> Result<String, ConfigError> {
    let name = name.unwrap_or_else(|| default.to_owned());
    // The characters of a name are those of the name of a header (RFC 6265, 4.1.1).
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(_) => Ok(name),
        Err(_) => Err(ConfigError::new(field, "no name of a cookie")),
    }
}

fn properties(names: Option<Vec<String>>) -> Vec<(Property, HeaderKey)> {
    let known = |name: &String| {
        let (property, header) = match name.as_str() {
            "id" => (Property::Id, "Session-Id"),
            "audience" => (Property::Audience, "Session-Audience"),
            "subject" => (Property::Subject, "Session-Subject"),
            "timeout" => (Property::Timeout, "Session-Timeout"),
            "idling-timeout" => (Property::IdlingTimeout, "Session-Idling-Timeout"),
            "rolling-timeout" => (Property::RollingTimeout, "Session-Rolling-Timeout"),
            "absolute-timeout" => (Property::AbsoluteTimeout, "Session-Absolute-Timeout"),
            _ => return None,
        };
        Some((property, HeaderKey::new(header).ok()?))
    };
    names.iter().flatten().filter_map(known).collect()
}

fn now(facts: &Facts) -> u64 {
    let since = facts.started_at.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
