//! `request-transformer`: changes the request that goes to the upstream: path, method, headers, body and query, in this order.
//!
//! Learnt from `kong/plugins/request-transformer/access.lua`.

mod arguments;
mod body;
mod config;
mod entries;
mod environment;
mod expression;
mod headers;
mod number;
mod parser;
mod query;
mod template;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use silverback_plugin::{
    AccessCtx, ConfigError, Flow, Handler, PhaseResult, Phases, Plugin, PluginEnv, PluginError,
    Response,
};

use arguments::Arguments;
use body::{BodyEdits, Kind};
pub use config::{Config, Names, Renames, Replacements, Values};
use environment::Environment;
use headers::HeaderEdits;
use query::QueryEdits;
use template::Template;

/// The longest body that is changed.
const LONGEST_BODY: usize = 8 << 20;

/// The most fields of a form that is changed: each costs many times the memory that it takes in the body.
const MOST_FIELDS: usize = 10_000;

/// Methods that nginx can give a request.
const METHODS: [&str; 15] = [
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LOCK",
    "MKCOL",
    "MOVE",
    "OPTIONS",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "TRACE",
    "UNLOCK",
];

/// What may not stand in a path as it is. Reserved characters stay, as in `kong/tools/uri.lua`, but for the one that ends a path.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The plugin.
#[derive(Debug)]
pub struct RequestTransformer {
    path: Option<Template>,
    method: Option<Method>,
    headers: HeaderEdits,
    body: Option<BodyEdits>,
    query: Option<QueryEdits>,
}

impl Plugin for RequestTransformer {
    const NAME: &'static str = "request-transformer";
    const PRIORITY: i32 = 801;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS;
    // Any may be given, though nothing but HTTP reaches a plugin.
    const PROTOCOLS: &'static [&'static str] = &[];
    type Config = Config;

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        Ok(RequestTransformer {
            path: config.replace.uri.as_deref().map(path).transpose()?,
            method: config.http_method.as_deref().map(method).transpose()?,
            headers: HeaderEdits::compile(&config)?,
            body: BodyEdits::compile(&config)?,
            query: QueryEdits::compile(&config)?,
        })
    }
}

impl Handler for RequestTransformer {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        if self.wants_body(ctx) {
            return Ok(Flow::Await);
        }
        self.transform(ctx, &[])
    }

    async fn access_async(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let body = match &ctx.upstream.body {
            Some(replaced) => replaced.clone(),
            None => match ctx.read_body(LONGEST_BODY).await {
                Ok(body) => body,
                Err(e) => {
                    let request_id = ctx.facts.request_id();
                    tracing::debug!(request_id, "no transformation: {e}");
                    return Ok(too_large());
                }
            },
        };
        self.transform(ctx, &body)
    }
}

impl RequestTransformer {
    /// Whether the body has to be read.
    fn wants_body(&self, ctx: &AccessCtx<'_>) -> bool {
        if self.body.is_none() && !self.moves_body() {
            return false;
        }
        match Kind::of(ctx.header(&CONTENT_TYPE)) {
            Some(kind) => self.body.is_some() || kind == Kind::Form,
            None => self.body.is_some() && self.headers.touches_content_type(),
        }
    }

    /// Whether the upstream sees a method whose requests have no body as a rule: the fields of a form then go into the query as well.
    fn moves_body(&self) -> bool {
        let method = self.method.as_ref();
        method.is_some_and(|m| matches!(*m, Method::GET | Method::HEAD | Method::TRACE))
    }

    fn transform(&self, ctx: &mut AccessCtx<'_>, body: &[u8]) -> PhaseResult {
        let environment = Environment::new(ctx);
        if let Some(path) = &self.path {
            let path = path.render(environment.after(ctx.upstream))?;
            if path.first() != Some(&b'/') {
                return Err(PluginError::new("replace.uri: path must start with /"));
            }
            ctx.upstream.path = Some(percent_encode(&path, ESCAPED).to_string());
        }
        if let Some(method) = &self.method {
            ctx.upstream.method = Some(method.clone());
            if self.moves_body() && Kind::of(ctx.header(&CONTENT_TYPE)) == Some(Kind::Form) {
                if has_too_many_fields(body) {
                    return Ok(too_large());
                }
                let fields = Arguments::parse(body);
                if !fields.is_empty() {
                    let mut query = Arguments::parse(ctx.query());
                    query.extend(fields);
                    ctx.upstream.query = Some(query.encode_sorted());
                }
            }
        }
        self.headers.apply(ctx, &environment)?;
        if let Some(edits) = &self.body {
            let content_type = ctx.header(&CONTENT_TYPE);
            if let Some(kind) = Kind::of(content_type) {
                if kind == Kind::Form && has_too_many_fields(body) {
                    return Ok(too_large());
                }
                let scope = environment.after(ctx.upstream);
                let changed = edits.apply(kind, content_type, body, scope)?;
                if let Some(changed) = changed {
                    ctx.upstream.body = Some(Bytes::from(changed));
                }
            }
        }
        if let Some(edits) = &self.query {
            let query = edits.apply(&environment, ctx.upstream)?;
            ctx.upstream.query = Some(query);
        }
        Ok(Flow::Next)
    }
}

fn has_too_many_fields(form: &[u8]) -> bool {
    memchr::memchr_iter(b'&', form)
        .nth(MOST_FIELDS - 1)
        .is_some()
}

/// The answer for a body that cannot be changed because of its size: it must not pass unchanged.
fn too_large() -> Flow {
    let status = StatusCode::PAYLOAD_TOO_LARGE;
    Flow::Exit(Response::error(status, "Payload too large"))
}

fn path(text: &str) -> Result<Template, ConfigError> {
    let template = Template::parse(text).map_err(|e| ConfigError::new("replace.uri", e))?;
    match template.begins_with() {
        Some(begin) if !begin.starts_with(b"/") => {
            Err(ConfigError::new("replace.uri", "path must start with /"))
        }
        _ => Ok(template),
    }
}

fn method(name: &str) -> Result<Method, ConfigError> {
    let known = METHODS.contains(&name).then(|| name.parse().ok()).flatten();
    known.ok_or_else(|| ConfigError::new("http_method", format!("invalid method: {name}")))
}
