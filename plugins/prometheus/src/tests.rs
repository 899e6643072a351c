#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeServices, config, schema_without_descriptions,
};
use silverback_plugin::{Handler, InstanceInfo, MetricTerms, Plugin, Scopes};

use crate::Prometheus;

fn terms(settings: Value) -> MetricTerms {
    let made =
        Compiled::<Prometheus>::with(settings, &InstanceInfo::default(), &FakeServices::default());
    made.plugin().metric_terms().unwrap()
}

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<Prometheus>(), facts);
}

#[test]
fn it_may_be_configured_anywhere() {
    assert_eq!(Prometheus::SCOPES, Scopes::ALL);
}

#[test]
fn without_settings_nothing_more_is_measured() {
    assert_eq!(terms(json!({})), MetricTerms::default());
    let nothing =
        json!({ "latency_metrics": null, "bandwidth_metrics": null, "per_consumer": null });
    assert_eq!(terms(nothing), MetricTerms::default());
}

#[test]
fn each_setting_asks_for_its_own() {
    let none = MetricTerms::default();
    let cases = [
        (
            "latency_metrics",
            MetricTerms {
                latency: true,
                ..none
            },
        ),
        (
            "bandwidth_metrics",
            MetricTerms {
                bandwidth: true,
                ..none
            },
        ),
        (
            "per_consumer",
            MetricTerms {
                per_consumer: true,
                ..none
            },
        ),
        (
            "upstream_health_metrics",
            MetricTerms {
                upstream_health: true,
                ..none
            },
        ),
        ("status_code_metrics", none),
        ("ai_metrics", none),
    ];
    for (setting, wanted) in cases {
        assert_eq!(terms(json!({ setting: true })), wanted, "{setting}");
    }
}

#[test]
fn settings_are_switches() {
    let refused = config::<Prometheus>(json!({ "per_consumer": "yes" })).unwrap_err();
    assert_eq!(
        refused.message(),
        "schema violation (config.per_consumer: expected a boolean)"
    );
    let refused = config::<Prometheus>(json!({ "wasm_metrics": true })).unwrap_err();
    assert_eq!(
        refused.message(),
        "schema violation (config.wasm_metrics: unknown field)"
    );
}

#[tokio::test]
async fn a_request_passes_untouched() {
    let done = Exchange::get("/")
        .run::<Prometheus>(json!({ "latency_metrics": true }))
        .await;
    done.passed();
    assert_eq!(done.status(), 200);
}
