#![allow(clippy::unwrap_used)]

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use silverback_plugin::exchange::{Exchange, Outcome, config, schema_without_descriptions};

use crate::StandardWebhooks;

/// Of `hello` with the id `msg_1`, sent at [`SENT`], with the secret of [`settings`].
const SIGNATURE: &str = "v1,ITQl0uRHaoUswF9MupNmzHgWUvMLpHAraXWrJxExvIE=";
const SENT: u64 = 1_795_342_266;

fn settings() -> Value {
    json!({ "secret_v1": "whsecret" })
}

/// A message with these headers that arrives so many seconds after it was sent.
async fn arrives(after: i64, id: &str, timestamp: &str, signature: &str, body: &str) -> Outcome {
    let at = UNIX_EPOCH + Duration::from_secs(SENT.checked_add_signed(after).unwrap());
    Exchange::post("/", "text/plain", body.to_owned())
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signature)
        .at(at)
        .run::<StandardWebhooks>(settings())
        .await
}

async fn signed(signature: &str) -> Outcome {
    arrives(1, "msg_1", &SENT.to_string(), signature, "hello").await
}

fn refused(done: &Outcome) {
    assert_eq!(done.exit_status(400).body_json()["message"], "Bad request");
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<StandardWebhooks>(), facts);
}

#[test]
fn tolerance_is_not_negative() {
    let refused = config::<StandardWebhooks>(json!({ "secret_v1": "x", "tolerance_second": -1 }));
    assert_eq!(
        refused.unwrap_err().message(),
        "schema violation (config.tolerance_second: value must be greater than -1)"
    );
}

#[tokio::test]
async fn signed_messages_are_let_in() {
    signed(SIGNATURE).await.passed();
}

#[tokio::test]
async fn one_of_several_signatures_is_enough() {
    signed(&format!("v1,zz {SIGNATURE}")).await.passed();
    signed(&format!("v1a,other {SIGNATURE} v1,zz"))
        .await
        .passed();
    refused(&signed("v1,zz v1,yy").await);
}

#[tokio::test]
async fn signatures_of_something_else_are_refused() {
    let sent = SENT.to_string();
    for wrong in [
        "",
        " ",
        "v1,",
        &SIGNATURE[3..],
        &SIGNATURE.replace("v1", "v2"),
    ] {
        refused(&signed(wrong).await);
    }
    refused(&arrives(1, "msg_1", &sent, SIGNATURE, "hellx").await);
    refused(&arrives(1, "msg_2", &sent, SIGNATURE, "hello").await);
    refused(&arrives(1, "msg_1", &(SENT + 1).to_string(), SIGNATURE, "hello").await);
    refused(&arrives(1, "msg_1", &sent, SIGNATURE, "").await);
}

#[tokio::test]
async fn old_messages_are_refused() {
    let sent = SENT.to_string();
    for in_time in [300, 0, -100] {
        let done = arrives(in_time, "msg_1", &sent, SIGNATURE, "hello").await;
        done.passed();
    }
    refused(&arrives(301, "msg_1", &sent, SIGNATURE, "hello").await);
    for no_time in ["", "x", "NaN", "-", "1e99", "-9223372036854775808"] {
        refused(&arrives(0, "msg_1", no_time, SIGNATURE, "hello").await);
    }
}

#[tokio::test]
async fn headers_may_not_be_missing() {
    let headers = [
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", "1795342266"),
        ("webhook-signature", SIGNATURE),
    ];
    for missing in 0..3 {
        let mut exchange =
            Exchange::post("/", "text/plain", "hello").at(UNIX_EPOCH + Duration::from_secs(SENT));
        for (n, (name, value)) in headers.into_iter().enumerate() {
            if n != missing {
                exchange = exchange.header(name, value);
            }
        }
        refused(&exchange.run::<StandardWebhooks>(settings()).await);
    }
}

#[tokio::test]
async fn messages_that_are_too_long_are_told_so() {
    let long = "x".repeat((8 << 20) + 1);
    let done = arrives(0, "msg_1", &SENT.to_string(), SIGNATURE, &long).await;
    done.exit_status(413);
}
