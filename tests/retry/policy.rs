//! What is tried again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use silverback_testkit::gateway::{Gateway, Setup};
use silverback_testkit::process;
use silverback_testkit::upstream::{Answer, Upstream};

use crate::Outcome;

async fn with_plugin(upstream: &Upstream, config: Value) -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    gateway
        .service("s", upstream)
        .paths(["/"])
        .plugin("retry", config)
        .create()
        .await?;
    gateway.settle().await?;
    Ok(gateway)
}

async fn without_plugin(upstream: &Upstream, retries: u32) -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    gateway
        .service("s", upstream)
        .with("retries", json!(retries))
        .with("read_timeout", json!(150))
        .paths(["/"])
        .create()
        .await?;
    gateway.settle().await?;
    Ok(gateway)
}

#[tokio::test]
async fn failures_are_tried_again_until_one_attempt_succeeds() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = with_plugin(&upstream, json!({"attempts": 4})).await?;
    for failure in [
        Answer::status(503),
        Answer::status(502),
        Answer::close_before_header(),
        Answer::reset(),
    ] {
        upstream.forget();
        upstream.fail(3, &failure);
        let answer = gateway.get("/x?y=1").send().await?;
        assert_eq!(answer.status, 200, "{failure:?}");
        assert_eq!(upstream.requests(), 4, "{failure:?}");
        assert!(upstream.seen().iter().all(|r| r.target == "/x?y=1"));
    }
    Ok(())
}

#[tokio::test]
async fn after_the_last_attempt_the_client_gets_the_upstreams_answer() -> Outcome {
    let upstream = Upstream::start().await?;
    upstream.answer(Answer::status(503).body("sorry").header("X-Why", "tired"));
    let gateway = with_plugin(&upstream, json!({"attempts": 3})).await?;
    let answer = gateway.get("/").expect(503).await?;
    assert_eq!(answer.text(), "sorry");
    assert_eq!(answer.header("X-Why"), Some("tired"));
    assert_eq!(upstream.requests(), 3);
    Ok(())
}

#[tokio::test]
async fn other_statuses_are_passed_on() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = with_plugin(&upstream, json!({"attempts": 3, "statuses": [503]})).await?;
    for status in [200, 404, 429, 500, 502] {
        upstream.forget();
        upstream.answer(Answer::status(status));
        gateway.get("/").expect(status).await?;
        assert_eq!(upstream.requests(), 1, "{status}");
    }
    Ok(())
}

#[tokio::test]
async fn a_post_that_was_sent_is_not_sent_again() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = with_plugin(&upstream, json!({"attempts": 3})).await?;
    for (failure, status) in [
        (Answer::status(503), 503),
        (Answer::close_before_header(), 502),
    ] {
        upstream.forget();
        upstream.script([failure]);
        let call = gateway.call("POST", "/").body("pay");
        call.expect(status).await?;
        assert_eq!(upstream.requests(), 1);
    }
    // Who says that it may be repeated is believed.
    upstream.forget();
    upstream.script([Answer::status(503)]);
    let call = gateway.call("POST", "/").body("pay");
    call.header("Idempotency-Key", "1").expect(200).await?;
    assert_eq!(upstream.requests(), 2);
    Ok(())
}

#[tokio::test]
async fn a_body_is_sent_again_with_the_request() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = with_plugin(&upstream, json!({"attempts": 3})).await?;
    upstream.fail(2, &Answer::status(503));
    let body = "0123456789".repeat(1000);
    let call = gateway.call("PUT", "/").body(body.clone());
    call.expect(200).await?;
    let seen = upstream.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|r| r.body == body.as_bytes()));
    Ok(())
}

#[tokio::test]
async fn retry_after_is_waited_for_and_a_long_one_ends_it() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = with_plugin(&upstream, json!({"attempts": 3})).await?;
    upstream.script([Answer::status(503).header("Retry-After", "1")]);
    let start = Instant::now();
    gateway.get("/").expect(200).await?;
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(upstream.requests(), 2);

    upstream.forget();
    upstream.script([Answer::status(503).header("Retry-After", "30")]);
    gateway.get("/").expect(503).await?;
    assert_eq!(upstream.requests(), 1);
    Ok(())
}

#[tokio::test]
async fn all_attempts_together_end_at_the_deadline() -> Outcome {
    let upstream = Upstream::start().await?;
    upstream.answer(Answer::hang());
    let config = json!({"attempts": 100, "per_try_timeout": 100, "total_timeout": 600});
    let gateway = with_plugin(&upstream, config).await?;
    let start = Instant::now();
    gateway.get("/").expect(504).await?;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(
        (2..=7).contains(&upstream.requests()),
        "{}",
        upstream.requests()
    );
    Ok(())
}

#[tokio::test]
async fn the_next_attempt_goes_to_another_target() -> Outcome {
    let upstream = Upstream::start().await?;
    let hosts = process::temporary("silverback-hosts-");
    // Nobody listens on the second address.
    std::fs::write(&hosts, "127.0.0.1 many.test\n127.0.0.2 many.test\n")?;
    let gateway = Setup::new()
        .set("dns_hostsfile", &hosts.display().to_string())
        .start()
        .await?;
    let url = format!("http://many.test:{}", upstream.addr().port());
    gateway
        .service_at("s", &url)
        .with("retries", json!(1))
        .paths(["/"])
        .create()
        .await?;
    for n in 0..10 {
        let answer = gateway.get("/").send().await?;
        assert_eq!(answer.status, 200, "request {n}: {}", answer.text());
    }
    std::fs::remove_file(hosts)?;
    Ok(())
}

#[tokio::test]
async fn without_the_plugin_a_timeout_is_tried_as_often_as_the_service_says() -> Outcome {
    let upstream = Upstream::start().await?;
    upstream.answer(Answer::hang());
    let gateway = without_plugin(&upstream, 2).await?;
    gateway.get("/").expect(504).await?;
    assert_eq!(upstream.requests(), 3);
    upstream.forget();
    gateway.call("POST", "/").body("x").expect(504).await?;
    assert_eq!(upstream.requests(), 1);
    Ok(())
}

#[tokio::test]
async fn without_the_plugin_no_status_is_tried_again() -> Outcome {
    let upstream = Upstream::start().await?;
    upstream.answer(Answer::status(503));
    let gateway = without_plugin(&upstream, 5).await?;
    gateway.get("/").expect(503).await?;
    assert_eq!(upstream.requests(), 1);
    Ok(())
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_no_attempt() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = with_plugin(&upstream, json!({"attempts": 1, "retry_on": ["status"]})).await?;
    gateway.get("/").expect(200).await?;
    upstream.fail(1, &Answer::close_before_header());
    gateway.get("/").expect(200).await?;
    // On a new connection it is a failure like any other.
    upstream.fail(2, &Answer::close_before_header());
    gateway.get("/").expect(502).await?;
    Ok(())
}

#[tokio::test]
async fn attempts_of_gateways_before_this_one_are_not_counted() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Setup::new()
        .set("trusted_ips", "127.0.0.0/8")
        .start()
        .await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("retry", json!({"attempts": 2}))
        .create()
        .await?;
    gateway.settle().await?;
    upstream.fail(1, &Answer::status(503));
    gateway
        .get("/")
        .header("X-Retry-Attempt", "3")
        .expect(200)
        .await?;
    let told = |n: usize| {
        let seen = upstream.seen();
        seen[n].headers.get("X-Retry-Attempt").map(str::to_owned)
    };
    assert_eq!([told(0), told(1)], ["3", "4"].map(|n| Some(n.to_owned())));
    Ok(())
}
