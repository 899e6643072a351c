//! Heads of responses: what the gateway adds and takes away. Learnt from `header_filter` in `kong/runloop/handler.lua`.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use pingora_core::Result;
use pingora_http::{HeaderNameVariant, RequestHeader, ResponseHeader};
use silverback_plugin::{HeaderKey, ResponseHead};

use crate::exchange::Exchange;
use crate::names::*;
use crate::target::set_cookie;
use crate::upstream_headers::joined;

/// Adjusts the upstream's response.
pub(crate) fn proxied(
    resp: &mut ResponseHeader,
    client: &RequestHeader,
    x: &Exchange,
) -> Result<()> {
    strip_hop_by_hop(resp, client);
    set_cookie(resp, x)?;
    let config = &x.shared.config.headers;
    if config.upstream_status {
        resp.insert_header(W_UPSTREAM_STATUS, number(resp.status.as_u16()))?;
    }
    latencies(resp, x)?;
    if config.via {
        let via = match resp.headers.get(header::VIA) {
            Some(before) => joined(before, &VIA_1)?,
            None => VIA_1,
        };
        resp.insert_header(W_VIA, via)?;
    }
    if config.server && !resp.headers.contains_key(header::SERVER) {
        resp.insert_header(W_SERVER, SERVER)?;
    }
    request_id(resp, x)
}

/// Adds what the gateway's own responses carry. With `asked` the upstream was turned to and failed.
pub(crate) fn local(resp: &mut ResponseHeader, x: &Exchange, asked: bool) -> Result<()> {
    let config = &x.shared.config.headers;
    if asked {
        latencies(resp, x)?;
        if config.via {
            resp.insert_header(W_VIA, VIA_1)?;
        }
    } else if config.response_latency {
        let took = match x.facts.responded {
            Some(at) => at.saturating_duration_since(x.facts.started),
            None => x.facts.started.elapsed(),
        };
        resp.insert_header(W_RESPONSE_LATENCY, number(millis(took)))?;
    }
    if config.server {
        resp.insert_header(W_SERVER, SERVER)?;
    }
    request_id(resp, x)
}

fn request_id(resp: &mut ResponseHeader, x: &Exchange) -> Result<()> {
    if x.shared.config.headers.request_id
        && let Ok(id) = HeaderValue::from_bytes(&x.facts.request_id)
    {
        resp.insert_header(W_REQUEST_ID, id)?;
    }
    if x.exhausted && x.debug {
        resp.insert_header(W_RETRY_BUDGET, HeaderValue::from_static("exhausted"))?;
    }
    Ok(())
}

fn latencies(resp: &mut ResponseHeader, x: &Exchange) -> Result<()> {
    let config = &x.shared.config.headers;
    let f = &x.facts;
    let Some(proxied) = f.proxied else {
        return Ok(());
    };
    if config.upstream_latency {
        let until = f.upstream_header.unwrap_or_else(Instant::now);
        resp.insert_header(
            W_UPSTREAM_LATENCY,
            number(millis(until.saturating_duration_since(proxied))),
        )?;
    }
    if config.proxy_latency {
        resp.insert_header(
            W_PROXY_LATENCY,
            number(millis(proxied.saturating_duration_since(f.started))),
        )?;
    }
    Ok(())
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

fn strip_hop_by_hop(resp: &mut ResponseHeader, client: &RequestHeader) {
    if let Some(named) = resp.headers.get(header::CONNECTION)
        && !matches!(
            named.as_bytes(),
            b"keep-alive" | b"close" | b"upgrade" | b"Upgrade"
        )
    {
        let named = named.clone();
        for token in named.as_bytes().split(|b| *b == b',') {
            if let Ok(name) = HeaderName::from_bytes(token.trim_ascii())
                && !matches!(
                    name,
                    header::CONNECTION
                        | header::CONTENT_LENGTH
                        | header::TRANSFER_ENCODING
                        | header::UPGRADE
                )
            {
                resp.remove_header(&name);
            }
        }
    }
    if resp.status != StatusCode::SWITCHING_PROTOCOLS && resp.headers.contains_key(header::UPGRADE)
    {
        resp.remove_header(&header::UPGRADE);
    }
    for name in [&H_KEEP_ALIVE, &PROXY_CONNECTION] {
        if resp.headers.contains_key(name) {
            resp.remove_header(name);
        }
    }
    // Orders for nginx, which it obeys or not and never passes on.
    if resp.headers.keys().any(is_order) {
        let orders: Vec<_> = resp
            .headers
            .keys()
            .filter(|k| is_order(k))
            .cloned()
            .collect();
        for name in orders {
            resp.remove_header(&name);
        }
    }
    if resp.headers.contains_key(header::TRAILER) {
        let asked = client.headers.get(header::TE).is_some_and(|te| {
            te.as_bytes()
                .split(|b| *b == b',')
                .any(|t| t.trim_ascii() == b"trailers")
        });
        if !asked {
            resp.remove_header(&header::TRAILER);
        }
    }
}

fn is_order(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-accel-")
}

/// The upstream was asked for a head alone, by a plugin, and the client waits for a body as well: it gets an empty one.
pub(crate) fn without_body(resp: &mut ResponseHeader) -> Result<()> {
    resp.remove_header(&header::TRANSFER_ENCODING);
    if resp.status != StatusCode::NO_CONTENT && !resp.status.is_informational() {
        resp.insert_header(header::CONTENT_LENGTH, number(0))?;
    }
    Ok(())
}

/// Whether a response has a body, and it is empty. That it has one at all is nginx' word: where it sends a head alone it runs no `body_filter`.
pub(crate) fn has_empty_body(resp: &ResponseHeader, client: &RequestHeader) -> bool {
    let length = resp.headers.get(header::CONTENT_LENGTH);
    length.is_some_and(|l| l == "0") && !is_bodyless(resp, client)
}

/// Whether a response is a head alone.
fn is_bodyless(resp: &ResponseHeader, client: &RequestHeader) -> bool {
    client.method == http::Method::HEAD
        || resp.status.is_informational()
        || matches!(
            resp.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        )
}

/// A plugin took the length away: the body must be delimited in another way.
pub(crate) fn reframe(resp: &mut ResponseHeader, client: &RequestHeader) -> Result<()> {
    let bodyless = is_bodyless(resp, client);
    let framed = resp.headers.contains_key(header::CONTENT_LENGTH)
        || resp.headers.contains_key(header::TRANSFER_ENCODING);
    if !bodyless && !framed && client.version == Version::HTTP_11 {
        resp.set_version(Version::HTTP_11);
        resp.insert_header(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        )?;
    }
    Ok(())
}

/// Clients of HTTP/1.0 know no chunks (RFC 9112, section 6.1): for them a body without a length ends with the connection, which
/// must then be closed: `true`.
pub(crate) fn unchunk(resp: &mut ResponseHeader, client: &RequestHeader) -> bool {
    let old = client.version < Version::HTTP_11;
    old && resp.remove_header(&header::TRANSFER_ENCODING).is_some()
}

/// A response's head as plugins see it.
pub(crate) struct HeadView<'a>(pub(crate) &'a mut ResponseHeader);

impl ResponseHead for HeadView<'_> {
    fn status(&self) -> StatusCode {
        self.0.status
    }
    fn set_status(&mut self, status: StatusCode) {
        // Cannot fail for a status that is one already.
        let _ = self.0.set_status(status);
    }
    fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }
    fn spelled(&self) -> Vec<(HeaderKey, HeaderValue)> {
        let mut all = Vec::with_capacity(self.0.headers.len());
        // Fails only when the closure does.
        let _ = self.0.map(|name, value| {
            let name = match name {
                HeaderNameVariant::Case(name) => std::str::from_utf8(name.as_slice()),
                HeaderNameVariant::Titled(name) => Ok(name),
            };
            if let Some(key) = name.ok().and_then(|n| HeaderKey::new(n).ok()) {
                all.push((key, value.clone()));
            }
            Ok(())
        });
        all
    }
    fn set(&mut self, key: &HeaderKey, value: HeaderValue) {
        // The key was checked when it was made.
        let _ = self.0.insert_header(key.wire().clone(), value);
    }
    fn append(&mut self, key: &HeaderKey, value: HeaderValue) {
        let _ = self.0.append_header(key.wire().clone(), value);
    }
    fn remove(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_http_1_0_gets_no_chunks() {
        let chunked = || {
            let mut resp = ResponseHeader::build(200, None).unwrap();
            resp.insert_header(header::TRANSFER_ENCODING, "chunked")
                .unwrap();
            resp
        };
        let mut client = RequestHeader::build("GET", b"/", None).unwrap();
        for (version, expected) in [
            (Version::HTTP_10, true),
            (Version::HTTP_11, false),
            (Version::HTTP_2, false),
        ] {
            client.set_version(version);
            let mut resp = chunked();
            assert_eq!(unchunk(&mut resp, &client), expected, "{version:?}");
            assert_eq!(
                !resp.headers.contains_key(header::TRANSFER_ENCODING),
                expected
            );
        }
    }

    #[test]
    fn the_answer_to_a_head_in_place_of_another_method_has_an_empty_body() {
        for (status, length) in [(200, Some("0")), (404, Some("0")), (204, None)] {
            let mut resp = ResponseHeader::build(status, None).unwrap();
            if status == 200 {
                resp.insert_header("Content-Length", "523").unwrap();
            } else if status == 404 {
                resp.insert_header("Transfer-Encoding", "chunked").unwrap();
            }
            without_body(&mut resp).unwrap();
            let header = |name| resp.headers.get(name).map(|v| v.to_str().unwrap());
            assert_eq!(header("content-length"), length);
            assert_eq!(header("transfer-encoding"), None);
        }
    }

    #[test]
    fn the_upstreams_hop_by_hop_headers_end_here() {
        let mut client = RequestHeader::build("GET", b"/", None).unwrap();
        let mut resp = ResponseHeader::build(200, None).unwrap();
        for (k, v) in [
            ("Connection", "X-Hop"),
            ("X-Hop", "1"),
            ("Keep-Alive", "timeout=9"),
            ("Trailer", "x"),
            ("Upgrade", "h2c"),
            ("X-Accel-Buffering", "no"),
            ("ETag", "e"),
        ] {
            resp.append_header(k, v).unwrap();
        }
        let mut with_trailers = resp.clone();
        strip_hop_by_hop(&mut resp, &client);
        let mut left: Vec<_> = resp.headers.keys().map(|k| k.as_str().to_owned()).collect();
        left.sort();
        assert_eq!(left, ["connection", "etag"]);
        client.insert_header("TE", "trailers").unwrap();
        strip_hop_by_hop(&mut with_trailers, &client);
        assert!(with_trailers.headers.contains_key("trailer"));
    }
}
