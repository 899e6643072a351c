//! What the plugin is told.

use std::time::Duration;

use serde_json::{Map, Value, json};
use silverback_export::propagation::{PropagationConfig, field as propagation};
use silverback_export::queue::field as queue;
use silverback_export::{QueueConfig, Terms};
use silverback_plugin::schema::field::{integer, map, number, string};
use silverback_plugin::schema::typedefs::{header_name, timeout, url};
use silverback_plugin::schema::{EntityCheck, Shorthand, record};

record! {
    /// Settings of `opentelemetry`.
    pub struct Config {
        /// Where spans are sent to, as OTLP over HTTP. Without it the plugin does nothing with traces.
        pub traces_endpoint: Option<String> = url().referenceable(),
        /// Not supported: the gateway does not send its error log.
        pub logs_endpoint: Option<String> = url().referenceable(),
        /// Further headers of what is sent, such as a token.
        pub headers: Option<Map<String, Value>> = map(header_name(), string().referenceable()),
        /// What is said of this gateway beside `service.name` (`kong` unless given here), `service.version` and `service.instance.id`.
        pub resource_attributes: Option<Map<String, Value>> = map(string().required(), string().required()),
        /// How spans wait and are sent.
        pub queue: QueueConfig = queue().default(json!({ "max_batch_size": 200 })),
        /// The former name of `queue.max_batch_size`.
        pub batch_span_count: Option<i64> = integer(),
        /// The former name of `queue.max_coalescing_delay`.
        pub batch_flush_delay: Option<i64> = integer(),
        /// Milliseconds to connect.
        pub connect_timeout: Option<i64> = timeout().default(1000),
        /// Milliseconds to send.
        pub send_timeout: Option<i64> = timeout().default(5000),
        /// Milliseconds to wait for an answer.
        pub read_timeout: Option<i64> = timeout().default(5000),
        /// A header that tells clients the trace's id.
        pub http_response_header_for_traceid: Option<String> = string(),
        /// The former way to say how traces are passed on; counts where `propagation` says nothing but `default_format`.
        pub header_type: Option<String> = string().optional().default("preserve")
            .one_of(["preserve", "ignore", "b3", "b3-single", "w3c", "jaeger", "ot", "aws", "gcp", "datadog"]),
        /// The share of traces that are recorded, from 0 to 1, in place of the node's setting `tracing_sampling_rate`.
        pub sampling_rate: Option<f64> = number().optional().between(0, 1),
        /// How traces are passed on.
        pub propagation: PropagationConfig = propagation("w3c"),
    }
}

impl Config {
    /// The queue's terms. The former names count where they are not at their former defaults.
    pub(crate) fn terms(&self) -> Terms {
        let mut terms = Terms::from(&self.queue);
        if let Some(size) = self.batch_span_count.filter(|size| *size != 200) {
            terms.max_batch_size = size.max(1);
        }
        if let Some(delay) = self.batch_flush_delay.filter(|delay| *delay != 3) {
            let seconds = u64::try_from(delay).unwrap_or_default();
            terms.max_coalescing_delay = Duration::from_secs(seconds);
        }
        terms
    }
}

pub(crate) fn config_checks() -> Vec<EntityCheck> {
    vec![EntityCheck::AtLeastOneOf(vec![
        "traces_endpoint",
        "logs_endpoint",
    ])]
}

pub(crate) fn shorthands() -> Vec<Shorthand> {
    vec![Shorthand {
        name: "endpoint",
        field: url().referenceable(),
        translate: |value| Map::from_iter([("traces_endpoint".to_owned(), value.clone())]),
        shown_from: None,
        wins: true,
    }]
}
