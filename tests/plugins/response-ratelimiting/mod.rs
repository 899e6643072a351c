//! `response-ratelimiting`. Limits are per year where a test must not fall into two windows.

use std::time::Duration;

use serde_json::{Value, json};
use silverback_testkit::gateway::{Gateway, eventually};
use silverback_testkit::h1::Response;
use silverback_testkit::redis;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

async fn limited(upstream: &Upstream, config: Value) -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    gateway
        .service("s", upstream)
        .paths(["/"])
        .plugin("response-ratelimiting", config)
        .create()
        .await?;
    gateway.settle().await?;
    Ok(gateway)
}

/// A request whose response costs so much.
async fn costs(gateway: &Gateway, cost: &str) -> anyhow::Result<Response> {
    let header = format!("X-Kong-Limit: {cost}");
    let call = gateway.get("/").header("X-Echo-Header", &header);
    call.send().await
}

fn left(answer: &Response) -> Option<i64> {
    answer.header("X-RateLimit-Remaining-v")?.parse().ok()
}

/// Waits until a node knows that so much is left, asking with requests that cost nothing.
async fn until_left(gateway: &Gateway, expected: i64) -> Outcome {
    let what = format!("{expected} left");
    eventually(&what, Duration::from_secs(10), || async {
        let answer = gateway.get("/").send().await?;
        Ok((left(&answer) == Some(expected)).then_some(()))
    })
    .await
}

#[tokio::test]
async fn each_response_counts_what_it_costs() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = limited(&upstream, json!({"limits": {"v": {"year": 5}}})).await?;
    for (cost, before, after) in [("v=2", "5", "3"), ("v=4", "3", "0")] {
        let answer = costs(&gateway, cost).await?;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("X-RateLimit-Remaining-v"), Some(before));
        assert_eq!(answer.header("X-RateLimit-Remaining-v-year"), Some(after));
        assert_eq!(answer.header("X-RateLimit-Limit-v-year"), Some("5"));
        assert_eq!(answer.header("X-Kong-Limit"), None);
    }
    let answer = costs(&gateway, "v=1").await?;
    assert_eq!((answer.status, answer.text().as_str()), (429, ""));
    assert_eq!(upstream.requests(), 3);
    Ok(())
}

#[tokio::test]
async fn a_response_is_replaced_whole_however_it_is_framed() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = limited(&upstream, json!({"limits": {"v": {"year": 1}}})).await?;
    assert_eq!(costs(&gateway, "v=1").await?.status, 200);
    let mut connection = gateway.proxy().connect().await?;
    let long = "x".repeat(100_000);
    for (method, framing) in [
        ("GET", "X-Echo-Chunked"),
        ("GET", "X-Echo-Gzip"),
        ("POST", "X-Echo-Nothing"),
        ("HEAD", "X-Echo-Nothing"),
    ] {
        let call = gateway.proxy().call(method, "/");
        let call = call.header("X-Echo-Header", "X-Kong-Limit: v=1");
        let mut call = call.header(framing, "1");
        if method == "POST" {
            call = call.body(long.clone());
        }
        // All on one connection: nothing of one response is left for the next.
        let answer = connection.send(&call).await?;
        assert_eq!(answer.status, 429, "{method} {framing}");
        assert_eq!(answer.text(), "", "{method} {framing}");
        assert_eq!(answer.header("Content-Length"), Some("0"));
        assert_eq!(answer.header("Transfer-Encoding"), None);
    }
    let free = connection.send(&gateway.get("/")).await?;
    assert_eq!(free.status, 200);
    Ok(())
}

#[tokio::test]
async fn what_costs_nothing_passes_unless_all_is_to_be_blocked() -> Outcome {
    let upstream = Upstream::start().await?;
    let limits = json!({"v": {"year": 1}});
    let gateway = limited(&upstream, json!({"limits": limits})).await?;
    costs(&gateway, "v=1").await?;
    gateway.get("/").expect(200).await?;
    let config = json!({"limits": limits, "block_on_first_violation": true});
    let gateway = limited(&upstream, config).await?;
    costs(&gateway, "v=1").await?;
    let asked = upstream.requests();
    let answer = gateway.get("/").expect(429).await?;
    assert_eq!(answer.json()["message"], "API rate limit exceeded for 'v'");
    assert_eq!(upstream.requests(), asked);
    Ok(())
}

#[tokio::test]
async fn failures_cost_nothing_and_tell_what_is_left() -> Outcome {
    let mut upstream = Upstream::start().await?;
    let gateway = limited(&upstream, json!({"limits": {"v": {"year": 3}}})).await?;
    upstream.stop().await;
    let answer = gateway.get("/").expect(502).await?;
    assert_eq!(answer.header("X-RateLimit-Remaining-v-year"), Some("3"));
    upstream.restart().await?;
    assert_eq!(left(&costs(&gateway, "v=1").await?), Some(3));
    Ok(())
}

#[tokio::test]
async fn two_nodes_share_costs_in_redis() -> Outcome {
    let upstream = Upstream::start().await?;
    let redis = redis::Server::shared()?;
    let config = json!({
        "limits": {"v": {"year": 5}}, "policy": "redis", "fault_tolerant": false,
        "redis": {
            "host": "127.0.0.1", "port": redis.addr().port(), "database": redis.database()?,
        },
    });
    let gateway = limited(&upstream, config).await?;
    let other = gateway.another().await?;
    assert_eq!(costs(&gateway, "v=2").await?.status, 200);
    until_left(&other, 3).await?;
    assert_eq!(costs(&other, "v=3").await?.status, 200);
    until_left(&gateway, 0).await?;
    assert_eq!(costs(&gateway, "v=1").await?.status, 429);
    Ok(())
}

#[tokio::test]
async fn limits_hold_again_when_redis_is_back() -> Outcome {
    let upstream = Upstream::start().await?;
    let mut redis = redis::Server::start()?;
    let config = |tolerant: bool| {
        json!({
            "limits": {"v": {"year": 5}}, "policy": "redis", "fault_tolerant": tolerant,
            "redis": {"host": "127.0.0.1", "port": redis.addr().port()},
        })
    };
    let tolerant = limited(&upstream, config(true)).await?;
    let strict = limited(&upstream, config(false)).await?;
    assert_eq!(costs(&tolerant, "v=1").await?.status, 200);
    until_left(&tolerant, 4).await?;
    redis.kill();
    // Neither limited nor told; the upstream's header stays here all the same.
    let answer = costs(&tolerant, "v=9").await?;
    assert_eq!((answer.status, left(&answer)), (200, None));
    assert_eq!(answer.header("X-Kong-Limit"), None);
    assert_eq!(costs(&strict, "v=9").await?.status, 500);
    redis.restart()?;
    // What was counted before went with the old server; from now on it counts again.
    until_left(&tolerant, 5).await?;
    until_left(&strict, 5).await
}

#[tokio::test]
async fn two_nodes_share_costs_in_postgres() -> Outcome {
    let upstream = Upstream::start().await?;
    let config = json!({"limits": {"v": {"year": 5}}, "policy": "cluster"});
    let gateway = limited(&upstream, config).await?;
    let other = gateway.another().await?;
    assert_eq!(costs(&gateway, "v=2").await?.status, 200);
    // On its own node at once.
    assert_eq!(left(&gateway.get("/").send().await?), Some(3));
    until_left(&other, 3).await?;
    assert_eq!(costs(&other, "v=3").await?.status, 200);
    until_left(&gateway, 0).await?;
    assert_eq!(costs(&gateway, "v=1").await?.status, 429);
    Ok(())
}
