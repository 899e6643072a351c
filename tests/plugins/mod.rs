//! Plugins on a running node, one folder each, and what they have to do with one another.

mod acl;
#[path = "aws-lambda/mod.rs"]
mod aws_lambda;
#[path = "basic-auth/mod.rs"]
mod basic_auth;
#[path = "bot-detection/mod.rs"]
mod bot_detection;
#[path = "correlation-id/mod.rs"]
mod correlation_id;
mod cors;
#[path = "file-log/mod.rs"]
mod file_log;
#[path = "hmac-auth/mod.rs"]
mod hmac_auth;
#[path = "http-log/mod.rs"]
mod http_log;
#[path = "ip-restriction/mod.rs"]
mod ip_restriction;
mod jwt;
#[path = "key-auth/mod.rs"]
mod key_auth;
mod loggly;
mod oauth2;
mod opentelemetry;
mod precedence;
mod prometheus;
#[path = "proxy-cache/mod.rs"]
mod proxy_cache;
#[path = "rate-limiting/mod.rs"]
mod rate_limiting;
mod redirect;
#[path = "request-size-limiting/mod.rs"]
mod request_size_limiting;
#[path = "request-termination/mod.rs"]
mod request_termination;
#[path = "request-transformer/mod.rs"]
mod request_transformer;
#[path = "response-ratelimiting/mod.rs"]
mod response_ratelimiting;
mod session;
#[path = "standard-webhooks/mod.rs"]
mod standard_webhooks;
mod statsd;
mod syslog;
#[path = "tcp-log/mod.rs"]
mod tcp_log;
mod tls;
#[path = "udp-log/mod.rs"]
mod udp_log;
