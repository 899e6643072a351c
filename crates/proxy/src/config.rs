//! Settings of the data plane, as far as the proxy itself looks at them.

use std::sync::Arc;
use std::time::Duration;

use silverback_runtime::Current;
use silverback_telemetry::{AccessLog, Registry};

use crate::errors::Format;
use crate::forwarded::RealIp;

/// Settings of the data plane. The defaults are Kong's.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// Headers added to responses; Kong's `headers`.
    pub headers: HeadersConfig,
    /// Whether the upstream sees `X-Kong-Request-Id`; Kong's `headers_upstream`.
    pub upstream_request_id: bool,
    /// How the client's address is found; Kong's `trusted_ips`, `real_ip_header`, `real_ip_recursive`.
    pub real_ip: RealIp,
    /// The form of errors for clients that ask for none; Kong's `error_default_type`.
    pub error_default_type: Format,
    /// Longest request body, 0 for any; nginx's `client_max_body_size`.
    pub client_max_body_size: u64,
    /// Waiting for a request's head and between two reads of its body.
    pub client_read_timeout: Duration,
    /// Between two writes to the client.
    pub client_write_timeout: Duration,
    /// How long an idle client connection is kept; nginx's `keepalive_timeout`.
    pub client_keepalive: Duration,
    /// How many idle upstream connections a worker keeps; Kong's `upstream_keepalive_pool_size`. 0 keeps none.
    pub upstream_keepalive_pool_size: usize,
    /// How long an idle upstream connection is kept; Kong's `upstream_keepalive_idle_timeout`.
    pub upstream_keepalive_idle: Duration,
    /// Whether `Kong-Debug: 1` is answered with more headers; Kong's `allow_debug_header`.
    pub debug_header: bool,
    /// Authorities that upstreams' certificates are verified with; the system's when `None`.
    pub ca_file: Option<String>,
    /// Threads; 0 for one per core.
    pub threads: usize,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        ProxyConfig {
            headers: HeadersConfig::default(),
            upstream_request_id: true,
            real_ip: RealIp::default(),
            error_default_type: Format::Plain,
            client_max_body_size: 0,
            client_read_timeout: Duration::from_secs(60),
            client_write_timeout: Duration::from_secs(60),
            client_keepalive: Duration::from_secs(75),
            upstream_keepalive_pool_size: 512,
            upstream_keepalive_idle: Duration::from_secs(60),
            debug_header: false,
            ca_file: None,
            threads: 0,
        }
    }
}

/// Which headers are added to responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadersConfig {
    /// `Server`, on responses that have none.
    pub server: bool,
    /// `Via`, on upstream's responses.
    pub via: bool,
    /// `X-Kong-Request-Id`.
    pub request_id: bool,
    /// `X-Kong-Proxy-Latency`.
    pub proxy_latency: bool,
    /// `X-Kong-Upstream-Latency`.
    pub upstream_latency: bool,
    /// `X-Kong-Response-Latency`, on the gateway's own responses.
    pub response_latency: bool,
    /// `X-Kong-Upstream-Status`.
    pub upstream_status: bool,
}

impl Default for HeadersConfig {
    fn default() -> Self {
        HeadersConfig {
            server: true,
            via: true,
            request_id: true,
            proxy_latency: true,
            upstream_latency: true,
            response_latency: true,
            upstream_status: false,
        }
    }
}

/// A name that Kong's `headers` does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid entry in headers: {0}")]
pub struct UnknownHeader(pub String);

impl HeadersConfig {
    /// None.
    pub const OFF: HeadersConfig = HeadersConfig {
        server: false,
        via: false,
        request_id: false,
        proxy_latency: false,
        upstream_latency: false,
        response_latency: false,
        upstream_status: false,
    };

    /// From the entries of Kong's `headers`, in any case: header names, `server_tokens`, `latency_tokens`, `off`.
    ///
    /// # Errors
    /// [`UnknownHeader`] for anything else.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownHeader> {
        let mut h = HeadersConfig::OFF;
        for entry in entries {
            match entry.trim().to_ascii_lowercase().as_str() {
                "off" => return Ok(HeadersConfig::OFF),
                "server_tokens" => (h.server, h.via) = (true, true),
                "latency_tokens" => {
                    (h.proxy_latency, h.upstream_latency, h.response_latency) = (true, true, true);
                }
                "server" => h.server = true,
                "via" => h.via = true,
                "x-kong-request-id" => h.request_id = true,
                "x-kong-proxy-latency" => h.proxy_latency = true,
                "x-kong-upstream-latency" => h.upstream_latency = true,
                "x-kong-response-latency" => h.response_latency = true,
                "x-kong-upstream-status" => h.upstream_status = true,
                // Concerns the Admin API.
                "" | "x-kong-admin-latency" => {}
                _ => return Err(UnknownHeader(entry.to_owned())),
            }
        }
        Ok(h)
    }
}

/// What all workers of the data plane share.
#[derive(Clone)]
pub struct Shared {
    /// Settings.
    pub config: Arc<ProxyConfig>,
    /// The configuration being served.
    pub current: Current,
    /// Where requests are counted.
    pub metrics: Arc<Registry>,
    /// Where they are logged.
    pub access_log: Arc<AccessLog>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_headers_are_read_as_kong_reads_them() {
        let kongs_default =
            HeadersConfig::parse(["server_tokens", "latency_tokens", "X-Kong-Request-Id"]);
        assert_eq!(kongs_default, Ok(HeadersConfig::default()));
        assert_eq!(HeadersConfig::parse(["off"]), Ok(HeadersConfig::OFF));
        assert_eq!(
            HeadersConfig::parse(["via"]),
            Ok(HeadersConfig {
                via: true,
                ..HeadersConfig::OFF
            })
        );
        assert!(HeadersConfig::parse(["nonsense"]).is_err());
    }
}
