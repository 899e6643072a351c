//! What the function gets: the request as JSON, in one of three forms.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{Version, header};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use silverback_plugin::{AccessCtx, PluginError, Shown, multipart};

use crate::Config;

/// The longest body that Kong holds in memory (`nginx_http_client_body_buffer_size`), and gives to a function that is to be spared large ones.
const LARGE: usize = 8 << 10;

/// The longest body that is read at all. Lambda takes 6 MiB.
const MAX_BODY: usize = 8 << 20;

/// Types whose bodies are text, and go as they are.
const TEXTS: [&str; 5] = [
    "text/plain",
    "text/html",
    "application/xml",
    "text/xml",
    "application/soap+xml",
];

/// How payloads are made.
#[derive(Debug)]
pub(crate) struct Payload {
    form: Form,
    base64: bool,
    skip_large: bool,
}

#[derive(Debug)]
enum Form {
    /// As Amazon's API Gateway gives it.
    Gateway,
    /// What was asked for.
    Parts(Parts),
    /// The arguments of query and body.
    Arguments,
}

#[derive(Debug, Clone, Copy)]
struct Parts {
    method: bool,
    headers: bool,
    uri: bool,
    body: bool,
}

impl Payload {
    pub(crate) fn new(config: &Config) -> Self {
        let on = |switch: Option<bool>| switch == Some(true);
        let parts = Parts {
            method: on(config.forward_request_method),
            headers: on(config.forward_request_headers),
            uri: on(config.forward_request_uri),
            body: on(config.forward_request_body),
        };
        let form = if on(config.awsgateway_compatible) {
            Form::Gateway
        } else if parts.method || parts.headers || parts.uri || parts.body {
            Form::Parts(parts)
        } else {
            Form::Arguments
        };
        Payload {
            form,
            base64: config.base64_encode_body != Some(false),
            skip_large: config.skip_large_bodies != Some(false),
        }
    }

    /// The payload for a request.
    pub(crate) async fn of(&self, ctx: &mut AccessCtx<'_>) -> Result<Vec<u8>, PluginError> {
        let body = match self.form {
            Form::Parts(Parts { body: false, .. }) => None,
            _ => self.read(ctx).await?,
        };
        let body = body.as_deref();
        let made = match &self.form {
            Form::Gateway => serde_json::to_vec(&self.gateway(ctx, body)),
            Form::Parts(parts) => serde_json::to_vec(&self.parts(*parts, ctx, body)),
            Form::Arguments => serde_json::to_vec(&arguments(ctx, body)),
        };
        made.map_err(|e| PluginError::new(format!("the payload cannot be written: {e}")))
    }

    /// The body; `None` where there is none, or none that the function is to have.
    async fn read(&self, ctx: &mut AccessCtx<'_>) -> Result<Option<Bytes>, PluginError> {
        let length = ctx.request.header(header::CONTENT_LENGTH);
        let length = length.and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        let too_large = |length: usize| self.skip_large && length > LARGE;
        let skipped = |length: &dyn Display| {
            tracing::error!(
                plugin = "aws-lambda",
                "a body of {length} bytes is not given to the function: skip_large_bodies"
            );
            Ok(None)
        };
        if let Some(length) = length.filter(|l| too_large(*l)) {
            return skipped(&length);
        }
        let body = match ctx.read_body(MAX_BODY).await {
            Ok(body) => body,
            // More than can be read is more than the function is to have.
            Err(e) if self.skip_large && e.is_body_too_long() => return skipped(&"too many"),
            Err(e) => return Err(e),
        };
        if length.is_none() && too_large(body.len()) {
            return skipped(&body.len());
        }
        Ok(Some(body).filter(|b| !b.is_empty()))
    }

    fn parts<'a>(
        &self,
        parts: Parts,
        ctx: &'a AccessCtx<'_>,
        body: Option<&'a [u8]>,
    ) -> Forwarded<'a> {
        let mut made = Forwarded::default();
        if parts.method {
            made.request_method = Some(ctx.request.parts.method.as_str());
        }
        if parts.headers {
            made.request_headers = Some(headers(ctx));
        }
        if parts.uri {
            made.request_uri = Some(String::from_utf8_lossy(ctx.request.path_and_query));
            made.request_uri_args = Some(Shown::arguments(ctx.query()));
        }
        if !parts.body {
            return made;
        }
        made.request_body = body.map(String::from_utf8_lossy);
        let kind = content_type(ctx);
        match fields(kind, body.unwrap_or_default()) {
            Fields::Are(fields) => made.request_body_args = Some(fields),
            Fields::Malformed => {}
            Fields::OfNoForm => {
                made.request_body_args = Some(Map::new().into());
                if self.base64 && !kind.is_some_and(|k| TEXTS.contains(&k)) {
                    made.request_body = Some(STANDARD.encode(body.unwrap_or_default()).into());
                    made.request_body_base64 = Some(true);
                }
            }
        }
        made
    }

    fn gateway<'a>(&self, ctx: &'a AccessCtx<'_>, body: Option<&'a [u8]>) -> Gateway<'a> {
        let request = &ctx.request;
        let method = request.parts.method.as_str();
        let path = ctx.upstream_target.split(|b| *b == b'?').next();
        let path = String::from_utf8_lossy(path.unwrap_or_default());
        let captures = ctx.captures.captures().unwrap_or_default().named;
        let arrived = ctx.facts.started_at.duration_since(UNIX_EPOCH);
        let body = if self.base64 {
            Some(STANDARD.encode(body.unwrap_or_default()).into())
        } else {
            body.map(String::from_utf8_lossy)
        };
        Gateway {
            path: path.clone(),
            method,
            headers: headers(ctx),
            query: Shown::arguments(ctx.query()),
            captures: captures
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect(),
            body,
            base64: self.base64,
            context: RequestContext {
                resource_path: path.clone(),
                path,
                protocol: match request.parts.version {
                    Version::HTTP_2 => "HTTP/2",
                    Version::HTTP_10 => "HTTP/1.0",
                    _ => "HTTP/1.1",
                },
                http_method: method,
                domain_name: request.host,
                domain_prefix: request.host.split('.').next().unwrap_or_default(),
                identity: Identity {
                    source_ip: ctx.facts.peer.ip(),
                    user_agent: request
                        .header(header::USER_AGENT)
                        .map(|v| String::from_utf8_lossy(v.as_bytes())),
                },
                request_id: ctx.facts.request_id(),
                request_time: DateTime::<Utc>::from(ctx.facts.started_at)
                    .format("%d/%b/%Y:%H:%M:%S %z")
                    .to_string(),
                request_time_epoch: arrived.map_or(0, |t| t.as_millis()),
            },
        }
    }
}

/// The request in the parts that were asked for.
#[derive(Debug, Default, Serialize)]
struct Forwarded<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    request_method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_headers: Option<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_uri: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_uri_args: Option<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_body: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_body_args: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_body_base64: Option<bool>,
}

/// The request in version 1.0 of the form of Amazon's API Gateway.
#[derive(Debug)]
struct Gateway<'a> {
    path: Cow<'a, str>,
    method: &'a str,
    headers: Shown<'a>,
    query: Shown<'a>,
    /// What the named groups of the route's regular expression matched.
    captures: Map<String, Value>,
    body: Option<Cow<'a, str>>,
    base64: bool,
    context: RequestContext<'a>,
}

impl Serialize for Gateway<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("version", "1.0")?;
        map.serialize_entry("path", &self.path)?;
        map.serialize_entry("httpMethod", self.method)?;
        map.serialize_entry("headers", &self.headers.first_values())?;
        map.serialize_entry("multiValueHeaders", &self.headers.lists())?;
        map.serialize_entry("pathParameters", &self.captures)?;
        map.serialize_entry("queryStringParameters", &self.query.first_values())?;
        map.serialize_entry("multiValueQueryStringParameters", &self.query.lists())?;
        if let Some(body) = &self.body {
            map.serialize_entry("body", body)?;
        }
        map.serialize_entry("isBase64Encoded", &self.base64)?;
        map.serialize_entry("requestContext", &self.context)?;
        map.end()
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    path: Cow<'a, str>,
    resource_path: Cow<'a, str>,
    protocol: &'static str,
    http_method: &'a str,
    domain_name: &'a str,
    domain_prefix: &'a str,
    identity: Identity<'a>,
    request_id: &'a str,
    request_time: String,
    request_time_epoch: u128,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    source_ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Cow<'a, str>>,
}

/// The arguments of the query, and over them those of the body.
fn arguments(ctx: &AccessCtx<'_>, body: Option<&[u8]>) -> Value {
    let query = serde_json::to_value(Shown::arguments(ctx.query()));
    let mut all = match query {
        Ok(Value::Object(all)) => all,
        _ => Map::new(),
    };
    match fields(content_type(ctx), body.unwrap_or_default()) {
        Fields::Are(Value::Object(fields)) => all.extend(fields),
        Fields::Are(Value::Array(list)) if all.is_empty() => return list.into(),
        // Lua has one kind of table: places in a list are names like others.
        Fields::Are(Value::Array(list)) => {
            all.extend(
                (1..)
                    .zip(list)
                    .map(|(n, v): (usize, Value)| (n.to_string(), v)),
            );
        }
        _ => {}
    }
    all.into()
}

fn headers<'a>(ctx: &'a AccessCtx<'_>) -> Shown<'a> {
    Shown::edited_headers(&ctx.request.parts.headers, ctx.upstream)
}

fn content_type<'a>(ctx: &'a AccessCtx<'_>) -> Option<&'a str> {
    ctx.header(&header::CONTENT_TYPE)?.to_str().ok()
}

/// The fields of a body, as `kong.request.get_body` gives them.
enum Fields {
    Are(Value),
    /// It is not what its type says.
    Malformed,
    /// Bodies of its type have no fields.
    OfNoForm,
}

fn fields(content_type: Option<&str>, body: &[u8]) -> Fields {
    let kind = content_type.unwrap_or_default().to_ascii_lowercase();
    if kind.starts_with("application/x-www-form-urlencoded") {
        return serde_json::to_value(Shown::arguments(body)).map_or(Fields::Malformed, Fields::Are);
    }
    if kind.starts_with("application/json") {
        return match serde_json::from_slice(body) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => Fields::Are(value),
            _ => Fields::Malformed,
        };
    }
    if kind.starts_with("multipart/form-data") {
        let boundary = content_type.and_then(|t| multipart::boundary(t.as_bytes()));
        return boundary.map_or(Fields::Malformed, |boundary| {
            Fields::Are(parts_of_form(body, &boundary))
        });
    }
    Fields::OfNoForm
}

/// The values of a multipart form by name, in a list where there are several.
fn parts_of_form(body: &[u8], boundary: &[u8]) -> Value {
    let mut fields = Map::new();
    for part in multipart::parts(body, boundary) {
        let Some(name) = part.name() else { continue };
        let name = String::from_utf8_lossy(name).into_owned();
        let value = Value::from(String::from_utf8_lossy(part.value()));
        match fields.get_mut(&name) {
            None => {
                fields.insert(name, value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
        }
    }
    fields.into()
}
