//! The policy `cluster`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use silverback_plugin::InstanceInfo;
use silverback_plugin::exchange::{Compiled, Exchange, FakeCounters, FakeServices};

use crate::RateLimiting;

fn node(config: serde_json::Value, counters: &Arc<FakeCounters>) -> Compiled<RateLimiting> {
    let services = FakeServices::with_counters(counters.clone());
    let instance = InstanceInfo {
        route: Some(uuid::Uuid::from_u128(2)),
        ..InstanceInfo::default()
    };
    Compiled::with(config, &instance, &services)
}

/// Lets the background tasks answer: the runtime has one thread, and fake counters answer at once.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn request() -> Exchange {
    Exchange::get("/").at(std::time::UNIX_EPOCH + Duration::from_secs(4_000_000_000))
}

/// Sends requests to three nodes in turn, more than are allowed, and counts those that pass.
async fn in_turn(limit: u64) -> u64 {
    let counters = Arc::new(FakeCounters::default());
    let config = json!({ "minute": limit, "policy": "cluster" });
    let nodes: Vec<_> = (0..3).map(|_| node(config.clone(), &counters)).collect();
    let mut admitted = 0;
    for _ in 0..limit + 50 {
        for node in &nodes {
            admitted += u64::from(!request().run_on(node).await.exited());
            settle().await;
        }
    }
    admitted
}

#[tokio::test]
async fn the_sum_over_nodes_is_the_limit() {
    for limit in [20, 100, 1000] {
        let admitted = in_turn(limit).await;
        // Each node may end up with the last small block that it did not spend.
        assert!(
            (limit - 3..=limit).contains(&admitted),
            "{admitted} of {limit}"
        );
    }
}

#[tokio::test]
async fn a_limit_of_one_gets_one_more_for_each_node_that_has_not_heard_of_it() {
    assert_eq!(in_turn(1).await, 3);
}

#[tokio::test]
async fn bursts_before_the_first_answer_get_the_credit_and_no_more() {
    let counters = Arc::new(FakeCounters::default());
    let nodes: Vec<_> = (0..4)
        .map(|_| node(json!({ "minute": 100, "policy": "cluster" }), &counters))
        .collect();
    let mut admitted = 0;
    for node in &nodes {
        for _ in 0..200 {
            admitted += u64::from(!request().run_on(node).await.exited());
        }
    }
    assert_eq!((admitted, counters.calls()), (4 * 10, 0));
    for _ in 0..300 {
        settle().await;
        for node in &nodes {
            admitted += u64::from(!request().run_on(node).await.exited());
        }
    }
    assert!((96..=100).contains(&admitted), "{admitted}");
}

#[tokio::test]
async fn a_small_limit_is_kept_by_each_node_without_an_answer() {
    let counters = Arc::new(FakeCounters::default());
    let node = node(json!({ "minute": 1, "policy": "cluster" }), &counters);
    let done = request().run_on(&node).await;
    assert_eq!(done.passed().header("ratelimit-remaining"), Some("0"));
    request().run_on(&node).await.exit_status(429);
}

#[tokio::test]
async fn nodes_learn_what_others_used() {
    let counters = Arc::new(FakeCounters::default());
    let nodes: Vec<_> = (0..2)
        .map(|_| node(json!({ "minute": 10, "policy": "cluster" }), &counters))
        .collect();
    for _ in 0..4 {
        request().run_on(&nodes[0]).await.passed();
        settle().await;
    }
    request().run_on(&nodes[1]).await.passed();
    settle().await;
    let done = request().run_on(&nodes[1]).await;
    let remaining: u64 = done
        .passed()
        .header("ratelimit-remaining")
        .unwrap()
        .parse()
        .unwrap();
    // Four and what the first node holds, and two.
    assert!((3..=4).contains(&remaining), "{remaining}");
    assert!(counters.keys()[0].starts_with("ratelimit:00000000-0000-0000-0000-000000000002:"));
}

#[tokio::test]
async fn without_the_database_tolerant_nodes_limit_by_themselves() {
    let counters = Arc::new(FakeCounters::default());
    counters.set_away(true);
    let node = node(json!({ "minute": 30, "policy": "cluster" }), &counters);
    let mut admitted = 0;
    for _ in 0..50 {
        admitted += u64::from(!request().run_on(&node).await.exited());
        settle().await;
    }
    assert_eq!(admitted, 30);
}

#[tokio::test]
async fn without_the_database_other_nodes_fail() {
    let counters = Arc::new(FakeCounters::default());
    counters.set_away(true);
    let node = node(
        json!({ "minute": 30, "policy": "cluster", "fault_tolerant": false }),
        &counters,
    );
    request().run_on(&node).await.passed();
    settle().await;
    request().run_on(&node).await.exit_status(500);
}

#[tokio::test]
async fn several_limits_are_counted_together_or_not_at_all() {
    let counters = Arc::new(FakeCounters::default());
    let node = node(
        json!({ "minute": 2, "hour": 10, "policy": "cluster" }),
        &counters,
    );
    for _ in 0..2 {
        request().run_on(&node).await.passed();
        settle().await;
    }
    for _ in 0..3 {
        let done = request().run_on(&node).await;
        done.exit_status(429);
        assert_eq!(done.header("x-ratelimit-remaining-hour"), Some("8"));
    }
}

#[test]
fn a_node_without_database_refuses_the_policy() {
    let config = json!({ "minute": 1, "policy": "cluster" });
    let made = Compiled::<RateLimiting>::try_with(
        config,
        &InstanceInfo::default(),
        &FakeServices::default(),
    );
    assert_eq!(made.map(|_| ()).unwrap_err().field, "policy");
}
