//! Metrics, access log and error log of the gateway.
//!
//! * [`metrics`]: counters that proxy threads bump without sharing a cache line, folded into the
//!   Prometheus text format when somebody asks.
//! * [`access_log`]: one line per request in nginx' format or in JSON, written by a thread of its own.
//! * [`logging`]: the error log, with Kong's level names, changeable while running.
//! * [`clock`]: time stamps as text, formatted once a second and thread.
//!
//! This crate knows nothing of the proxy engine, of the Admin API's server or of the database: callers
//! hand it numbers and borrowed strings.

pub mod access_log;
pub mod clock;
pub mod logging;
pub mod metrics;

mod escape;
mod sink;
mod striped;

pub use access_log::{AccessLog, AccessLogError, AccessRecord, LogFormat, LogTarget};
pub use logging::{ErrorFormat, ErrorTarget, LogConfig, LogHandle, LogLevel, LoggingError};
pub use metrics::{
    CONTENT_TYPE, Collect, Family, Kind, Registry, RequestOutcome, RetryOutcome, RouteIdentity,
    RouteMetrics, ServiceMetrics, Source,
};
pub use sink::SinkStats;
