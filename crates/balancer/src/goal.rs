//! What an upstream's rows say: its targets, and what of a request decides between them.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use silverback_entities::{Algorithm, HashOn, Target, Upstream};

/// What of a request decides where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashInput {
    /// The id of the consumer, or else of the credential.
    Consumer,
    /// The client's address.
    Ip,
    /// A header.
    Header(HeaderName),
    /// A cookie, which the client is given when it has none.
    Cookie {
        /// Its name.
        name: String,
        /// Its `Path`.
        path: String,
    },
    /// The path.
    Path,
    /// An argument of the query.
    QueryArg(String),
    /// A group of the route's regular expression, by name or number.
    UriCapture(String),
}

/// A target.
pub(crate) struct Goal {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) weight: u32,
    /// Set when the host is an address.
    pub(crate) fixed: Option<IpAddr>,
    /// What upstream requests name.
    pub(crate) authority: Arc<Authority>,
}

/// What upstream requests call a target.
#[derive(Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its host, as a server name of TLS; empty for addresses.
    pub sni: String,
    /// `Host` for requests in clear text and over TLS: with the port unless it is the scheme's own.
    clear: HeaderValue,
    tls: HeaderValue,
}

impl Authority {
    pub(crate) fn new(host: &str, port: u16) -> Self {
        let has_port = host.rsplit_once(':').is_some_and(|(h, p)| {
            !p.is_empty()
                && p.bytes().all(|b| b.is_ascii_digit())
                && !h.ends_with(':')
                && (!h.contains(':') || h.ends_with(']'))
        });
        let with = |own: u16| {
            let text = if has_port || port == own {
                host.to_owned()
            } else {
                format!("{host}:{port}")
            };
            // Hosts are checked when they are written: letters, digits and punctuation that a header may hold.
            HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
        };
        let bare = if has_port {
            host.rsplit_once(':').map_or(host, |(h, _)| h)
        } else {
            host
        };
        Authority {
            sni: if ip_of(bare).is_some() {
                String::new()
            } else {
                bare.to_owned()
            },
            clear: with(80),
            tls: with(443),
        }
    }

    /// The `Host` of a request to it.
    pub fn host(&self, tls: bool) -> &HeaderValue {
        if tls { &self.tls } else { &self.clear }
    }
}

pub(crate) fn goal(target: &Target, host_header: Option<&str>) -> Option<Goal> {
    // Rows have one form, `host:port`.
    let (host, port) = target.target.rsplit_once(':')?;
    let port = port.parse().ok()?;
    Some(Goal {
        fixed: ip_of(host),
        authority: Arc::new(Authority::new(host_header.unwrap_or(host), port)),
        host: host.to_owned(),
        port,
        weight: u32::from(target.weight.unwrap_or(100)),
    })
}

pub(crate) fn ip_of(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

pub(crate) fn inputs(upstream: &Upstream) -> Vec<HashInput> {
    if upstream.algorithm != Some(Algorithm::ConsistentHashing) {
        return Vec::new();
    }
    let input = |on: Option<HashOn>,
                 header: &Option<String>,
                 arg: &Option<String>,
                 capture: &Option<String>| {
        Some(match on.unwrap_or(HashOn::None) {
            HashOn::None => return None,
            HashOn::Consumer => HashInput::Consumer,
            HashOn::Ip => HashInput::Ip,
            HashOn::Header => HashInput::Header(header.as_ref()?.parse().ok()?),
            HashOn::Cookie => HashInput::Cookie {
                name: upstream.hash_on_cookie.clone()?,
                path: upstream
                    .hash_on_cookie_path
                    .clone()
                    .unwrap_or_else(|| "/".to_owned()),
            },
            HashOn::Path => HashInput::Path,
            HashOn::QueryArg => HashInput::QueryArg(arg.clone()?),
            HashOn::UriCapture => HashInput::UriCapture(capture.clone()?),
        })
    };
    let first = input(
        upstream.hash_on,
        &upstream.hash_on_header,
        &upstream.hash_on_query_arg,
        &upstream.hash_on_uri_capture,
    );
    let Some(first) = first else {
        return Vec::new();
    };
    let fallback = input(
        upstream.hash_fallback,
        &upstream.hash_fallback_header,
        &upstream.hash_fallback_query_arg,
        &upstream.hash_fallback_uri_capture,
    );
    std::iter::once(first).chain(fallback).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_called_by_its_host_and_port_where_the_port_is_not_the_schemes() {
        let called = |host, port| {
            let a = Authority::new(host, port);
            let text = |tls| a.host(tls).to_str().unwrap().to_owned();
            (text(false), text(true), a.sni.clone())
        };
        let three = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(called("a.test", 80), three("a.test", "a.test:80", "a.test"));
        assert_eq!(
            called("a.test", 443),
            three("a.test:443", "a.test", "a.test")
        );
        assert_eq!(
            called("a.test:9", 80),
            three("a.test:9", "a.test:9", "a.test")
        );
        assert_eq!(
            called("10.0.0.1", 8000),
            three("10.0.0.1:8000", "10.0.0.1:8000", "")
        );
        assert_eq!(called("[::1]", 8000), three("[::1]:8000", "[::1]:8000", ""));
    }
}
