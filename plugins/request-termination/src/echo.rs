//! The answer that describes the request.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode;
use serde_json::{Map, Value, json};
use silverback_plugin::edits::HeaderEdit;
use silverback_plugin::schema::checks::normalize_path;
use silverback_plugin::{AccessCtx, Response};
use uuid::Uuid;

/// The longest body that is shown, in bytes; a longer one is left out.
const MAX_BODY: usize = 1 << 20;

/// The answer that describes the request.
#[derive(Debug)]
pub(crate) struct Echo {
    status: StatusCode,
    message: Option<String>,
    node: Option<Uuid>,
    hostname: String,
}

impl Echo {
    pub(crate) fn new(status: StatusCode, message: Option<String>, node: Option<Uuid>) -> Self {
        let hostname = ["/proc/sys/kernel/hostname", "/etc/hostname"].into_iter();
        let hostname = hostname
            .filter_map(|f| std::fs::read_to_string(f).ok())
            .map(|h| h.trim().to_owned())
            .next();
        Echo {
            status,
            message,
            node,
            hostname: hostname.unwrap_or_default(),
        }
    }

    pub(crate) async fn answer(&self, ctx: &mut AccessCtx<'_>) -> Response {
        let raw = ctx.body.read(MAX_BODY).await.unwrap_or_default();
        let path = normalize_path(ctx.request.path());
        let mut request = json!({
            "scheme": ctx.facts.scheme,
            "host": ctx.request.host,
            "port": ctx.facts.port,
            "headers": headers(ctx),
            "query": collect(arguments(ctx)),
            "raw_body": String::from_utf8_lossy(&raw),
            "method": ctx.request.parts.method.as_str(),
            "path": String::from_utf8_lossy(&path),
            "uri_captures": { "unnamed": [], "named": {} },
        });
        if let (Some(body), Value::Object(request)) = (parsed(ctx, &raw), &mut request) {
            request.insert("body".to_owned(), body);
        }
        let mut answer = Map::new();
        if let Some(text) = &self.message {
            answer.insert("message".to_owned(), text.as_str().into());
        }
        let mut node = json!({ "worker_pid": std::process::id(), "hostname": self.hostname });
        if let (Some(id), Value::Object(node)) = (self.node, &mut node) {
            node.insert("node_id".to_owned(), id.to_string().into());
        }
        answer.insert("kong".to_owned(), node);
        answer.insert("request".to_owned(), request);
        let mut matched = |name: &str, entity: &str, id: Uuid, known_as: Option<&str>| {
            let row = ctx
                .directory
                .row(entity, id)
                .map(|row| row.into_iter().filter(|(_, v)| !v.is_null()).collect());
            let row = row.unwrap_or_else(|| {
                let mut row = Map::from_iter([("id".to_owned(), id.to_string().into())]);
                row.extend(known_as.map(|n| ("name".to_owned(), n.into())));
                row
            });
            answer.insert(name.to_owned(), Value::Object(row));
        };
        if let Some(route) = ctx.route {
            matched("matched_route", "routes", route.id, route.name.as_deref());
        }
        if let Some(service) = ctx.service {
            matched(
                "matched_service",
                "services",
                service.id,
                service.name.as_deref(),
            );
        }
        Response::json(self.status, Value::Object(answer).to_string())
    }
}

/// The query's arguments, decoded; one without `=` has no value.
pub(crate) fn arguments<'a>(
    ctx: &'a AccessCtx<'_>,
) -> impl Iterator<Item = (Cow<'a, str>, Option<Cow<'a, str>>)> {
    let query = match &ctx.upstream.query {
        Some(edited) => edited.as_bytes(),
        None => ctx.request.query().unwrap_or_default(),
    };
    pairs(query)
}

fn pairs(text: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Option<Cow<'_, str>>)> {
    text.split(|b| *b == b'&').filter_map(|piece| {
        let (name, value) = match piece.iter().position(|b| *b == b'=') {
            Some(i) => (&piece[..i], Some(decode(&piece[i + 1..]))),
            None => (piece, None),
        };
        (!name.is_empty()).then(|| (decode(name), value))
    })
}

fn decode(text: &[u8]) -> Cow<'_, str> {
    if !text.iter().any(|b| matches!(b, b'%' | b'+')) {
        return String::from_utf8_lossy(text);
    }
    let spaces: Vec<u8> = text
        .iter()
        .map(|b| if *b == b'+' { b' ' } else { *b })
        .collect();
    Cow::Owned(percent_decode(&spaces).decode_utf8_lossy().into_owned())
}

/// By name: one value as it is, several in a list; `true` for none.
fn collect<'a>(pairs: impl Iterator<Item = (Cow<'a, str>, Option<Cow<'a, str>>)>) -> Value {
    let mut out = Map::new();
    for (name, value) in pairs {
        let value = value.map_or(Value::Bool(true), |v| Value::from(v.into_owned()));
        match out.get_mut(&*name) {
            None => {
                out.insert(name.into_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
        }
    }
    Value::Object(out)
}

/// The headers as earlier plugins left them.
fn headers(ctx: &AccessCtx<'_>) -> Value {
    let mut map: HeaderMap = ctx.request.parts.headers.clone();
    for edit in &ctx.upstream.headers {
        match edit {
            HeaderEdit::Set(key, value) => {
                map.insert(key.name().clone(), value.clone());
            }
            HeaderEdit::Append(key, value) => {
                map.append(key.name().clone(), value.clone());
            }
            HeaderEdit::Remove(name) => {
                map.remove(name);
            }
        }
    }
    let pairs = map.iter().map(|(n, v)| {
        (
            Cow::Borrowed(n.as_str()),
            Some(String::from_utf8_lossy(v.as_bytes())),
        )
    });
    collect(pairs)
}

/// The body's fields: of forms and JSON, as `kong.request.get_body` gives them.
fn parsed(ctx: &AccessCtx<'_>, raw: &[u8]) -> Option<Value> {
    let kind = ctx
        .header(&CONTENT_TYPE)?
        .to_str()
        .ok()?
        .to_ascii_lowercase();
    if kind.starts_with("application/x-www-form-urlencoded") {
        return Some(collect(pairs(raw)));
    }
    if !kind.starts_with("application/json") {
        return None;
    }
    let json: Value = serde_json::from_slice(raw).ok()?;
    // Sorted, so that the same body gives the same text.
    match json {
        Value::Object(map) => Some(
            map.into_iter()
                .collect::<BTreeMap<_, _>>()
                .into_iter()
                .collect(),
        ),
        Value::Array(_) => Some(json),
        _ => None,
    }
}
