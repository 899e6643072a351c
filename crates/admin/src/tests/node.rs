//! What the API tells of the node, and what it tells the node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::harness::Api;
use crate::{
    AddressHealth, Health, HealthReport, StatusSource, TargetHealth, Timers, UpstreamHealth,
};

const UPSTREAM: &str = "00000006-0000-4000-8000-000000000001";

/// A node that keeps what it is told.
#[derive(Default)]
struct Node {
    level: Mutex<Option<(String, Duration)>>,
    told: Mutex<Vec<String>>,
}

impl StatusSource for Node {
    fn timers(&self) -> Timers {
        Timers {
            running: 3,
            pending: 1,
        }
    }

    fn log_level(&self) -> Option<&'static str> {
        match self.level.lock().unwrap().as_ref() {
            None => Some("notice"),
            Some(_) => Some("debug"),
        }
    }

    fn set_log_level(&self, level: &str, timeout: Duration) -> Result<(), String> {
        *self.level.lock().unwrap() = Some((level.to_owned(), timeout));
        Ok(())
    }

    fn metrics(&self) -> Option<String> {
        Some("# TYPE x gauge\nx 1\n".into())
    }

    fn dns(&self) -> Option<Value> {
        Some(json!({ "a.test|A": { "hits": 2 } }))
    }

    fn read_anew(&self) {
        self.told.lock().unwrap().push("anew".into());
    }

    fn upstream_health(&self, upstream: Uuid) -> Option<UpstreamHealth> {
        let address = |ip: &str, weight, health| AddressHealth {
            ip: ip.into(),
            port: 80,
            weight,
            health,
        };
        let addresses = vec![
            address("10.0.0.1", 10, Health::Healthy),
            address("10.0.0.2", 10, Health::Unhealthy),
        ];
        let target = TargetHealth {
            dns: "A".into(),
            addresses,
        };
        (upstream.to_string() == UPSTREAM).then(|| UpstreamHealth {
            healthy: true,
            checked: true,
            targets: BTreeMap::from([("a.test:80".to_owned(), target)]),
        })
    }

    fn report_health(&self, r: &HealthReport<'_>) -> Result<(), String> {
        let told = format!(
            "{} {} {:?} {}",
            r.upstream_name, r.target, r.address, r.healthy
        );
        self.told.lock().unwrap().push(told);
        match r.address {
            Some("10.9.9.9") => Err("unknown address".into()),
            _ => Ok(()),
        }
    }
}

async fn with_node() -> (Api, Arc<Node>) {
    let node = Arc::new(Node::default());
    let status = node.clone();
    (Api::with(|b| b.status(status)).await, node)
}

#[tokio::test]
async fn the_level_of_the_log_is_told_and_changed() {
    let (api, node) = with_node().await;
    let path = "/debug/node/log-level";
    let message = |v: Value| v["message"].as_str().unwrap().to_owned();
    assert_eq!(
        message(api.get(path).await.expect(200)),
        "log level: notice"
    );
    let same = api.bare(Method::PUT, &format!("{path}/notice")).await;
    assert_eq!(message(same.expect(200)), "log level is already notice");
    assert!(node.level.lock().unwrap().is_none());

    let changed = api
        .bare(Method::PUT, &format!("{path}/debug?timeout=1.5"))
        .await;
    assert_eq!(message(changed.expect(200)), "log level changed");
    let (level, timeout) = node.level.lock().unwrap().clone().unwrap();
    assert_eq!((level.as_str(), timeout), ("debug", Duration::from_secs(2)));

    let bad = api
        .bare(Method::PUT, &format!("{path}/loud?timeout=-1"))
        .await;
    assert_eq!(message(bad.expect(400)), "unknown log level: loud");
    let bad = api
        .bare(Method::PUT, &format!("{path}/info?timeout=-1"))
        .await;
    assert_eq!(
        message(bad.expect(400)),
        "timeout must be greater than or equal to 0"
    );
    for (method, path) in [
        (Method::GET, "/debug/node/log-level/info"),
        (Method::PUT, "/debug/node/log-level"),
        (Method::POST, "/debug/cluster/log-level/info"),
    ] {
        api.bare(method, path).await.expect(405);
    }
    let all = api.bare(Method::PUT, "/debug/cluster/log-level/info").await;
    assert_eq!(message(all.expect(200)), "log level changed");
    let (level, timeout) = node.level.lock().unwrap().clone().unwrap();
    assert_eq!((level.as_str(), timeout), ("info", Duration::from_secs(60)));
    api.get("/debug").await.expect(404);
}

#[tokio::test]
async fn without_a_node_there_is_no_level_to_tell() {
    let api = Api::new().await;
    api.get("/debug/node/log-level").await.expect(500);
    api.get("/metrics").await.expect(404);
    let dns = api.get("/status/dns").await;
    assert_eq!(dns.status, 501);
    assert_eq!(dns.message(), "not implemented with the legacy DNS client");
}

#[tokio::test]
async fn the_cache_holds_nothing_by_key_and_is_read_anew() {
    let (api, node) = with_node().await;
    api.get("/cache/services:x:::::").await.expect(404);
    assert_eq!(api.delete("/cache/services:x:::::").await, 204);
    assert!(node.told.lock().unwrap().is_empty());
    assert_eq!(api.delete("/cache").await, 204);
    assert_eq!(*node.told.lock().unwrap(), ["anew"]);
    for method in [Method::GET, Method::PUT, Method::PATCH, Method::POST] {
        api.bare(method, "/cache").await.expect(405);
    }
    api.bare(Method::PUT, "/cache/x").await.expect(405);
}

#[tokio::test]
async fn facts_of_the_node_are_told() {
    let (api, _) = with_node().await;
    let timers = api.get("/timers").await.expect(200);
    assert_eq!(timers["worker"], json!({ "id": 0, "count": 1 }));
    assert_eq!(
        timers["stats"]["sys"],
        json!({ "total": 4, "running": 3, "pending": 1 })
    );
    let dns = api.get("/status/dns").await.expect(200);
    assert_eq!(dns["stats"]["a.test|A"]["hits"], 2);
    let metrics = api.get("/metrics").await;
    assert_eq!(metrics.header("content-type"), "text/plain; charset=UTF-8");
    assert_eq!(metrics.expect(200), "# TYPE x gauge\nx 1\n");
    for path in ["/clustering/data-planes", "/clustering/status"] {
        assert_eq!(
            api.get(path).await.expect(400)["message"],
            "this endpoint is only available when Kong is configured to run as Control Plane for the cluster"
        );
    }
    for path in ["/timers", "/status/dns", "/metrics", "/clustering/status"] {
        api.bare(Method::PUT, path).await.expect(405);
        assert_eq!(
            api.bare(Method::OPTIONS, path).await.header("allow"),
            "GET, HEAD, OPTIONS"
        );
    }
}

async fn with_targets() -> (Api, Arc<Node>) {
    let (api, node) = with_node().await;
    let upstream = json!({ "id": UPSTREAM, "name": "u" });
    api.post("/upstreams", upstream).await.expect(201);
    for target in ["a.test:80", "b.test:80"] {
        let body = json!({ "target": target, "weight": 10 });
        api.post("/upstreams/u/targets", body).await.expect(201);
    }
    (api, node)
}

#[tokio::test]
async fn health_is_what_the_balancer_says() {
    let (api, _) = with_targets().await;
    let health = api.get("/upstreams/u/health").await.expect(200);
    let of = |name: &str| {
        let rows = health["data"].as_array().unwrap().iter();
        rows.clone().find(|r| r["target"] == name).unwrap().clone()
    };
    assert_eq!(of("b.test:80")["health"], "DNS_ERROR", "nor is it a name");
    assert_eq!(of("a.test:80")["health"], "HEALTHY");
    assert_eq!(
        of("a.test:80")["data"],
        json!({
            "host": "a.test", "port": 80, "dns": "A", "nodeWeight": 10,
            "weight": { "total": 20, "available": 10, "unavailable": 10 },
            "addresses": [
                { "ip": "10.0.0.1", "port": 80, "weight": 10, "health": "HEALTHY" },
                { "ip": "10.0.0.2", "port": 80, "weight": 10, "health": "UNHEALTHY" },
            ]
        })
    );
    let first = api.get("/upstreams/u/health?size=1").await.expect(200);
    assert_eq!(first["next"], "/upstreams/u/health?offset=1");
    let path = format!("/upstreams/{UPSTREAM}/health?balancer_health=1");
    let balancer = &api.get(&path).await.expect(200)["data"];
    assert_eq!(balancer["id"], UPSTREAM);
    assert_eq!(
        (&balancer["health"], &balancer["balancer_health"]),
        (&json!("HEALTHY"), &json!("HEALTHY"))
    );
    assert_eq!(
        balancer["details"]["weight"],
        json!({ "total": 20, "available": 10, "unavailable": 10 })
    );
    let hosts = balancer["details"]["hosts"].as_array().unwrap();
    let known = hosts.iter().find(|h| h["host"] == "a.test").unwrap();
    assert_eq!(
        known["addresses"][1],
        json!({ "ip": "10.0.0.2", "port": 80, "weight": 10, "healthy": false })
    );
    api.get("/upstreams/nope/health").await.expect(404);
}

#[tokio::test]
async fn the_balancer_is_told_what_an_operator_says() {
    let (api, node) = with_targets().await;
    let targets = "/upstreams/u/targets";
    let id = api.get(&format!("{targets}/a.test:80")).await.expect(200)["id"].clone();
    let id = id.as_str().unwrap();
    for (method, path) in [
        (Method::PUT, format!("{targets}/a.test:80/unhealthy")),
        (
            Method::POST,
            format!("/upstreams/{UPSTREAM}/targets/{id}/healthy"),
        ),
        (Method::PUT, format!("{targets}/a.test:80/10.0.0.1/healthy")),
        (
            Method::POST,
            format!("{targets}/a.test:80/10.0.0.1:80/unhealthy"),
        ),
    ] {
        api.bare(method, &path).await.expect(204);
    }
    let unknown = format!("{targets}/a.test:80/10.9.9.9/healthy");
    let unknown = api.bare(Method::PUT, &unknown).await;
    assert_eq!(unknown.expect(400)["message"], "unknown address");
    assert_eq!(
        node.told.lock().unwrap()[..4],
        [
            "u a.test:80 None false",
            "u a.test:80 None true",
            "u a.test:80 Some(\"10.0.0.1\") true",
            "u a.test:80 Some(\"10.0.0.1:80\") false",
        ]
    );
    for path in [
        "/upstreams/nope/targets/a.test:80/healthy",
        "/upstreams/u/targets/c.test:80/healthy",
    ] {
        api.bare(Method::PUT, path).await.expect(404);
    }
}

#[tokio::test]
async fn entities_that_keep_nothing_here_have_schemas_to_see_and_to_try() {
    let api = Api::new().await;
    for name in [
        "workspaces",
        "clustering_data_planes",
        "parameters",
        "tags",
        "ratelimiting_metrics",
    ] {
        let schema = api.get(&format!("/schemas/{name}")).await.expect(200);
        assert!(!schema["fields"].as_array().unwrap().is_empty(), "{name}");
    }
    let good = json!({ "key": "k", "value": "v" });
    api.post("/schemas/parameters/validate", good)
        .await
        .expect(200);
    let bad = api.post("/schemas/parameters/validate", json!({ "key": 1 }));
    assert_eq!(
        bad.await.expect(400)["fields"],
        json!({ "key": "expected a string", "value": "required field missing" })
    );
    api.post("/schemas/nope/validate", json!({}))
        .await
        .expect(404);
}
