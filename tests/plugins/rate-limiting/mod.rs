//! `rate-limiting`. Limits are per year where a test must not fall into two windows.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use silverback_testkit::gateway::{Gateway, eventually};
use silverback_testkit::redis;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

async fn limited(upstream: &Upstream, config: Value) -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    gateway
        .service("s", upstream)
        .paths(["/"])
        .plugin("rate-limiting", config)
        .create()
        .await?;
    gateway.settle().await?;
    Ok(gateway)
}

/// How many of so many requests at once were let through.
async fn allowed(gateways: &[&Gateway], requests: usize) -> usize {
    let calls = (0..requests).map(|n| gateways[n % gateways.len()].get("/").send());
    let answers = join_all(calls).await;
    let mut allowed = 0;
    for answer in answers {
        match answer.unwrap().status {
            200 => allowed += 1,
            429 => {}
            other => panic!("{other}"),
        }
    }
    allowed
}

#[tokio::test]
async fn the_limit_counts_and_its_headers_tell() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = limited(&upstream, json!({"year": 3, "policy": "local"})).await?;
    for left in ["2", "1", "0"] {
        let answer = gateway.get("/").expect(200).await?;
        assert_eq!(answer.header("X-RateLimit-Limit-Year"), Some("3"));
        assert_eq!(answer.header("X-RateLimit-Remaining-Year"), Some(left));
        assert_eq!(answer.header("RateLimit-Limit"), Some("3"));
        assert_eq!(answer.header("RateLimit-Remaining"), Some(left));
        assert!(answer.header("RateLimit-Reset").is_some());
    }
    let denied = gateway.get("/").expect(429).await?;
    assert_eq!(denied.json()["message"], "API rate limit exceeded");
    assert!(denied.header("Retry-After").is_some());
    assert_eq!(upstream.requests(), 3);
    Ok(())
}

#[tokio::test]
async fn many_clients_at_once_never_get_more_than_the_limit() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = limited(&upstream, json!({"year": 37, "policy": "local"})).await?;
    let mut sum = 0;
    for _ in 0..4 {
        sum += allowed(&[&gateway], 50).await;
    }
    assert_eq!(sum, 37);
    assert_eq!(upstream.requests(), 37);
    Ok(())
}

#[tokio::test]
async fn consumers_are_counted_apart() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = limited(&upstream, json!({"year": 2, "policy": "local"})).await?;
    gateway.plugin("/services/s", "key-auth", json!({})).await?;
    gateway.consumer("a", "ka").await?;
    gateway.consumer("b", "kb").await?;
    for (key, statuses) in [("ka", [200, 200, 429]), ("kb", [200, 200, 429])] {
        for status in statuses {
            gateway
                .get("/")
                .header("apikey", key)
                .expect(status)
                .await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_change_elsewhere_does_not_forget_the_count() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = limited(&upstream, json!({"year": 2, "policy": "local"})).await?;
    gateway.get("/").expect(200).await?;
    gateway.consumer("unrelated", "key").await?;
    gateway
        .service("other", &upstream)
        .hosts(["other.test"])
        .create()
        .await?;
    gateway.get("/").expect(200).await?;
    gateway.get("/").expect(429).await?;
    Ok(())
}

#[tokio::test]
async fn a_second_later_there_is_room_again() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = limited(&upstream, json!({"second": 1, "policy": "local"})).await?;
    for _ in 0..2 {
        eventually(
            "a request is let through",
            Duration::from_secs(5),
            || async { Ok((gateway.get("/").send().await?.status == 200).then_some(())) },
        )
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn two_nodes_share_a_limit_in_redis() -> Outcome {
    let upstream = Upstream::start().await?;
    let redis = redis::Server::shared()?;
    let gateway = limited(
        &upstream,
        json!({
            "year": 25, "policy": "redis", "fault_tolerant": false,
            "redis": {
                "host": "127.0.0.1", "port": redis.addr().port(), "database": redis.database()?,
            },
        }),
    )
    .await?;
    let other = gateway.another().await?;
    let mut sum = 0;
    for _ in 0..2 {
        sum += allowed(&[&gateway, &other], 50).await;
    }
    assert_eq!(sum, 25);
    assert_eq!(upstream.requests(), 25);
    gateway.get("/").expect(429).await?;
    other.get("/").expect(429).await?;
    Ok(())
}

#[tokio::test]
async fn with_redis_away_requests_pass_or_fail_as_configured() -> Outcome {
    let upstream = Upstream::start().await?;
    let port = silverback_testkit::ports::free_port()?;
    let config = |tolerant: bool| {
        json!({
            "year": 1, "policy": "redis", "fault_tolerant": tolerant,
            "redis": {"host": "127.0.0.1", "port": port},
        })
    };
    let tolerant = limited(&upstream, config(true)).await?;
    for _ in 0..3 {
        tolerant.get("/").expect(200).await?;
    }
    let strict = limited(&upstream, config(false)).await?;
    strict.get("/").expect(500).await?;
    assert_eq!(upstream.requests(), 3);
    Ok(())
}

#[tokio::test]
async fn two_nodes_share_a_limit_in_postgres() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = limited(&upstream, json!({"year": 200, "policy": "cluster"})).await?;
    let other = gateway.another().await?;
    let nodes = [&gateway, &other];
    let mut sum = 0;
    for _ in 0..12 {
        sum += allowed(&nodes, 50).await;
    }

    // Blocks are leased, so that no request waits: a node on credit admits a tenth more, and what it leased and did not use is lost.
    assert!((160..=240).contains(&sum), "{sum} of 200 were let through");
    // And it is over for both.
    eventually("both nodes deny", Duration::from_secs(10), || async {
        let answers = join_all(nodes.map(|n| n.get("/").send())).await;
        let denied = answers.into_iter().all(|a| a.unwrap().status == 429);
        Ok(denied.then_some(()))
    })
    .await?;
    Ok(())
}
