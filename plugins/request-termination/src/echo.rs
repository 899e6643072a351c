//! The answer that describes the request.

use std::collections::BTreeMap;

use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};
use silverback_plugin::env::hostname;
use silverback_plugin::schema::checks::normalize_path;
use silverback_plugin::{AccessCtx, Response, Shown};
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
        Echo {
            status,
            message,
            node,
            hostname: hostname(),
        }
    }

    pub(crate) async fn answer(&self, ctx: &mut AccessCtx<'_>) -> Response {
        let raw = ctx.read_body(MAX_BODY).await.unwrap_or_default();
        let path = normalize_path(ctx.request.path());
        let mut request = json!({
            "scheme": ctx.facts.scheme,
            "host": ctx.request.host,
            "port": ctx.facts.port,
            "headers": Shown::edited_headers(&ctx.request.parts.headers, ctx.upstream),
            "query": Shown::arguments(query(ctx)),
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

/// The query's arguments as earlier plugins left them.
pub(crate) fn query<'a>(ctx: &'a AccessCtx<'_>) -> &'a [u8] {
    match &ctx.upstream.query {
        Some(edited) => edited.as_bytes(),
        None => ctx.request.query().unwrap_or_default(),
    }
}

/// The body's fields: of forms and JSON, as `kong.request.get_body` gives them.
fn parsed(ctx: &AccessCtx<'_>, raw: &[u8]) -> Option<Value> {
    let kind = ctx
        .header(&CONTENT_TYPE)?
        .to_str()
        .ok()?
        .to_ascii_lowercase();
    if kind.starts_with("application/x-www-form-urlencoded") {
        return serde_json::to_value(Shown::arguments(raw)).ok();
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
