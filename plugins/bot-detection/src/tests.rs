#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use silverback_plugin::exchange::{Exchange, Outcome, config, schema_without_descriptions};

use crate::BotDetection;

async fn by(agent: &str, settings: Value) -> Outcome {
    Exchange::get("/")
        .header("user-agent", agent)
        .run::<BotDetection>(settings)
        .await
}

fn kept_out(done: &Outcome) {
    assert_eq!(done.exit_status(403).body_json()["message"], "Forbidden");
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<BotDetection>(), facts);
}

#[test]
fn what_is_no_regex_is_refused() {
    let refused = config::<BotDetection>(json!({ "allow": ["("] })).unwrap_err();
    assert_eq!(
        refused.message(),
        "schema violation (config.allow: {\n  \"not a valid regex: (\"\n})"
    );
}

#[tokio::test]
async fn known_bots_are_kept_out() {
    kept_out(&by("Googlebot/2.1", json!({})).await);
    kept_out(&by("  Chrome PTST/284  ", json!({})).await);
    by("Mozilla/5.0", json!({ "allow": null, "deny": null }))
        .await
        .passed();
}

#[tokio::test]
async fn who_does_not_say_what_it_is_passes() {
    Exchange::get("/")
        .run::<BotDetection>(json!({ "deny": [".*"] }))
        .await
        .passed();
}

#[tokio::test]
async fn lists_come_before_what_is_known_and_the_allowing_one_first() {
    let settings = json!({ "allow": ["^Google", "good"], "deny": ["evil"] });
    by("Googlebot/2.1", settings.clone()).await.passed();
    by("good evil", settings.clone()).await.passed();
    kept_out(&by("an evil agent", settings.clone()).await);
    kept_out(&by("Twitterbot/1.0", settings).await);
}

#[tokio::test]
async fn two_agents_are_one_too_many() {
    let done = Exchange::get("/")
        .header("user-agent", "a")
        .header("user-agent", "b")
        .run::<BotDetection>(json!({}))
        .await;
    let answer = done.exit_status(400).body_json();
    assert_eq!(answer["message"], "Only one User-Agent header allowed");
}
