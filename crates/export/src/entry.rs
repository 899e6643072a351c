//! What Kong logs of an exchange. Learnt from `serialize` in `kong/pdk/log.lua` and from the latencies that `kong/init.lua` measures.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use silverback_plugin::facts::{WORKSPACE_ID, WORKSPACE_NAME};
use silverback_plugin::{Attempt, Facts, LogCtx, LogValues, Shown};

/// What takes the place of a header's value that is a secret.
const REDACTED: &str = "REDACTED";

/// What is logged of an exchange. Serialised it is Kong's object; plugins that send only some of it read the fields.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    /// The client's request.
    pub request: Request<'a>,
    /// Path and query as they went upstream; empty without a route.
    pub upstream_uri: Cow<'a, str>,
    /// The status of each attempt, as nginx' `$upstream_status` has them (`502, 200`); empty when the upstream was not turned to.
    pub upstream_status: String,
    /// The response as it was sent.
    pub response: Response<'a>,
    /// How long everything took.
    pub latencies: Latencies,
    /// The attempts at the upstream; nothing without a route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tries: Option<Vec<Try>>,
    /// The credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authenticated_entity: Option<AuthenticatedEntity>,
    /// The row of the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'a RawValue>,
    /// The row of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<&'a RawValue>,
    /// The row of the consumer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<Cow<'a, RawValue>>,
    /// The client's address.
    pub client_ip: IpAddr,
    /// When the request arrived, milliseconds since 1970.
    pub started_at: u64,
    /// Whose response it is: `upstream` or `kong`.
    pub source: &'static str,
    /// The id of the workspace.
    pub workspace: &'static str,
    /// The name of the workspace.
    pub workspace_name: &'static str,
    /// What plugins added.
    #[serde(skip)]
    values: &'a LogValues,
}

/// The client's request.
#[derive(Debug, Serialize)]
pub struct Request<'a> {
    /// The request's id.
    pub id: &'a str,
    /// Path and query as on the request line.
    pub uri: Cow<'a, str>,
    /// The same with scheme, host and port.
    pub url: String,
    /// The query's arguments.
    pub querystring: Shown<'a>,
    /// The method.
    pub method: &'a str,
    /// The headers as plugins left them, without secrets.
    pub headers: Shown<'a>,
    /// Bytes received.
    pub size: u64,
    /// TLS with the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsOfRequest<'a>>,
}

/// TLS with the client.
#[derive(Debug, Serialize)]
pub struct TlsOfRequest<'a> {
    /// The protocol's version.
    pub version: &'a str,
    /// The cipher suite.
    pub cipher: &'a str,
    /// What became of the client's certificate, in nginx' words. None is asked for.
    pub client_verify: &'static str,
}

/// The response as it was sent.
#[derive(Debug, Serialize)]
pub struct Response<'a> {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Shown<'a>,
    /// Bytes sent.
    pub size: u64,
}

/// How long everything took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Latencies {
    /// Until the upstream was turned to or the gateway answered.
    pub kong: u64,
    /// Waiting for the upstream; -1 when it was not turned to.
    pub proxy: i64,
    /// Altogether.
    pub request: u64,
    /// Receiving the upstream's response after its head.
    pub receive: u64,
}

/// An attempt at the upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Try {
    /// When it began, milliseconds since 1970.
    pub balancer_start: u64,
    /// The same in nanoseconds.
    pub balancer_start_ns: u64,
    /// How long choosing the target took, in milliseconds.
    pub balancer_latency: u64,
    /// The same in nanoseconds.
    pub balancer_latency_ns: u64,
    /// The target's address.
    pub ip: IpAddr,
    /// The target's port.
    pub port: u16,
    /// `failed`, of all but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// The status it failed with, of all but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
}

/// A credential.
#[derive(Debug, Serialize)]
pub struct AuthenticatedEntity {
    /// Its primary key.
    pub id: String,
}

impl<'a> Entry<'a> {
    /// What is logged of an exchange.
    pub fn of(ctx: &LogCtx<'a>) -> Self {
        let (facts, source) = (ctx.facts, ctx.source);
        Entry {
            request: Request::of(ctx),
            upstream_uri: source.upstream_target().map_or("".into(), lossy),
            upstream_status: upstream_status(&facts.attempts),
            response: Response {
                status: facts.status,
                headers: ctx.response_headers.map(Shown::headers).unwrap_or_default(),
                size: source.response_size(),
            },
            latencies: Latencies::of(facts, ctx.ended),
            tries: ctx.route.map(|_| tries(&facts.attempts)),
            authenticated_entity: facts.credential.as_ref().map(|c| AuthenticatedEntity {
                id: c.id.to_string(),
            }),
            route: source.route(),
            service: source.service(),
            consumer: source.consumer(),
            client_ip: facts.client_ip,
            started_at: millis(since_1970(facts.started_at)),
            source: match facts.local_response {
                true => "kong",
                false => "upstream",
            },
            workspace: WORKSPACE_ID,
            workspace_name: WORKSPACE_NAME,
            values: &facts.log_values,
        }
    }

    /// The entry as a line of JSON, with what plugins added.
    pub fn to_json(&self) -> String {
        let mut text = String::with_capacity(2048);
        self.write_json(&mut text);
        text
    }

    /// Appends the entry to a text, as [`Entry::to_json`] makes it.
    pub fn write_json(&self, text: &mut String) {
        let whole = self.values.iter().any(|(field, _)| is_own(field));
        // An entry consists of numbers, texts and rows that are JSON: writing one cannot fail.
        let plain = || serde_json::to_string(self).unwrap_or_default();
        if self.values.is_empty() {
            text.push_str(&plain());
        } else if whole {
            text.push_str(&self.to_value().to_string());
        } else {
            let entry = plain();
            text.push_str(entry.strip_suffix('}').unwrap_or(&entry));
            // Later values of the same name count.
            let mut last: Vec<(&str, &Value)> = Vec::new();
            for (field, value) in self.values.iter() {
                last.retain(|(f, _)| *f != field);
                last.push((field, value));
            }
            for (field, value) in last.into_iter().filter(|(_, v)| !v.is_null()) {
                text.push_str(",\"");
                text.push_str(field);
                text.push_str("\":");
                text.push_str(&value.to_string());
            }
            text.push('}');
        }
    }

    /// The entry as a value, with what plugins added.
    pub fn to_value(&self) -> Value {
        let mut entry = serde_json::to_value(self).unwrap_or_default();
        for (field, value) in self.values.iter() {
            set(&mut entry, field, value.clone());
        }
        entry
    }
}

impl<'a> Request<'a> {
    fn of(ctx: &LogCtx<'a>) -> Self {
        let (request, facts) = (&ctx.request, ctx.facts);
        let mut headers = Shown::edited_headers(&request.parts.headers, ctx.upstream);
        for secret in ["authorization", "proxy-authorization"] {
            headers.replace(secret, REDACTED);
        }
        // HTTP/2 has it elsewhere; nginx shows it where HTTP/1 has it.
        if let Some(authority) = request.parts.uri.authority() {
            headers.set_missing("host", authority.as_str());
        }
        let uri = String::from_utf8_lossy(request.path_and_query);
        // nginx' name for whoever names no host, in Kong's configuration of it.
        let host = match request.host {
            "" => "kong",
            host => host,
        };
        let query = ctx.upstream.query.as_deref().map(str::as_bytes);
        let query = query.or(request.query()).unwrap_or_default();
        let method = ctx.upstream.method.as_ref();
        Request {
            id: facts.request_id(),
            url: format!(
                "{}://{}:{}{uri}",
                facts.scheme,
                host.to_ascii_lowercase(),
                facts.port
            ),
            uri,
            querystring: Shown::arguments(query),
            method: method.unwrap_or(&request.parts.method).as_str(),
            headers,
            size: ctx.source.request_size(),
            tls: ctx.source.tls().map(|tls| TlsOfRequest {
                version: tls.version,
                cipher: tls.cipher,
                client_verify: "NONE",
            }),
        }
    }
}

impl Latencies {
    /// How long an exchange took that ended at that moment.
    pub fn of(facts: &Facts, ended: Instant) -> Self {
        let between = |from: Instant, to: Instant| millis(to.saturating_duration_since(from));
        let answered = facts.upstream_header.or(facts.responded);
        let turned = facts.proxied.or(facts.responded);
        Latencies {
            kong: between(facts.started, turned.unwrap_or(ended)),
            proxy: facts.proxied.map_or(-1, |from| {
                i64::try_from(between(from, answered.unwrap_or(ended))).unwrap_or(i64::MAX)
            }),
            request: between(facts.started, ended),
            receive: match (facts.proxied, answered) {
                (Some(_), Some(from)) => between(from, ended),
                _ => 0,
            },
        }
    }
}

/// `$upstream_status`: what came of each attempt.
fn upstream_status(attempts: &[Attempt]) -> String {
    let codes: Vec<String> = attempts.iter().map(|a| code(a).to_string()).collect();
    codes.join(", ")
}

/// The attempts at the upstream.
pub fn tries(attempts: &[Attempt]) -> Vec<Try> {
    let one = |(n, a): (usize, &Attempt)| {
        let choosing = a.choosing.unwrap_or_default();
        // Kong learns how an attempt ended when it begins the next one.
        let failed = n + 1 < attempts.len();
        Try {
            balancer_start: millis(since_1970(a.started)),
            balancer_start_ns: nanos(since_1970(a.started)),
            balancer_latency: millis(choosing),
            balancer_latency_ns: nanos(choosing),
            ip: a.target.ip(),
            port: a.target.port(),
            state: failed.then_some("failed"),
            code: failed.then(|| code(a)),
        }
    };
    attempts.iter().enumerate().map(one).collect()
}

/// The upstream's status, or the one that nginx has for a failure.
fn code(a: &Attempt) -> u16 {
    let timeout = |why: &str| why.contains("timeout");
    match a.status {
        Some(status) => status,
        None if a.failure.is_some_and(timeout) => 504,
        None => 502,
    }
}

/// Whether a plugin's field lies within or in place of what an entry has by itself.
fn is_own(field: &str) -> bool {
    const OWN: [&str; 16] = [
        "request",
        "upstream_uri",
        "upstream_status",
        "response",
        "latencies",
        "tries",
        "authenticated_entity",
        "route",
        "service",
        "consumer",
        "client_ip",
        "started_at",
        "source",
        "workspace",
        "workspace_name",
        "",
    ];
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    OWN.contains(&field) || !field.bytes().all(plain)
}

/// Sets a field, making the objects on the way; one that leads through something else is left out, as there is no place for it.
fn set(entry: &mut Value, field: &str, value: Value) {
    let (parents, last) = match field.rsplit_once('.') {
        Some((parents, last)) => (parents.split('.').collect(), last),
        None => (Vec::new(), field),
    };
    let mut at = entry;
    for parent in parents {
        let Value::Object(map) = at else { return };
        at = map
            .entry(parent)
            .or_insert_with(|| Value::Object(Map::new()));
    }
    let Value::Object(map) = at else { return };
    if value.is_null() {
        map.remove(last);
    } else {
        map.insert(last.to_owned(), value);
    }
}

fn lossy(bytes: Cow<'_, [u8]>) -> Cow<'_, str> {
    match bytes {
        Cow::Borrowed(b) => String::from_utf8_lossy(b),
        Cow::Owned(b) => Cow::Owned(String::from_utf8_lossy(&b).into_owned()),
    }
}

fn since_1970(t: SystemTime) -> Duration {
    t.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
