//! Upstreams: requests are spread over their targets, whose names they are told, and changes are followed.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use silverback_testkit::gateway::{Call, Gateway, Setup, eventually};
use silverback_testkit::ports::free_port;
use silverback_testkit::process;
use silverback_testkit::upstream::{Answer, Upstream};

use crate::Outcome;

/// No DNS server knows it.
pub(super) const UP: &str = "up.invalid";

const ALGORITHMS: [&str; 4] = [
    "round-robin",
    "consistent-hashing",
    "least-connections",
    "latency",
];

const PATIENCE: Duration = Duration::from_secs(10);

/// The upstream `up.invalid` with these fields.
pub(super) async fn make(gateway: &Gateway, fields: &Value) -> Outcome {
    let mut body = fields.clone();
    body["name"] = json!(UP);
    let made = gateway.admin().post("/upstreams", &body);
    made.expect(201).await?;
    Ok(())
}

pub(super) async fn target(gateway: &Gateway, name: &str, weight: u32) -> Outcome {
    let body = json!({"target": name, "weight": weight});
    let path = format!("/upstreams/{UP}/targets");
    gateway.admin().post(&path, &body).expect(201).await?;
    Ok(())
}

/// A gateway with the upstream and a service at it.
async fn over(fields: Value, targets: &[(&str, u32)]) -> anyhow::Result<Gateway> {
    start(Setup::new(), fields, targets).await
}

async fn start(setup: Setup, fields: Value, targets: &[(&str, u32)]) -> anyhow::Result<Gateway> {
    let gateway = setup.start().await?;
    make(&gateway, &fields).await?;
    for (name, weight) in targets {
        target(&gateway, name, *weight).await?;
    }
    let url = format!("http://{UP}");
    let service = gateway.service_at("s", &url).paths(["/"]);
    service.create().await?;
    Ok(gateway)
}

/// So many retries, and no more.
async fn retries(gateway: &Gateway, count: u32) -> Outcome {
    let body = json!({"retries": count});
    let patch = gateway.admin().patch("/services/s", &body);
    patch.expect(200).await?;
    Ok(())
}

pub(super) async fn pair() -> anyhow::Result<(Upstream, Upstream)> {
    Ok((Upstream::named("a").await?, Upstream::named("b").await?))
}

/// Which target has answered.
pub(super) async fn server(call: Call<'_>) -> anyhow::Result<String> {
    let answer = call.expect(200).await?.json();
    Ok(answer["server"].as_str().context("an echo")?.to_owned())
}

/// Which targets have answered these many requests.
async fn servers(gateway: &Gateway, count: usize) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(server(gateway.get("/")).await?);
    }
    Ok(all)
}

/// Changes what the upstream chooses by.
async fn choose_by(gateway: &Gateway, algorithm: &str) -> Outcome {
    let hash_on = match algorithm {
        "consistent-hashing" => "path",
        _ => "none",
    };
    let body = json!({"algorithm": algorithm, "hash_on": hash_on});
    let patch = gateway.admin().patch(&format!("/upstreams/{UP}"), &body);
    let row = patch.expect(200).await?.json();
    assert_eq!(row["algorithm"], algorithm);
    Ok(())
}

async fn no_peer(gateway: &Gateway) -> Outcome {
    let answer = gateway.get("/").expect(503).await?;
    let body = answer.json();
    assert_eq!(
        body["message"],
        "failure to get a peer from the ring-balancer"
    );
    assert_eq!(
        body["request_id"].as_str(),
        answer.header("X-Kong-Request-Id")
    );
    Ok(())
}

async fn no_host(gateway: &Gateway) -> Outcome {
    let answer = gateway.get("/").expect(503).await?;
    assert_eq!(answer.json()["message"], "name resolution failed");
    Ok(())
}

fn port(upstream: &Upstream) -> u16 {
    upstream.addr().port()
}

pub(super) fn address(upstream: &Upstream) -> String {
    upstream.addr().to_string()
}

fn path_of(upstream: &Upstream) -> String {
    format!("/upstreams/{UP}/targets/{}", upstream.addr())
}

#[tokio::test]
async fn targets_get_requests_by_their_weights() -> Outcome {
    let (a, b) = pair().await?;
    let targets = [(&*address(&a), 75), (&*address(&b), 25)];
    let gateway = over(json!({}), &targets).await?;
    let order = servers(&gateway, 40).await?;
    assert_eq!((a.requests(), b.requests()), (30, 10));
    for window in order.windows(4) {
        let of_b = window.iter().filter(|name| *name == "b").count();
        assert_eq!(of_b, 1, "{order:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_target_without_weight_gets_nothing() -> Outcome {
    let (a, b) = pair().await?;
    let targets = [(&*address(&a), 0), (&*address(&b), 1)];
    let gateway = over(json!({}), &targets).await?;
    for algorithm in ALGORITHMS {
        choose_by(&gateway, algorithm).await?;
        for n in 0..10 {
            let name = server(gateway.get(&format!("/{n}"))).await?;
            assert_eq!(name, "b", "{algorithm}");
        }
    }
    assert_eq!(a.requests(), 0);
    Ok(())
}

#[tokio::test]
async fn without_a_target_to_ask_it_is_503() -> Outcome {
    let (a, b) = pair().await?;
    let weightless = [(&*address(&a), 0), (&*address(&b), 0)];
    for targets in [&[][..], &weightless, &[("nowhere.invalid:80", 100)]] {
        let gateway = over(json!({}), targets).await?;
        for algorithm in ALGORITHMS {
            choose_by(&gateway, algorithm).await?;
            no_peer(&gateway).await?;
        }
    }
    assert_eq!(a.requests() + b.requests(), 0);
    Ok(())
}

#[tokio::test]
async fn what_targets_refuse_another_gets() -> Outcome {
    let a = Upstream::named("a").await?;
    let dead = || anyhow::Ok(format!("127.0.0.1:{}", free_port()?));
    let targets = [(&*address(&a), 1), (&*dead()?, 1), (&*dead()?, 1)];
    // More retries than the budget would have.
    let setup = Setup::new().set("retry_budget", "off");
    let gateway = start(setup, json!({}), &targets).await?;
    // Just enough to come to each.
    retries(&gateway, 2).await?;
    for algorithm in ALGORITHMS {
        choose_by(&gateway, algorithm).await?;
        a.forget();
        for n in 0..20 {
            let call = gateway.call("POST", &format!("/{n}")).body("x");
            assert_eq!(server(call).await?, "a", "{algorithm}");
        }
        assert_eq!(a.requests(), 20, "{algorithm}");
    }
    Ok(())
}

#[tokio::test]
async fn without_retries_the_client_is_told_of_a_refusal() -> Outcome {
    let a = Upstream::named("a").await?;
    let dead = format!("127.0.0.1:{}", free_port()?);
    let gateway = over(json!({}), &[(&*address(&a), 1), (&*dead, 1)]).await?;
    retries(&gateway, 0).await?;
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(gateway.get("/").send().await?.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [[200; 5], [502; 5]].concat());
    Ok(())
}

#[tokio::test]
async fn names_that_are_not_found_leave_the_others_alone() -> Outcome {
    let a = Upstream::named("a").await?;
    let targets = [("nowhere.invalid:80", 100), (&*address(&a), 1)];
    let gateway = over(json!({}), &targets).await?;
    assert_eq!(servers(&gateway, 10).await?, ["a"; 10]);
    Ok(())
}

#[tokio::test]
async fn each_address_of_a_name_is_a_target() -> Outcome {
    let (a, b) = pair().await?;
    let hosts = process::temporary("silverback-hosts-");
    std::fs::write(&hosts, "127.0.0.1 many.test\n127.0.0.2 many.test\n")?;
    let setup = Setup::new().set("dns_hostsfile", &hosts.display().to_string());
    // Nobody listens on the second address.
    let many = format!("many.test:{}", port(&a));
    let targets = [(&*many, 1), (&*address(&b), 2)];
    let gateway = start(setup, json!({}), &targets).await?;
    retries(&gateway, 0).await?;
    let mut failed = 0;
    for _ in 0..20 {
        failed += u32::from(gateway.get("/").send().await?.status == 502);
    }
    assert_eq!((a.requests(), b.requests(), failed), (5, 10, 5));
    std::fs::remove_file(hosts)?;
    Ok(())
}

#[tokio::test]
async fn a_target_is_asked_by_its_own_name() -> Outcome {
    let (a, b) = pair().await?;
    let named = format!("localhost:{}", port(&b));
    let gateway = over(json!({}), &[(&*address(&a), 1), (&*named, 1)]).await?;
    let seen = || {
        let hosts = [&a, &b].map(|u| u.seen().pop().unwrap().headers);
        hosts.map(|h| h.get("Host").unwrap().to_owned())
    };
    servers(&gateway, 4).await?;
    assert_eq!(seen(), [address(&a), named.clone()]);

    let forced = json!({"host_header": "forced.test"});
    let path = format!("/upstreams/{UP}");
    gateway.admin().patch(&path, &forced).expect(200).await?;
    servers(&gateway, 4).await?;
    let ports = [port(&a), port(&b)];
    assert_eq!(seen(), ports.map(|p| format!("forced.test:{p}")));

    let with_port = json!({"host_header": "forced.test:99"});
    gateway.admin().patch(&path, &with_port).expect(200).await?;
    servers(&gateway, 4).await?;
    assert_eq!(seen(), ["forced.test:99", "forced.test:99"]);

    // The client's comes before both.
    let kept = json!({"preserve_host": true});
    let patch = gateway.admin().patch("/routes/s", &kept);
    patch.expect(200).await?;
    for _ in 0..4 {
        server(gateway.get("/").host("api.test:81")).await?;
    }
    assert_eq!(seen(), ["api.test:81", "api.test:81"]);
    Ok(())
}

#[tokio::test]
async fn the_next_target_is_asked_by_its_own_name_too() -> Outcome {
    let a = Upstream::named("a").await?;
    let dead = format!("localhost:{}", free_port()?);
    let gateway = over(json!({}), &[(&*address(&a), 1), (&*dead, 1)]).await?;
    servers(&gateway, 4).await?;
    for seen in a.seen() {
        assert_eq!(seen.headers.get("Host"), Some(&*address(&a)));
    }
    Ok(())
}

#[tokio::test]
async fn targets_come_and_go() -> Outcome {
    let (a, b) = pair().await?;
    let gateway = over(json!({}), &[(&*address(&a), 1)]).await?;
    let other = gateway.another().await?;
    for node in [&gateway, &other] {
        assert_eq!(servers(node, 4).await?, ["a"; 4]);
    }

    target(&gateway, &address(&b), 1).await?;
    for node in [&gateway, &other] {
        let mut all = servers(node, 4).await?;
        all.sort_unstable();
        assert_eq!(all, ["a", "a", "b", "b"]);
    }

    let none = json!({"weight": 0});
    let change = gateway.admin().patch(&path_of(&a), &none);
    change.expect(200).await?;
    for node in [&gateway, &other] {
        assert_eq!(servers(node, 4).await?, ["b"; 4]);
    }

    let more = json!({"weight": 3});
    let change = gateway.admin().patch(&path_of(&a), &more);
    change.expect(200).await?;
    let all = servers(&gateway, 8).await?;
    assert_eq!(all.iter().filter(|n| *n == "a").count(), 6, "{all:?}");

    gateway.admin().delete(&path_of(&b)).expect(204).await?;
    for node in [&gateway, &other] {
        assert_eq!(servers(node, 4).await?, ["a"; 4]);
    }
    gateway.admin().delete(&path_of(&a)).expect(204).await?;
    no_peer(&gateway).await?;
    no_peer(&other).await?;
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_is_gone_or_renamed_is_a_host_again() -> Outcome {
    let a = Upstream::named("a").await?;
    let gateway = over(json!({}), &[(&*address(&a), 1)]).await?;
    assert_eq!(servers(&gateway, 2).await?, ["a"; 2]);
    let path = format!("/upstreams/{UP}");
    let renamed = json!({"name": "other.invalid"});
    gateway.admin().patch(&path, &renamed).expect(200).await?;
    no_host(&gateway).await?;
    let moved = json!({"host": "other.invalid"});
    let patch = gateway.admin().patch("/services/s", &moved);
    patch.expect(200).await?;
    assert_eq!(servers(&gateway, 2).await?, ["a"; 2]);
    let delete = gateway.admin().delete("/upstreams/other.invalid");
    delete.expect(204).await?;
    no_host(&gateway).await?;
    Ok(())
}

#[tokio::test]
async fn an_upstream_takes_the_place_of_a_host() -> Outcome {
    let (a, b) = pair().await?;
    let gateway = Gateway::start().await?;
    let url = format!("http://localhost:{}", port(&a));
    gateway.service_at("s", &url).paths(["/"]).create().await?;
    assert_eq!(servers(&gateway, 2).await?, ["a"; 2]);
    let admin = gateway.admin();
    let made = admin.post("/upstreams", &json!({"name": "localhost"}));
    made.expect(201).await?;
    no_peer(&gateway).await?;
    let body = json!({"target": address(&b)});
    let made = admin.post("/upstreams/localhost/targets", &body);
    made.expect(201).await?;
    assert_eq!(servers(&gateway, 2).await?, ["b"; 2]);
    admin.delete("/upstreams/localhost").expect(204).await?;
    assert_eq!(servers(&gateway, 2).await?, ["a"; 2]);
    Ok(())
}

#[tokio::test]
async fn the_target_with_the_fewest_requests_under_way_gets_the_next() -> Outcome {
    let (mut a, b) = pair().await?;
    a.answer_path("/held", Answer::hang());
    let fields = json!({"algorithm": "least-connections"});
    let gateway = over(fields, &[(&*address(&a), 1)]).await?;
    gateway.settle().await?;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut connection = gateway.proxy().connect().await?;
        let request = b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n";
        connection.write(request).await?;
        held.push(connection);
    }
    a.wait_for(3).await;
    // They count on when the targets change.
    target(&gateway, &address(&b), 1).await?;
    assert_eq!(servers(&gateway, 10).await?, ["b"; 10]);
    // They end when their target breaks off: they know only the targets of their time.
    a.stop().await;
    for connection in &mut held {
        let answer = connection.response("GET").await?;
        assert_eq!(answer.status, 502);
    }
    a.restart().await?;
    eventually("a is asked again", PATIENCE, || async {
        Ok((server(gateway.get("/")).await? == "a").then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_slow_target_gets_fewer_requests() -> Outcome {
    let (a, b) = pair().await?;
    a.answer(Answer::echo().delay(Duration::from_millis(100)));
    let targets = [(&*address(&a), 1), (&*address(&b), 1)];
    let gateway = over(json!({"algorithm": "latency"}), &targets).await?;
    servers(&gateway, 40).await?;
    let (slow, fast) = (a.requests(), b.requests());
    assert!(slow >= 1 && slow * 3 < fast, "{slow} and {fast}");
    Ok(())
}

#[tokio::test]
async fn a_file_may_have_upstreams() -> Outcome {
    let (a, b) = pair().await?;
    let file = |targets: &str| {
        format!(
            "
_format_version: '3.0'
services:
- name: s
  host: {UP}
  routes: [{{name: r, paths: [/]}}]
upstreams:
- name: {UP}
  targets: [{targets}]
"
        )
    };
    let one = file(&format!("{{target: '{}'}}", a.addr()));
    let gateway = Setup::new()
        .set("database", "off")
        .set("declarative_config_string", &one)
        .start()
        .await?;
    let answered = || server(gateway.proxy().get("/"));
    assert_eq!(answered().await?, "a");
    let other = file(&format!("{{target: '{}'}}", b.addr()));
    let config = json!({ "config": other });
    gateway.admin().post("/config", &config).expect(201).await?;
    eventually("the other file is served", PATIENCE, || async {
        Ok((answered().await? == "b").then_some(()))
    })
    .await?;
    let none = json!({ "config": file("") });
    gateway.admin().post("/config", &none).expect(201).await?;
    eventually("the file without targets is served", PATIENCE, || async {
        let answer = gateway.proxy().get("/").send().await?;
        Ok((answer.status == 503).then_some(()))
    })
    .await
}
