//! The correlation-id plugin
