#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use silverback_plugin::exchange::{Exchange, Outcome, config, schema_without_descriptions};

use crate::RequestSizeLimiting;

/// A request that tells the length of its body.
fn told(length: usize) -> Exchange {
    Exchange::post("/", "text/plain", "x".repeat(length))
        .header("content-length", &length.to_string())
}

/// A request that does not.
fn chunked(length: usize) -> Exchange {
    Exchange::post("/", "text/plain", "x".repeat(length)).header("transfer-encoding", "chunked")
}

async fn run(exchange: Exchange, settings: Value) -> Outcome {
    exchange.run::<RequestSizeLimiting>(settings).await
}

fn refused(done: &Outcome, status: u16) {
    let answer = done.exit_status(status).body_json();
    assert_eq!(answer["message"], "Request size limit exceeded");
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<RequestSizeLimiting>(), facts);
}

#[test]
fn units_are_three() {
    let refused = config::<RequestSizeLimiting>(json!({ "size_unit": "x" })).unwrap_err();
    assert_eq!(
        refused.message(),
        "schema violation (config.size_unit: expected one of: megabytes, kilobytes, bytes)"
    );
}

#[tokio::test]
async fn a_body_may_be_as_long_as_the_limit() {
    let ten = || json!({ "allowed_payload_size": 10, "size_unit": "bytes" });
    for make in [told, chunked] {
        run(make(10), ten()).await.passed();
        refused(&run(make(11), ten()).await, 413);
    }
    run(Exchange::get("/"), ten()).await.passed();
    let kilo = || json!({ "allowed_payload_size": 1, "size_unit": "kilobytes" });
    run(told(1024), kilo()).await.passed();
    refused(&run(told(1025), kilo()).await, 413);
}

#[tokio::test]
async fn the_default_is_128_megabytes() {
    for settings in [json!({}), json!({ "allowed_payload_size": null })] {
        for (length, fits) in [(128 << 20, true), ((128 << 20) + 1, false)] {
            let exchange = Exchange::new("POST", "/").header("content-length", &length.to_string());
            assert_eq!(run(exchange, settings.clone()).await.exited(), !fits);
        }
    }
}

#[tokio::test]
async fn a_client_that_waits_for_a_word_gets_417() {
    let ten = || json!({ "allowed_payload_size": 10, "size_unit": "bytes" });
    for make in [told, chunked] {
        let waits = make(11).header("expect", "100-Continue");
        refused(&run(waits, ten()).await, 417);
        let waits = make(10).header("expect", "100-continue");
        run(waits, ten()).await.passed();
    }
}

#[tokio::test]
async fn a_length_can_be_required() {
    let settings = || json!({ "require_content_length": true });
    let done = run(Exchange::get("/"), settings()).await;
    assert_eq!(
        done.exit_status(411).body_json()["message"],
        "A valid Content-Length header is required"
    );
    run(chunked(5), settings()).await.passed();
    run(told(5), settings()).await.passed();
}

#[tokio::test]
async fn limits_without_sense_refuse_everything_or_nothing() {
    let none = json!({ "allowed_payload_size": -1 });
    refused(&run(Exchange::get("/"), none).await, 413);
    let all = json!({ "allowed_payload_size": i64::MAX });
    run(told(5), all).await.passed();
}
