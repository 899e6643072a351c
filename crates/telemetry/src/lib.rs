//! Metrics, access log, tracing
