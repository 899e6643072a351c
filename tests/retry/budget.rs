//! The budget.

use std::time::Instant;

use futures::stream::{self, StreamExt as _};
use serde_json::json;
use silverback_testkit::gateway::{Gateway, Setup};
use silverback_testkit::upstream::{Answer, Upstream};

use crate::Outcome;

const REQUESTS: u64 = 300;

/// Sends requests, some at once, and returns how many attempts reached the upstream.
async fn attempts(gateway: &Gateway, upstream: &Upstream) -> anyhow::Result<u64> {
    upstream.forget();
    gateway.settle().await?;
    let calls = stream::iter(0..REQUESTS).map(|_| gateway.get("/").send());
    let answers: Vec<_> = calls.buffer_unordered(16).collect().await;
    for answer in answers {
        assert!(matches!(answer?.status, 200 | 502..=504));
    }
    Ok(upstream.requests())
}

async fn node(setup: Setup, upstream: &Upstream) -> anyhow::Result<Gateway> {
    let gateway = setup.start().await?;
    let backoff = json!({"base": 0, "max": 0});
    gateway
        .service("s", upstream)
        .paths(["/"])
        .plugin("retry", json!({"attempts": 5, "backoff": backoff}))
        .create()
        .await?;
    Ok(gateway)
}

fn small() -> Setup {
    Setup::new()
        .set("retry_budget_ratio", "0.1")
        .set("retry_budget_ttl", "10")
        .set("retry_budget_min_retries_per_second", "1")
}

#[tokio::test]
async fn when_everything_fails_retries_end_with_the_floor() -> Outcome {
    let upstream = Upstream::start().await?;
    upstream.answer(Answer::status(503));
    let gateway = node(small(), &upstream).await?;
    let start = Instant::now();
    let attempts = attempts(&gateway, &upstream).await?;
    // The floor is one a second; what it gave in the last ten seconds may be spent at once.
    let floor = 10 + start.elapsed().as_secs() + 2;
    assert!(
        attempts > REQUESTS && attempts <= REQUESTS + floor,
        "{attempts} attempts for {REQUESTS} requests, {floor} of the floor"
    );
    Ok(())
}

#[tokio::test]
async fn without_a_budget_every_request_is_tried_to_the_end() -> Outcome {
    let upstream = Upstream::start().await?;
    upstream.answer(Answer::status(503));
    let gateway = node(Setup::new().set("retry_budget", "off"), &upstream).await?;
    assert_eq!(attempts(&gateway, &upstream).await?, REQUESTS * 5);
    Ok(())
}

#[tokio::test]
async fn successes_earn_retries() -> Outcome {
    let upstream = Upstream::start().await?;
    let setup = small().set("retry_budget_min_retries_per_second", "0");
    let gateway = node(setup, &upstream).await?;
    let start = Instant::now();
    assert_eq!(attempts(&gateway, &upstream).await?, REQUESTS);
    upstream.answer(Answer::status(503));
    let attempts = attempts(&gateway, &upstream).await?;
    let earned = REQUESTS / 10;
    assert!(attempts <= REQUESTS + earned, "{attempts}");
    // Earnings last ten seconds: on a machine that took longer for all this they may be gone.
    if start.elapsed().as_secs() < 8 {
        assert!(attempts >= REQUESTS + earned - 2, "{attempts}");
    }
    Ok(())
}

#[tokio::test]
async fn a_ceiling_holds_whatever_was_earned() -> Outcome {
    let upstream = Upstream::start().await?;
    upstream.answer(Answer::status(503));
    let setup = Setup::new()
        .set("retry_budget_min_retries_per_second", "1000")
        .set("retry_budget_max_retries", "7")
        .set("retry_budget_window", "60");
    let gateway = node(setup, &upstream).await?;
    let attempts = attempts(&gateway, &upstream).await?;
    assert!(
        attempts > REQUESTS && attempts <= REQUESTS + 7,
        "{attempts}"
    );
    Ok(())
}

#[tokio::test]
async fn an_empty_budget_is_told_where_that_is_allowed() -> Outcome {
    let upstream = Upstream::start().await?;
    upstream.answer(Answer::status(503).body("the upstream's own"));
    let setup = small()
        .set("retry_budget_min_retries_per_second", "0")
        .set("allow_debug_header", "on");
    let gateway = node(setup, &upstream).await?;
    let call = gateway.get("/").header("Kong-Debug", "1");
    let answer = call.expect(503).await?;
    assert_eq!(answer.text(), "the upstream's own");
    assert_eq!(answer.header("X-Retry-Budget"), Some("exhausted"));
    let answer = gateway.get("/").expect(503).await?;
    assert_eq!(answer.header("X-Retry-Budget"), None);
    assert_eq!(upstream.requests(), 2);
    Ok(())
}

#[tokio::test]
async fn budgets_are_shown() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = node(Setup::new(), &upstream).await?;
    upstream.script([Answer::status(503)]);
    gateway.get("/").expect(200).await?;
    let shown = gateway
        .admin()
        .get("/retry-budgets")
        .expect(200)
        .await?
        .json();
    let accounts = shown["data"].as_array().unwrap();
    assert!(accounts.iter().any(|a| a["withdrawals"] == 1), "{shown}");
    let metrics = gateway.status().get("/metrics").expect(200).await?.text();
    let line = metrics
        .lines()
        .find(|l| l.starts_with("silverback_retries_total") && l.contains("sent"))
        .unwrap_or_default();
    assert!(line.ends_with(" 1"), "{line}");
    Ok(())
}
