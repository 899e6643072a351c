//! The request's head as the upstream sees it.
//!
//! Learnt from `proxy_set_header` in `kong/templates/nginx_kong.lua` and from the access phase in `kong/runloop/handler.lua`.
//! Runs afresh for each attempt, on a copy of the client's head.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Write;
use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Version, header};
use pingora_core::Result;
use pingora_http::RequestHeader;
use silverback_plugin::{HeaderEdit, HeaderKey, UpstreamEdits};
use silverback_router::{split_host_port, strip_query};

use crate::exchange::{Exchange, authority};
use crate::names::*;

/// How many headers are added at most, `X-Forwarded-Prefix` and the attempt's number aside.
const ADDED: usize = 12;

/// Puts the head that goes upstream in place of the copy of the client's that Pingora made. `client` is the original.
///
/// The head is made afresh, in the order in which Kong sends it, because a copy has no room for more: each of its two maps would
/// be moved several times while it grows.
pub(crate) fn build(
    req: &mut RequestHeader,
    client: &RequestHeader,
    x: &Exchange,
    has_body: bool,
) -> Result<()> {
    let (Some(route), Some(service)) = (x.route(), x.service()) else {
        return Ok(());
    };
    let target = x.target.as_deref().unwrap_or_else(|| client.raw_path());
    let mut out =
        RequestHeader::build(req.method.clone(), target, Some(req.headers.len() + ADDED))?;
    out.set_version(req.version);
    out.set_send_end_stream(req.send_end_stream().unwrap_or(true));

    if wants_trailers(client) {
        out.append_header(W_TE, TRAILERS)?;
    }
    let via = match client.version {
        Version::HTTP_2 => VIA_2,
        Version::HTTP_10 => VIA_0,
        _ => VIA_1,
    };
    let via = match client.headers.get(header::VIA) {
        Some(before) => joined(before, &via)?,
        None => via,
    };
    out.append_header(W_VIA, via)?;
    let host = authority(client);
    let host_value = if route.preserve_host && !host.is_empty() {
        match client.headers.get(header::HOST) {
            Some(v) => v.clone(),
            None => value(host.as_bytes())?,
        }
    } else {
        match &x.pick {
            Some(pick) => pick.authority.host(service.tls).clone(),
            None => service.host_header.clone(),
        }
    };
    out.append_header(W_HOST, host_value)?;
    if wants_websocket(client) {
        out.append_header(W_UPGRADE, WEBSOCKET)?;
        out.append_header(W_CONNECTION, UPGRADE)?;
    } else {
        out.append_header(W_CONNECTION, KEEP_ALIVE)?;
    }
    forwarded(&mut out, client, x, host)?;
    if x.shared.config.upstream_request_id {
        out.append_header(W_REQUEST_ID, value(&x.facts.request_id)?)?;
    }
    if let Some(tries) = &x.tries
        && tries.number() > 1
    {
        out.append_header(W_RETRY_ATTEMPT, number(tries.number()))?;
    }
    copy_kept(&mut out, req, client, x.shared.config.upstream_request_id)?;
    apply(&mut out, &x.edits, x.shared.config.upstream_request_id)?;
    // Of a request without a body Pingora has ended the stream by then.
    let body = x.edits.body.as_ref();
    if let Some(body) = body.filter(|_| has_body || out.version != Version::HTTP_2) {
        out.remove_header(&header::TRANSFER_ENCODING);
        out.insert_header(W_CONTENT_LENGTH, number(body.len()))?;
    }
    *req = out;
    Ok(())
}

/// The client's own headers, without those that concern its connection alone and those that were set anew.
fn copy_kept(
    out: &mut RequestHeader,
    req: &RequestHeader,
    client: &RequestHeader,
    own_request_id: bool,
) -> Result<()> {
    let named = client.headers.get(header::CONNECTION).filter(|named| {
        !matches!(
            named.as_bytes(),
            b"keep-alive" | b"close" | b"upgrade" | b"Upgrade"
        )
    });
    let stays = |name: &HeaderName| match name.as_str() {
        "host" | "proxy" | "proxy-connection" | "http2-settings" => false,
        // Framing is not the client's to strike out.
        "content-length" | "transfer-encoding" => true,
        _ => {
            !is_own(name, own_request_id) && (named.is_none() || !named_in_connection(client, name))
        }
    };
    if req.has_case() {
        for ((name, value), (case, _)) in req.headers.iter().zip(req.case_header_iter()) {
            if stays(name) {
                out.append_header(case.clone(), value.clone())?;
            }
        }
    } else {
        for (name, value) in &req.headers {
            if stays(name) {
                out.append_header(name, value.clone())?;
            }
        }
    }
    Ok(())
}

/// Whether the gateway itself says what stands in a header, whatever client and plugins say.
fn is_own(name: &HeaderName, own_request_id: bool) -> bool {
    match name.as_str() {
        "connection" | "via" | "te" | "upgrade" | "expect" | "keep-alive" | "x-forwarded-for"
        | "x-forwarded-proto" | "x-forwarded-host" | "x-forwarded-port" | "x-forwarded-path"
        | "x-forwarded-prefix" | "x-real-ip" | "x-retry-attempt" => true,
        "x-kong-request-id" => own_request_id,
        _ => false,
    }
}

/// Whether `Connection` says that a header concerns this connection alone.
fn named_in_connection(client: &RequestHeader, name: &HeaderName) -> bool {
    let lists = client.headers.get_all(header::CONNECTION).iter();
    let mut tokens = lists.flat_map(|v| v.as_bytes().split(|b| *b == b','));
    tokens.any(|t| {
        t.trim_ascii()
            .eq_ignore_ascii_case(name.as_str().as_bytes())
    })
}

fn wants_trailers(client: &RequestHeader) -> bool {
    let te = client.headers.get(header::TE);
    te.is_some_and(|te| {
        te.as_bytes()
            .split(|b| *b == b',')
            .any(|t| t.trim_ascii() == b"trailers")
    })
}

fn wants_websocket(client: &RequestHeader) -> bool {
    client.version != Version::HTTP_2
        && client
            .headers
            .get(header::UPGRADE)
            .is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// `X-Forwarded-*` and `X-Real-IP`. A trusted proxy's own are kept, save for the list of addresses, which grows.
fn forwarded(
    out: &mut RequestHeader,
    client: &RequestHeader,
    x: &Exchange,
    authority: &str,
) -> Result<()> {
    let believed = |name: &HeaderName| {
        if x.facts.peer_trusted {
            client.headers.get(name)
        } else {
            None
        }
    };
    let list = match client.headers.get(&FORWARDED_FOR) {
        Some(before) => joined(before, &address(x.facts.peer.ip())?)?,
        None => address(x.facts.client_ip)?,
    };
    out.append_header(W_FORWARDED_FOR, list)?;
    let proto = match believed(&FORWARDED_PROTO) {
        Some(v) => v.clone(),
        None if x.facts.scheme == "https" => HTTPS,
        None => HTTP,
    };
    out.append_header(W_FORWARDED_PROTO, proto)?;
    let host = match believed(&FORWARDED_HOST) {
        Some(v) => v.clone(),
        None => host_value(client, authority)?,
    };
    out.append_header(W_FORWARDED_HOST, host)?;
    let port = match believed(&FORWARDED_PORT) {
        Some(v) => v.clone(),
        None => port_value(x.facts.port),
    };
    out.append_header(W_FORWARDED_PORT, port)?;
    let path = match believed(&FORWARDED_PATH) {
        Some(v) => v.clone(),
        None => value(strip_query(client.raw_path()))?,
    };
    out.append_header(W_FORWARDED_PATH, path)?;
    match (believed(&FORWARDED_PREFIX), &x.prefix) {
        (Some(kept), _) => _ = out.append_header(W_FORWARDED_PREFIX, kept.clone())?,
        (None, Some(prefix)) => _ = out.append_header(W_FORWARDED_PREFIX, value(prefix)?)?,
        (None, None) => {}
    }
    out.append_header(W_REAL_IP, address(x.facts.client_ip)?)?;
    Ok(())
}

/// nginx's `$host`: in lower case, without port and final dot; the server's name for clients that name none.
pub(crate) fn plain_host(authority: &str) -> Cow<'_, str> {
    let host = split_host_port(authority).0;
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        // What Kong calls its server in nginx' configuration.
        Cow::Borrowed("kong")
    } else if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

fn host_value(client: &RequestHeader, authority: &str) -> Result<HeaderValue> {
    let host = plain_host(authority);
    match client.headers.get(header::HOST) {
        // Shared rather than copied when it is the same text.
        Some(v) if v.len() == host.len() && matches!(host, Cow::Borrowed(_)) => Ok(v.clone()),
        _ => value(host.as_bytes()),
    }
}

/// What plugins want changed in the head.
fn apply(req: &mut RequestHeader, edits: &UpstreamEdits, own_request_id: bool) -> Result<()> {
    let fixed = |name: &HeaderName| {
        is_own(name, own_request_id)
            || matches!(*name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING)
    };
    for edit in &edits.headers {
        match edit {
            HeaderEdit::Set(key, _) | HeaderEdit::Append(key, _) if fixed(key.name()) => {}
            HeaderEdit::Set(key, value) => set(req, key, value)?,
            HeaderEdit::Append(key, value) if *key.name() == header::HOST => set(req, key, value)?,
            HeaderEdit::Append(key, value) => {
                _ = req.append_header(key.wire().clone(), value.clone())?
            }
            HeaderEdit::Remove(name) if fixed(name) || *name == header::HOST => {}
            HeaderEdit::Remove(name) => _ = req.remove_header(name),
        }
    }
    if let Some(method) = &edits.method {
        req.set_method(method.clone());
    }
    if edits.path.is_some() || edits.query.is_some() {
        let target = edited_target(req.raw_path(), edits);
        req.set_raw_path(&target)?;
    }
    Ok(())
}

/// Replaces all values of a header. As in nginx, one that is there keeps its spelling.
fn set(req: &mut RequestHeader, key: &HeaderKey, value: &HeaderValue) -> Result<()> {
    if req.headers.contains_key(key.name()) {
        let there = req
            .case_header_iter()
            .map(|(case, _)| case)
            .find(|case| case.as_slice().eq_ignore_ascii_case(key.wire()))
            .cloned();
        if let Some(there) = there {
            return req.insert_header(there, value.clone());
        }
    }
    req.insert_header(key.wire().clone(), value.clone())
}

/// Path and query as plugins left them.
pub(crate) fn edited_target(target: &[u8], edits: &UpstreamEdits) -> Vec<u8> {
    let path = strip_query(target);
    let query = target.get(path.len() + 1..);
    let mut out = edits.path.as_deref().map_or(path, str::as_bytes).to_vec();
    let query = match edits.query.as_deref() {
        Some("") => None,
        Some(q) => Some(q.as_bytes()),
        None => query,
    };
    if let Some(q) = query {
        out.push(b'?');
        out.extend_from_slice(q);
    }
    out
}

fn value(bytes: &[u8]) -> Result<HeaderValue> {
    HeaderValue::from_bytes(bytes).map_err(|e| {
        pingora_core::Error::because(
            pingora_core::ErrorType::InvalidHTTPHeader,
            "upstream header",
            e,
        )
    })
}

/// `before, more`.
pub(crate) fn joined(before: &HeaderValue, more: &HeaderValue) -> Result<HeaderValue> {
    let mut out = BytesMut::with_capacity(before.len() + 2 + more.len());
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(b", ");
    out.extend_from_slice(more.as_bytes());
    let out: Bytes = out.freeze();
    HeaderValue::from_maybe_shared(out).map_err(|e| {
        pingora_core::Error::because(pingora_core::ErrorType::InvalidHTTPHeader, "list header", e)
    })
}

/// An address as a header's value. Most requests of a connection, and often of a thread, come from the same one.
fn address(ip: IpAddr) -> Result<HeaderValue> {
    thread_local! {
        static LAST: RefCell<(IpAddr, HeaderValue)> = const {
            RefCell::new((IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), HeaderValue::from_static("0.0.0.0")))
        };
    }
    LAST.with_borrow_mut(|last| {
        if last.0 != ip {
            let mut text = String::with_capacity(40);
            // A String takes anything.
            let _ = write!(text, "{ip}");
            *last = (ip, value(text.as_bytes())?);
        }
        Ok(last.1.clone())
    })
}

fn port_value(port: u16) -> HeaderValue {
    thread_local! {
        static LAST: RefCell<(u16, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static("0"))) };
    }
    LAST.with_borrow_mut(|last| {
        if last.0 != port {
            *last = (port, number(port));
        }
        last.1.clone()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_named_as_nginx_names_them() {
        assert_eq!(plain_host("H.Test:80"), "h.test");
        assert_eq!(plain_host("h.test."), "h.test");
        assert_eq!(plain_host("[::1]:80"), "[::1]");
        assert_eq!(plain_host(""), "kong");
    }

    fn kept(headers: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut client = RequestHeader::build("GET", b"/", None).unwrap();
        for (k, v) in headers {
            client.append_header(*k, *v).unwrap();
        }
        let mut out = RequestHeader::build("GET", b"/", None).unwrap();
        copy_kept(&mut out, &client, &client, true).unwrap();
        let line = |(k, v): (_, &HeaderValue)| format!("{}: {}", case(k), v.to_str().unwrap());
        out.case_header_iter().map(line).collect()
    }

    fn case(name: &(impl Clone + pingora_http::IntoCaseHeaderName)) -> String {
        let name = name.clone().into_case_header_name();
        String::from_utf8(name.as_slice().to_vec()).unwrap()
    }

    #[test]
    fn headers_of_the_connection_stay_behind_and_others_keep_their_spelling() {
        let got = kept(&[
            ("Connection", "close, X-Foo"),
            ("X-Foo", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-AUTHORIZATION", "Basic x"),
            ("TE", "trailers, deflate"),
            ("Expect", "100-continue"),
            ("Upgrade", "h2c"),
            ("X-Many", "1"),
            ("x-many", "2"),
            ("X-Kong-Request-Id", "spoofed"),
        ]);
        assert_eq!(
            got,
            ["Proxy-AUTHORIZATION: Basic x", "X-Many: 1", "x-many: 2"]
        );
    }

    #[test]
    fn framing_cannot_be_struck_out_by_connection() {
        let got = kept(&[
            ("Connection", "content-length, transfer-encoding, host"),
            ("Content-Length", "1"),
        ]);
        assert_eq!(got, ["Content-Length: 1"]);
    }

    /// The lines of a head after some edits.
    fn edited(headers: &[(&'static str, &'static str)], edits: &UpstreamEdits) -> Vec<String> {
        let mut req = RequestHeader::build("GET", b"/", None).unwrap();
        for (k, v) in headers {
            req.append_header(*k, *v).unwrap();
        }
        apply(&mut req, edits, true).unwrap();
        let line = |(k, v): (_, &HeaderValue)| format!("{}: {}", case(k), v.to_str().unwrap());
        req.case_header_iter().map(line).collect()
    }

    fn key(name: &str) -> HeaderKey {
        HeaderKey::new(name).unwrap()
    }

    #[test]
    fn plugins_change_headers_in_turn_and_what_is_there_keeps_its_spelling() {
        let mut edits = UpstreamEdits::default();
        let value = HeaderValue::from_static;
        edits.set(key("x-there"), value("2"));
        edits.append(key("x-there"), value("3"));
        edits.set(key("x-New"), value("1"));
        edits.remove(key("x-gone").name().clone());
        edits.set(key("X-Gone"), value("back"));
        let headers = [("X-THERE", "1"), ("x-there", "1"), ("x-gone", "1")];
        let mut lines = edited(&headers, &edits);
        lines.sort();
        assert_eq!(
            lines,
            ["X-Gone: back", "X-THERE: 2", "x-New: 1", "x-there: 3"]
        );
    }

    #[test]
    fn what_the_gateway_says_itself_is_no_plugins_to_change() {
        let mut edits = UpstreamEdits::default();
        let value = HeaderValue::from_static;
        let own = [
            ("Connection", "keep-alive"),
            ("Content-Length", "1"),
            ("Via", "1.1 x"),
            ("X-Forwarded-For", "127.0.0.1"),
            ("X-Kong-Request-Id", "0"),
        ];
        for (name, _) in own {
            edits.set(key(name), value("set"));
            edits.append(key(name), value("appended"));
            edits.remove(key(name).name().clone());
        }
        edits.append(key("Transfer-Encoding"), value("chunked"));
        let before: Vec<String> = own.iter().map(|(k, v)| format!("{k}: {v}")).collect();
        assert_eq!(edited(&own, &edits), before);
    }

    #[test]
    fn there_is_always_one_host() {
        let mut edits = UpstreamEdits::default();
        edits.remove(header::HOST);
        assert_eq!(edited(&[("Host", "a")], &edits), ["Host: a"]);
        edits.append(key("host"), HeaderValue::from_static("b"));
        assert_eq!(edited(&[("Host", "a")], &edits), ["Host: b"]);
    }

    #[test]
    fn trailers_and_websockets_are_asked_for_as_the_client_did() {
        let client = |name: &'static str, value: &'static str| {
            let mut c = RequestHeader::build("GET", b"/", None).unwrap();
            c.set_version(Version::HTTP_11);
            c.append_header(name, value).unwrap();
            c
        };
        assert!(wants_trailers(&client("TE", "deflate, trailers")));
        assert!(!wants_trailers(&client("TE", "gzip")));
        assert!(wants_websocket(&client("Upgrade", "WebSocket")));
        assert!(!wants_websocket(&client("Upgrade", "h2c")));
    }

    #[test]
    fn plugins_replace_path_and_query_apart() {
        let edit = |path: Option<&str>, query: Option<&str>| {
            let edits = UpstreamEdits {
                path: path.map(Into::into),
                query: query.map(Into::into),
                ..Default::default()
            };
            String::from_utf8(edited_target(b"/a?b=1", &edits)).unwrap()
        };
        assert_eq!(edit(Some("/x"), None), "/x?b=1");
        assert_eq!(edit(None, Some("")), "/a");
        assert_eq!(edit(Some("/x"), Some("y")), "/x?y");
    }
}
