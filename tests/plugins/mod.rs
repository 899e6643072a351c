//! Plugins on a running node, one folder each, and what they have to do with one another.

mod acl;
#[path = "aws-lambda/mod.rs"]
mod aws_lambda;
#[path = "basic-auth/mod.rs"]
mod basic_auth;
#[path = "correlation-id/mod.rs"]
mod correlation_id;
#[path = "file-log/mod.rs"]
mod file_log;
#[path = "hmac-auth/mod.rs"]
mod hmac_auth;
#[path = "http-log/mod.rs"]
mod http_log;
mod jwt;
#[path = "key-auth/mod.rs"]
mod key_auth;
mod precedence;
mod prometheus;
#[path = "rate-limiting/mod.rs"]
mod rate_limiting;
#[path = "request-termination/mod.rs"]
mod request_termination;
#[path = "request-transformer/mod.rs"]
mod request_transformer;
