//! How long a router takes to build and a lookup takes, for one route and for ten thousand.
//!
//! `cargo run --release -p silverback-router --example cost`

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use silverback_router::{Entry, Flavor, Request, Router};

const MANY: usize = 10_000;
const LOOKUPS: usize = 200_000;

fn entry(n: usize, rules: &Value) -> Entry {
    let mut route = json!({
        "id": format!("00000002-0000-4000-8000-{n:012}"), "created_at": 0, "updated_at": 0, "protocols": ["http", "https"],
        "https_redirect_status_code": 426, "strip_path": true, "preserve_host": false, "request_buffering": true,
        "response_buffering": true, "regex_priority": 0, "path_handling": "v0",
    });
    for (k, v) in rules.as_object().unwrap() {
        route[k] = v.clone();
    }
    Entry {
        route: Arc::new(serde_json::from_value(route).unwrap()),
        service: None,
    }
}

fn main() {
    type Rules = fn(usize) -> Value;
    let kinds: [(&str, Rules); 7] = [
        ("hosts", |n| json!({"hosts": [format!("h{n}.test")]})),
        ("paths", |n| json!({"paths": [format!("/service/{n}/x")]})),
        (
            "host and path",
            |n| json!({"hosts": ["one.test"], "paths": [format!("/service/{n}/x")]}),
        ),
        (
            "wildcard hosts",
            |n| json!({"hosts": [format!("*.h{n}.test")]}),
        ),
        (
            "headers",
            |n| json!({"headers": {"x-tenant": [n.to_string()]}}),
        ),
        (
            "regex, own prefix",
            |n| json!({"paths": [format!("~/service/{n}/x/\\d+$")]}),
        ),
        (
            "regex, one prefix",
            |n| json!({"paths": [format!("~/service/\\d+/x{n}$")]}),
        ),
    ];
    for flavor in [Flavor::TraditionalCompatible, Flavor::Traditional] {
        for (name, rules) in kinds {
            let mut costs = Vec::new();
            for count in [1, MANY] {
                let entries: Vec<Entry> = (0..count).map(|n| entry(n, &rules(n))).collect();
                let start = Instant::now();
                let router = Router::build(&entries, flavor).unwrap();
                let built = start.elapsed();
                // The same request in all cases, and requests spread over all routes.
                let spread: Vec<_> = (0..1024)
                    .map(|i| request_parts(name, i * 7919 % count))
                    .collect();
                let mut times = Vec::new();
                for requests in [&spread[..1], &spread[..]] {
                    for warm in [true, false] {
                        let start = Instant::now();
                        for i in 0..LOOKUPS {
                            let (host, path, headers) = &requests[i % requests.len()];
                            let found = router.find(&Request {
                                method: "GET",
                                host,
                                host_port: None,
                                port: 8000,
                                path: path.as_bytes(),
                                headers,
                                sni: None,
                                scheme: "http",
                            });
                            assert!(black_box(found).is_some(), "{name} {host} {path}");
                        }
                        if !warm {
                            times.push(start.elapsed().as_nanos() as usize / LOOKUPS);
                        }
                    }
                }
                costs.push((count, built, times));
            }
            for (count, built, times) in costs {
                println!(
                    "{flavor:?} {name:18} {count:6} routes: built in {built:>10.3?}, one request {:5} ns, any {:5} ns",
                    times[0], times[1]
                );
            }
        }
    }
}

fn request_parts(kind: &str, n: usize) -> (String, String, HeaderMap) {
    let mut headers = HeaderMap::new();
    headers.insert("x-tenant", HeaderValue::from_str(&n.to_string()).unwrap());
    let host = match kind {
        "hosts" => format!("h{n}.test"),
        "wildcard hosts" => format!("a.h{n}.test"),
        _ => "one.test".to_owned(),
    };
    let path = match kind {
        "regex, own prefix" => format!("/service/{n}/x/12"),
        "regex, one prefix" => format!("/service/12/x{n}"),
        _ => format!("/service/{n}/x"),
    };
    (host, path, headers)
}
