//! What the router looks at in a request.

use http::HeaderMap;

/// Which of Kong's two rule sets decides among routes that match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flavor {
    /// Kong's default: routes ordered by one number, ties by id.
    #[default]
    TraditionalCompatible,
    /// The older one: routes in categories by the kinds of their rules, ties by age.
    Traditional,
}

/// One request, borrowed from the connection.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method in the case the client sent it in.
    pub method: &'a str,
    /// The `Host` header or `:authority` without its port, in the client's case; empty when there is none.
    /// See [`split_host_port`].
    pub host: &'a str,
    /// The port in the `Host` header, if it has one.
    pub host_port: Option<u16>,
    /// The port of the listener that took the connection.
    pub port: u16,
    /// The path after [`normalize_path`](crate::normalize_path), without a query.
    pub path: &'a [u8],
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The server name of the TLS handshake.
    pub sni: Option<&'a str>,
    /// How the client's connection is spoken: `http`, `https`, `grpc` or `grpcs`.
    pub scheme: &'a str,
}

impl Request<'_> {
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.scheme, "https" | "grpcs")
    }
}

/// Splits a `Host` header into name and port.
///
/// A colon that is not followed by a number belongs to the name, as in an IPv6 address in brackets.
/// A port above 65535 is given as 0, which no listener and no route has.
/// Learnt from `split_host_port` of `kong/router/transform.lua`.
///
/// ```
/// use silverback_router::split_host_port;
/// assert_eq!(split_host_port("a.test:8080"), ("a.test", Some(8080)));
/// assert_eq!(split_host_port("[::1]"), ("[::1]", None));
/// ```
pub fn split_host_port(raw: &str) -> (&str, Option<u16>) {
    let start = if raw.starts_with('[') {
        raw.find(']').map_or(0, |i| i + 1)
    } else {
        0
    };
    let Some(colon) = memchr::memchr(b':', &raw.as_bytes()[start..]).map(|i| i + start) else {
        return (raw, None);
    };
    let digits = &raw[colon + 1..];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return (raw, None);
    }
    (&raw[..colon], Some(digits.parse().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_split_only_when_it_is_a_number() {
        assert_eq!(split_host_port(""), ("", None));
        assert_eq!(split_host_port("h.test"), ("h.test", None));
        assert_eq!(split_host_port("h.test:80"), ("h.test", Some(80)));
        assert_eq!(split_host_port("h.test:"), ("h.test:", None));
        assert_eq!(split_host_port("h.test:x"), ("h.test:x", None));
        assert_eq!(split_host_port("h.test:99999"), ("h.test", Some(0)));
    }

    #[test]
    fn colons_of_an_ipv6_address_are_no_port() {
        assert_eq!(split_host_port("[2001:db8::1]"), ("[2001:db8::1]", None));
        assert_eq!(split_host_port("[::1]:8000"), ("[::1]", Some(8000)));
        assert_eq!(split_host_port("::1:80"), ("::1:80", None));
    }
}
