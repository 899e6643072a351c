//! The request-termination plugin
