#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeCounters, FakeServices, Outcome, config, consumer,
    schema_without_descriptions,
};
use silverback_plugin::{Credential, InstanceInfo};
use silverback_testkit::redis::Server;
use uuid::Uuid;

use crate::ResponseRateLimiting;

/// The 34th second of a minute.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_341_994)
}

fn plugin(config: Value) -> Compiled<ResponseRateLimiting> {
    Compiled::new(config)
}

/// A request whose response says that it costs this.
fn costs(cost: &str) -> Exchange {
    let headers = [("x-kong-limit", cost), ("content-length", "4")];
    Exchange::get("/").at(now()).upstream(200, &headers, "body")
}

fn free() -> Exchange {
    Exchange::get("/").at(now()).upstream(200, &[], "body")
}

fn told(done: &Outcome, names: &[&str]) -> Vec<Option<String>> {
    let header = |n: &&str| done.header(&format!("x-ratelimit-{n}")).map(str::to_owned);
    names.iter().map(header).collect()
}

fn some(texts: &[&str]) -> Vec<Option<String>> {
    texts.iter().map(|t| Some((*t).to_owned())).collect()
}

/// Claims that the upstream's response was replaced by an empty one.
fn stopped(done: &Outcome) {
    assert_eq!(done.passed().status(), 429);
    assert_eq!(
        (done.body().len(), done.header("content-length")),
        (0, Some("0"))
    );
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<ResponseRateLimiting>(), facts);
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    for (bad, text) in [
        (json!({}), "config.limits: required field missing"),
        (
            json!({ "limits": {} }),
            "config.limits: length must be at least 1",
        ),
        (
            json!({ "limits": { "v": {} } }),
            "at least one of these fields must be non-empty: 'second', 'minute', 'hour', 'day', 'month', 'year'",
        ),
        (
            json!({ "limits": { "v": { "minute": 0 } } }),
            "value must be greater than 0",
        ),
        (
            json!({ "limits": { "v": { "minute": 10, "hour": 5 } } }),
            "config.limits: the limit for hour(5.0) cannot be lower than the limit for minute(10.0)",
        ),
        (json!({ "limits": { "v": { "week": 1 } } }), "unknown field"),
        (
            json!({ "limits": { "v": { "minute": 1 } }, "policy": "redis" }),
            "host = \"required field missing\"",
        ),
        (
            json!({ "limits": { "v": { "minute": 1 } }, "limit_by": "service" }),
            "expected one of: consumer, credential, ip",
        ),
    ] {
        let message = config::<ResponseRateLimiting>(bad.clone()).unwrap_err();
        let message = format!("{} {}", message.message(), message.to_json());
        assert!(message.contains(text), "{bad}: {message}");
    }
}

#[test]
fn names_that_no_header_can_have_are_refused() {
    let refused = |config| {
        let (instance, services) = (InstanceInfo::default(), FakeServices::default());
        let made = Compiled::<ResponseRateLimiting>::try_with(config, &instance, &services);
        made.map(|_| ()).unwrap_err().field
    };
    let limits = json!({ "v": { "minute": 1 } });
    assert_eq!(
        refused(json!({ "limits": { "a b": { "minute": 1 } } })),
        "limits"
    );
    assert_eq!(
        refused(json!({ "limits": limits, "header_name": "a b" })),
        "header_name"
    );
    // There is no database.
    assert_eq!(
        refused(json!({ "limits": limits, "policy": "cluster" })),
        "policy"
    );
}

#[tokio::test]
async fn what_clients_are_told_was_left_before_their_request() {
    let plugin = plugin(
        json!({ "limits": { "video": { "minute": 3 }, "img": { "minute": 1, "hour": 5 } } }),
    );
    let names = [
        "remaining-video",
        "remaining-img",
        "limit-video-minute",
        "remaining-video-minute",
        "limit-img-hour",
        "remaining-img-hour",
        "remaining-img-minute",
    ];
    let done = costs("video=1").run_on(&plugin).await;
    assert_eq!(
        told(done.passed(), &names),
        some(&["3", "1", "3", "2", "5", "5", "1"])
    );
    assert_eq!(done.header("x-kong-limit"), None);
    assert_eq!((done.status(), done.body_text().as_ref()), (200, "body"));
    let done = costs("video=2, img=1").run_on(&plugin).await;
    assert_eq!(
        told(&done, &names),
        some(&["2", "1", "3", "0", "5", "4", "0"])
    );
    // No amount, no cost.
    for request in [costs("video"), free(), costs("other=9")] {
        let done = request.run_on(&plugin).await;
        assert_eq!(done.passed().status(), 200);
        assert_eq!(
            told(&done, &names),
            some(&["0", "0", "3", "0", "5", "4", "0"])
        );
    }
    // The next minute.
    let later = costs("video=1").at(now() + Duration::from_secs(26));
    let done = later.run_on(&plugin).await;
    assert_eq!(
        told(&done, &names),
        some(&["3", "1", "3", "2", "5", "4", "1"])
    );
}

#[tokio::test]
async fn a_slow_response_leaves_what_was_counted_after_its_request() {
    let plugin = plugin(json!({ "limits": { "v": { "minute": 2 } } }));
    let at = SystemTime::now() - Duration::from_secs(300);
    let later = at + Duration::from_secs(180);
    costs("v=2").at(later).run_on(&plugin).await.passed();
    costs("v=1").at(at).run_on(&plugin).await;
    let done = free().at(later).run_on(&plugin).await;
    assert_eq!(told(&done, &["remaining-v"]), some(&["0"]));
}

#[tokio::test]
async fn a_response_that_costs_what_is_used_up_is_replaced_and_costs_nothing() {
    let plugin = plugin(json!({ "limits": { "v": { "hour": 2 }, "w": { "hour": 5 } } }));
    costs("v=2").run_on(&plugin).await.passed();
    let done = costs("v=1, w=1").run_on(&plugin).await;
    stopped(&done);
    assert_eq!(
        told(
            &done,
            &[
                "remaining-v",
                "remaining-v-hour",
                "remaining-w",
                "remaining-w-hour"
            ]
        ),
        some(&["0", "0", "5", "4"])
    );
    let done = costs("w=1").run_on(&plugin).await;
    assert_eq!(done.passed().status(), 200);
    assert_eq!(told(&done, &["remaining-w"]), some(&["5"]));
}

#[tokio::test]
async fn a_response_may_cost_more_than_is_left() {
    let plugin = plugin(json!({ "limits": { "v": { "hour": 2 } } }));
    let done = costs("v=1.5, v=4").run_on(&plugin).await;
    assert_eq!(
        told(done.passed(), &["remaining-v", "remaining-v-hour"]),
        some(&["2", "0"])
    );
    let done = free().run_on(&plugin).await;
    assert_eq!(
        told(&done, &["remaining-v", "remaining-v-hour"]),
        some(&["-2", "0"])
    );
    stopped(&costs("v=1").run_on(&plugin).await);
}

#[tokio::test]
async fn a_switched_connection_is_not_taken_back() {
    let plugin = plugin(json!({ "limits": { "v": { "hour": 1 } } }));
    for left in ["1", "0", "-1"] {
        let switched = Exchange::get("/")
            .at(now())
            .upstream(101, &[("x-kong-limit", "v=1")], "");
        let done = switched.run_on(&plugin).await;
        assert_eq!(done.passed().status(), 101);
        assert_eq!(told(&done, &["remaining-v"]), some(&[left]));
    }
}

#[tokio::test]
async fn requests_can_be_refused_as_soon_as_one_limit_is_used_up() {
    let plugin = plugin(json!({
        "limits": { "v": { "hour": 2 }, "w": { "hour": 5 } }, "block_on_first_violation": true,
    }));
    costs("v=9").run_on(&plugin).await.passed();
    let done = costs("w=1").run_on(&plugin).await;
    let message = done.exit_status(429).body_json()["message"].clone();
    assert_eq!(message, "API rate limit exceeded for 'v'");
    assert_eq!(told(&done, &["remaining-v", "limit-v-hour"]), [None, None]);
}

#[tokio::test]
async fn limits_of_windows_can_be_hidden_and_the_header_chosen() {
    let plugin = plugin(json!({
        "limits": { "v": { "hour": 1 } }, "hide_client_headers": true, "header_name": "X-Usage",
    }));
    let costs = || {
        let headers = [("x-usage", "v=1"), ("x-kong-limit", "v=5")];
        Exchange::get("/").at(now()).upstream(200, &headers, "body")
    };
    let done = costs().run_on(&plugin).await;
    assert_eq!(
        told(
            done.passed(),
            &["remaining-v", "limit-v-hour", "remaining-v-hour"]
        ),
        [Some("1".to_owned()), None, None]
    );
    assert_eq!(
        (done.header("x-usage"), done.header("x-kong-limit")),
        (None, Some("v=5"))
    );
    stopped(&costs().run_on(&plugin).await);
}

#[tokio::test]
async fn callers_are_told_apart() {
    let (alice, bob) = (consumer(1, "alice"), consumer(2, "bob"));
    let credential = Arc::new(Credential {
        id: Uuid::from_u128(7),
        lookup: Default::default(),
        consumer: alice.clone(),
        expires_at: None,
        extra: Default::default(),
        prepared: Default::default(),
    });
    let limits = json!({ "v": { "hour": 1 } });
    let left = async |request: Exchange, plugin: &Compiled<ResponseRateLimiting>| {
        let done = request.run_on(plugin).await;
        done.header("x-ratelimit-remaining-v").unwrap().to_owned()
    };
    let by_consumer = plugin(json!({ "limits": limits }));
    let of = |who, by| costs("v=1").authenticated(who, by);
    assert_eq!(left(of(Some(&alice), None), &by_consumer).await, "1");
    assert_eq!(
        left(of(Some(&alice), Some(&credential)), &by_consumer).await,
        "0"
    );
    assert_eq!(left(of(Some(&bob), None), &by_consumer).await, "1");
    assert_eq!(left(costs("v=1"), &by_consumer).await, "1");
    assert_eq!(left(costs("v=1"), &by_consumer).await, "0");

    let by_credential = plugin(json!({ "limits": limits, "limit_by": "credential" }));
    assert_eq!(
        left(of(Some(&alice), Some(&credential)), &by_credential).await,
        "1"
    );
    assert_eq!(left(of(Some(&alice), None), &by_credential).await, "1");

    let by_ip = plugin(json!({ "limits": limits, "limit_by": "ip" }));
    assert_eq!(left(of(Some(&alice), None), &by_ip).await, "1");
    assert_eq!(left(of(Some(&bob), None), &by_ip).await, "0");
    assert_eq!(
        left(costs("v=1").client_ip([9, 9, 9, 9]), &by_ip).await,
        "1"
    );
}

#[tokio::test]
async fn counts_outlive_a_change_of_configuration_and_belong_to_a_place() {
    let services = FakeServices::default();
    let on = |route, most| {
        let instance = InstanceInfo {
            route: Some(Uuid::from_u128(route)),
            ..InstanceInfo::default()
        };
        let config = json!({ "limits": { "v": { "hour": most } } });
        Compiled::<ResponseRateLimiting>::with(config, &instance, &services)
    };
    let old = on(1, 1);
    costs("v=1").run_on(&old).await.passed();
    let new = on(1, 4);
    drop(old);
    let done = free().run_on(&new).await;
    assert_eq!(told(&done, &["remaining-v"]), some(&["3"]));
    let done = free().run_on(&on(2, 1)).await;
    assert_eq!(told(&done, &["remaining-v"]), some(&["1"]));
}

#[tokio::test]
async fn costs_are_counted_in_redis() {
    let server = Server::start().unwrap();
    let config = json!({
        "limits": { "v": { "day": 10 } }, "policy": "redis", "redis": server.settings(),
    });
    let node = || plugin(config.clone());
    let (one, two) = (node(), node());
    let at = SystemTime::now();
    costs("v=4").at(at).run_on(&one).await.passed();
    let heard = async {
        while told(&free().at(at).run_on(&two).await, &["remaining-v"]) != some(&["6"]) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), heard)
        .await
        .unwrap();
}

#[tokio::test]
async fn costs_are_counted_for_all_nodes_in_the_database() {
    let counters = Arc::new(FakeCounters::default());
    let services = [(); 2].map(|()| FakeServices::with_counters(counters.clone()));
    let config = json!({ "limits": { "v": { "year": 10 } }, "policy": "cluster" });
    let instance = InstanceInfo::default();
    let nodes = [0, 1].map(|i: usize| {
        Compiled::<ResponseRateLimiting>::with(config.clone(), &instance, &services[i])
    });
    let at = SystemTime::now();
    costs("v=4").at(at).run_on(&nodes[0]).await.passed();
    let heard = async {
        while told(&free().at(at).run_on(&nodes[1]).await, &["remaining-v"]) != some(&["6"]) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), heard)
        .await
        .unwrap();
    assert_eq!(counters.total(), 4);
}

#[tokio::test]
async fn without_redis_requests_pass_or_fail_as_configured() {
    let away = |tolerant| {
        let redis = json!({ "host": "127.0.0.1", "port": 1, "timeout": 500 });
        plugin(json!({
            "limits": { "v": { "day": 1 } }, "policy": "redis", "fault_tolerant": tolerant, "redis": redis,
        }))
    };
    let tolerant = away(true);
    for _ in 0..3 {
        let done = costs("v=1").run_on(&tolerant).await;
        assert_eq!(done.passed().status(), 200);
        assert_eq!(told(&done, &["remaining-v"]), [None]);
        assert_eq!(done.header("x-kong-limit"), None);
    }
    costs("v=1").run_on(&away(false)).await.exit_status(500);
}
