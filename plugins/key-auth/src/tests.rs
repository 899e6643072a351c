#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::{Value, json};
use silverback_plugin::exchange::{
    Exchange, FakeDirectory, Outcome, consumer, schema_without_descriptions,
};
use silverback_plugin::schema::render::schema_json;
use silverback_plugin::{Consumer, Credential};
use uuid::Uuid;

use crate::{CREDENTIALS, KeyAuth, config};

fn alice() -> Arc<Consumer> {
    let username = Some("alice".into());
    Arc::new(Consumer {
        id: Uuid::from_u128(7),
        username,
        custom_id: Some("c-alice".into()),
    })
}

async fn run(exchange: Exchange, config: Value) -> Outcome {
    exchange
        .credential(CREDENTIALS, "alice-key", &alice())
        .run::<KeyAuth>(config)
        .await
}

fn refused(done: &Outcome, text: &str) {
    assert_eq!(done.exit_status(401).body_json()["message"], text);
    assert_eq!(done.header("www-authenticate"), Some("Key"));
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<KeyAuth>(), facts);
}

#[test]
fn keys_have_the_schema_of_kong() {
    let facts: Value =
        serde_json::from_str(include_str!("../testdata/credential_schema.json")).unwrap();
    let mut ours = schema_json(&config::credentials());
    for field in ours["fields"].as_array_mut().unwrap() {
        field.as_object_mut().unwrap().values_mut().for_each(|f| {
            f.as_object_mut().unwrap().remove("description");
        });
    }
    assert_eq!(ours, facts);
}

#[tokio::test]
async fn a_missing_key_and_an_unknown_one_are_refused() {
    refused(
        &run(Exchange::get("/"), json!({})).await,
        "No API key found in request",
    );
    refused(
        &run(Exchange::get("/").header("apikey", ""), json!({})).await,
        "No API key found in request",
    );
    refused(
        &run(Exchange::get("/").header("apikey", "bad"), json!({})).await,
        "Unauthorized",
    );
    refused(
        &run(Exchange::get("/?apikey=bad"), json!({})).await,
        "Unauthorized",
    );
    refused(
        &run(Exchange::get("/?apikey=%ff"), json!({})).await,
        "Unauthorized",
    );
    refused(
        &run(Exchange::get("/?apikey"), json!({})).await,
        "No API key found in request",
    );
}

#[tokio::test]
async fn two_keys_are_refused() {
    let two = Exchange::get("/")
        .header("apikey", "a")
        .header("apikey", "alice-key");
    refused(&run(two, json!({})).await, "Duplicate API key found");
    refused(
        &run(Exchange::get("/?apikey=a&apikey=alice-key"), json!({})).await,
        "Duplicate API key found",
    );
}

#[tokio::test]
async fn the_upstream_learns_who_calls() {
    let spoofed = Exchange::get("/")
        .header("ApiKey", "alice-key")
        .header("x-anonymous-consumer", "true");
    let done = run(spoofed, json!({})).await;
    done.passed();
    assert_eq!(
        done.upstream_header("x-consumer-id"),
        Some("00000000-0000-0000-0000-000000000007")
    );
    assert_eq!(done.upstream_header("x-consumer-username"), Some("alice"));
    assert_eq!(
        done.upstream_header("x-consumer-custom-id"),
        Some("c-alice")
    );
    assert_eq!(
        done.upstream_header("x-credential-identifier"),
        Some("00000000-0000-0000-0000-000000000064")
    );
    assert_eq!(done.upstream_header("x-anonymous-consumer"), None);
    assert_eq!(done.upstream_header("apikey"), Some("alice-key"));
    assert_eq!(
        done.facts().consumer.as_ref().unwrap().id,
        Uuid::from_u128(7)
    );
    assert!(done.facts().credential.is_some());
}

#[tokio::test]
async fn the_header_wins_over_the_query() {
    run(
        Exchange::get("/?apikey=bad").header("apikey", "alice-key"),
        json!({}),
    )
    .await
    .passed();
    let query_only = json!({ "key_in_header": false });
    refused(
        &run(
            Exchange::get("/").header("apikey", "alice-key"),
            query_only.clone(),
        )
        .await,
        "No API key found in request",
    );
    run(
        Exchange::get("/?x=1&api%6bey=alice%2Dkey").header("apikey", "bad"),
        query_only,
    )
    .await
    .passed();
    let header_only = json!({ "key_in_query": false });
    refused(
        &run(Exchange::get("/?apikey=alice-key"), header_only).await,
        "No API key found in request",
    );
}

#[tokio::test]
async fn names_are_tried_in_order_and_underscores_match_dashes() {
    let names = json!({ "key_names": ["first", "x_key"] });
    run(
        Exchange::get("/").header("x-key", "alice-key"),
        names.clone(),
    )
    .await
    .passed();
    run(
        Exchange::get("/").header("x_key", "alice-key"),
        names.clone(),
    )
    .await
    .passed();
    refused(
        &run(
            Exchange::get("/?first=bad").header("x-key", "alice-key"),
            names,
        )
        .await,
        "Unauthorized",
    );
}

#[tokio::test]
async fn hidden_keys_do_not_reach_the_upstream() {
    let hide = json!({ "hide_credentials": true });
    let done = run(
        Exchange::get("/?apikey=alice-key&z=1&api%6bey=2").header("apikey", "alice-key"),
        hide.clone(),
    )
    .await;
    done.passed();
    assert_eq!(done.upstream_header("apikey"), None);
    assert_eq!(done.edits().query.as_deref(), Some("z=1"));
    let done = run(Exchange::get("/?apikey=alice-key"), hide.clone()).await;
    assert_eq!(done.passed().edits().query.as_deref(), Some(""));
    let done = run(Exchange::get("/?z=1").header("apikey", "alice-key"), hide).await;
    assert_eq!(done.passed().edits().query, None);
}

#[tokio::test]
async fn keys_are_found_in_forms_json_and_multipart() {
    let config =
        || json!({ "key_in_body": true, "key_names": ["k1", "x-k2"], "hide_credentials": true });
    let form = "application/x-www-form-urlencoded; charset=utf-8";
    let done = run(Exchange::post("/", form, "k1=alice-key&z=2"), config()).await;
    assert_eq!(done.passed().edits().body.as_deref(), Some(&b"z=2"[..]));

    let done = run(
        Exchange::post("/", "application/json", r#"{"k1": "alice-key", "z": 2}"#),
        config(),
    )
    .await;
    assert_eq!(
        done.passed().edits().body.as_deref(),
        Some(&br#"{"z":2}"#[..])
    );

    let part = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let body = format!("{}{}--b--\r\n", part("k1", "alice-key"), part("z", "2"));
    let done = run(
        Exchange::post("/", "multipart/form-data; boundary=\"b\"", body),
        config(),
    )
    .await;
    let rest = format!("{}--b--\r\n", part("z", "2"));
    assert_eq!(done.passed().edits().body.as_deref(), Some(rest.as_bytes()));

    let done = run(Exchange::get("/").header("x-k2", "alice-key"), config()).await;
    assert_eq!(done.passed().edits().body, None);
    assert_eq!(done.upstream_header("x-k2"), None);
}

#[tokio::test]
async fn bodies_that_make_no_sense_hold_no_key() {
    let config = || json!({ "key_in_body": true, "key_names": ["k1"] });
    let missing = "No API key found in request";
    refused(
        &run(Exchange::post("/", "text/plain", "k1=alice-key"), config()).await,
        missing,
    );
    refused(
        &run(Exchange::post("/", "application/json", "{bad"), config()).await,
        missing,
    );
    refused(
        &run(
            Exchange::post("/", "application/json", r#"{"k1": 5}"#),
            config(),
        )
        .await,
        missing,
    );
    refused(
        &run(Exchange::post("/", "multipart/form-data", "k1"), config()).await,
        missing,
    );
    refused(
        &run(
            Exchange::post("/", "multipart/form-data; boundary=b", "--b\r\nx"),
            config(),
        )
        .await,
        missing,
    );
    let list = Exchange::post("/", "application/json", r#"{"k1": ["a", "b"]}"#);
    refused(&run(list, config()).await, "Duplicate API key found");
}

#[tokio::test]
async fn preflight_requests_may_go_without_a_key() {
    refused(
        &run(Exchange::new("OPTIONS", "/"), json!({})).await,
        "No API key found in request",
    );
    let config = json!({ "run_on_preflight": false });
    run(Exchange::new("OPTIONS", "/"), config.clone())
        .await
        .passed();
    refused(
        &run(Exchange::get("/"), config).await,
        "No API key found in request",
    );
}

#[tokio::test]
async fn the_realm_is_named() {
    let done = run(
        Exchange::get("/").header("apikey", "z"),
        json!({ "realm": "my realm" }),
    )
    .await;
    assert_eq!(
        done.exit_status(401).header("www-authenticate"),
        Some("Key realm=\"my realm\"")
    );
}

#[tokio::test]
async fn without_a_good_key_the_anonymous_consumer_calls() {
    for anonymous in ["anon", "00000000-0000-0000-0000-000000000009"] {
        let exchange = Exchange::get("/")
            .header("apikey", "bad")
            .header("x-credential-identifier", "forged");
        let done = run(
            exchange.consumer(&consumer(9, "anon")),
            json!({ "anonymous": anonymous }),
        )
        .await;
        done.passed();
        assert_eq!(done.upstream_header("x-consumer-username"), Some("anon"));
        assert_eq!(done.upstream_header("x-anonymous-consumer"), Some("true"));
        assert_eq!(done.upstream_header("x-credential-identifier"), None);
        assert!(done.facts().credential.is_none());
    }
}

#[tokio::test]
async fn an_anonymous_consumer_that_does_not_exist_is_an_error() {
    let done = run(Exchange::get("/"), json!({ "anonymous": "nobody" })).await;
    assert_eq!(
        done.exit_status(500).body_json()["message"],
        "An unexpected error occurred"
    );
    done.failed();
}

#[tokio::test]
async fn with_an_anonymous_consumer_another_plugins_credential_is_enough() {
    let other = Arc::new(Credential {
        id: Uuid::from_u128(1),
        lookup: Default::default(),
        consumer: alice(),
        expires_at: None,
        extra: Default::default(),
        prepared: Default::default(),
    });
    let exchange = || Exchange::get("/").authenticated(Some(&alice()), Some(&other));
    let done = run(
        exchange().consumer(&consumer(9, "anon")),
        json!({ "anonymous": "anon" }),
    )
    .await;
    assert!(done.passed().edits().headers.is_empty());
    refused(
        &run(exchange(), json!({})).await,
        "No API key found in request",
    );
}

#[tokio::test]
async fn expired_keys_are_unknown() {
    let mut directory = FakeDirectory::default();
    directory.add_credential(CREDENTIALS, "old", &alice(), Some(1_600_000_000));
    directory.add_credential(CREDENTIALS, "new", &alice(), Some(1_800_000_000));
    let exchange = |key| {
        Exchange::get("/")
            .header("apikey", key)
            .directory(directory.clone())
    };
    refused(
        &exchange("old").run::<KeyAuth>(json!({})).await,
        "Unauthorized",
    );
    exchange("new").run::<KeyAuth>(json!({})).await.passed();
}
