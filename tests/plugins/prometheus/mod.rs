//! `prometheus`: what `GET /metrics` shows of requests, and of whose.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use silverback_testkit::gateway::{Gateway, eventually};
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

/// What a Kong 3.9.1 showed after [`REQUESTS`].
const KONG: &str = include_str!("kong.txt");

/// With the status of the answer.
const REQUESTS: [(&str, &str); 4] = [
    (
        "HTTP/1.1 200",
        "POST /lp?q=1 HTTP/1.1\r\nHost: log.test\r\napikey: a\r\nX-A: 1\r\nAuthorization: Bearer secret\r\n\
         Content-Length: 5\r\n\r\nhello",
    ),
    (
        "HTTP/1.1 401",
        "GET /nokey HTTP/1.1\r\nHost: log.test\r\n\r\n",
    ),
    (
        "HTTP/1.1 500",
        "GET /e HTTP/1.1\r\nHost: log.test\r\napikey: a\r\nX-Echo-Status: 500\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n",
    ),
    (
        "HTTP/1.1 200",
        "GET /b3 HTTP/1.1\r\nHost: log.test\r\napikey: a\r\nX-B3-TraceId: 0af7651916cd43dd8448eb211c80319c\r\n\
         X-B3-SpanId: b7ad6b7169203331\r\nX-B3-Sampled: 1\r\n\r\n",
    ),
];

/// Of what nginx shares between its workers.
const LEFT_OUT: &str = "kong_memory_lua_shared_dict_";

/// Service `s` with its route at `/`, key-auth, and consumers `alice` and `bob` with keys `a` and `b`.
async fn node(upstream: &Upstream) -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    gateway
        .service("s", upstream)
        .paths(["/"])
        .plugin("key-auth", json!({}))
        .create()
        .await?;
    gateway.consumer("alice", "a").await?;
    gateway.consumer("bob", "b").await?;
    Ok(gateway)
}

/// The exposition once these lines are in it: a request is counted after its client has the answer.
async fn metrics_with(gateway: &Gateway, lines: &[String]) -> anyhow::Result<String> {
    eventually("requests are counted", Duration::from_secs(20), || async {
        let text = gateway.status().get("/metrics").expect(200).await?.text();
        let missing: Vec<_> = lines.iter().filter(|l| !has(&text, l)).collect();
        anyhow::ensure!(missing.is_empty(), "{missing:#?} are not in\n{text}");
        Ok(Some(text))
    })
    .await
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|l| l == line)
}

/// Requests of a consumer (or of none) to route `s`.
fn requests(code: u16, source: &str, consumer: &str, count: u32) -> String {
    format!(
        "kong_http_requests_total{{service=\"s\",route=\"s\",code=\"{code}\",source=\"{source}\",workspace=\"default\",\
         consumer=\"{consumer}\"}} {count}"
    )
}

/// A series without its value, nor that of labels which say what the node is.
fn series(line: &str) -> String {
    let name = line.rsplit_once(' ').map_or(line, |(name, _)| name);
    let parts = name.split(',').map(|label| match label.split_once('=') {
        Some((key, _)) if key.ends_with("node_id") || ["pid", "version"].contains(&key) => key,
        _ => label,
    });
    parts.collect::<Vec<_>>().join(",")
}

#[tokio::test]
async fn names_labels_buckets_and_texts_are_those_of_kong() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .route("name", json!("log"))
        .hosts(["log.test"])
        .create()
        .await?;
    gateway.plugin("/routes/log", "key-auth", json!({})).await?;
    gateway.consumer("alice", "a").await?;
    let all = json!({
        "per_consumer": true, "status_code_metrics": true, "latency_metrics": true, "bandwidth_metrics": true,
        "upstream_health_metrics": true,
    });
    gateway.plugin("", "prometheus", all).await?;
    gateway.settle().await?;
    for (status, request) in REQUESTS {
        let mut connection = gateway.proxy().connect().await?;
        connection.write(request.as_bytes()).await?;
        let method = request.split(' ').next().unwrap_or_default();
        let answer = connection.response(method).await?;
        assert_eq!(format!("HTTP/1.1 {}", answer.status), status);
    }
    // What depends on nothing but the requests.
    let counted = |l: &&str| {
        l.starts_with("kong_http_requests_total")
            || l.contains("direction=\"ingress\"")
            || l.contains("_latency_ms_count")
    };
    let counted: Vec<_> = KONG.lines().filter(counted).map(str::to_owned).collect();
    assert_eq!(counted.len(), 8);
    let text = metrics_with(&gateway, &counted).await?;

    let of = |text: &str, heading: bool| -> BTreeSet<String> {
        let lines = text.lines().filter(|l| l.starts_with('#') == heading);
        let lines = lines.filter(|l| !l.contains(LEFT_OUT));
        lines
            .map(|l| if heading { l.to_owned() } else { series(l) })
            .collect()
    };
    for heading in [true, false] {
        let (ours, kong) = (of(&text, heading), of(KONG, heading));
        let missing: Vec<_> = kong.difference(&ours).collect();
        assert!(missing.is_empty(), "{missing:#?} are not in\n{text}");
        // Beyond Kong's there is only what bears another name.
        let more = ours.difference(&kong).filter(|l| l.contains("kong_"));
        assert_eq!(more.collect::<Vec<_>>(), Vec::<&String>::new());
    }
    Ok(())
}

#[tokio::test]
async fn without_the_plugin_only_status_codes_are_counted() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = node(&upstream).await?;
    gateway.get("/").header("apikey", "a").expect(200).await?;
    gateway.get("/").expect(401).await?;
    let lines = [
        requests(200, "service", "", 1),
        requests(401, "kong", "", 1),
    ];
    let text = metrics_with(&gateway, &lines).await?;
    assert!(!text.contains("_latency_ms") && !text.contains("kong_bandwidth_bytes"));
    Ok(())
}

#[tokio::test]
async fn the_setting_can_be_changed_while_running() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = node(&upstream).await?;
    let plugin = gateway
        .plugin("", "prometheus", json!({"latency_metrics": true}))
        .await?;
    gateway.get("/").header("apikey", "a").expect(200).await?;
    let count = |n: u32| {
        format!(
            "kong_request_latency_ms_count{{service=\"s\",route=\"s\",workspace=\"default\"}} {n}"
        )
    };
    let text = metrics_with(&gateway, &[count(1)]).await?;
    assert!(!text.contains("kong_bandwidth_bytes"));

    let config = json!({"config": {"latency_metrics": false, "bandwidth_metrics": true}});
    let path = format!("/plugins/{plugin}");
    gateway.admin().patch(&path, &config).expect(200).await?;
    gateway.get("/").header("apikey", "a").expect(200).await?;
    let lines = [count(1), requests(200, "service", "", 2)];
    let text = metrics_with(&gateway, &lines).await?;
    assert!(text.contains("kong_bandwidth_bytes{service=\"s\",route=\"s\",direction=\"egress\""));
    Ok(())
}

#[tokio::test]
async fn a_consumers_configuration_is_for_its_requests_only() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = node(&upstream).await?;
    gateway
        .plugin(
            "/consumers/alice",
            "prometheus",
            json!({"per_consumer": true, "bandwidth_metrics": true}),
        )
        .await?;
    gateway
        .plugin(
            "/services/s",
            "prometheus",
            json!({"latency_metrics": true}),
        )
        .await?;
    for key in ["a", "b", "b"] {
        gateway.get("/").header("apikey", key).expect(200).await?;
    }
    let lines = [
        requests(200, "service", "alice", 1),
        requests(200, "service", "", 2),
        "kong_request_latency_ms_count{service=\"s\",route=\"s\",workspace=\"default\"} 2"
            .to_owned(),
    ];
    let text = metrics_with(&gateway, &lines).await?;
    let bandwidth = text
        .lines()
        .filter(|l| l.starts_with("kong_bandwidth_bytes"));
    assert!(bandwidth.clone().count() == 2, "{text}");
    assert!(
        bandwidth.clone().all(|l| l.contains("consumer=\"alice\"")),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn bytes_are_those_on_the_wire() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = node(&upstream).await?;
    gateway
        .plugin(
            "/routes/s",
            "prometheus",
            json!({"bandwidth_metrics": true}),
        )
        .await?;
    gateway.settle().await?;
    let (mut sent, mut received) = (0, 0);
    for (key, body) in [("a", "hello"), ("unknown", "")] {
        let length = body.len();
        let request = format!(
            "POST /x HTTP/1.1\r\nHost: a.test\r\napikey: {key}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let mut connection = gateway.proxy().connect().await?;
        connection.write(request.as_bytes()).await?;
        sent += request.len();
        received += connection.rest().await?.len();
    }
    let line = |direction: &str, bytes: usize| {
        format!(
            "kong_bandwidth_bytes{{service=\"s\",route=\"s\",direction=\"{direction}\",workspace=\"default\",\
             consumer=\"\"}} {bytes}"
        )
    };
    metrics_with(&gateway, &[line("ingress", sent), line("egress", received)]).await?;
    Ok(())
}
