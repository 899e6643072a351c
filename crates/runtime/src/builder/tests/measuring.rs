//! What is measured of a request, as the configurations say that apply to it.

use silverback_plugin::MetricTerms;
use silverback_telemetry::Collect;

use super::*;

/// Measures what its mark names.
struct Measure(MetricTerms);

impl Plugin for Measure {
    const NAME: &'static str = "measure";
    const PRIORITY: i32 = 1;
    const VERSION: &'static str = "1.0.0";
    const PHASES: Phases = Phases::NONE;
    type Config = Config;

    fn compile(config: Config, _: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        Ok(Measure(MetricTerms {
            latency: config.mark.contains("latency"),
            bandwidth: config.mark.contains("bandwidth"),
            per_consumer: config.mark.contains("consumer"),
            upstream_health: config.mark.contains("health"),
        }))
    }
}

impl Handler for Measure {
    fn metric_terms(&self) -> Option<MetricTerms> {
        Some(self.0)
    }
}

/// Routes `/a` and `/b` of service 1, and consumer 3 with key `k`.
fn builder() -> Builder {
    let mut registries = registries();
    registries.plugins.push(PluginDef::of::<Measure>());
    registries.sort_plugins();
    let mut b = Builder::new(registries);
    b.apply(
        1,
        vec![
            service(1),
            route(2, "/a", 1),
            route(4, "/b", 1),
            consumer(3, "alice"),
            key(5, 3, "k"),
            plugin(6, "auth", [0, 0, 0], mark("")),
        ],
    );
    b
}

async fn measured(s: &Snapshot, path: &str, key: &str) -> Collect {
    let picks = access(s, path, key).await.1;
    find(s, path).unwrap().chain.collect(&picks)
}

const LATENCY: Collect = Collect {
    latency: true,
    bandwidth: false,
    per_consumer: false,
};
const BANDWIDTH: Collect = Collect {
    latency: false,
    bandwidth: true,
    per_consumer: false,
};
const NOTHING: Collect = Collect {
    latency: false,
    bandwidth: false,
    per_consumer: false,
};

#[tokio::test]
async fn a_route_measures_as_its_own_configuration_says_and_others_as_the_global_one() {
    let mut b = builder();
    assert_eq!(measured(&b.build(), "/a", "").await, NOTHING);
    b.apply(2, vec![plugin(10, "measure", [0, 0, 0], mark("latency"))]);
    b.apply(3, vec![plugin(11, "measure", [2, 0, 0], mark("bandwidth"))]);
    let s = b.build();
    assert_eq!(measured(&s, "/a", "k").await, BANDWIDTH);
    assert_eq!(measured(&s, "/b", "k").await, LATENCY);
}

#[tokio::test]
async fn a_consumers_configuration_is_for_its_requests_only() {
    let mut b = builder();
    let of_consumer = mark("latency, bandwidth, consumer");
    b.apply(2, vec![plugin(10, "measure", [0, 0, 3], of_consumer)]);
    let s = b.build();
    assert_eq!(measured(&s, "/a", "k").await, Collect::ALL);
    assert_eq!(measured(&s, "/a", "").await, NOTHING);
    b.apply(3, vec![plugin(11, "measure", [0, 1, 0], mark("latency"))]);
    let s = b.build();
    assert_eq!(measured(&s, "/a", "k").await, Collect::ALL);
    assert_eq!(measured(&s, "/a", "").await, LATENCY);
}

#[tokio::test]
async fn a_request_refused_before_its_plugins_ran_is_measured_as_anybodys() {
    let mut b = builder();
    b.apply(2, vec![plugin(10, "measure", [0, 0, 3], mark("latency"))]);
    b.apply(3, vec![plugin(11, "measure", [2, 0, 0], mark("bandwidth"))]);
    let s = b.build();
    let chain = &find(&s, "/a").unwrap().chain;
    assert_eq!(chain.collect(&Picks::default()), BANDWIDTH);
}

#[tokio::test]
async fn a_changed_configuration_counts_from_the_next_snapshot() {
    let mut b = builder();
    b.apply(2, vec![plugin(10, "measure", [2, 0, 0], mark("latency"))]);
    assert_eq!(measured(&b.build(), "/a", "").await, LATENCY);
    b.apply(3, vec![plugin(10, "measure", [2, 0, 0], mark("bandwidth"))]);
    assert_eq!(measured(&b.build(), "/a", "").await, BANDWIDTH);
    b.apply(4, vec![change("plugins", 10, None)]);
    assert_eq!(measured(&b.build(), "/a", "").await, NOTHING);
}
