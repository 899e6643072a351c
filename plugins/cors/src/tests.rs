#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use silverback_plugin::InstanceInfo;
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeServices, Outcome, config, schema_without_descriptions,
};

use crate::Cors;

const ALL: &str = "GET,HEAD,PUT,PATCH,POST,DELETE,OPTIONS,TRACE,CONNECT";

fn preflight(origin: &str) -> Exchange {
    Exchange::new("OPTIONS", "/")
        .header("origin", origin)
        .header("access-control-request-method", "PUT")
}

/// What a response says about cross-origin requests, in a fixed order.
fn said(done: &Outcome) -> Vec<(&'static str, &str)> {
    [
        "vary",
        "allow-origin",
        "allow-credentials",
        "allow-headers",
        "allow-methods",
        "max-age",
        "allow-private-network",
        "expose-headers",
    ]
    .into_iter()
    .filter_map(|name| {
        let full = format!("access-control-{name}");
        let value = done.header(if name == "vary" { name } else { &full })?;
        Some((name, value))
    })
    .collect()
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<Cors>(), facts);
}

#[test]
fn origins_that_are_no_regexes_are_refused() {
    assert!(config::<Cors>(json!({ "origins": ["*", "http://a.test", "a|b"] })).is_ok());
    let refused = config::<Cors>(json!({ "origins": ["("] })).unwrap_err();
    assert!(
        refused.message().contains("'(' is not a valid regex"),
        "{}",
        refused.message()
    );
}

#[test]
fn what_cannot_be_a_header_is_refused() {
    for field in ["headers", "exposed_headers"] {
        let settings = json!({ field: ["a\nb"] });
        let services = FakeServices::default();
        let made =
            Compiled::<Cors>::try_with(settings, &InstanceInfo::default(), &services).map(|_| ());
        assert_eq!(
            made.unwrap_err().to_string(),
            format!("{field}: cannot be a header's value")
        );
    }
}

#[tokio::test]
async fn any_page_may_call_unless_told_otherwise() {
    let done = preflight("http://one.test")
        .header("access-control-request-headers", "x-q, content-type")
        .run::<Cors>(json!({}))
        .await;
    assert_eq!(done.exit_status(200).body_text(), "");
    assert_eq!(
        said(&done),
        [
            ("allow-origin", "*"),
            ("allow-headers", "x-q, content-type"),
            ("allow-methods", ALL)
        ]
    );
    for request in [
        Exchange::get("/").header("origin", "http://one.test"),
        Exchange::get("/"),
        Exchange::new("OPTIONS", "/"),
        Exchange::new("OPTIONS", "/").header("origin", "http://one.test"),
        Exchange::new("OPTIONS", "/").header("access-control-request-method", "PUT"),
    ] {
        let done = request.run::<Cors>(json!({})).await;
        done.passed();
        assert_eq!(said(&done), [("allow-origin", "*")]);
    }
}

#[tokio::test]
async fn everything_that_is_configured_is_said() {
    let settings = json!({
        "origins": ["http://one.test"], "methods": ["GET", "POST"], "headers": ["X-A", "X-B"], "exposed_headers": ["X-C", "X-D"],
        "credentials": true, "max_age": 300, "private_network": true
    });
    let done = preflight("http://other.test")
        .header("access-control-request-headers", "x-q")
        .header("access-control-request-private-network", "true")
        .run::<Cors>(settings.clone())
        .await;
    assert_eq!(
        said(&done),
        [
            ("vary", "Origin"),
            ("allow-origin", "http://one.test"),
            ("allow-credentials", "true"),
            ("allow-headers", "X-A,X-B"),
            ("allow-methods", "GET,POST"),
            ("max-age", "300"),
            ("allow-private-network", "true"),
        ]
    );
    let done = Exchange::get("/").run::<Cors>(settings).await;
    assert_eq!(
        said(&done),
        [
            ("vary", "Origin"),
            ("allow-origin", "http://one.test"),
            ("allow-credentials", "true"),
            ("expose-headers", "X-C,X-D")
        ]
    );
}

#[tokio::test]
async fn pages_that_are_not_listed_learn_nothing_of_origins() {
    let settings = json!({ "origins": ["http://one.test", "http://two.test"] });
    let done = preflight("http://other.test")
        .run::<Cors>(settings.clone())
        .await;
    done.exit_status(200);
    assert_eq!(said(&done), [("vary", "Origin"), ("allow-methods", ALL)]);
    let done = Exchange::get("/")
        .header("origin", "http://other.test")
        .upstream(200, &[("access-control-allow-origin", "*")], "")
        .run::<Cors>(settings)
        .await;
    assert_eq!(said(&done), [("vary", "Origin")], "not the upstream's word");
}

#[tokio::test]
async fn credentials_are_for_a_named_origin_only() {
    let settings = json!({ "origins": ["*"], "credentials": true });
    for request in [
        preflight("http://one.test"),
        Exchange::get("/").header("origin", "http://one.test"),
    ] {
        let done = request.run::<Cors>(settings.clone()).await;
        assert_eq!(
            said(&done)[..3],
            [
                ("vary", "Origin"),
                ("allow-origin", "http://one.test"),
                ("allow-credentials", "true")
            ]
        );
    }
    let done = Exchange::get("/").run::<Cors>(settings).await;
    assert_eq!(said(&done), [("allow-origin", "*")]);
}

#[tokio::test]
async fn the_upstream_may_answer_preflight_requests_itself() {
    let settings = json!({ "origins": ["http://one.test"], "preflight_continue": true });
    let done = preflight("http://one.test")
        .run::<Cors>(settings.clone())
        .await;
    done.passed();
    assert_eq!(said(&done), []);
    let done = Exchange::get("/").run::<Cors>(settings).await;
    assert_eq!(done.header("vary"), Some("Origin"));
}

#[tokio::test]
async fn what_the_upstream_varies_by_stays() {
    let done = Exchange::get("/")
        .upstream(200, &[("vary", "Accept")], "")
        .run::<Cors>(json!({ "origins": ["http://one.test"] }))
        .await;
    assert_eq!(done.header("vary"), Some("Accept"));
    assert_eq!(said(&done).len(), 2);
}

#[tokio::test]
async fn null_is_the_default_for_methods() {
    let done = preflight("http://one.test")
        .run::<Cors>(json!({ "methods": null, "max_age": 1.5 }))
        .await;
    assert_eq!(done.header("access-control-allow-methods"), Some(ALL));
    assert_eq!(done.header("access-control-max-age"), Some("1.5"));
}
