#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::{Value, json};
use silverback_plugin::exchange::{
    Exchange, FakeDirectory, Outcome, config, consumer, schema_without_descriptions,
};
use silverback_plugin::{Consumer, Directory};

use crate::{Acl, GROUPS};

fn alice() -> Arc<Consumer> {
    consumer(7, "alice")
}

/// Alice is in two groups, bob in none; both have a key.
fn directory() -> FakeDirectory {
    let mut known = FakeDirectory::default();
    for who in [alice(), consumer(8, "bob")] {
        let name = who.username.clone().unwrap();
        known.add_credential("keyauth_credentials", &name, &who, None);
    }
    known.add_values(GROUPS, &alice(), &["g1", "g2"]);
    known
}

/// A request of a consumer who proved who it is.
async fn by(name: &str, settings: Value) -> Outcome {
    let known = directory();
    let key = known
        .credential("keyauth_credentials", name)
        .unwrap()
        .clone();
    Exchange::get("/")
        .authenticated(Some(&key.consumer), Some(&key))
        .directory(known)
        .run::<Acl>(settings)
        .await
}

fn refused(done: &Outcome, status: u16, text: &str) {
    assert_eq!(done.exit_status(status).body_json()["message"], text);
    assert_eq!(done.header("www-authenticate"), None);
}

const KEPT_OUT: &str = "You cannot consume this service";

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<Acl>(), facts);
}

#[test]
fn exactly_one_list_is_given() {
    let refused = |v: Value| config::<Acl>(v).unwrap_err();
    let both = refused(json!({ "allow": ["a"], "deny": ["b"] }));
    assert_eq!(
        both.message(),
        "schema violation (exactly one of these fields must be non-empty: 'config.allow', 'config.deny')"
    );
    let none = refused(json!({ "allow": [] }));
    assert!(
        none.message()
            .contains("at least one of these fields must be non-empty"),
        "{}",
        none.message()
    );
}

#[tokio::test]
async fn those_in_a_group_are_let_in() {
    let done = by("alice", json!({ "allow": ["g2", "x"] })).await;
    done.passed();
    assert_eq!(done.upstream_header("x-consumer-groups"), Some("g1, g2"));
    refused(&by("alice", json!({ "allow": ["x"] })).await, 403, KEPT_OUT);
    refused(&by("bob", json!({ "allow": ["g1"] })).await, 403, KEPT_OUT);
}

#[tokio::test]
async fn those_in_a_group_are_kept_out() {
    refused(&by("alice", json!({ "deny": ["g2"] })).await, 403, KEPT_OUT);
    let done = by("alice", json!({ "deny": ["x"] })).await;
    done.passed();
    assert_eq!(done.upstream_header("x-consumer-groups"), Some("g1, g2"));
    let done = by("bob", json!({ "deny": ["g1"] })).await;
    done.passed();
    assert_eq!(
        done.upstream_header("x-consumer-groups"),
        Some(""),
        "in no group"
    );
}

#[tokio::test]
async fn hidden_groups_do_not_reach_the_upstream() {
    let done = by(
        "alice",
        json!({ "allow": ["g1"], "hide_groups_header": true }),
    )
    .await;
    done.passed();
    assert_eq!(done.upstream_header("x-consumer-groups"), None);
}

#[tokio::test]
async fn who_did_not_say_who_it_is_is_asked_to() {
    for settings in [json!({ "allow": ["g1"] }), json!({ "deny": ["g1"] })] {
        let nobody = Exchange::get("/")
            .directory(directory())
            .run::<Acl>(settings)
            .await;
        refused(&nobody, 401, "Unauthorized");
    }
}

#[tokio::test]
async fn the_anonymous_consumer_has_groups_too() {
    let as_anonymous = |name: &str, settings: Value| {
        let who = directory().consumer(name).unwrap().clone();
        let exchange = Exchange::get("/").authenticated(Some(&who), None);
        exchange.directory(directory()).run::<Acl>(settings)
    };
    as_anonymous("alice", json!({ "allow": ["g1"] }))
        .await
        .passed();
    refused(
        &as_anonymous("alice", json!({ "allow": ["x"] })).await,
        403,
        KEPT_OUT,
    );
    refused(
        &as_anonymous("bob", json!({ "allow": ["g1"] })).await,
        401,
        "Unauthorized",
    );
    as_anonymous("bob", json!({ "deny": ["g1"] }))
        .await
        .passed();
}
