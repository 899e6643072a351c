#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde_json::{Map, Value, json};
use silverback_plugin::Consumer;
use silverback_plugin::exchange::{
    Exchange, FakeDirectory, Outcome, consumer, schema_without_descriptions,
};

use super::*;

const DAY: &str = "Sun, 22 Nov 2026 10:06:22 GMT";
const NOW: u64 = 1_795_341_982;
/// What Kong's answers were recorded with: the secret `sec` over the date.
const OVER_DATE: &str = "Evgf6eWzyW1GPjl8YeWLtpjOF8Hh5whTlcNfblrY0zU=";
const OVER_X_DATE: &str = "+HpCzi+HvtMg/hzGyeiFw8GL6vkJfgZeVD2nB0g2MbI=";
/// Over the date and `GET /?q=1 HTTP/1.1`.
const OVER_LINE: &str = "qpL+m1XB29gTWXg+oIi0sTa6FEzBkhaW5qK7ezDGqVc=";
/// Over the date and the digest of `hello`.
const OVER_DIGEST: &str = "IhlwQugq33ITiUUXrrD6lAgv+SW2FkfU7h1EYmFWCZc=";
const HELLO: &str = "SHA-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";

fn alice() -> Arc<Consumer> {
    consumer(7, "alice")
}

fn directory() -> FakeDirectory {
    let mut known = FakeDirectory::default();
    let secret = Map::from_iter([("secret".to_owned(), Value::from("sec"))]);
    known.add_credential_with(CREDENTIALS, "hm", &alice(), secret);
    known
}

async fn run(exchange: Exchange, settings: Value) -> Outcome {
    let exchange = exchange.directory(directory());
    exchange
        .at(UNIX_EPOCH + Duration::from_millis(NOW * 1000 + 900))
        .run::<HmacAuth>(settings)
        .await
}

fn says(username: &str, algorithm: &str, headers: &str, signature: &str) -> String {
    format!(
        r#"hmac username="{username}", algorithm="{algorithm}", headers="{headers}", signature="{signature}""#
    )
}

fn with(exchange: Exchange, headers: &str, signature: &str) -> Exchange {
    exchange.header("date", DAY).header(
        "authorization",
        &says("hm", "hmac-sha256", headers, signature),
    )
}

fn refused(done: &Outcome, text: &str) {
    assert_eq!(done.exit_status(401).body_json()["message"], text);
    assert_eq!(done.header("www-authenticate"), Some("hmac"));
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<HmacAuth>(), facts);
}

#[tokio::test]
async fn a_good_signature_tells_the_upstream_who_calls() {
    let own = with(Exchange::get("/"), "date", OVER_DATE).header("x-anonymous-consumer", "true");
    let proxy = Exchange::get("/").header("date", DAY);
    let proxy = proxy.header(
        "proxy-authorization",
        &says("hm", "hmac-sha256", "date", OVER_DATE),
    );
    let x_date = Exchange::get("/").header("x-date", DAY);
    let x_date = x_date.header(
        "authorization",
        &says("hm", "hmac-sha256", "x-date", OVER_X_DATE),
    );
    let line = with(Exchange::get("/?q=1"), "date request-line", OVER_LINE);
    for exchange in [own, proxy, x_date, line] {
        let done = run(exchange, json!({})).await;
        done.passed();
        assert_eq!(done.upstream_header("x-consumer-username"), Some("alice"));
        assert_eq!(done.upstream_header("x-credential-identifier"), Some("hm"));
        assert_eq!(done.upstream_header("x-anonymous-consumer"), None);
        assert_eq!(done.facts().consumer, Some(alice()));
    }
}

#[tokio::test]
async fn every_algorithm_and_the_target_can_be_used() {
    for (algorithm, digest) in [
        ("hmac-sha1", MessageDigest::sha1()),
        ("hmac-sha384", MessageDigest::sha384()),
        ("hmac-sha512", MessageDigest::sha512()),
    ] {
        let key = PKey::hmac(b"sec").unwrap();
        let text = format!("@request-target: post /a?b=c\ndate: {DAY}\nx-gone:");
        let mut signer = Signer::new(digest, &key).unwrap();
        let made = STANDARD.encode(signer.sign_oneshot_to_vec(text.as_bytes()).unwrap());
        let said = says("hm", algorithm, "@request-target date x-gone", &made);
        let exchange = Exchange::new("POST", "/a?b=c")
            .header("date", DAY)
            .header("authorization", &said);
        run(exchange, json!({})).await.passed();
        let only = json!({ "algorithms": ["hmac-sha256"] });
        let exchange = Exchange::new("POST", "/a?b=c")
            .header("date", DAY)
            .header("authorization", &said);
        refused(&run(exchange, only).await, NOT_VALID);
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_in_three_ways() {
    refused(&run(Exchange::get("/"), json!({})).await, "Unauthorized");
    let dated = |value: &str| {
        Exchange::get("/")
            .header("date", DAY)
            .header("authorization", value)
    };
    let forged = says(
        "hm",
        "hmac-sha256",
        "date",
        "lwt2Of5hqtAaHKQ9kydI1g1UxWalJJVyj5vgzjhkq4c=",
    );
    refused(&run(dated(&forged), json!({})).await, NOT_SAME);
    refused(
        &run(dated(&says("hm", "hmac-sha256", "date", "!")), json!({})).await,
        NOT_SAME,
    );
    for value in [
        "hmac garbage",
        &says("nope", "hmac-sha256", "date", OVER_DATE),
        &says("hm", "hmac-md5", "date", OVER_DATE),
    ] {
        refused(&run(dated(value), json!({})).await, NOT_VALID);
    }
}

#[tokio::test]
async fn a_request_has_to_be_of_now() {
    let good = says("hm", "hmac-sha256", "date", OVER_DATE);
    let at = |seconds: u64| {
        let exchange = Exchange::get("/")
            .header("date", DAY)
            .header("authorization", &good);
        exchange
            .directory(directory())
            .at(UNIX_EPOCH + Duration::from_secs(seconds))
            .run::<HmacAuth>(json!({ "clock_skew": 5 }))
    };
    for fine in [NOW - 5, NOW, NOW + 5] {
        at(fine).await.passed();
    }
    for late in [NOW - 6, NOW + 6] {
        refused(&at(late).await, NO_DATE);
    }
    for date in ["", "yesterday"] {
        let exchange = Exchange::get("/")
            .header("date", date)
            .header("authorization", &good);
        refused(&run(exchange, json!({})).await, NO_DATE);
    }
    refused(
        &run(Exchange::get("/").header("authorization", &good), json!({})).await,
        NO_DATE,
    );
}

#[tokio::test]
async fn some_headers_have_to_be_signed() {
    let settings = json!({ "enforce_headers": ["date", "request-line"] });
    let all = with(Exchange::get("/?q=1"), "date request-line", OVER_LINE);
    run(all, settings.clone()).await.passed();
    refused(
        &run(with(Exchange::get("/"), "date", OVER_DATE), settings).await,
        NOT_VALID,
    );
}

#[tokio::test]
async fn the_body_is_checked_by_its_digest() {
    let settings = json!({ "validate_request_body": true });
    let post = |body: &'static str, digest: &str| {
        let exchange = Exchange::post("/", "text/plain", body).header("digest", digest);
        with(exchange, "date digest", OVER_DIGEST)
    };
    run(post("hello", HELLO), settings.clone()).await.passed();
    refused(&run(post("hellx", HELLO), settings.clone()).await, NOT_SAME);
    run(post("hellx", HELLO), json!({})).await.passed();
    let without =
        |body: &'static str| with(Exchange::post("/", "text/plain", body), "date", OVER_DATE);
    refused(&run(without("hello"), settings.clone()).await, NOT_SAME);
    run(without(""), settings).await.passed();
}

#[tokio::test]
async fn hidden_credentials_do_not_reach_the_upstream() {
    for check_body in [false, true] {
        let settings = json!({ "hide_credentials": true, "validate_request_body": check_body });
        let done = run(with(Exchange::get("/"), "date", OVER_DATE), settings).await;
        done.passed();
        assert_eq!(done.upstream_header("authorization"), None);
        assert_eq!(done.upstream_header("date"), Some(DAY));
    }
}

#[tokio::test]
async fn strangers_may_call_as_the_anonymous_consumer() {
    let mut known = directory();
    known.add_consumer(&consumer(9, "guest"));
    let settings = json!({ "anonymous": "guest" });
    let done = Exchange::get("/")
        .directory(known)
        .run::<HmacAuth>(settings)
        .await;
    done.passed();
    assert_eq!(done.upstream_header("x-consumer-username"), Some("guest"));
    assert_eq!(done.upstream_header("x-anonymous-consumer"), Some("true"));
    run(Exchange::get("/"), json!({ "anonymous": "nobody" }))
        .await
        .failed();
}

#[tokio::test]
async fn the_realm_is_named() {
    let done = run(Exchange::get("/"), json!({ "realm": "r" })).await;
    assert_eq!(done.header("www-authenticate"), Some("hmac realm=\"r\""));
}
