#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::{Map, Value, json};
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeDirectory, FakeServices, Outcome, consumer, schema_without_descriptions,
};
use silverback_plugin::{Consumer, Directory, InstanceInfo};
use uuid::Uuid;

use crate::{BasicAuth, CREDENTIALS, credential};

/// `al:pa:ss`
const GOOD: &str = "Basic YWw6cGE6c3M=";
/// `al:bad`
const BAD: &str = "Basic YWw6YmFk";
/// `nope:x`
const UNKNOWN: &str = "Basic bm9wZTp4";

fn alice() -> Arc<Consumer> {
    Arc::new(Consumer {
        id: Uuid::from_u128(7),
        username: Some("alice".into()),
        custom_id: Some("c-alice".into()),
    })
}

fn directory() -> FakeDirectory {
    let mut known = FakeDirectory::default();
    let alice = alice();
    let hash = credential::hash(b"pa:ss", &alice.id.to_string());
    let extra = Map::from_iter([("password".to_owned(), hash.into())]);
    known.add_credential_with(CREDENTIALS, "al", &alice, extra);
    known
}

async fn run(exchange: Exchange, config: Value) -> Outcome {
    exchange
        .directory(directory())
        .run::<BasicAuth>(config)
        .await
}

fn with(header: &str, value: &str) -> Exchange {
    Exchange::get("/").header(header, value)
}

fn refused(done: &Outcome) {
    assert_eq!(done.exit_status(401).body_json()["message"], "Unauthorized");
    assert_eq!(
        done.header("www-authenticate"),
        Some("Basic realm=\"service\"")
    );
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<BasicAuth>(), facts);
}

#[tokio::test]
async fn a_good_password_tells_the_upstream_who_calls() {
    for header in ["Authorization", "Proxy-Authorization"] {
        let spoofed = with(header, GOOD).header("x-anonymous-consumer", "true");
        let done = run(spoofed, json!({})).await;
        done.passed();
        let id = "00000000-0000-0000-0000-000000000007";
        assert_eq!(done.upstream_header("x-consumer-id"), Some(id));
        assert_eq!(done.upstream_header("x-consumer-username"), Some("alice"));
        assert_eq!(
            done.upstream_header("x-consumer-custom-id"),
            Some("c-alice")
        );
        assert_eq!(done.upstream_header("x-credential-identifier"), Some("al"));
        assert_eq!(done.upstream_header("x-anonymous-consumer"), None);
        assert_eq!(done.upstream_header(header), Some(GOOD));
        assert_eq!(done.facts().consumer, Some(alice()));
        assert!(done.facts().credential.is_some());
    }
}

#[tokio::test]
async fn everything_else_is_refused_alike() {
    refused(&run(Exchange::get("/"), json!({})).await);
    for value in [
        BAD,
        UNKNOWN,
        "Basic bm9jb2xvbg==",
        "Basic !!!",
        "Basic",
        "Bearer x",
        "",
    ] {
        refused(&run(with("Authorization", value), json!({})).await);
        refused(&run(with("Proxy-Authorization", value), json!({})).await);
    }
}

#[tokio::test]
async fn the_proxys_header_comes_first() {
    let both =
        |proxy: &str, own: &str| with("Proxy-Authorization", proxy).header("Authorization", own);
    run(both(GOOD, BAD), json!({})).await.passed();
    run(both(UNKNOWN, GOOD), json!({})).await.passed();
    run(both("Bearer x", GOOD), json!({})).await.passed();
    refused(&run(both(BAD, GOOD), json!({})).await);
    refused(&run(both(UNKNOWN, BAD), json!({})).await);
}

#[tokio::test]
async fn hidden_credentials_do_not_reach_the_upstream() {
    let config = json!({ "hide_credentials": true });
    let done = run(with("Authorization", GOOD), config.clone()).await;
    done.passed();
    assert_eq!(done.upstream_header("authorization"), None);
    let both = with("Proxy-Authorization", GOOD).header("Authorization", "Bearer of-the-upstream");
    let done = run(both, config).await;
    assert_eq!(done.upstream_header("proxy-authorization"), None);
    assert_eq!(
        done.upstream_header("authorization"),
        Some("Bearer of-the-upstream"),
        "was not looked at"
    );
}

#[tokio::test]
async fn strangers_may_call_as_the_anonymous_consumer() {
    let guest = consumer(9, "guest");
    let mut known = directory();
    known.add_consumer(&guest);
    for anonymous in ["guest", "00000000-0000-0000-0000-000000000009"] {
        for value in [BAD, "Bearer x"] {
            let exchange = with("Authorization", value).directory(known.clone());
            let done = exchange
                .run::<BasicAuth>(json!({ "anonymous": anonymous }))
                .await;
            done.passed();
            assert_eq!(done.upstream_header("x-consumer-username"), Some("guest"));
            assert_eq!(done.upstream_header("x-anonymous-consumer"), Some("true"));
            assert!(done.facts().credential.is_none());
        }
    }
    let exchange = with("Authorization", GOOD).directory(known);
    let done = exchange
        .run::<BasicAuth>(json!({ "anonymous": "guest" }))
        .await;
    assert_eq!(done.upstream_header("x-consumer-username"), Some("alice"));
}

#[tokio::test]
async fn an_anonymous_consumer_that_is_not_there_is_an_error() {
    let done = run(Exchange::get("/"), json!({ "anonymous": "nobody" })).await;
    done.failed();
}

#[tokio::test]
async fn with_an_anonymous_consumer_another_plugins_success_is_enough() {
    let bob = consumer(8, "bob");
    let mut known = FakeDirectory::default();
    known.add_credential("keyauth_credentials", "k", &bob, None);
    let key = known
        .credential("keyauth_credentials", "k")
        .unwrap()
        .clone();
    let before = || Exchange::get("/").authenticated(Some(&bob), Some(&key));
    let done = run(before(), json!({ "anonymous": "guest" })).await;
    done.passed();
    assert_eq!(
        done.facts().consumer.as_ref().unwrap().username.as_deref(),
        Some("bob")
    );
    refused(&run(before(), json!({})).await);
}

#[tokio::test]
async fn the_realm_is_named() {
    let done = run(Exchange::get("/"), json!({ "realm": "r x" })).await;
    assert_eq!(done.header("www-authenticate"), Some("Basic realm=\"r x\""));
    let bad = json!({ "realm": "a\nb" });
    let refused =
        Compiled::<BasicAuth>::try_with(bad, &InstanceInfo::default(), &FakeServices::default());
    assert_eq!(refused.err().unwrap().field, "realm");
}
