#![allow(clippy::unwrap_used)]

use prost::Message as _;
use serde_json::{Value, json};
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeServices, Outcome, config, schema_without_descriptions,
};
use silverback_plugin::{InstanceInfo, TracingTerms};

use crate::otlp::{Export, KeyValue, Of, Resource, Span};
use crate::{OpenTelemetry, drawn};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn node(attempts: bool, sampling_rate: f64) -> FakeServices {
    FakeServices::with_tracing(TracingTerms {
        requests: true,
        attempts,
        sampling_rate,
    })
}

fn plugin(services: &FakeServices, more: Value) -> Compiled<OpenTelemetry> {
    let mut given = json!({ "traces_endpoint": "http://collector.test/v1/traces" });
    let more = more.as_object().unwrap().clone();
    given.as_object_mut().unwrap().extend(more);
    Compiled::with(given, &InstanceInfo::default(), services)
}

async fn traced(plugin: &Compiled<OpenTelemetry>, flags: &str) -> Outcome {
    let parent = format!("00-{TRACE}-{SPAN}-{flags}");
    let exchange = Exchange::get("/a?b=1").header("traceparent", &parent);
    exchange.run_on(plugin).await
}

/// Trace, span and flags that the upstream is told.
fn told(done: &Outcome) -> Vec<String> {
    let header = done.upstream_header("traceparent").unwrap();
    header.split('-').skip(1).map(str::to_owned).collect()
}

fn waiting(plugin: &Compiled<OpenTelemetry>) -> usize {
    plugin.plugin().queue.len()
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<OpenTelemetry>(), facts);
}

#[test]
fn bad_configurations_are_refused_in_kongs_words() {
    let refused = |given: Value| config::<OpenTelemetry>(given).unwrap_err().message();
    assert_eq!(
        refused(json!({})),
        "schema violation (config.@entity: {\n  \"at least one of these fields must be non-empty: 'traces_endpoint', 'logs_endpoint'\"\n})"
    );
    let url = "http://collector.test/";
    assert_eq!(
        refused(json!({ "traces_endpoint": url, "sampling_rate": 2 })),
        "schema violation (config.sampling_rate: value should be between 0 and 1)"
    );
    assert!(
        refused(json!({ "traces_endpoint": url, "header_type": "x" }))
            .contains("config.header_type: expected one of: preserve")
    );
}

#[test]
fn the_former_endpoint_stands_for_that_of_traces() {
    let filled = config::<OpenTelemetry>(json!({ "endpoint": "http://collector.test/" })).unwrap();
    assert_eq!(filled["traces_endpoint"], "http://collector.test/");
}

#[test]
fn what_passes_the_schema_and_cannot_work_is_refused() {
    let services = FakeServices::default();
    let make = |given: Value| {
        Compiled::<OpenTelemetry>::try_with(given, &InstanceInfo::default(), &services)
    };
    let url = "http://collector.test/";
    let cases = [
        (json!({ "traces_endpoint": "ftp://x/" }), "traces_endpoint"),
        (
            json!({ "traces_endpoint": url, "logs_endpoint": url }),
            "logs_endpoint",
        ),
        (
            json!({ "traces_endpoint": url, "http_response_header_for_traceid": "a b" }),
            "http_response_header_for_traceid",
        ),
        (
            json!({ "traces_endpoint": url, "headers": { "X-A": "a\nb" } }),
            "headers",
        ),
    ];
    for (given, field) in cases {
        assert_eq!(make(given).err().unwrap().field, field);
    }
    assert!(make(json!({ "traces_endpoint": "https://[::1]:4318/v1/traces?a=b" })).is_ok());
}

#[tokio::test]
async fn without_instrumentations_traces_pass_and_are_marked_as_not_recorded() {
    let services = FakeServices::default();
    let plugin = plugin(&services, json!({ "sampling_rate": 1 }));
    let done = traced(&plugin, "01").await;
    let [trace, span, flags] = &told(&done)[..] else {
        panic!("no traceparent")
    };
    assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "00"));
    assert_ne!(span, SPAN);
    assert_eq!(waiting(&plugin), 0);
    let logged = done.facts().log_values.iter().next().unwrap();
    assert_eq!(logged, ("trace_id", &json!({ "w3c": TRACE })));
}

#[tokio::test]
async fn a_request_without_a_trace_begins_one() {
    let services = FakeServices::default();
    let plugin = plugin(&services, json!({}));
    let (one, other) = (
        Exchange::get("/").run_on(&plugin).await,
        Exchange::get("/").run_on(&plugin).await,
    );
    let (one, other) = (told(&one), told(&other));
    assert_eq!((one[0].len(), one[1].len()), (32, 16));
    assert_ne!(one[0], other[0]);
}

#[tokio::test]
async fn clients_learn_the_traces_id_where_they_shall() {
    let header = json!({ "http_response_header_for_traceid": "X-Trace-Id" });
    for services in [FakeServices::default(), node(false, 1.0)] {
        let plugin = plugin(&services, header.clone());
        let done = traced(&plugin, "00").await;
        assert_eq!(done.header("x-trace-id"), Some(TRACE));
    }
    let services = FakeServices::default();
    let plugin = plugin(&services, json!({}));
    assert_eq!(traced(&plugin, "00").await.header("x-trace-id"), None);
}

#[tokio::test]
async fn spans_wait_for_the_collector_unless_the_client_or_the_draw_is_against_it() {
    for (node_rate, rate, flags, recorded) in [
        (1.0, json!(null), "01", true),
        (1.0, json!(null), "00", false),
        (0.0, json!(null), "01", false),
        (0.0, json!(1), "01", true),
        (1.0, json!(0), "01", false),
    ] {
        let services = node(false, node_rate);
        let plugin = plugin(&services, json!({ "sampling_rate": rate }));
        let done = traced(&plugin, flags).await;
        assert_eq!(waiting(&plugin), usize::from(recorded));
        assert_eq!(told(&done)[2], if recorded { "01" } else { "00" });
    }
}

#[tokio::test]
async fn the_upstream_is_told_the_attempts_span_where_attempts_are_measured() {
    let b3 =
        json!({ "propagation": { "default_format": "w3c", "extract": ["w3c"], "inject": ["b3"] } });
    for (attempts, parent_is_clients) in [(false, true), (true, false)] {
        let services = node(attempts, 1.0);
        let plugin = plugin(&services, b3.clone());
        let done = traced(&plugin, "01").await;
        let parent = done.upstream_header("x-b3-parentspanid").unwrap();
        assert_eq!(parent == SPAN, parent_is_clients);
    }
}

#[test]
fn all_gateways_draw_the_same_traces() {
    // The first eight bytes count, the least significant first.
    let mut id = [0; 16];
    id[7] = 0x40;
    assert!(drawn(id, 0.26) && !drawn(id, 0.25) && !drawn(id, 0.0) && drawn(id, 1.0));
    id[15] = 0xff;
    assert!(drawn(id, 0.26));
}

#[test]
fn former_names_of_the_queues_settings_still_count() {
    let terms = |given: Value| {
        let mut whole = json!({ "traces_endpoint": "http://collector.test/" });
        whole
            .as_object_mut()
            .unwrap()
            .extend(given.as_object().unwrap().clone());
        let filled = config::<OpenTelemetry>(whole).unwrap();
        let typed: crate::Config = serde_json::from_value(Value::Object(filled)).unwrap();
        let terms = typed.terms();
        (
            terms.max_batch_size,
            terms.max_coalescing_delay.as_secs_f64(),
        )
    };
    assert_eq!(terms(json!({})), (200, 1.0));
    assert_eq!(
        terms(json!({ "batch_span_count": 5, "batch_flush_delay": 7 })),
        (5, 7.0)
    );
    assert_eq!(
        terms(
            json!({ "batch_span_count": 200, "batch_flush_delay": 3, "queue": { "max_batch_size": 9 } })
        ),
        (9, 1.0)
    );
}

fn texts(attributes: &[KeyValue]) -> Vec<(String, Value)> {
    let value = |a: &KeyValue| match a.value.clone().unwrap().of.unwrap() {
        Of::Text(text) => Value::from(text),
        Of::Integer(n) => Value::from(n),
        Of::Number(n) => Value::from(n),
    };
    let attributes = attributes.iter().map(|a| (a.key.clone(), value(a)));
    attributes.collect()
}

#[tokio::test]
async fn a_batch_is_one_message_with_what_is_said_of_the_gateway() {
    let given = json!({
        "traces_endpoint": "http://collector.test/",
        "resource_attributes": { "service.name": "edge", "zone": "a" }
    });
    let filled = config::<OpenTelemetry>(given).unwrap();
    let typed: crate::Config = serde_json::from_value(Value::Object(filled)).unwrap();
    let services = FakeServices::default();
    let env = silverback_plugin::PluginEnv {
        instance: &InstanceInfo::default(),
        services: &services,
    };
    let collector = crate::Collector::new(&typed, "http://collector.test/", &env).unwrap();
    let spans = ["a", "b"].map(|name| {
        let span = Span {
            name: name.to_owned(),
            ..Span::default()
        };
        span.encode_to_vec().into()
    });
    let export = Export::decode(collector.body(&spans)).unwrap();
    let [sent] = &export.resource_spans[..] else {
        panic!("one gateway")
    };
    let resource = Resource::decode(sent.resource.clone()).unwrap();
    assert_eq!(
        texts(&resource.attributes),
        [
            ("service.version".to_owned(), json!("3.9.1")),
            ("service.name".to_owned(), json!("edge")),
            ("zone".to_owned(), json!("a")),
        ]
    );
    let scope = &sent.scope_spans[0];
    assert_eq!(scope.scope.as_ref().unwrap().name, "kong-internal");
    let names = scope.spans.iter().map(|span| Span::decode(span.clone()));
    let names: Vec<_> = names.map(|span| span.unwrap().name).collect();
    assert_eq!(names, ["a", "b"]);
}
