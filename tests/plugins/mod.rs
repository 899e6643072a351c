//! Plugins on a running node, one folder each, and what they have to do with one another.

mod acl;
#[path = "basic-auth/mod.rs"]
mod basic_auth;
#[path = "correlation-id/mod.rs"]
mod correlation_id;
#[path = "hmac-auth/mod.rs"]
mod hmac_auth;
mod jwt;
#[path = "key-auth/mod.rs"]
mod key_auth;
mod precedence;
#[path = "proxy-cache/mod.rs"]
mod proxy_cache;
#[path = "rate-limiting/mod.rs"]
mod rate_limiting;
#[path = "request-termination/mod.rs"]
mod request_termination;
