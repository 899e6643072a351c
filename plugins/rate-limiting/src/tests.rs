#![allow(clippy::unwrap_used)]

mod cluster;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeServices, Outcome, config, consumer, definition,
    schema_without_descriptions,
};
use silverback_plugin::schema::output::show;
use silverback_plugin::{Credential, InstanceInfo, ServiceInfo};
use silverback_testkit::redis::Server;
use uuid::Uuid;

use crate::RateLimiting;

/// The 34th second of a minute.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_341_994)
}

fn plugin(config: Value) -> Compiled<RateLimiting> {
    Compiled::new(config)
}

fn get() -> Exchange {
    Exchange::get("/").at(now())
}

fn headers<'a>(done: &'a Outcome, names: &[&str]) -> Vec<Option<&'a str>> {
    names.iter().map(|n| done.header(n)).collect()
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<RateLimiting>(), facts);
}

#[test]
fn old_spellings_of_redis_are_taken_and_shown() {
    let filled = config::<RateLimiting>(
        json!({ "minute": 5, "redis_host": "h", "redis_database": 2, "policy": "redis" }),
    )
    .unwrap();
    assert_eq!(filled["redis"]["host"], "h");
    assert_eq!(filled["redis"]["port"], 6379);
    let row = serde_json::Map::from_iter([("config".to_owned(), Value::Object(filled))]);
    let shown = show(&definition::<RateLimiting>(), row);
    assert_eq!(shown["config"]["redis_host"], "h");
    assert_eq!(shown["config"]["redis_database"], 2);
    assert_eq!(shown["config"]["redis_timeout"], 2000);
    assert_eq!(shown["config"]["redis_password"], Value::Null);
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    for (bad, text) in [
        (
            json!({}),
            "at least one of these fields must be non-empty: 'config.second'",
        ),
        (json!({ "minute": 0 }), "value must be greater than 0"),
        (
            json!({ "minute": 10, "hour": 5 }),
            "(config: The limit for hour(5.0) cannot be lower than the limit for minute(10.0))",
        ),
        (
            json!({ "minute": 1, "sync_rate": 1 }),
            "(config: sync_rate can only be used with the redis policy)",
        ),
        (
            json!({ "minute": 1, "policy": "redis", "redis": { "host": "h" }, "sync_rate": 0.01 }),
            "(config: sync_rate must be greater than 0.02, or -1 to disable)",
        ),
        (
            json!({ "minute": 1, "policy": "redis" }),
            "host = \"required field missing\"",
        ),
        (
            json!({ "minute": 1, "limit_by": "header" }),
            "config.header_name",
        ),
        (json!({ "minute": 1, "limit_by": "path" }), "config.path"),
    ] {
        let message = config::<RateLimiting>(bad.clone()).unwrap_err();
        let message = format!("{} {}", message.message(), message.to_json());
        assert!(message.contains(text), "{bad}: {message}");
    }
}

#[tokio::test]
async fn clients_are_told_their_limits_as_kong_tells_them() {
    let names = [
        "x-ratelimit-limit-minute",
        "x-ratelimit-remaining-minute",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "retry-after",
    ];
    let plugin = plugin(json!({ "minute": 3 }));
    for left in ["2", "1", "0"] {
        let done = get().run_on(&plugin).await;
        assert_eq!(
            headers(done.passed(), &names),
            [
                Some("3"),
                Some(left),
                Some("3"),
                Some(left),
                Some("26"),
                None
            ]
        );
    }
    let done = get().run_on(&plugin).await;
    assert_eq!(
        done.exit_status(429).body_json()["message"],
        "API rate limit exceeded"
    );
    assert_eq!(
        headers(&done, &names),
        [
            Some("3"),
            Some("0"),
            Some("3"),
            Some("0"),
            Some("26"),
            Some("26")
        ]
    );
    // The next minute.
    get()
        .at(now() + Duration::from_secs(26))
        .run_on(&plugin)
        .await
        .passed();
}

#[tokio::test]
async fn a_request_counts_when_it_comes_to_be_counted() {
    let plugin = plugin(json!({ "minute": 1 }));
    let wait = Duration::from_secs(26);
    let done = get().after(wait).run_on(&plugin).await;
    assert_eq!(done.passed().header("ratelimit-reset"), Some("60"));
    let next = get().at(now() + wait).run_on(&plugin).await;
    next.exit_status(429);
}

#[tokio::test]
async fn the_tightest_limit_speaks_for_several() {
    let plugin = plugin(json!({ "minute": 2, "hour": 10, "day": 100 }));
    let names = [
        "x-ratelimit-remaining-minute",
        "x-ratelimit-remaining-hour",
        "x-ratelimit-remaining-day",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
    ];
    let told = |done: &Outcome| {
        headers(done, &names)
            .into_iter()
            .map(|h| h.unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        told(&get().run_on(&plugin).await),
        ["1", "9", "99", "2", "1", "26"]
    );
    assert_eq!(
        told(&get().run_on(&plugin).await),
        ["0", "8", "98", "2", "0", "26"]
    );
    let done = get().run_on(&plugin).await;
    assert_eq!(told(&done), ["0", "8", "98", "2", "0", "26"]);
    assert_eq!(done.exit_status(429).header("retry-after"), Some("26"));
}

#[tokio::test]
async fn equal_limits_are_spoken_for_by_the_longest() {
    let done = get()
        .run::<RateLimiting>(json!({ "second": 5, "hour": 5 }))
        .await;
    assert_eq!(done.header("ratelimit-reset"), Some("3206"));
}

#[tokio::test]
async fn limits_can_be_hidden_and_answers_chosen() {
    let hidden = plugin(json!({ "minute": 1, "hide_client_headers": true }));
    let done = get().run_on(&hidden).await;
    assert_eq!(
        headers(
            done.passed(),
            &["ratelimit-limit", "x-ratelimit-limit-minute"]
        ),
        [None, None]
    );
    let done = get().run_on(&hidden).await;
    assert_eq!(
        headers(done.exit_status(429), &["retry-after", "ratelimit-limit"]),
        [None, None]
    );
    let other = plugin(json!({ "minute": 1, "error_code": 418, "error_message": "slow down" }));
    get().run_on(&other).await.passed();
    assert_eq!(
        get().run_on(&other).await.exit_status(418).body_json()["message"],
        "slow down"
    );
}

#[tokio::test]
async fn callers_are_told_apart() {
    let (alice, bob) = (consumer(1, "alice"), consumer(2, "bob"));
    let credential = |id| {
        Arc::new(Credential {
            id: Uuid::from_u128(id),
            lookup: Default::default(),
            consumer: alice.clone(),
            expires_at: None,
            extra: Default::default(),
            prepared: Default::default(),
        })
    };
    let (first, second) = (credential(1), credential(2));

    let by_consumer = plugin(json!({ "minute": 1 }));
    get()
        .authenticated(Some(&alice), Some(&first))
        .run_on(&by_consumer)
        .await
        .passed();
    get()
        .authenticated(Some(&alice), Some(&second))
        .run_on(&by_consumer)
        .await
        .exit_status(429);
    get()
        .authenticated(Some(&bob), None)
        .run_on(&by_consumer)
        .await
        .passed();
    get().run_on(&by_consumer).await.passed();
    get().run_on(&by_consumer).await.exit_status(429);
    get()
        .client_ip([127, 0, 0, 2])
        .run_on(&by_consumer)
        .await
        .passed();

    let by_credential = plugin(json!({ "minute": 1, "limit_by": "credential" }));
    get()
        .authenticated(Some(&alice), Some(&first))
        .run_on(&by_credential)
        .await
        .passed();
    get()
        .authenticated(Some(&alice), Some(&second))
        .run_on(&by_credential)
        .await
        .passed();
    get()
        .authenticated(Some(&alice), Some(&first))
        .run_on(&by_credential)
        .await
        .exit_status(429);

    let by_service = plugin(json!({ "minute": 1, "limit_by": "service" }));
    let service = |id| {
        get().service(Some(ServiceInfo {
            id: Uuid::from_u128(id),
            name: None,
            host: "upstream.test".to_owned(),
        }))
    };
    service(1).run_on(&by_service).await.passed();
    service(1)
        .client_ip([9, 9, 9, 9])
        .run_on(&by_service)
        .await
        .exit_status(429);
    service(2).run_on(&by_service).await.passed();

    let by_header = plugin(json!({ "minute": 1, "limit_by": "header", "header_name": "x-k" }));
    get().header("X-K", "1").run_on(&by_header).await.passed();
    get()
        .header("X-K", "1")
        .run_on(&by_header)
        .await
        .exit_status(429);
    get().header("X-K", "2").run_on(&by_header).await.passed();
    get().run_on(&by_header).await.passed();

    let by_path = plugin(json!({ "minute": 1, "limit_by": "path", "path": "/lim" }));
    let path = |p| Exchange::get(p).at(now());
    path("/lim?x").run_on(&by_path).await.passed();
    path("//l%69m")
        .client_ip([9, 9, 9, 9])
        .run_on(&by_path)
        .await
        .exit_status(429);
    path("/other").run_on(&by_path).await.passed();
    path("/").run_on(&by_path).await.exit_status(429);
}

#[tokio::test]
async fn counts_outlive_a_change_of_configuration_and_belong_to_a_place() {
    let services = FakeServices::default();
    let on = |route| InstanceInfo {
        route: Some(Uuid::from_u128(route)),
        ..InstanceInfo::default()
    };
    let old = Compiled::<RateLimiting>::with(json!({ "minute": 1 }), &on(1), &services);
    get().run_on(&old).await.passed();
    let new = Compiled::<RateLimiting>::with(json!({ "minute": 2 }), &on(1), &services);
    drop(old);
    assert_eq!(
        get()
            .run_on(&new)
            .await
            .passed()
            .header("ratelimit-remaining"),
        Some("0")
    );
    get().run_on(&new).await.exit_status(429);
    let elsewhere = Compiled::<RateLimiting>::with(json!({ "minute": 1 }), &on(2), &services);
    get().run_on(&elsewhere).await.passed();
}

#[tokio::test]
async fn limits_need_not_be_whole() {
    let plugin = plugin(json!({ "minute": 1.5 }));
    let done = get().run_on(&plugin).await;
    assert_eq!(
        headers(done.passed(), &["ratelimit-limit", "ratelimit-remaining"]),
        [Some("1.5"), Some("0.5")]
    );
    get().run_on(&plugin).await.passed();
    get().run_on(&plugin).await.exit_status(429);
}

#[test]
fn an_answer_that_is_no_status_is_refused() {
    let made = Compiled::<RateLimiting>::try_with(
        json!({ "minute": 1, "error_code": 99 }),
        &InstanceInfo::default(),
        &FakeServices::default(),
    );
    assert_eq!(made.map(|_| ()).unwrap_err().field, "error_code");
}

/// A configuration that counts in a Redis, on a route of its own.
fn in_redis(more: Value) -> (Value, InstanceInfo, Server) {
    let server = Server::start().unwrap();
    let mut config = json!({ "policy": "redis", "redis": server.settings() });
    config
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let instance = InstanceInfo {
        route: Some(Uuid::new_v4()),
        ..InstanceInfo::default()
    };
    (config, instance, server)
}

#[tokio::test]
async fn redis_counts_for_all_nodes_and_never_admits_more() {
    let (config, instance, _server) = in_redis(json!({ "hour": 20, "day": 21 }));
    let nodes: Vec<_> = (0..3)
        .map(|_| {
            Arc::new(Compiled::<RateLimiting>::with(
                config.clone(),
                &instance,
                &FakeServices::default(),
            ))
        })
        .collect();
    let at = SystemTime::now();
    let requests: Vec<_> = (0..60)
        .map(|i| {
            let node = nodes[i % 3].clone();
            tokio::spawn(async move { !Exchange::get("/").at(at).run_on(&node).await.exited() })
        })
        .collect();
    let mut admitted = 0;
    for request in requests {
        admitted += usize::from(request.await.unwrap());
    }
    assert_eq!(admitted, 20);
    let done = Exchange::get("/").at(at).run_on(&nodes[0]).await;
    // Refused requests are not counted.
    assert_eq!(
        done.exit_status(429).header("x-ratelimit-remaining-day"),
        Some("1")
    );
}

#[tokio::test]
async fn without_redis_requests_pass_or_fail_as_configured() {
    let away = |tolerant| json!({ "minute": 1, "policy": "redis", "fault_tolerant": tolerant, "redis": { "host": "127.0.0.1", "port": 1, "timeout": 500 } });
    let tolerant = plugin(away(true));
    for _ in 0..3 {
        get().run_on(&tolerant).await.passed();
    }
    let strict = plugin(away(false));
    let done = get().run_on(&strict).await;
    assert_eq!(
        done.exit_status(500).body_json()["message"],
        "An unexpected error occurred"
    );
}

#[tokio::test]
async fn limits_hold_again_when_redis_is_back() {
    let (config, instance, mut server) = in_redis(json!({ "hour": 100 }));
    let node = Compiled::<RateLimiting>::with(config, &instance, &FakeServices::default());
    let limited = async || {
        let done = Exchange::get("/").run_on(&node).await;
        done.passed().header("ratelimit-limit").is_some()
    };
    assert!(limited().await);
    server.kill();
    assert!(!limited().await);
    server.restart().unwrap();
    let back = async {
        while !limited().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), back)
        .await
        .unwrap();
}

#[tokio::test]
async fn nodes_exchange_counts_through_redis() {
    let (config, instance, _server) = in_redis(json!({ "hour": 10, "sync_rate": 0.02 }));
    let node =
        || Compiled::<RateLimiting>::with(config.clone(), &instance, &FakeServices::default());
    let (one, two) = (node(), node());
    let at = SystemTime::now();
    for _ in 0..6 {
        Exchange::get("/").at(at).run_on(&one).await.passed();
    }
    Exchange::get("/").at(at).run_on(&two).await.passed();
    // Until the second node has heard of the six.
    let heard = async {
        loop {
            let done = Exchange::get("/").at(at).run_on(&two).await;
            if done.exited() {
                return;
            }
            let left: u64 = done.header("ratelimit-remaining").unwrap().parse().unwrap();
            if left <= 2 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), heard)
        .await
        .unwrap();
    let mut more = 0;
    while !Exchange::get("/").at(at).run_on(&two).await.exited() {
        more += 1;
    }
    assert!(more <= 3, "{more}");
}
