//! Plugins on a running node, one folder each, and what they have to do with one another.

#[path = "correlation-id/mod.rs"]
mod correlation_id;
#[path = "key-auth/mod.rs"]
mod key_auth;
mod precedence;
#[path = "rate-limiting/mod.rs"]
mod rate_limiting;
#[path = "request-termination/mod.rs"]
mod request_termination;
