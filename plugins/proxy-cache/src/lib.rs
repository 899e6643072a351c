//! `proxy-cache`: keeps answers of the upstream in memory and gives them again to requests that are the same.
//!
//! Learnt from `kong/plugins/proxy-cache/handler.lua`, `schema.lua`, `cache_key.lua`, `api.lua` and `strategies/memory.lua`. Answers to HEAD are never
//! kept, as in Kong, whose nginx runs no `body_filter` for them.

mod caches;
mod capture;
mod config;
mod content;
mod directives;
mod endpoints;
mod key;
mod store;
#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header, request};
use silverback_plugin::schema::EntityCheck;
use silverback_plugin::{
    AccessCtx, AdminEndpoint, Body, BodyCtx, ConfigError, Flow, Handler, HeaderKey, PhaseResult,
    Phases, Plugin, PluginEnv, PluginError, Response, ResponseCtx, ResponseHead, Services,
};

use caches::Cache;
use capture::{Capture, Terms};
pub use config::{Config, Memory, ResponseHeaders};
use content::{Wanted, is_wanted};
use directives::{Asked, Said, unix};
use key::{Digest, Key, KeyMaker, hex};
use store::Kept;

/// Spelled as Kong does.
static AGE: LazyLock<HeaderKey> = LazyLock::new(|| HeaderKey::from_static("age"));
static X_CACHE_STATUS: LazyLock<HeaderKey> =
    LazyLock::new(|| HeaderKey::from_static("X-Cache-Status"));
static X_CACHE_KEY: LazyLock<HeaderKey> = LazyLock::new(|| HeaderKey::from_static("X-Cache-Key"));
/// A request that has it is told everything.
static KONG_DEBUG: HeaderName = HeaderName::from_static("kong-debug");

/// The plugin.
pub struct ProxyCache {
    cache: Arc<Cache>,
    keys: KeyMaker,
    methods: Vec<Method>,
    statuses: Vec<u16>,
    types: Vec<Wanted>,
    cache_control: bool,
    ttl: u64,
    storage_ttl: Option<u64>,
    shown: Shown,
}

/// Which headers clients are told.
#[derive(Clone, Copy)]
struct Shown {
    age: bool,
    status: bool,
    key: bool,
}

/// What became of a request, kept for the response phases.
struct Found {
    shown: Shown,
    key: Option<Key>,
    outcome: Outcome,
}

enum Outcome {
    /// The request or the answer is not for the cache.
    Bypass,
    /// Nothing is left to be done.
    Done,
    /// The upstream is asked; what it answers may be kept.
    Asked {
        /// `Miss` or `Refresh`.
        status: &'static str,
        bare_request: bool,
    },
    /// What it answers is being kept.
    Keeping(Box<Capture>),
}

impl Plugin for ProxyCache {
    const NAME: &'static str = "proxy-cache";
    const PRIORITY: i32 = 100;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS
        .and(Phases::HEADER_FILTER)
        .and(Phases::BODY_FILTER);
    const STREAM_TOO: bool = true;
    type Config = Config;

    fn checks() -> Vec<EntityCheck> {
        config::checks()
    }

    fn endpoints() -> Vec<AdminEndpoint> {
        endpoints::all()
    }

    fn hear(text: &str, services: &dyn Services) {
        endpoints::hear(text, services);
    }

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let storage_ttl = config.storage_ttl.map(u64::try_from).transpose();
        let shown = &config.response_headers;
        Ok(ProxyCache {
            keys: KeyMaker::new(&config)?,
            // The schema lets no others through.
            methods: config
                .request_method
                .iter()
                .filter_map(|m| Method::from_bytes(m.as_bytes()).ok())
                .collect(),
            types: config
                .content_type
                .iter()
                .filter_map(|t| Wanted::parse(t))
                .collect(),
            cache_control: config.cache_control,
            ttl: config.cache_ttl.unwrap_or(config::DEFAULT_TTL),
            storage_ttl: storage_ttl
                .map_err(|_| ConfigError::new("storage_ttl", "must not be negative"))?,
            shown: Shown {
                age: shown.age == Some(true),
                status: shown.status == Some(true),
                key: shown.key == Some(true),
            },
            statuses: config.response_code,
            cache: Cache::new(&config.memory.dictionary_name, env),
        })
    }
}

impl Handler for ProxyCache {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let mut found = Found {
            shown: match ctx.header(&KONG_DEBUG) {
                Some(_) => Shown::ALL,
                None => self.shown,
            },
            key: None,
            outcome: Outcome::Bypass,
        };
        let asked = match self.cache_control {
            true => Asked::of(ctx.header_values(&header::CACHE_CONTROL)),
            false => Asked::default(),
        };
        let mut answer = None;
        if self.is_cacheable(ctx, &asked) {
            let key = self.keys.make(ctx);
            let moment = ctx.facts.now();
            let now = unix(moment);
            // An answer to another request that has the same key is none.
            let kept = self.cache.get(&key.digest, moment);
            let kept = kept.filter(|kept| kept.cuts == key.cuts);
            let bare_request = is_bare(ctx.request.parts);
            let ask = |status| Outcome::Asked {
                status,
                bare_request,
            };
            found.outcome = match kept {
                Some(kept) if self.is_good(&kept, &asked, now) => {
                    answer = Some(again(&kept, found.shown, &key.digest, now));
                    Outcome::Done
                }
                // RFC 9111, 5.2.1.7.
                _ if asked.only_if_cached => {
                    let response = Response {
                        body: Body::OfStatus,
                        ..Response::empty(StatusCode::GATEWAY_TIMEOUT)
                    };
                    answer = Some(with_key(response, found.shown, &key.digest));
                    Outcome::Done
                }
                Some(_) => ask("Refresh"),
                None => ask("Miss"),
            };
            found.key = Some(key);
        }
        ctx.facts.slots.insert(found);
        Ok(answer.map_or(Flow::Next, Flow::Exit))
    }

    fn header_filter(&self, ctx: &mut ResponseCtx<'_>) -> Result<(), PluginError> {
        let now = ctx.facts.now();
        let Some(found) = ctx.facts.slots.get_mut::<Found>() else {
            return Ok(());
        };
        let (status, bare_request) = match found.outcome {
            Outcome::Done | Outcome::Keeping(_) => return Ok(()),
            Outcome::Bypass => ("Bypass", None),
            Outcome::Asked {
                status,
                bare_request,
            } => (status, Some(bare_request)),
        };
        let key = found.key.as_ref();
        if let Some(key) = key.filter(|_| found.shown.key) {
            ctx.head.set(&X_CACHE_KEY, key_header(&key.digest));
        }
        let terms = bare_request.and_then(|bare| self.terms(ctx.head, now, bare));
        let status = if terms.is_some() { status } else { "Bypass" };
        if found.shown.status {
            let status = HeaderValue::from_static(status);
            ctx.head.set(&X_CACHE_STATUS, status);
        }
        let keeps = ctx.request.parts.method != Method::HEAD;
        let capture = key
            .zip(terms.filter(|_| keeps))
            .and_then(|(key, terms)| Capture::begin(ctx.head, key, &terms));
        found.outcome = capture.map_or(Outcome::Done, |c| Outcome::Keeping(Box::new(c)));
        Ok(())
    }

    fn body_filter(
        &self,
        ctx: &mut BodyCtx<'_>,
        chunk: &mut Option<Bytes>,
        end: bool,
    ) -> Result<(), PluginError> {
        let Some(found) = ctx.facts.slots.get_mut::<Found>() else {
            return Ok(());
        };
        let Outcome::Keeping(capture) = &mut found.outcome else {
            return Ok(());
        };
        let fits = chunk.as_ref().is_none_or(|piece| capture.push(piece));
        if fits && !end {
            return Ok(());
        }
        let done = std::mem::replace(&mut found.outcome, Outcome::Done);
        if let (Outcome::Keeping(capture), Some(key), true) = (done, &found.key, fits) {
            self.cache.put(key.digest, capture.end());
        }
        Ok(())
    }
}

impl ProxyCache {
    fn is_cacheable(&self, ctx: &AccessCtx<'_>, asked: &Asked) -> bool {
        let method = ctx.upstream.method.as_ref();
        let method = method.unwrap_or(&ctx.request.parts.method);
        if !self.methods.contains(method) {
            return false;
        }
        // Credentials that only the upstream understands: its answer is for one of its users (RFC 9111, 3.5). Consumers have keys of their own.
        let private = self.cache_control
            && ctx.facts.consumer.is_none()
            && ctx.header(&header::AUTHORIZATION).is_some();
        !asked.bypass && !private
    }

    /// Whether a kept answer will do.
    fn is_good(&self, kept: &Kept, asked: &Asked, now: u64) -> bool {
        if self.cache_control {
            asked.accepts(kept.age(now), kept.ttl, kept.must_revalidate)
        } else {
            kept.age(now) <= self.ttl
        }
    }

    /// How the upstream's answer is kept, if it is.
    fn terms(&self, head: &dyn ResponseHead, now: SystemTime, bare_request: bool) -> Option<Terms> {
        let headers = head.headers();
        if !self.statuses.contains(&head.status().as_u16())
            || !is_wanted(&self.types, headers.get(header::CONTENT_TYPE))
        {
            return None;
        }
        let said = match self.cache_control {
            true => Said::of(headers, now),
            false => Said {
                ttl: self.ttl,
                ..Said::default()
            },
        };
        if said.not_to_be_kept || said.ttl == 0 {
            return None;
        }
        let stays = self.storage_ttl.unwrap_or(said.ttl);
        Some(Terms {
            at: unix(now),
            ttl: said.ttl,
            // None also when that is later than any moment can be.
            until: now
                .checked_add(Duration::from_secs(stays))
                .filter(|_| stays > 0),
            must_revalidate: said.must_revalidate,
            bare_request,
        })
    }
}

impl Shown {
    const ALL: Shown = Shown {
        age: true,
        status: true,
        key: true,
    };
}

/// A kept answer as a response.
fn again(kept: &Kept, shown: Shown, digest: &Digest, now: u64) -> Response {
    let mut response = Response {
        body: Body::Kept(kept.body.clone()),
        ..Response::empty(kept.status)
    };
    response.headers.reserve(kept.headers.len() + 3);
    response.headers.extend(kept.headers.iter().cloned());
    if shown.age {
        response = response.header(AGE.clone(), HeaderValue::from(kept.age(now)));
    }
    if shown.status {
        let hit = HeaderValue::from_static("Hit");
        response = response.header(X_CACHE_STATUS.clone(), hit);
    }
    with_key(response, shown, digest)
}

fn with_key(response: Response, shown: Shown, digest: &Digest) -> Response {
    if shown.key {
        response.header(X_CACHE_KEY.clone(), key_header(digest))
    } else {
        response
    }
}

fn key_header(digest: &Digest) -> HeaderValue {
    // Hexadecimal digits can be in a header.
    HeaderValue::from_bytes(&hex(digest)).unwrap_or(HeaderValue::from_static(""))
}

/// Whether a request has no body for sure.
fn is_bare(request: &request::Parts) -> bool {
    let has = |name| request.headers.contains_key(name);
    matches!(request.method, Method::GET | Method::HEAD)
        && !has(header::CONTENT_LENGTH)
        && !has(header::TRANSFER_ENCODING)
}
