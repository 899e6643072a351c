//! Header names and values that are used for every request, made once.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use silverback_plugin::HeaderKey;

/// Name and version in `Server` and `Via`.
pub const PRODUCT: &str = concat!("silverback/", env!("CARGO_PKG_VERSION"));

/// The version of the engine, for `GET /`.
pub const PINGORA_VERSION: &str = "0.9.1";

pub(crate) const SERVER: HeaderValue = HeaderValue::from_static(PRODUCT);
pub(crate) const VIA_0: HeaderValue =
    HeaderValue::from_static(concat!("1 silverback/", env!("CARGO_PKG_VERSION")));
pub(crate) const VIA_1: HeaderValue =
    HeaderValue::from_static(concat!("1.1 silverback/", env!("CARGO_PKG_VERSION")));
pub(crate) const VIA_2: HeaderValue =
    HeaderValue::from_static(concat!("2 silverback/", env!("CARGO_PKG_VERSION")));

pub(crate) const KEEP_ALIVE: HeaderValue = HeaderValue::from_static("keep-alive");
pub(crate) const UPGRADE: HeaderValue = HeaderValue::from_static("keep-alive, Upgrade");
pub(crate) const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
pub(crate) const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
pub(crate) const HTTP: HeaderValue = HeaderValue::from_static("http");
pub(crate) const HTTPS: HeaderValue = HeaderValue::from_static("https");

/// A name's wire spelling, as Pingora takes it without copying.
pub(crate) const fn wire(name: &'static str) -> Bytes {
    Bytes::from_static(name.as_bytes())
}

pub(crate) const W_CONNECTION: Bytes = wire("Connection");
pub(crate) const W_CONTENT_LENGTH: Bytes = wire("Content-Length");
pub(crate) const W_HOST: Bytes = wire("Host");
pub(crate) const W_SET_COOKIE: Bytes = wire("Set-Cookie");
pub(crate) const W_TE: Bytes = wire("TE");
pub(crate) const W_UPGRADE: Bytes = wire("Upgrade");
pub(crate) const W_VIA: Bytes = wire("Via");
pub(crate) const W_SERVER: Bytes = wire("Server");
pub(crate) const W_FORWARDED_FOR: Bytes = wire("X-Forwarded-For");
pub(crate) const W_FORWARDED_PROTO: Bytes = wire("X-Forwarded-Proto");
pub(crate) const W_FORWARDED_HOST: Bytes = wire("X-Forwarded-Host");
pub(crate) const W_FORWARDED_PORT: Bytes = wire("X-Forwarded-Port");
pub(crate) const W_FORWARDED_PATH: Bytes = wire("X-Forwarded-Path");
pub(crate) const W_FORWARDED_PREFIX: Bytes = wire("X-Forwarded-Prefix");
pub(crate) const W_REAL_IP: Bytes = wire("X-Real-IP");
pub(crate) const W_REQUEST_ID: Bytes = wire("X-Kong-Request-Id");
pub(crate) const W_PROXY_LATENCY: Bytes = wire("X-Kong-Proxy-Latency");
pub(crate) const W_UPSTREAM_LATENCY: Bytes = wire("X-Kong-Upstream-Latency");
pub(crate) const W_RESPONSE_LATENCY: Bytes = wire("X-Kong-Response-Latency");
pub(crate) const W_UPSTREAM_STATUS: Bytes = wire("X-Kong-Upstream-Status");
pub(crate) const W_RETRY_BUDGET: Bytes = wire("X-Retry-Budget");
pub(crate) const W_RETRY_ATTEMPT: Bytes = wire("X-Retry-Attempt");

macro_rules! names {
    ($($id:ident = $text:literal;)*) => { $(pub(crate) static $id: HeaderName = HeaderName::from_static($text);)* };
}

names! {
    FORWARDED_FOR = "x-forwarded-for";
    FORWARDED_PROTO = "x-forwarded-proto";
    FORWARDED_HOST = "x-forwarded-host";
    FORWARDED_PORT = "x-forwarded-port";
    FORWARDED_PATH = "x-forwarded-path";
    FORWARDED_PREFIX = "x-forwarded-prefix";
    H_KEEP_ALIVE = "keep-alive";
    PROXY_CONNECTION = "proxy-connection";
    IDEMPOTENCY_KEY = "idempotency-key";
    KONG_DEBUG = "kong-debug";
    RETRY_ATTEMPT = "x-retry-attempt";
    GRPC_ATTEMPTS = "grpc-previous-rpc-attempts";
    GRPC_PUSHBACK = "grpc-retry-pushback-ms";
}

macro_rules! keys {
    ($($id:ident = $text:literal;)*) => {
        $(pub(crate) static $id: LazyLock<HeaderKey> = LazyLock::new(|| HeaderKey::from_static($text));)*
    };
}

// Headers of the answers that the gateway gives by itself.
keys! {
    K_CONNECTION = "Connection";
    K_CONTENT_TYPE = "Content-Type";
    K_GRPC_MESSAGE = "grpc-message";
    K_GRPC_STATUS = "grpc-status";
    K_LOCATION = "Location";
    K_UPGRADE = "Upgrade";
}

/// A number as a header's value.
pub(crate) fn number(n: impl itoa::Integer) -> HeaderValue {
    let mut digits = itoa::Buffer::new();
    let text = digits.format(n);
    // Small numbers, as latencies mostly are, cost no allocation.
    match text.as_bytes() {
        [d @ b'0'..=b'9'] => SMALL[usize::from(d - b'0')].clone(),
        _ => HeaderValue::from_str(text).unwrap_or(SMALL[0].clone()),
    }
}

static SMALL: [HeaderValue; 10] = {
    const fn of(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }
    [
        of("0"),
        of("1"),
        of("2"),
        of("3"),
        of("4"),
        of("5"),
        of("6"),
        of("7"),
        of("8"),
        of("9"),
    ]
};
