//! Prometheus metrics, under Kong 3.9's names where Kong has them
//! (`kong/plugins/prometheus/exporter.lua`) and under `silverback_` where it has not.
//!
//! What a request costs: proxy threads work on handles ([`RouteMetrics`], [`ServiceMetrics`]) obtained from
//! the [`Registry`] when a snapshot is built. A handle keeps its counters once per stripe, each on its own
//! cache lines, and a thread always uses the same stripe; so counting is a few uncontended atomic additions,
//! without locks, and without allocation once a thread has seen a route and class of status. The stripes are
//! added up when somebody asks for [`Registry::render`].
//!
//! Connections, requests, retries and status codes are always counted, as it is cheap (one addition each).
//! Latency histograms, bandwidth and series per consumer (eight additions more) are for requests that
//! [`Collect`] asks for; who that is, is decided where the plugins are.

mod codes;
mod exposition;
mod histogram;
mod node;
mod process;
mod registry;
mod route;
mod service;

pub use codes::Source;
pub use exposition::{CONTENT_TYPE, Family, Kind};
pub use node::{NodeCounts, NodeMetrics};
pub use registry::Registry;
pub use route::{Collect, RequestOutcome, RouteIdentity, RouteMetrics};
pub use service::{RetryOutcome, ServiceMetrics};
