//! What the plugin is told.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use silverback_export::queue::field as queue;
use silverback_export::statsd::{ConsumerIdentifier, Measure, StatType, rate_needed};
use silverback_export::{QueueConfig, Terms};
use silverback_plugin::schema::field::{
    Field, array, boolean, integer, number, record_with, string,
};
use silverback_plugin::schema::record;
use silverback_plugin::schema::typedefs::{host, port};

/// Where the server is unless said otherwise.
pub(crate) const HOST: &str = "localhost";

/// StatsD's port.
pub(crate) const PORT: u16 = 8125;

/// What metrics' names begin with unless said otherwise.
pub(crate) const PREFIX: &str = "kong";

record! {
    /// Settings of `statsd`.
    pub struct Config {
        /// The server: its name or its address.
        pub host: Option<String> = host().default(HOST),
        /// The server's port.
        pub port: Option<u16> = port().default(PORT),
        /// What metrics' names begin with.
        pub prefix: Option<String> = string().default(PREFIX),
        /// The metrics of each exchange.
        pub metrics: Option<Vec<MetricConfig>> = metrics(),
        /// Ranges of statuses, such as `200-299`: exchanges with others are not measured. All are when there is no list.
        pub allow_status_codes: Option<Vec<String>> = array(string().matches("^[0-9]+-[0-9]+$")),
        /// Metrics share a datagram up to this many bytes; with 0 each has its own.
        pub udp_packet_size: Option<f64> = number().between(0, 65507).default(0),
        /// Whether metrics are sent over TCP.
        pub use_tcp: Option<bool> = boolean().default(false),
        /// Whether the name of the machine stands behind the prefix. Means nothing with `tag_style`, where it is a tag.
        pub hostname_in_prefix: Option<bool> = boolean().default(false),
        /// What of a consumer is shown in metrics that do not say it.
        pub consumer_identifier_default: ConsumerIdentifier = consumer_identifier().required().default("custom_id"),
        /// What of a service is shown in metrics that do not say it.
        pub service_identifier_default: ServiceIdentifier = service_identifier().required().default("service_name_or_host"),
        /// What of the workspace is shown in metrics that do not say it.
        pub workspace_identifier_default: WorkspaceIdentifier = workspace_identifier().required().default("workspace_id"),
        /// Means nothing any more: see `queue.max_retry_time`.
        pub retry_count: Option<i64> = integer(),
        /// The former name of `queue.max_batch_size`.
        pub queue_size: Option<i64> = integer(),
        /// The former name of `queue.max_coalescing_delay`.
        pub flush_timeout: Option<f64> = number(),
        /// Whether service, route, workspace, consumer, machine and status are tags, and how the server wants them.
        pub tag_style: Option<TagStyle> = string().optional().one_of(["dogstatsd", "influxdb", "librato", "signalfx"]),
        /// How metrics wait and are sent.
        pub queue: QueueConfig = queue(),
    }
}

record! {
    /// A metric.
    pub struct MetricConfig {
        /// What is measured.
        pub name: Name = string().required().one_of([
            "kong_latency", "latency", "request_count", "request_per_user", "request_size", "response_size", "status_count",
            "status_count_per_user", "unique_users", "upstream_latency", "status_count_per_workspace", "status_count_per_user_per_route",
            "shdict_usage",
        ]),
        /// What the server makes of the values.
        pub stat_type: StatType = string().required().one_of(["counter", "gauge", "histogram", "meter", "set", "timer"]),
        /// The rate that the server is told; counters and gauges need one.
        pub sample_rate: Option<f64> = number().gt(0.0),
        /// What of the consumer is shown.
        pub consumer_identifier: Option<ConsumerIdentifier> = consumer_identifier(),
        /// What of the service is shown.
        pub service_identifier: Option<ServiceIdentifier> = service_identifier(),
        /// What of the workspace is shown.
        pub workspace_identifier: Option<WorkspaceIdentifier> = workspace_identifier(),
    }
}

/// What a metric measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// Milliseconds until the upstream was turned to or the gateway answered.
    KongLatency,
    /// Milliseconds altogether.
    Latency,
    /// Exchanges.
    RequestCount,
    /// Exchanges of the consumer.
    RequestPerUser,
    /// Bytes of the request.
    RequestSize,
    /// Bytes of the response.
    ResponseSize,
    /// Exchanges with the status.
    StatusCount,
    /// Exchanges of the consumer with the status.
    StatusCountPerUser,
    /// The consumer.
    UniqueUsers,
    /// Milliseconds of waiting for the upstream.
    UpstreamLatency,
    /// Exchanges of the workspace with the status.
    StatusCountPerWorkspace,
    /// Exchanges of the consumer on the route with the status.
    StatusCountPerUserPerRoute,
    /// Memory of Kong that does not exist here: never sent.
    ShdictUsage,
}

impl Name {
    /// The number, where it is one that every exchange has.
    pub(crate) fn measure(self) -> Option<Measure> {
        match self {
            Name::KongLatency => Some(Measure::KongLatency),
            Name::Latency => Some(Measure::Latency),
            Name::RequestCount => Some(Measure::RequestCount),
            Name::RequestSize => Some(Measure::RequestSize),
            Name::ResponseSize => Some(Measure::ResponseSize),
            Name::UpstreamLatency => Some(Measure::UpstreamLatency),
            _ => None,
        }
    }
}

/// What of a service is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceIdentifier {
    /// Its primary key.
    ServiceId,
    /// Its name.
    ServiceName,
    /// Its host.
    ServiceHost,
    /// Its name; its host when it has none.
    ServiceNameOrHost,
}

/// What of the workspace is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceIdentifier {
    /// Its primary key.
    WorkspaceId,
    /// Its name.
    WorkspaceName,
}

/// How a server wants tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TagStyle {
    /// `name:1|c|#tag:value,tag:value`
    Dogstatsd,
    /// `name,tag=value,tag=value:1|c`
    Influxdb,
    /// `name#tag=value,tag=value:1|c`
    Librato,
    /// `name[tag=value,tag=value]:1|c`
    Signalfx,
}

impl Config {
    pub(crate) fn terms(&self) -> Terms {
        Terms::from(&self.queue).with_former(self.queue_size, self.flush_timeout)
    }
}

fn consumer_identifier() -> Field {
    string().one_of(ConsumerIdentifier::NAMES)
}

fn service_identifier() -> Field {
    string().one_of([
        "service_id",
        "service_name",
        "service_host",
        "service_name_or_host",
    ])
}

fn workspace_identifier() -> Field {
    string().one_of(["workspace_id", "workspace_name"])
}

fn metrics() -> Field {
    array(record_with::<MetricConfig>(vec![rate_needed()])).default(default_metrics())
}

/// All there are, in Kong's order.
fn default_metrics() -> Value {
    let counter = |name| json!({ "name": name, "stat_type": "counter", "sample_rate": 1 });
    let timer = |name| json!({ "name": name, "stat_type": "timer" });
    json!([
        counter("request_count"),
        timer("latency"),
        counter("request_size"),
        counter("status_count"),
        counter("response_size"),
        { "name": "unique_users", "stat_type": "set" },
        counter("request_per_user"),
        timer("upstream_latency"),
        timer("kong_latency"),
        counter("status_count_per_user"),
        counter("status_count_per_workspace"),
        counter("status_count_per_user_per_route"),
        { "name": "shdict_usage", "stat_type": "gauge", "sample_rate": 1 },
    ])
}
