//! What the plugin is told.

use silverback_plugin::schema::field::{Field, boolean};
use silverback_plugin::schema::record;

record! {
    /// Settings of `prometheus`. Null means no.
    pub struct Config {
        /// Count requests and bytes by consumer: the label `consumer` of `kong_http_requests_total` and `kong_bandwidth_bytes`.
        pub per_consumer: Option<bool> = switch(),
        /// Count requests by status. They are counted in any case; the field is there for configurations made for Kong.
        pub status_code_metrics: Option<bool> = switch(),
        /// Count what language models are asked. No plugin of this gateway asks any, so there is nothing to count.
        pub ai_metrics: Option<bool> = switch(),
        /// Measure times: `kong_request_latency_ms`, `kong_upstream_latency_ms` and `kong_kong_latency_ms`.
        pub latency_metrics: Option<bool> = switch(),
        /// Count bytes received and sent: `kong_bandwidth_bytes`.
        pub bandwidth_metrics: Option<bool> = switch(),
        /// Show the health of all upstreams' targets: `kong_upstream_target_health`.
        pub upstream_health_metrics: Option<bool> = switch(),
    }
}

fn switch() -> Field {
    boolean().default(false)
}
