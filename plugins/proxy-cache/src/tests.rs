#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use serde_json::{Value, json};
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeServices, Outcome, consumer, schema_without_descriptions,
};
use silverback_plugin::{AdminAnswer, AdminCall, Consumer, InstanceInfo, Plugin};
use uuid::Uuid;

use crate::ProxyCache;

type Cache = Compiled<ProxyCache>;

fn config(more: Value) -> Value {
    let mut config = json!({ "strategy": "memory" });
    let all = config.as_object_mut().unwrap();
    all.extend(more.as_object().unwrap().clone());
    config
}

fn cache(more: Value) -> Cache {
    Cache::new(config(more))
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

fn get(path: &str) -> Exchange {
    Exchange::get(path).at(at(0)).upstream(
        200,
        &[("content-type", "application/json")],
        path.to_owned(),
    )
}

fn saying(cache_control: &str) -> Exchange {
    let headers = [
        ("content-type", "text/plain"),
        ("cache-control", cache_control),
    ];
    Exchange::get("/").at(at(0)).upstream(200, &headers, "said")
}

/// What `X-Cache-Status` says.
#[track_caller]
fn is(done: &Outcome, status: &str) {
    assert_eq!(done.header("x-cache-status"), Some(status));
    assert_eq!(done.exited(), status == "Hit");
}

fn key(done: &Outcome) -> String {
    done.header("x-cache-key").unwrap().to_owned()
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<ProxyCache>(), facts);
}

#[test]
fn only_dictionaries_that_kong_has_can_be_named() {
    let named = |name: &str| {
        let memory = json!({ "memory": { "dictionary_name": name } });
        silverback_plugin::exchange::config::<ProxyCache>(config(memory))
    };
    named("kong").unwrap();
    assert_eq!(
        named("mine").unwrap_err().message(),
        "schema violation (missing shared dict 'mine')"
    );
}

#[test]
fn what_cannot_be_used_is_refused_at_its_field() {
    let field = |more: Value| {
        let services = FakeServices::default();
        let made = Cache::try_with(config(more), &InstanceInfo::default(), &services);
        made.map(drop).unwrap_err().field
    };
    assert_eq!(field(json!({ "storage_ttl": -1 })), "storage_ttl");
    assert_eq!(field(json!({ "vary_headers": ["a b"] })), "vary_headers");
}

#[tokio::test]
async fn an_answer_is_given_again_to_the_same_request() {
    let cache = cache(json!({}));
    let headers = [
        ("content-type", "application/json"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("connection", "keep-alive"),
        ("ratelimit-remaining", "9"),
        ("age", "77"),
    ];
    let first = Exchange::get("/x")
        .at(at(0))
        .upstream(404, &headers, "hello");
    let first = first.run_on(&cache).await;
    is(&first, "Miss");
    assert_eq!(first.header("age"), Some("77"));
    let again = get("/x").at(at(7)).run_on(&cache).await;
    is(again.exit_status(404), "Hit");
    assert_eq!(again.body_text(), "hello");
    assert_eq!(again.header("age"), Some("7"));
    assert_eq!(again.header_values("set-cookie"), ["a=1", "b=2"]);
    for not_again in ["connection", "ratelimit-remaining", "content-length"] {
        assert_eq!(again.header(not_again), None, "{not_again}");
    }
    assert_eq!(key(&again), key(&first));
    is(&get("/y").run_on(&cache).await, "Miss");
}

#[tokio::test]
async fn keys_are_those_of_kong() {
    let of = |exchange: Exchange, more: Value| async move {
        let route = silverback_plugin::RouteInfo {
            id: "00000002-0000-4000-8000-000000000001".parse().unwrap(),
            name: None,
        };
        key(&exchange.route(route).run_on(&cache(more)).await)
    };
    for (method, path, expected) in [
        (
            "GET",
            "/1",
            "2bd09e37b89d12a4506eab36bb873b51f383502075f486d74aed2c6912a385b0",
        ),
        (
            "HEAD",
            "/1",
            "a82f11e52569076291552cbe2b320d78a446df1e2eba04a77ab52148dc1ff7f2",
        ),
        (
            "GET",
            "/1?b=1",
            "fc57018f2c89daa0087a76dcd197fba0d6d0821cc241fd9aff5854c5f518dec7",
        ),
    ] {
        assert_eq!(of(Exchange::new(method, path), json!({})).await, expected);
    }
    // Made with `sha256sum` from the text that the comment says.
    let id = "00000002-0000-4000-8000-000000000001";
    let digest = |text: &str| {
        let text = text.replace("ROUTE", id);
        let digest = crate::key::hex(&crate::key::sha256(text.as_bytes()));
        String::from_utf8(digest.to_vec()).unwrap()
    };
    let all = of(get("/A?c&b=2&a=%41+z&b=1"), json!({})).await;
    assert_eq!(all, digest("ROUTE|GET|GET /A|a=A z:b=1,2:c|"));
    let some = json!({ "vary_query_params": ["c", "b", "z"], "vary_headers": ["X-B", "x_a", "none"], "ignore_uri_case": true });
    let exchange = get("/A?c&b=2&a=%41+z&b=1")
        .header("x-a", "1")
        .header("x-b", "2")
        .header("x-b", "1");
    assert_eq!(
        of(exchange, some).await,
        digest("ROUTE|GET|get /a|c:b=1,2|X-B=1,2:x_a=1")
    );
    let alice = consumer(7, "alice");
    let hers = of(get("/").authenticated(Some(&alice), None), json!({})).await;
    assert_eq!(
        hers,
        digest(&format!("{}:ROUTE|GET|GET / HTTP/1.1||", alice.id))
    );
}

#[tokio::test]
async fn what_only_looks_the_same_is_not() {
    for (one, other) in [
        ("/?a=1&b=2", "/?a=1%3Ab%3D2"),
        ("/?a=1&a=2", "/?a=1,2"),
        ("/?a&a", "/?a=&a="),
        ("/?a=b", "/?a%3Db"),
    ] {
        let cache = cache(json!({}));
        let first = get(one).run_on(&cache).await;
        is(&first, "Miss");
        let second = get(other).run_on(&cache).await;
        is(&second, "Miss");
        assert_eq!(key(&first), key(&second), "{one} {other}");
        is(&get(other).run_on(&cache).await, "Hit");
    }
}

#[tokio::test]
async fn order_and_spelling_of_arguments_do_not_matter() {
    let cache = cache(json!({}));
    is(&get("/?b=1&a=x+y&a=2").run_on(&cache).await, "Miss");
    is(&get("/?a=2&a=x%20y&b=1").run_on(&cache).await, "Hit");
    is(&get("/?a=2&a=x%20y&b=2").run_on(&cache).await, "Miss");
}

#[tokio::test]
async fn consumers_do_not_see_each_others_answers() {
    let cache = cache(json!({}));
    let of = |who: &Arc<Consumer>| get("/").authenticated(Some(who), None);
    let (alice, bob) = (consumer(7, "alice"), consumer(8, "bob"));
    is(&of(&alice).run_on(&cache).await, "Miss");
    is(&of(&bob).run_on(&cache).await, "Miss");
    is(&of(&alice).run_on(&cache).await, "Hit");
    is(&get("/").run_on(&cache).await, "Miss");
}

#[tokio::test]
async fn other_methods_statuses_and_types_go_by() {
    let cache = cache(json!({}));
    for _ in 0..2 {
        let post = Exchange::post("/", "text/plain", "x").run_on(&cache).await;
        is(&post, "Bypass");
        assert_eq!(post.header("x-cache-key"), None);
        let json = [("content-type", "application/json; charset=utf-8")];
        for (status, headers) in [
            (200, &json[..]),
            (200, &[]),
            (500, &[("content-type", "text/plain")]),
        ] {
            let done = Exchange::get("/")
                .upstream(status, headers, "")
                .run_on(&cache)
                .await;
            is(&done, "Bypass");
            assert!(done.header("x-cache-key").is_some());
        }
    }
}

#[tokio::test]
async fn answers_to_head_are_not_kept() {
    let cache = cache(json!({}));
    let head = || {
        let length = [("content-type", "text/plain"), ("content-length", "5")];
        Exchange::new("HEAD", "/").upstream(200, &length, "")
    };
    for _ in 0..2 {
        let done = head().run_on(&cache).await;
        is(&done, "Miss");
        assert_eq!(done.header("content-length"), Some("5"));
    }
}

#[tokio::test]
async fn an_answer_is_good_for_a_time_and_kept_for_another() {
    let plain = cache(json!({ "cache_ttl": 10 }));
    is(&get("/").run_on(&plain).await, "Miss");
    is(&get("/").at(at(9)).run_on(&plain).await, "Hit");
    is(&get("/").at(at(11)).run_on(&plain).await, "Miss");

    let longer = cache(json!({ "cache_ttl": 10, "storage_ttl": 60 }));
    is(&get("/").run_on(&longer).await, "Miss");
    is(&get("/").at(at(10)).run_on(&longer).await, "Hit");
    is(&get("/").at(at(11)).run_on(&longer).await, "Refresh");
    is(&get("/").at(at(21)).run_on(&longer).await, "Hit");
    is(&get("/").at(at(99)).run_on(&longer).await, "Miss");

    let forever = cache(json!({ "cache_ttl": null, "storage_ttl": 0 }));
    is(&get("/").run_on(&forever).await, "Miss");
    is(&get("/").at(at(300)).run_on(&forever).await, "Hit");
    is(&get("/").at(at(100_000)).run_on(&forever).await, "Refresh");
}

#[tokio::test]
async fn a_larger_answer_than_there_is_room_for_goes_by() {
    let cache = cache(json!({}));
    let large = || {
        let body = vec![b'x'; crate::store::LARGEST + 1];
        Exchange::get("/").upstream(200, &[("content-type", "text/plain")], body)
    };
    for _ in 0..2 {
        let done = large().run_on(&cache).await;
        is(&done, "Miss");
        assert_eq!(done.body().len(), crate::store::LARGEST + 1);
    }
    let said = (crate::store::LARGEST + 1).to_string();
    let headers = [("content-type", "text/plain"), ("content-length", &*said)];
    let done = Exchange::get("/")
        .upstream(200, &headers, "")
        .run_on(&cache)
        .await;
    is(&done, "Miss");
    is(&get("/").run_on(&cache).await, "Miss");
}

#[tokio::test]
async fn clients_are_told_what_is_configured_or_all_when_they_debug() {
    let hidden = json!({ "response_headers": { "age": false, "X-Cache-Status": false, "X-Cache-Key": null } });
    let cache = cache(hidden);
    let names = ["age", "x-cache-status", "x-cache-key"];
    for _ in 0..2 {
        let done = get("/").run_on(&cache).await;
        for name in names {
            assert_eq!(done.header(name), None, "{name}");
        }
    }
    let done = get("/").header("kong-debug", "1").run_on(&cache).await;
    for name in names {
        assert!(done.header(name).is_some(), "{name}");
    }
}

#[tokio::test]
async fn without_cache_control_nobody_is_asked() {
    let cache = cache(json!({}));
    let asking = || saying("no-store, max-age=0").header("cache-control", "no-cache");
    is(
        &asking().header("authorization", "x").run_on(&cache).await,
        "Miss",
    );
    is(&asking().run_on(&cache).await, "Hit");
}

#[tokio::test]
async fn with_cache_control_answers_say_how_long_they_are_good() {
    let cache = cache(json!({ "cache_control": true, "storage_ttl": 600 }));
    for no in [
        "no-store",
        "no-cache",
        "private, max-age=9",
        "max-age=0",
        "x",
    ] {
        is(&saying(no).run_on(&cache).await, "Bypass");
    }
    is(&saying("max-age=10").run_on(&cache).await, "Miss");
    let asking = |seconds, text: &str| {
        let asking = saying("no-store").at(at(seconds));
        asking.header("cache-control", text)
    };
    for (seconds, text, status) in [
        (5, "", "Hit"),
        (5, "max-age=5", "Hit"),
        (5, "max-age=4", "Bypass"),
        (5, "min-fresh=5", "Hit"),
        (5, "min-fresh=6", "Bypass"),
        (5, "no-cache", "Bypass"),
        (5, "no-store", "Bypass"),
        (10, "", "Hit"),
        (11, "", "Bypass"),
        (11, "max-stale=1", "Hit"),
        (12, "max-stale=1", "Bypass"),
        (500, "max-stale", "Hit"),
        (500, "max-stale=nonsense", "Bypass"),
    ] {
        let done = asking(seconds, text).run_on(&cache).await;
        assert_eq!(
            done.header("x-cache-status"),
            Some(status),
            "{seconds} {text}"
        );
    }
    let renewed = saying("max-age=10").at(at(11)).run_on(&cache).await;
    is(&renewed, "Refresh");
    is(&asking(20, "").run_on(&cache).await, "Hit");
}

#[tokio::test]
async fn an_answer_that_has_to_be_asked_for_anew_is_never_stale() {
    for said in [
        "max-age=10, must-revalidate",
        "s-maxage=10",
        "max-age=10, proxy-revalidate",
    ] {
        let cache = cache(json!({ "cache_control": true, "storage_ttl": 600 }));
        is(&saying(said).run_on(&cache).await, "Miss");
        let stale = |seconds| {
            saying(said)
                .at(at(seconds))
                .header("cache-control", "max-stale")
        };
        is(&stale(10).run_on(&cache).await, "Hit");
        is(&stale(11).run_on(&cache).await, "Refresh");
    }
}

#[tokio::test]
async fn who_wants_only_what_is_kept_gets_nothing_else() {
    let cache = cache(json!({ "cache_control": true, "storage_ttl": 600 }));
    let asking = |seconds| {
        saying("max-age=10")
            .at(at(seconds))
            .header("cache-control", "only-if-cached")
    };
    let none = asking(0).run_on(&cache).await;
    none.exit_status(504);
    assert!(none.header("x-cache-key").is_some());
    assert_eq!(none.header("x-cache-status"), None);
    is(&saying("max-age=10").run_on(&cache).await, "Miss");
    is(&asking(1).run_on(&cache).await, "Hit");
    asking(11).run_on(&cache).await.exit_status(504);
}

#[tokio::test]
async fn credentials_for_the_upstream_are_not_shared() {
    let cache = cache(json!({ "cache_control": true }));
    let with = || saying("max-age=10").header("authorization", "Basic x");
    is(&with().run_on(&cache).await, "Bypass");
    is(&with().run_on(&cache).await, "Bypass");
    // A consumer has answers of its own.
    let alice = consumer(7, "alice");
    let hers = || with().authenticated(Some(&alice), None);
    is(&hers().run_on(&cache).await, "Miss");
    is(&hers().run_on(&cache).await, "Hit");
}

#[tokio::test]
async fn answers_outlive_a_change_of_the_configuration() {
    let services = FakeServices::default();
    let make = |ttl| {
        let config = config(json!({ "cache_ttl": ttl }));
        Cache::with(config, &InstanceInfo::default(), &services)
    };
    let old = make(10);
    is(&get("/").run_on(&old).await, "Miss");
    let new = make(20);
    drop(old);
    is(&get("/").at(at(5)).run_on(&new).await, "Hit");
}

/// Calls an endpoint.
fn call(services: &FakeServices, method: &Method, path: &str, given: &[&str]) -> AdminAnswer {
    let endpoints = ProxyCache::endpoints();
    let endpoint = endpoints.iter().find(|e| e.path == path).unwrap();
    let mut call = AdminCall::new(services);
    for ((name, _), value) in endpoint.parameters.iter().zip(given) {
        call = call.with(name, *value);
    }
    (endpoint.operation(method).unwrap().serve)(&call)
}

const ALL: &str = "/proxy-cache";
const ONE: &str = "/proxy-cache/{cache_key}";
const OF_PLUGIN: &str = "/proxy-cache/{plugin_id}/caches/{cache_key}";

fn instance(id: u128) -> InstanceInfo {
    InstanceInfo {
        id: Uuid::from_u128(id),
        ..InstanceInfo::default()
    }
}

/// Two caches with an answer each, at the present moment, and the keys.
async fn two(services: &FakeServices) -> ([Cache; 2], [String; 2]) {
    let of = |id, name: &str| {
        let memory = json!({ "memory": { "dictionary_name": name } });
        Cache::with(config(memory), &instance(id), services)
    };
    let caches = [of(1, "kong"), of(2, "kong_db_cache")];
    let one = Exchange::get("/1").upstream(
        200,
        &[("content-type", "text/plain"), ("x-a", "1"), ("x-a", "2")],
        "one",
    );
    let keys = [
        key(&one.run_on(&caches[0]).await),
        key(&get("/2").at(SystemTime::now()).run_on(&caches[1]).await),
    ];
    (caches, keys)
}

#[tokio::test]
async fn a_kept_answer_can_be_looked_at() {
    let services = FakeServices::default();
    let (_caches, keys) = two(&services).await;
    let see = |path, given: &[&str]| call(&services, &Method::GET, path, given);
    let mut shown = see(ONE, &[&keys[0]]).body.unwrap();
    assert!(shown["timestamp"].take().is_u64());
    assert_eq!(
        shown,
        json!({
            "status": 200,
            "headers": { "content-type": "text/plain", "x-a": ["1", "2"], "x-cache-key": keys[0], "x-cache-status": "Miss" },
            "body": "one", "body_len": 3, "timestamp": null, "ttl": 300, "version": 1, "req_body": "",
        })
    );
    let (first, second) = (
        Uuid::from_u128(1).to_string(),
        Uuid::from_u128(2).to_string(),
    );
    assert_eq!(see(OF_PLUGIN, &[&first, &keys[0]]).status, 200);
    for (path, given) in [
        (OF_PLUGIN, vec![&*second, &*keys[0]]),
        (OF_PLUGIN, vec!["nonsense", &*keys[0]]),
        (
            OF_PLUGIN,
            vec!["00000000-0000-0000-0000-000000000009", &*keys[0]],
        ),
        (ONE, vec!["nonsense"]),
        (
            ONE,
            vec![&*keys[0].replace(['a', 'b', 'c', 'd', 'e', 'f'], "0")],
        ),
    ] {
        assert_eq!(
            see(path, &given),
            AdminAnswer::empty(http::StatusCode::NOT_FOUND)
        );
    }
}

#[tokio::test]
async fn a_kept_answer_can_be_forgotten_everywhere() {
    let services = FakeServices::default();
    let (caches, keys) = two(&services).await;
    let forget = |path, given: &[&str]| call(&services, &Method::DELETE, path, given);
    let second = Uuid::from_u128(2).to_string();
    let done = forget(OF_PLUGIN, &[&second, &keys[1]]);
    assert_eq!(
        (done.status.as_u16(), done.told),
        (204, Some(format!("{second}:{}", keys[1])))
    );
    is(&get("/2").run_on(&caches[1]).await, "Miss");
    let done = forget(ONE, &[&keys[0]]);
    assert_eq!(
        (done.status.as_u16(), done.told),
        (204, Some(format!("*:{}", keys[0])))
    );
    // Another node may have it.
    let done = forget(ONE, &[&keys[0]]);
    assert_eq!(
        (done.status.as_u16(), done.told),
        (404, Some(format!("*:{}", keys[0])))
    );
    assert_eq!(forget(ONE, &["nonsense"]).told, None);
    let done = call(&services, &Method::DELETE, ALL, &[]);
    assert_eq!(
        (done.status.as_u16(), done.told.as_deref()),
        (204, Some("*:*"))
    );
    is(&get("/2").run_on(&caches[1]).await, "Miss");
}

#[tokio::test]
async fn what_another_node_forgets_is_forgotten_here() {
    let services = FakeServices::default();
    let first = Uuid::from_u128(1);
    for (told, expected) in [
        ("*:*".to_owned(), ["Miss", "Miss"]),
        (format!("{first}:*"), ["Miss", "Hit"]),
        (format!("{first}:KEY"), ["Miss", "Hit"]),
        ("*:KEY".to_owned(), ["Miss", "Hit"]),
        (format!("{}:KEY", Uuid::from_u128(2)), ["Hit", "Hit"]),
        ("nonsense".to_owned(), ["Hit", "Hit"]),
        ("*:nonsense".to_owned(), ["Hit", "Hit"]),
        ("nonsense:*".to_owned(), ["Hit", "Hit"]),
    ] {
        let (caches, keys) = two(&services).await;
        ProxyCache::hear(&told.replace("KEY", &keys[0]), &services);
        for (n, expected) in expected.into_iter().enumerate() {
            let path = format!("/{}", n + 1);
            let done = get(&path).at(SystemTime::now()).run_on(&caches[n]).await;
            assert_eq!(done.header("x-cache-status"), Some(expected), "{told} {n}");
        }
    }
}
