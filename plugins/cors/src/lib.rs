//! `cors`: tells browsers which pages may call, and answers their preflight requests.
//!
//! Learnt from `kong/plugins/cors/handler.lua` and `schema.lua`.

mod config;
mod origins;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use silverback_plugin::{
    AccessCtx, ConfigError, Flow, Handler, HeaderKey, PhaseResult, Phases, Plugin, PluginEnv,
    PluginError, Response, ResponseCtx, Scopes,
};

pub use config::Config;
use origins::{Allowed, Origins};

/// The plugin.
#[derive(Debug)]
pub struct Cors {
    origins: Origins,
    credentials: bool,
    exposed: Option<HeaderValue>,
    preflight: Preflight,
}

/// How preflight requests are answered.
#[derive(Debug)]
struct Preflight {
    to_upstream: bool,
    headers: Option<HeaderValue>,
    methods: HeaderValue,
    max_age: Option<HeaderValue>,
    private_network: bool,
}

impl Plugin for Cors {
    const NAME: &'static str = "cors";
    const PRIORITY: i32 = 2000;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER);
    const SCOPES: Scopes = Scopes::NO_CONSUMER;
    type Config = Config;

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let methods = config.methods.unwrap_or_else(config::all_methods);
        let max_age = config.max_age.map(|seconds| seconds.to_string());
        Ok(Cors {
            origins: Origins::compile(&config.origins.unwrap_or_default())?,
            credentials: config.credentials,
            exposed: names("exposed_headers", config.exposed_headers)?,
            preflight: Preflight {
                to_upstream: config.preflight_continue,
                headers: names("headers", config.headers)?,
                methods: value("methods", &methods.join(","))?,
                max_age: max_age.map(|text| value("max_age", &text)).transpose()?,
                private_network: config.private_network,
            },
        })
    }
}

impl Handler for Cors {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        if ctx.request.parts.method != Method::OPTIONS
            || ctx.header(&header::ORIGIN).is_none()
            || ctx.header(&header::ACCESS_CONTROL_REQUEST_METHOD).is_none()
        {
            return Ok(Flow::Next);
        }
        ctx.facts.slots.insert(IsPreflight);
        if self.preflight.to_upstream {
            return Ok(Flow::Next);
        }
        Ok(Flow::Exit(self.answer(ctx)))
    }

    fn header_filter(&self, ctx: &mut ResponseCtx<'_>) -> Result<(), PluginError> {
        if ctx.facts.slots.get::<IsPreflight>().is_some() {
            return Ok(());
        }
        let grant = self.grant(ctx.request.header(header::ORIGIN));
        let (head, keys) = (&mut *ctx.head, &*KEYS);
        if grant.vary {
            head.append(&keys.vary, ORIGIN);
        }
        match grant.origin {
            Some(origin) => head.set(&keys.allow_origin, origin),
            None => head.remove(keys.allow_origin.name()),
        }
        if grant.credentials {
            head.set(&keys.allow_credentials, TRUE);
        }
        if let Some(exposed) = &self.exposed {
            head.set(&keys.expose_headers, exposed.clone());
        }
        Ok(())
    }
}

/// Set for a preflight request, whose answer is complete, or the upstream's.
struct IsPreflight;

/// What is said about one origin.
struct Grant {
    vary: bool,
    origin: Option<HeaderValue>,
    credentials: bool,
}

impl Cors {
    fn grant(&self, origin: Option<&HeaderValue>) -> Grant {
        let vary = self.origins.vary();
        let (vary, allowed, credentials) = match (self.origins.allowed(origin), origin) {
            // Browsers take no credentials from an answer that is for anybody.
            (Allowed::Any, Some(origin)) if self.credentials => (true, Some(origin.clone()), true),
            (Allowed::Any, _) => (vary, Some(ANY), false),
            (Allowed::This(origin), _) => (vary, Some(origin), self.credentials),
            (Allowed::Nobody, _) => (vary, None, self.credentials),
        };
        Grant {
            vary,
            origin: allowed,
            credentials,
        }
    }

    /// The answer to a preflight request.
    fn answer(&self, ctx: &AccessCtx<'_>) -> Response {
        let grant = self.grant(ctx.header(&header::ORIGIN));
        let (preflight, keys) = (&self.preflight, &*KEYS);
        let mut response = Response::empty(StatusCode::OK);
        let mut put = |key: &HeaderKey, value| response.headers.push((key.clone(), value));
        if grant.vary {
            put(&keys.vary, ORIGIN);
        }
        if let Some(origin) = grant.origin {
            put(&keys.allow_origin, origin);
        }
        if grant.credentials {
            put(&keys.allow_credentials, TRUE);
        }
        let asked = || ctx.header(&header::ACCESS_CONTROL_REQUEST_HEADERS);
        if let Some(headers) = preflight.headers.as_ref().or_else(asked) {
            put(&keys.allow_headers, headers.clone());
        }
        put(&keys.allow_methods, preflight.methods.clone());
        if let Some(max_age) = &preflight.max_age {
            put(&keys.max_age, max_age.clone());
        }
        if preflight.private_network
            && ctx
                .header(&REQUEST_PRIVATE_NETWORK)
                .is_some_and(|v| v == "true")
        {
            put(&keys.allow_private_network, TRUE);
        }
        response
    }
}

const ANY: HeaderValue = HeaderValue::from_static("*");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");

/// The names of the headers that are set.
struct Keys {
    vary: HeaderKey,
    allow_origin: HeaderKey,
    allow_credentials: HeaderKey,
    allow_headers: HeaderKey,
    allow_methods: HeaderKey,
    allow_private_network: HeaderKey,
    expose_headers: HeaderKey,
    max_age: HeaderKey,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    vary: HeaderKey::from_static("Vary"),
    allow_origin: HeaderKey::from_static("Access-Control-Allow-Origin"),
    allow_credentials: HeaderKey::from_static("Access-Control-Allow-Credentials"),
    allow_headers: HeaderKey::from_static("Access-Control-Allow-Headers"),
    allow_methods: HeaderKey::from_static("Access-Control-Allow-Methods"),
    allow_private_network: HeaderKey::from_static("Access-Control-Allow-Private-Network"),
    expose_headers: HeaderKey::from_static("Access-Control-Expose-Headers"),
    max_age: HeaderKey::from_static("Access-Control-Max-Age"),
});

/// A list of header names as a header has it; `None` when there are none.
fn names(field: &str, list: Option<Vec<String>>) -> Result<Option<HeaderValue>, ConfigError> {
    let list = list.filter(|l| !l.is_empty());
    list.map(|l| value(field, &l.join(","))).transpose()
}

fn value(field: &str, text: &str) -> Result<HeaderValue, ConfigError> {
    HeaderValue::from_str(text).map_err(|_| ConfigError::new(field, "cannot be a header's value"))
}
