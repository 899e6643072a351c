#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::{Map, Value, json};
use silverback_plugin::env::hostname;
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeServices, config, schema_without_descriptions,
};
use silverback_plugin::facts::WORKSPACE_ID;
use silverback_plugin::{Consumer, InstanceInfo, ServiceInfo};
use tokio::net::UdpSocket;
use uuid::Uuid;

use crate::{Statsd, range};

/// A server, and a plugin that tells it everything about an exchange in one datagram.
struct Bench {
    server: UdpSocket,
    plugin: Compiled<Statsd>,
}

impl Bench {
    async fn new(given: Value) -> Self {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut all = json!({
            "host": "127.0.0.1", "port": server.local_addr().unwrap().port(), "udp_packet_size": 65507
        });
        all.as_object_mut().unwrap().extend(object(given));
        let services = FakeServices::default();
        let plugin = Compiled::with(all, &InstanceInfo::default(), &services);
        Bench { server, plugin }
    }

    async fn lines(&self, exchange: Exchange) -> Vec<String> {
        exchange.run_on(&self.plugin).await;
        let mut datagram = vec![0; 65536];
        let length = self.server.recv(&mut datagram).await.unwrap();
        let text = std::str::from_utf8(&datagram[..length]).unwrap();
        text.split('\n').map(str::to_owned).collect()
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn alice() -> Arc<Consumer> {
    Arc::new(Consumer {
        id: Uuid::from_u128(3),
        username: Some("alice".into()),
        custom_id: Some("c.alice".into()),
    })
}

fn of_alice() -> Exchange {
    Exchange::post("/", "text/plain", "hello").authenticated(Some(&alice()), None)
}

fn service(name: Option<&str>) -> Option<ServiceInfo> {
    Some(ServiceInfo {
        id: Uuid::from_u128(1),
        name: name.map(str::to_owned),
        host: "10.0.0.1".to_owned(),
    })
}

fn count(more: Value) -> Value {
    let mut metric =
        object(json!({ "name": "request_count", "stat_type": "counter", "sample_rate": 1 }));
    metric.extend(object(more));
    json!([metric])
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<Statsd>(), facts);
}

#[test]
fn a_counter_needs_a_rate_and_names_are_known() {
    let refused = |given: Value| config::<Statsd>(given).unwrap_err().message();
    let metric = |metric: Value| refused(json!({ "metrics": [metric] }));
    for (given, field) in [
        (
            json!({ "name": "latency", "stat_type": "gauge" }),
            "sample_rate = \"required field missing\"",
        ),
        (
            json!({ "name": "latency", "stat_type": "timer", "sample_rate": 0 }),
            "sample_rate = \"value must be greater than 0\"",
        ),
        (
            json!({ "name": "latency", "stat_type": "distribution" }),
            "stat_type = \"expected one of: counter, gauge, histogram, meter, set, timer\"",
        ),
        (
            json!({ "name": "foo" }),
            "stat_type = \"field required for entity check\"",
        ),
    ] {
        let message = metric(given);
        assert!(message.contains(field), "{message}");
    }
    let range = refused(json!({ "allow_status_codes": ["200"] }));
    assert!(range.contains("invalid value: 200"), "{range}");
}

#[tokio::test]
async fn an_exchange_is_measured_in_the_default_metrics() {
    let bench = Bench::new(json!({})).await;
    let lines = bench.lines(of_alice().upstream(200, &[], "12345")).await;
    let workspace = format!("kong.service.s.workspace.{WORKSPACE_ID}.status.200:1|c");
    let route = format!(
        "kong.route.{}.user.c.alice.status.200:1|c",
        Uuid::from_u128(2)
    );
    let expected = [
        "kong.service.s.request.count:1|c",
        "kong.service.s.latency:20|ms",
        "kong.service.s.request.size:31|c",
        "kong.service.s.status.200:1|c",
        "kong.service.s.response.size:5|c",
        "kong.service.s.user.uniques:c.alice|s",
        "kong.service.s.user.c.alice.request.count:1|c",
        "kong.service.s.upstream_latency:13|ms",
        "kong.service.s.kong_latency:2|ms",
        "kong.service.s.user.c.alice.status.200:1|c",
        &workspace,
        &route,
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn what_an_exchange_does_not_have_is_left_out() {
    let bench = Bench::new(json!({})).await;
    let lines = bench.lines(Exchange::get("/").service(None)).await;
    assert_eq!(lines[0], "kong.global.unmatched.request.count:1|c");
    assert!(!lines.iter().any(|l| l.contains("user")), "{lines:?}");
    assert_eq!(lines.len(), 7, "{lines:?}");
}

#[tokio::test]
async fn a_service_is_shown_as_it_is_to_be() {
    for (by, name, shown) in [
        ("service_name_or_host", Some("a.b"), "a_b"),
        ("service_name_or_host", None, "10_0_0_1"),
        ("service_host", Some("a.b"), "10_0_0_1"),
        ("service_name", None, "unnamed"),
        ("service_id", None, "00000000-0000-0000-0000-000000000001"),
    ] {
        let expected = [format!("kong.service.{shown}.request.count:1|c")];
        let exchange = || Exchange::get("/").service(service(name));
        let default = json!({ "metrics": count(json!({})), "service_identifier_default": by });
        assert_eq!(Bench::new(default).await.lines(exchange()).await, expected);
        let own = json!({ "metrics": count(json!({ "service_identifier": by })) });
        assert_eq!(Bench::new(own).await.lines(exchange()).await, expected);
    }
}

#[tokio::test]
async fn metrics_say_type_rate_consumer_and_workspace() {
    let bench = Bench::new(json!({
        "consumer_identifier_default": "username",
        "workspace_identifier_default": "workspace_name",
        "prefix": "edge",
        "metrics": [
            { "name": "latency", "stat_type": "histogram", "sample_rate": 0.5 },
            { "name": "unique_users", "stat_type": "set", "consumer_identifier": "consumer_id" },
            { "name": "request_per_user", "stat_type": "gauge", "sample_rate": 0.1 },
            { "name": "status_count_per_workspace", "stat_type": "counter", "sample_rate": 1 },
            { "name": "shdict_usage", "stat_type": "gauge", "sample_rate": 1 }
        ]
    }))
    .await;
    let expected = [
        "edge.service.s.latency:20|h|@0.5",
        "edge.service.s.user.uniques:00000000-0000-0000-0000-000000000003|s",
        "edge.service.s.user.alice.request.count:1|c|@0.1",
        "edge.service.s.workspace.default.status.200:1|c",
    ];
    assert_eq!(bench.lines(of_alice()).await, expected);
}

#[tokio::test]
async fn the_machine_stands_behind_the_prefix_when_it_is_to() {
    let given = json!({ "metrics": count(json!({})), "hostname_in_prefix": true });
    let lines = Bench::new(given).await.lines(Exchange::get("/")).await;
    let node = hostname().replace('.', "_");
    let expected = format!("kong.node.{node}.service.s.request.count:1|c");
    assert_eq!(lines, [expected]);
}

#[tokio::test]
async fn what_a_metric_is_about_can_be_tags() {
    let node = hostname().replace('.', "_");
    let tags = |sign: &str| {
        format!(
            "service{sign}a.b,route{sign}r,workspace{sign}{WORKSPACE_ID},consumer{sign}c.alice,node{sign}{node},status{sign}404"
        )
    };
    for (style, expected) in [
        (
            "dogstatsd",
            format!("kong.latency:20|ms|@0.5|#{}", tags(":")),
        ),
        ("influxdb", format!("kong.latency,{}:20|ms|@0.5", tags("="))),
        ("librato", format!("kong.latency#{}:20|ms|@0.5", tags("="))),
        (
            "signalfx",
            format!("kong.latency[{}]:20|ms|@0.5", tags("=")),
        ),
    ] {
        let bench = Bench::new(json!({
            "tag_style": style,
            "hostname_in_prefix": true,
            "metrics": [
                { "name": "latency", "stat_type": "timer", "sample_rate": 0.5 },
                { "name": "status_count", "stat_type": "counter", "sample_rate": 1 },
                { "name": "unique_users", "stat_type": "set" }
            ]
        }))
        .await;
        let exchange = of_alice().service(service(Some("a.b")));
        let lines = bench.lines(exchange.upstream(404, &[], "")).await;
        assert_eq!(lines, [expected]);
        let lines = bench.lines(Exchange::get("/").service(None)).await;
        assert_eq!(lines, ["kong.latency:20|ms|@0.5"]);
    }
}

#[tokio::test]
async fn statuses_that_are_not_allowed_are_not_measured() {
    let bench = Bench::new(json!({
        "metrics": [{ "name": "status_count", "stat_type": "counter", "sample_rate": 1 }],
        "allow_status_codes": ["200-204", "500-599"]
    }))
    .await;
    let answered = |status| Exchange::get("/").upstream(status, &[], "");
    answered(205).run_on(&bench.plugin).await;
    answered(404).run_on(&bench.plugin).await;
    for status in [204, 503] {
        let lines = bench.lines(answered(status)).await;
        assert_eq!(lines, [format!("kong.service.s.status.{status}:1|c")]);
    }
}

#[test]
fn a_range_has_two_ends() {
    assert_eq!(range("200-299"), Some(200..=299));
    assert_eq!(range("0-99999999999999999999"), Some(0..=u64::MAX));
}

#[tokio::test]
async fn without_a_packet_size_each_metric_is_a_datagram() {
    let bench = Bench::new(json!({ "udp_packet_size": 0 })).await;
    let lines = bench.lines(Exchange::get("/")).await;
    assert_eq!(lines, ["kong.service.s.request.count:1|c"]);
}
