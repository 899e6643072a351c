//! Requests that a Kong 3.9.1 was asked, and where it sent them.
//!
//! `testdata/kong_3_9_1.jsonl` holds configurations, each followed by its exchanges.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use silverback_entities::{Route, Service};
use silverback_router::{
    Entry, Flavor, PathRule, ProtocolRule, ProtocolVerdict, Request, Router, forwarded_prefix,
    normalize_path, split_host_port, strip_query, upstream_path,
};

const RECORDED: &str = include_str!("../testdata/kong_3_9_1.jsonl");

/// Of several routes created within one second the traditional flavour's choice depends on an unstable sort.
/// These exchanges, by flavour and number, went to another one of the equals.
const EQUALS: &[(&str, u64)] = &[("traditional", 579), ("traditional", 580)];

fn with_defaults(defaults: Value, body: &Value) -> Value {
    let mut all = defaults;
    for (k, v) in body.as_object().unwrap() {
        all[k] = v.clone();
    }
    all
}

fn service(body: &Value) -> Service {
    let defaults = json!({
        "created_at": 0, "updated_at": 0, "retries": 5, "protocol": "http", "port": 80, "enabled": true, "host": "",
    });
    let mut all = with_defaults(defaults, body);
    if let Some(url) = body.get("url").and_then(Value::as_str) {
        let rest = url.split_once("://").unwrap().1;
        let at = rest.find('/').unwrap_or(rest.len());
        all["host"] = rest[..at].into();
        if at < rest.len() {
            all["path"] = rest[at..].into();
        }
        all.as_object_mut().unwrap().remove("url");
    }
    serde_json::from_value(all).unwrap()
}

fn route(body: &Value) -> Route {
    let defaults = json!({
        "created_at": 0, "updated_at": 0, "protocols": ["http", "https"], "https_redirect_status_code": 426, "strip_path": true,
        "preserve_host": false, "request_buffering": true, "response_buffering": true, "regex_priority": 0, "path_handling": "v0",
    });
    serde_json::from_value(with_defaults(defaults, body)).unwrap()
}

fn entries(config: &Value) -> Vec<Entry> {
    let services: HashMap<_, _> = config["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(service)
        .map(|s| (s.id, Arc::new(s)))
        .collect();
    let routes = config["routes"].as_array().unwrap().iter().map(route);
    routes
        .map(|r| Entry {
            service: r.service.as_ref().map(|s| services[&s.id].clone()),
            route: Arc::new(r),
        })
        .collect()
}

/// What would be answered, in the shape of the recorded `want`.
fn answer(router: &Router, entries: &[Entry], line: &Value) -> Value {
    let mut headers = HeaderMap::new();
    for h in line["headers"].as_array().unwrap() {
        headers.append(
            HeaderName::from_bytes(h[0].as_str().unwrap().as_bytes()).unwrap(),
            HeaderValue::from_bytes(h[1].as_str().unwrap().as_bytes()).unwrap(),
        );
    }
    let tls = line["tls"].as_bool().unwrap();
    let scheme = if tls { "https" } else { "http" };
    let raw_host = headers
        .get("host")
        .map(|v| v.to_str().unwrap().to_owned())
        .unwrap_or_default();
    let (host, host_port) = split_host_port(&raw_host);
    let target = line["target"].as_str().unwrap();
    let path = strip_query(target.as_bytes());
    let query = &target[path.len()..];
    let path = normalize_path(path);
    let req = Request {
        method: line["method"].as_str().unwrap(),
        host,
        host_port,
        port: if tls { 18023 } else { 18020 },
        path: &path,
        headers: &headers,
        sni: line["sni"].as_str(),
        scheme,
    };
    let Some(found) = router.find(&req) else {
        return json!({"none": true});
    };
    let Entry { route, service } = &entries[found.entry];
    let content_type = headers.get("content-type").map(HeaderValue::as_bytes);
    match ProtocolRule::of(route).verdict(scheme, false, content_type) {
        ProtocolVerdict::NeedsHttps { status } => return json!({"https": status}),
        ProtocolVerdict::NotGrpc => return json!({"grpc": 415}),
        ProtocolVerdict::NeedsHttp2 => return json!({"grpc": 426}),
        ProtocolVerdict::NeedsGrpcTls => return json!({"grpc": 200}),
        ProtocolVerdict::Fine => {}
    }
    let Some(service) = service else {
        return json!({"no_service": true});
    };
    let sent = upstream_path(PathRule::of(route), service.path.as_deref(), &found, &path);
    let prefix = forwarded_prefix(PathRule::of(route), &found, &path).map(String::from_utf8_lossy);
    json!({"path": format!("{sent}{query}"), "prefix": prefix})
}

#[test]
fn requests_go_where_kong_sent_them() {
    let mut config = Value::Null;
    let mut state: Option<(Vec<Entry>, Router)> = None;
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in RECORDED.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(c) = line.get("config") {
            config = c.clone();
            let flavor = if config["flavor"] == "traditional" {
                Flavor::Traditional
            } else {
                Flavor::TraditionalCompatible
            };
            let entries = entries(&config);
            let router = Router::build(&entries, flavor).unwrap();
            state = Some((entries, router));
            continue;
        }
        count += 1;
        let (entries, router) = state.as_ref().unwrap();
        let got = answer(router, entries, &line);
        let known = EQUALS.contains(&(
            config["flavor"].as_str().unwrap(),
            line["seq"].as_u64().unwrap(),
        ));
        if got != line["want"] && !known {
            wrong.push(format!(
                "{} {} {}\n  got {got}",
                config["flavor"], config["block"], line
            ));
        }
    }
    assert!(count > 700, "{count}");
    assert!(
        wrong.is_empty(),
        "{} of {count} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
