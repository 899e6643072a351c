#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use serde_json::{Value, json};
use silverback_plugin::Consumer;
use silverback_plugin::exchange::{
    Exchange, FakeDirectory, Outcome, config, consumer, schema_without_descriptions,
};

use crate::{CREDENTIALS, Jwt};

const NOW: u64 = 1_795_341_400;
/// `{"iss": "jk"}`, signed with `js`.
const GOOD: &str = "eyJ0eXAiOiAiSldUIiwgImFsZyI6ICJIUzI1NiJ9.eyJpc3MiOiAiamsifQ.r6DTwt83Yg9edmJO0zCcSKAs19d0764D6crPuOCHerY";
/// The same, signed with something else.
const FORGED: &str = "eyJ0eXAiOiAiSldUIiwgImFsZyI6ICJIUzI1NiJ9.eyJpc3MiOiAiamsifQ.pTKftTjE1JX_O2znuDmd8xxvywkiItIBHe1brgdSPVk";

fn alice() -> Arc<Consumer> {
    consumer(7, "alice")
}

/// Alice has the key `jk` with the secret `js`.
fn directory() -> FakeDirectory {
    let mut known = FakeDirectory::default();
    add(
        &mut known,
        "jk",
        json!({ "algorithm": "HS256", "secret": "js" }),
    );
    known
}

fn add(known: &mut FakeDirectory, key: &str, fields: Value) {
    let fields = fields.as_object().unwrap().clone();
    known.add_credential_with(CREDENTIALS, key, &alice(), fields);
}

/// A token with these claims and this header, signed with a secret.
fn token_with(header: Value, claims: Value, secret: &[u8]) -> String {
    let part = |v: Value| URL_SAFE_NO_PAD.encode(v.to_string());
    let data = format!("{}.{}", part(header), part(claims));
    let key = PKey::hmac(secret).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    let signature = signer.sign_oneshot_to_vec(data.as_bytes()).unwrap();
    format!("{data}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn token(claims: Value) -> String {
    token_with(json!({ "alg": "HS256", "typ": "JWT" }), claims, b"js")
}

async fn run(exchange: Exchange, settings: Value) -> Outcome {
    let exchange = exchange.directory(directory());
    exchange
        .at(UNIX_EPOCH + Duration::from_secs(NOW))
        .run::<Jwt>(settings)
        .await
}

fn bearer(token: &str) -> Exchange {
    Exchange::get("/").header("authorization", &format!("Bearer {token}"))
}

fn refused(done: &Outcome, body: Value) {
    assert_eq!(done.exit_status(401).body_json(), body);
    assert_eq!(
        done.header("www-authenticate"),
        Some("Bearer error=\"invalid_token\"")
    );
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<Jwt>(), facts);
}

#[test]
fn a_longest_time_needs_the_claim_that_says_the_end() {
    let with = |claims: Value| {
        config::<Jwt>(json!({ "maximum_expiration": 60, "claims_to_verify": claims }))
    };
    let refused = with(json!(["nbf"])).unwrap_err();
    assert!(
        refused.message().contains("expected to contain: exp"),
        "{}",
        refused.message()
    );
    assert!(with(json!(["exp"])).is_ok());
}

#[tokio::test]
async fn a_good_token_tells_the_upstream_who_calls() {
    let done = run(
        bearer(GOOD).header("x-anonymous-consumer", "true"),
        json!({}),
    )
    .await;
    done.passed();
    assert_eq!(done.upstream_header("x-consumer-username"), Some("alice"));
    assert_eq!(done.upstream_header("x-credential-identifier"), Some("jk"));
    assert_eq!(done.upstream_header("x-anonymous-consumer"), None);
    assert_eq!(done.facts().consumer, Some(alice()));
}

#[tokio::test]
async fn tokens_are_looked_for_where_the_configuration_says() {
    let places =
        json!({ "uri_param_names": ["tok"], "cookie_names": ["jc"], "header_names": ["x_jwt"] });
    for exchange in [
        Exchange::get(&format!("/?tok={GOOD}")),
        Exchange::get("/").header("cookie", &format!("a=b; jc={GOOD}")),
        Exchange::get("/").header("x-jwt", &format!("Bearer {GOOD}")),
        Exchange::get("/").header("x_jwt", &format!("bearer {GOOD}")),
    ] {
        run(exchange, places.clone()).await.passed();
    }
    for exchange in [
        bearer(GOOD),
        Exchange::get("/").header("x-jwt", GOOD),
        Exchange::get(&format!("/?jwt={GOOD}")),
        Exchange::get("/?tok="),
    ] {
        let done = run(exchange, places.clone()).await;
        assert_eq!(
            done.exit_status(401).body_json(),
            json!({ "message": "Unauthorized" })
        );
        assert_eq!(done.header("www-authenticate"), Some("Bearer"));
    }
}

#[tokio::test]
async fn one_token_is_enough_and_two_are_too_many() {
    let same =
        Exchange::get(&format!("/?jwt={GOOD}")).header("authorization", &format!("Bearer {GOOD}"));
    run(same, json!({})).await.passed();
    let two = Exchange::get(&format!("/?jwt={GOOD}"))
        .header("authorization", &format!("Bearer {FORGED}"));
    refused(
        &run(two, json!({})).await,
        json!({ "message": "Multiple tokens provided" }),
    );
    refused(
        &run(Exchange::get("/?jwt"), json!({})).await,
        json!({ "message": "Unrecognizable token" }),
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_said() {
    let hs512 = token_with(json!({ "alg": "HS512" }), json!({ "iss": "jk" }), b"js");
    let none = token_with(json!({ "alg": "none" }), json!({ "iss": "jk" }), b"js");
    for (text, message) in [
        (FORGED.to_owned(), "Invalid signature"),
        (
            token(json!({ "iss": "nope" })),
            "No credentials found for given 'iss'",
        ),
        (
            token(json!({ "iss": 5 })),
            "No credentials found for given 'iss'",
        ),
        (token(json!({})), "No mandatory 'iss' in claims"),
        (token(json!({ "iss": "" })), "Invalid 'iss' in claims"),
        ("garbage".to_owned(), "Bad token; invalid JSON"),
        ("a.b.c".to_owned(), "Bad token; invalid JSON"),
        (none, "Bad token; invalid alg"),
        (hs512, "Invalid algorithm"),
    ] {
        let done = run(bearer(&text), json!({})).await;
        refused(&done, json!({ "message": message }));
    }
}

#[tokio::test]
async fn claims_are_checked_when_asked_for() {
    let settings = json!({ "claims_to_verify": ["exp", "nbf"] });
    for (exp, nbf, errors) in [
        (json!(NOW + 1), json!(NOW), json!({})),
        (json!(NOW), json!(NOW), json!({ "exp": "token expired" })),
        (
            json!(NOW + 1),
            json!(NOW + 1),
            json!({ "nbf": "token not valid yet" }),
        ),
        (
            json!(1),
            json!(NOW + 9),
            json!({ "exp": "token expired", "nbf": "token not valid yet" }),
        ),
        (json!("x"), json!(1), json!({ "exp": "must be a number" })),
        (
            json!(NOW + 1),
            Value::Null,
            json!({ "nbf": "must be a number" }),
        ),
    ] {
        let claims = token(json!({ "iss": "jk", "exp": exp, "nbf": nbf }));
        let done = run(bearer(&claims), settings.clone()).await;
        if errors == json!({}) {
            done.passed();
        } else {
            refused(&done, errors);
        }
        run(bearer(&claims), json!({})).await.passed();
    }
}

#[tokio::test]
async fn tokens_that_last_too_long_are_refused() {
    let settings = json!({ "claims_to_verify": ["exp"], "maximum_expiration": 60 });
    let until = |exp: u64| bearer(&token(json!({ "iss": "jk", "exp": exp })));
    run(until(NOW + 60), settings.clone()).await.passed();
    let text = json!({ "exp": "exceeds maximum allowed expiration" });
    refused(&run(until(NOW + 61), settings).await, text);
}

#[tokio::test]
async fn the_key_may_be_named_in_the_header() {
    let named = token_with(
        json!({ "alg": "HS256", "kid": "jk" }),
        json!({ "a": 1 }),
        b"js",
    );
    run(bearer(&named), json!({ "key_claim_name": "kid" }))
        .await
        .passed();
}

#[tokio::test]
async fn secrets_may_be_kept_in_base64() {
    let mut known = FakeDirectory::default();
    add(
        &mut known,
        "good",
        json!({ "algorithm": "HS256", "secret": "anM" }),
    );
    add(
        &mut known,
        "bad",
        json!({ "algorithm": "HS256", "secret": "!" }),
    );
    let settings = json!({ "secret_is_base64": true });
    let by = |key: &str| bearer(&token(json!({ "iss": key }))).directory(known.clone());
    by("good").run::<Jwt>(settings.clone()).await.passed();
    refused(
        &by("bad").run::<Jwt>(settings).await,
        json!({ "message": "Invalid key/secret" }),
    );
}

#[tokio::test]
async fn public_keys_verify_what_private_ones_signed() {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let pem = String::from_utf8(key.public_key_to_pem().unwrap()).unwrap();
    let mut known = FakeDirectory::default();
    add(
        &mut known,
        "rk",
        json!({ "algorithm": "RS256", "secret": "unused", "rsa_public_key": pem }),
    );
    add(
        &mut known,
        "none",
        json!({ "algorithm": "RS256", "secret": "unused" }),
    );
    let signed = |name: &str| {
        let part = |v: Value| URL_SAFE_NO_PAD.encode(v.to_string());
        let data = format!(
            "{}.{}",
            part(json!({ "alg": "RS256" })),
            part(json!({ "iss": name }))
        );
        let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
        let signature = signer.sign_oneshot_to_vec(data.as_bytes()).unwrap();
        bearer(&format!("{data}.{}", URL_SAFE_NO_PAD.encode(signature))).directory(known.clone())
    };
    signed("rk").run::<Jwt>(json!({})).await.passed();
    refused(
        &signed("none").run::<Jwt>(json!({})).await,
        json!({ "message": "Invalid key/secret" }),
    );
}

#[tokio::test]
async fn strangers_may_call_as_the_anonymous_consumer() {
    let mut known = directory();
    known.add_consumer(&consumer(9, "guest"));
    for exchange in [Exchange::get("/"), bearer(FORGED)] {
        let done = exchange
            .directory(known.clone())
            .run::<Jwt>(json!({ "anonymous": "guest" }))
            .await;
        done.passed();
        assert_eq!(done.upstream_header("x-consumer-username"), Some("guest"));
        assert_eq!(done.upstream_header("x-anonymous-consumer"), Some("true"));
    }
    run(Exchange::get("/"), json!({ "anonymous": "nobody" }))
        .await
        .failed();
}

#[tokio::test]
async fn preflight_requests_pass_when_so_configured() {
    let preflight = || Exchange::new("OPTIONS", "/");
    run(preflight(), json!({ "run_on_preflight": false }))
        .await
        .passed();
    run(preflight(), json!({})).await.exit_status(401);
}

#[tokio::test]
async fn the_realm_is_named() {
    let done = run(Exchange::get("/"), json!({ "realm": "r" })).await;
    assert_eq!(done.header("www-authenticate"), Some("Bearer realm=\"r\""));
    let done = run(bearer(FORGED), json!({ "realm": "r" })).await;
    assert_eq!(
        done.header("www-authenticate"),
        Some("Bearer realm=\"r\" error=\"invalid_token\"")
    );
}
