//! `statsd`.

use std::collections::BTreeSet;

use serde_json::json;
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, UdpSocket};

use crate::Outcome;

#[tokio::test]
async fn an_exchange_is_measured_for_its_service_and_consumer() -> Outcome {
    let upstream = Upstream::start().await?;
    let server = UdpSocket::bind("127.0.0.1:0").await?;
    let gateway = Gateway::start().await?;
    let counter = |name| json!({ "name": name, "stat_type": "counter", "sample_rate": 1, "consumer_identifier": "username" });
    let config = json!({
        "host": "localhost",
        "port": server.local_addr()?.port(),
        "prefix": "sb",
        "metrics": [
            { "name": "request_count", "stat_type": "counter", "sample_rate": 1 },
            { "name": "status_count", "stat_type": "counter", "sample_rate": 1 },
            counter("request_per_user"),
            { "name": "upstream_latency", "stat_type": "timer" },
        ],
    });
    let service = gateway.service("s", &upstream).paths(["/"]);
    service
        .plugin("key-auth", json!({}))
        .plugin("statsd", config)
        .create()
        .await?;
    gateway.consumer("ann", "secret").await?;
    let call = gateway.get("/").header("apikey", "secret");
    call.expect(200).await?;
    let mut lines = BTreeSet::new();
    let mut datagram = vec![0; 65536];
    while lines.len() < 4 {
        let length = server.recv(&mut datagram).await?;
        lines.insert(String::from_utf8(datagram[..length].to_vec())?);
    }
    let (latencies, counts): (BTreeSet<_>, BTreeSet<_>) =
        lines.into_iter().partition(|line| line.ends_with("|ms"));
    let latency = latencies.first().map_or("", String::as_str);
    assert!(
        latency.starts_with("sb.service.s.upstream_latency:"),
        "{latency}"
    );
    let expected = [
        "sb.service.s.request.count:1|c",
        "sb.service.s.status.200:1|c",
        "sb.service.s.user.ann.request.count:1|c",
    ];
    assert_eq!(counts, expected.map(str::to_owned).into());
    // Who is not let in is measured too, without a consumer.
    gateway.get("/").expect(401).await?;
    let mut seen = Vec::new();
    while !seen.contains(&"sb.service.s.status.401:1|c".to_owned()) {
        let length = server.recv(&mut datagram).await?;
        seen.push(String::from_utf8(datagram[..length].to_vec())?);
    }
    assert!(!seen.iter().any(|line| line.contains(".user.")), "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn over_tcp_a_metric_is_a_line_with_its_tags() -> Outcome {
    let upstream = Upstream::start().await?;
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let gateway = Gateway::start().await?;
    let config = json!({
        "host": "127.0.0.1",
        "port": server.local_addr()?.port(),
        "use_tcp": true,
        "tag_style": "dogstatsd",
        "metrics": [{ "name": "request_count", "stat_type": "counter", "sample_rate": 1 }],
    });
    let service = gateway.service("s", &upstream).paths(["/"]);
    service.plugin("statsd", config).create().await?;
    gateway.get("/").expect(200).await?;
    let mut lines = BufReader::new(server.accept().await?.0).lines();
    let line = lines.next_line().await?.unwrap_or_default();
    assert!(line.starts_with("kong.request.count:1|c|#"), "{line}");
    assert!(
        line.contains("service:s") && line.contains("status:200"),
        "{line}"
    );
    Ok(())
}
