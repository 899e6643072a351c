//! Upstreams whose targets are checked, by requests and by the gateway itself: what is unhealthy is left alone.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use silverback_testkit::gateway::{Call, Gateway, eventually};
use silverback_testkit::h1::Request;
use silverback_testkit::ports::free_port;
use silverback_testkit::upstream::{Answer, Upstream};

use super::upstreams::{UP, address, make, pair, server, target};
use crate::Outcome;

const PATIENCE: Duration = Duration::from_secs(10);

/// A gateway with the upstream, checked like this, and a service at it.
async fn over(checks: Value, targets: &[(&str, u32)]) -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    make(&gateway, &json!({ "healthchecks": checks })).await?;
    for (name, weight) in targets {
        target(&gateway, name, *weight).await?;
    }
    let service = gateway.service_at("s", &format!("http://{UP}"));
    service.paths(["/"]).create().await?;
    gateway.settle().await?;
    Ok(gateway)
}

/// The same with two targets of the same weight, `a` and `b`, and their addresses.
async fn two(checks: Value) -> anyhow::Result<(Gateway, [Upstream; 2], [String; 2])> {
    let (a, b) = pair().await?;
    let names = [address(&a), address(&b)];
    let gateway = over(checks, &[(&names[0], 1), (&names[1], 1)]).await?;
    Ok((gateway, [a, b], names))
}

/// Checks by requests: one failure is enough.
fn strict() -> Value {
    passive(json!({"http_failures": 1}))
}

/// Checks by requests, with these limits.
fn passive(limits: Value) -> Value {
    json!({"passive": {"unhealthy": limits}})
}

/// The gateway's own checks, often.
fn active(mut limits: Value) -> Value {
    limits["interval"] = json!(0.05);
    json!({"active": {
        "http_path": "/health",
        "timeout": 0.5,
        "headers": {"X-Check": ["one", "two"]},
        "healthy": {"interval": 0.05, "successes": 1},
        "unhealthy": limits,
    }})
}

async fn patch(gateway: &Gateway, body: Value) -> Outcome {
    let path = format!("/upstreams/{UP}");
    gateway.admin().patch(&path, &body).expect(200).await?;
    gateway.settle().await
}

/// What `GET /upstreams/U/health` says of a target.
async fn row(gateway: &Gateway, name: &str) -> anyhow::Result<Value> {
    let call = gateway.admin().get(&format!("/upstreams/{UP}/health"));
    let body = call.expect(200).await?.json();
    let rows = body["data"].as_array().context("a list")?;
    let found = rows.iter().find(|r| r["target"] == name);
    Ok(found.with_context(|| body.to_string())?.clone())
}

async fn health(gateway: &Gateway, name: &str) -> anyhow::Result<Value> {
    Ok(row(gateway, name).await?["health"].clone())
}

async fn becomes(gateway: &Gateway, name: &str, word: &str) -> Outcome {
    eventually(&format!("{name} is {word}"), PATIENCE, || async {
        Ok((health(gateway, name).await? == word).then_some(()))
    })
    .await
}

/// What `GET /upstreams/U/health?balancer_health=1` says.
async fn balancer_health(gateway: &Gateway) -> anyhow::Result<Value> {
    let path = format!("/upstreams/{UP}/health?balancer_health=1");
    let body = gateway.admin().get(&path).expect(200).await?.json();
    Ok(body["data"]["balancer_health"].clone())
}

/// An operator's word on a target; `what` is `healthy` or `unhealthy`, maybe after an address.
fn put<'a>(gateway: &'a Gateway, name: &str, what: &str) -> Call<'a> {
    let path = format!("/upstreams/{UP}/targets/{name}/{what}");
    gateway.admin().call("PUT", &path)
}

async fn say(gateway: &Gateway, name: &str, what: &str) -> Outcome {
    put(gateway, name, what).expect(204).await?;
    Ok(())
}

/// Who answers requests, each once.
async fn servers(gateway: &Gateway) -> anyhow::Result<String> {
    let mut all = BTreeSet::new();
    for n in 0..10 {
        all.insert(server(gateway.get(&format!("/{n}"))).await?);
    }
    Ok(all.into_iter().collect())
}

/// Whether another target was asked before.
fn is_retry(request: &Request) -> bool {
    request.headers.get("X-Retry-Attempt").is_some()
}

async fn no_peer(gateway: &Gateway) -> Outcome {
    let answer = gateway.get("/").expect(503).await?;
    let text = "failure to get a peer from the ring-balancer";
    assert_eq!(answer.json()["message"], text);
    Ok(())
}

#[tokio::test]
async fn a_target_that_fails_too_often_is_left_alone() -> Outcome {
    let (a, b) = pair().await?;
    let (name, weightless) = (address(&a), address(&b));
    let gateway = over(json!({}), &[(&*name, 100), (&*weightless, 0)]).await?;
    assert_eq!(health(&gateway, &name).await?, "HEALTHCHECKS_OFF");
    assert_eq!(balancer_health(&gateway).await?, "HEALTHY");

    let checks = passive(json!({"http_failures": 2, "http_statuses": [500]}));
    patch(&gateway, json!({ "healthchecks": checks })).await?;
    assert_eq!(health(&gateway, &name).await?, "HEALTHY");
    assert_eq!(health(&gateway, &weightless).await?, "HEALTHCHECKS_OFF");

    a.fail(2, &Answer::status(500));
    gateway.get("/").expect(500).await?;
    assert_eq!(health(&gateway, &name).await?, "HEALTHY");
    gateway.get("/").expect(500).await?;
    no_peer(&gateway).await?;
    assert_eq!(a.requests(), 2);

    assert_eq!(health(&gateway, &name).await?, "UNHEALTHY");
    let data = &row(&gateway, &name).await?["data"];
    let none = json!({"available": 0, "total": 100, "unavailable": 100});
    assert_eq!((&data["weight"], &data["dns"]), (&none, &json!("A")));
    assert_eq!(data["addresses"][0]["health"], "UNHEALTHY");
    assert_eq!(balancer_health(&gateway).await?, "UNHEALTHY");
    Ok(())
}

#[tokio::test]
async fn an_operators_word_counts_at_once() -> Outcome {
    let (gateway, [a, b], [name, _]) = two(strict()).await?;
    for way in ["", "127.0.0.1/", &format!("{name}/")] {
        say(&gateway, &name, &format!("{way}unhealthy")).await?;
        assert_eq!(servers(&gateway).await?, "b", "{way}");
        assert_eq!(health(&gateway, &name).await?, "UNHEALTHY", "{way}");
        say(&gateway, &name, &format!("{way}healthy")).await?;
        assert_eq!(servers(&gateway).await?, "ab", "{way}");
        assert_eq!(health(&gateway, &name).await?, "HEALTHY", "{way}");
    }
    // What requests have told is taken back too.
    a.fail(1, &Answer::status(500));
    b.fail(1, &Answer::status(500));
    for _ in 0..2 {
        gateway.get("/").expect(500).await?;
    }
    no_peer(&gateway).await?;
    say(&gateway, &name, "healthy").await?;
    assert_eq!(servers(&gateway).await?, "a");
    // An address that the target does not have.
    for what in ["127.0.0.9/unhealthy", "127.0.0.1:1/unhealthy"] {
        put(&gateway, &name, what).expect(400).await?;
    }
    assert_eq!(servers(&gateway).await?, "a");
    Ok(())
}

#[tokio::test]
async fn of_targets_that_nobody_checks_nothing_can_be_said() -> Outcome {
    let (gateway, _targets, [name, _]) = two(json!({})).await?;
    let message = format!("no healthchecker found for {UP}");
    for what in ["unhealthy", "healthy", "127.0.0.1/unhealthy"] {
        let body = put(&gateway, &name, what).expect(400).await?.json();
        assert_eq!(body["message"], message, "{what}");
    }
    assert_eq!(servers(&gateway).await?, "ab");
    Ok(())
}

#[tokio::test]
async fn a_target_that_refuses_once_is_not_asked_again() -> Outcome {
    let a = Upstream::named("a").await?;
    let (name, dead) = (address(&a), format!("127.0.0.1:{}", free_port()?));
    let checks = passive(json!({"tcp_failures": 1}));
    let gateway = over(checks, &[(&*name, 1), (&*dead, 1)]).await?;
    servers(&gateway).await?;
    assert_eq!(a.seen().iter().filter(|r| is_retry(r)).count(), 1);
    assert_eq!(health(&gateway, &dead).await?, "UNHEALTHY");
    Ok(())
}

#[tokio::test]
async fn a_target_that_is_too_slow_once_is_not_asked_again() -> Outcome {
    let checks = passive(json!({"timeouts": 1}));
    let (gateway, [slow, fast], [name, _]) = two(checks).await?;
    slow.answer(Answer::hang());
    let limits = json!({"read_timeout": 500, "retries": 0});
    let change = gateway.admin().patch("/services/s", &limits);
    change.expect(200).await?;
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(gateway.get("/").send().await?.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [&[200; 9][..], &[504]].concat());
    assert_eq!((slow.requests(), fast.requests()), (1, 9));
    assert_eq!(health(&gateway, &name).await?, "UNHEALTHY");
    Ok(())
}

#[tokio::test]
async fn the_gateway_asks_targets_how_they_are() -> Outcome {
    let checks = active(json!({"http_failures": 1}));
    let (gateway, [a, _b], [name, good]) = two(checks).await?;
    a.answer_path("/health", Answer::status(500));
    becomes(&gateway, &name, "UNHEALTHY").await?;
    assert_eq!(servers(&gateway).await?, "b");
    assert_eq!(health(&gateway, &good).await?, "HEALTHY");

    a.answer_path("/health", Answer::status(200));
    becomes(&gateway, &name, "HEALTHY").await?;
    assert_eq!(servers(&gateway).await?, "ab");

    let seen = a.seen();
    let check = seen.iter().find(|r| r.target == "/health");
    let check = check.context("a check")?;
    assert_eq!(check.method, "GET");
    assert_eq!(check.headers.get("Host"), Some("127.0.0.1"));
    assert!(check.headers.all("X-Check").eq(["one", "two"]));

    // From now on they are asked by another name.
    patch(&gateway, json!({"host_header": "forced.test"})).await?;
    eventually("the check has the other name", PATIENCE, || async {
        let seen = a.seen();
        let mut hosts = seen.iter().filter_map(|r| r.headers.get("Host"));
        Ok(hosts.any(|h| h == "forced.test").then_some(()))
    })
    .await
}

#[tokio::test]
async fn who_refuses_checks_or_never_answers_them_is_left_alone() -> Outcome {
    let (a, b) = pair().await?;
    a.answer_path("/health", Answer::hang());
    let (silent, good) = (address(&a), address(&b));
    let dead = format!("127.0.0.1:{}", free_port()?);
    let targets = [(&*silent, 1), (&*dead, 1), (&*good, 1)];
    let gateway = over(active(json!({"tcp_failures": 1})), &targets).await?;
    becomes(&gateway, &dead, "UNHEALTHY").await?;
    assert_eq!(health(&gateway, &silent).await?, "HEALTHY");
    assert_eq!(servers(&gateway).await?, "ab");

    let checks = active(json!({"tcp_failures": 1, "timeouts": 1}));
    patch(&gateway, json!({ "healthchecks": checks })).await?;
    becomes(&gateway, &silent, "UNHEALTHY").await?;
    assert_eq!(servers(&gateway).await?, "b");
    assert!(!b.seen().iter().any(is_retry));
    assert_eq!(health(&gateway, &dead).await?, "UNHEALTHY");
    Ok(())
}

#[tokio::test]
async fn an_upstream_is_not_asked_when_too_little_of_it_is_healthy() -> Outcome {
    let mut checks = strict();
    checks["threshold"] = json!(60);
    let (gateway, [a, b], [name, other]) = two(checks).await?;
    assert_eq!(balancer_health(&gateway).await?, "HEALTHY");
    say(&gateway, &name, "unhealthy").await?;
    for _ in 0..4 {
        no_peer(&gateway).await?;
    }
    assert_eq!(a.requests() + b.requests(), 0);
    assert_eq!(balancer_health(&gateway).await?, "UNHEALTHY");
    assert_eq!(health(&gateway, &other).await?, "HEALTHY");

    // Half is more than that.
    patch(&gateway, json!({"healthchecks": {"threshold": 49}})).await?;
    assert_eq!(servers(&gateway).await?, "b");
    patch(&gateway, json!({"healthchecks": {"threshold": 50}})).await?;
    no_peer(&gateway).await?;
    say(&gateway, &name, "healthy").await?;
    assert_eq!(servers(&gateway).await?, "ab");
    Ok(())
}

#[tokio::test]
async fn every_algorithm_leaves_unhealthy_targets_alone() -> Outcome {
    let (gateway, _targets, [name, other]) = two(strict()).await?;
    for algorithm in [
        "round-robin",
        "consistent-hashing",
        "least-connections",
        "latency",
    ] {
        patch(&gateway, json!({"algorithm": algorithm, "hash_on": "path"})).await?;
        for (out, left, answers) in [(&name, &other, "b"), (&other, &name, "a")] {
            say(&gateway, out, "unhealthy").await?;
            say(&gateway, left, "healthy").await?;
            assert_eq!(servers(&gateway).await?, answers, "{algorithm}");
        }
        say(&gateway, &name, "unhealthy").await?;
        no_peer(&gateway).await?;
    }
    Ok(())
}

#[tokio::test]
async fn all_nodes_hear_an_operators_word() -> Outcome {
    let (gateway, [a, b], [name, _]) = two(strict()).await?;
    let far = gateway.another().await?;
    assert_eq!(servers(&far).await?, "ab");
    for (says, hears) in [(&gateway, &far), (&far, &gateway)] {
        for (what, left) in [("unhealthy", "b"), ("healthy", "ab")] {
            say(says, &name, what).await?;
            becomes(hears, &name, &what.to_uppercase()).await?;
            assert_eq!(servers(hears).await?, left);
        }
    }
    // What a node finds out by itself it keeps to itself.
    for each in [&a, &b] {
        each.fail(1, &Answer::status(500));
    }
    for _ in 0..2 {
        gateway.get("/").expect(500).await?;
    }
    no_peer(&gateway).await?;
    assert_eq!(servers(&far).await?, "ab");
    Ok(())
}

#[tokio::test]
async fn an_operators_last_word_counts() -> Outcome {
    let a = Upstream::named("a").await?;
    let name = address(&a);
    let gateway = over(strict(), &[(&*name, 1)]).await?;
    for n in 0..100 {
        say(&gateway, &name, "unhealthy").await?;
        say(&gateway, &name, "healthy").await?;
        let answer = gateway.get("/").expect(200).await;
        answer.with_context(|| format!("after {n} times"))?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_known_stays_when_targets_come_and_go() -> Outcome {
    let c = Upstream::named("c").await?;
    let (gateway, _targets, [name, other]) = two(strict()).await?;
    say(&gateway, &name, "unhealthy").await?;
    target(&gateway, &address(&c), 1).await?;
    assert_eq!(servers(&gateway).await?, "bc");
    let gone = format!("/upstreams/{UP}/targets/{other}");
    gateway.admin().delete(&gone).expect(204).await?;
    assert_eq!(servers(&gateway).await?, "c");
    assert_eq!(health(&gateway, &name).await?, "UNHEALTHY");
    Ok(())
}

#[tokio::test]
async fn metrics_show_the_health_of_targets_when_asked_to() -> Outcome {
    let (gateway, _targets, [name, other]) = two(strict()).await?;
    say(&gateway, &name, "unhealthy").await?;
    let metrics = || gateway.status().get("/metrics").expect(200);
    let family = "kong_upstream_target_health";
    assert!(!metrics().await?.text().contains(family));

    let config = json!({"upstream_health_metrics": true});
    gateway.plugin("", "prometheus", config).await?;
    gateway.settle().await?;
    let text = metrics().await?.text();
    let has = |target: &str, state: &str, value: u8| {
        let labels = format!(
            "upstream=\"{UP}\",target=\"{target}\",address=\"{target}\",state=\"{state}\",subsystem=\"http\""
        );
        let line = format!("{family}{{{labels}}} {value}");
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    };
    for (target, healthy) in [(&name, 0), (&other, 1)] {
        has(target, "healthy", healthy);
        has(target, "unhealthy", 1 - healthy);
        has(target, "healthchecks_off", 0);
    }
    Ok(())
}
