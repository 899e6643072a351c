//! Answers to requests that the gate refuses: they never become an exchange, so their bytes are written by hand.

use std::fmt::Write;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderValue;
use pingora_core::protocols::SocketDigest;
use silverback_telemetry::AccessRecord;

use crate::config::Shared;
use crate::errors;
use crate::framing::{Refusal, Seen};
use crate::gate::Refuse;
use crate::ids;
use crate::names::PRODUCT;

/// Answers and logs refused requests.
pub(crate) struct Refuser(pub(crate) Arc<Shared>);

impl Refuse for Refuser {
    fn refuse(
        &self,
        refusal: Refusal,
        seen: Seen<'_>,
        socket: Option<&SocketDigest>,
        _tls: bool,
    ) -> Bytes {
        let id = ids::request_id();
        let id = std::str::from_utf8(&id).unwrap_or_default();
        let (status, line, text) = match refusal {
            Refusal::BadRequest | Refusal::Http09 => (400, "400 Bad Request", errors::text_of(400)),
            Refusal::HeaderTooLarge => {
                (400, "400 Bad Request", "Request header or cookie too large")
            }
            Refusal::UriTooLong => (414, "414 URI Too Long", errors::text_of(414)),
            Refusal::MethodNotAllowed => (405, "405 Not Allowed", errors::text_of(405)),
            Refusal::NotImplemented => (501, "501 Not Implemented", ""),
            Refusal::VersionNotSupported => (505, "505 HTTP Version Not Supported", ""),
        };
        let (content_type, body) = if text.is_empty() {
            (
                HeaderValue::from_static("text/html; charset=UTF-8"),
                errors::page(line),
            )
        } else {
            errors::handled(
                seen.accept,
                seen.content_type,
                self.0.config.error_default_type,
                text,
                id,
            )
        };
        self.log(status, seen, socket, body.len(), id);
        if refusal == Refusal::Http09 {
            // Such a client knows no heads.
            return body;
        }
        let mut out = head(line, content_type.to_str().unwrap_or_default(), body.len());
        let h = &self.0.config.headers;
        if h.response_latency {
            out.push_str("X-Kong-Response-Latency: 0\r\n");
        }
        if h.server {
            let _ = write!(out, "Server: {PRODUCT}\r\n");
        }
        if h.request_id {
            let _ = write!(out, "X-Kong-Request-Id: {id}\r\n");
        }
        out.push_str("\r\n");
        let mut out = out.into_bytes();
        out.extend_from_slice(&body);
        Bytes::from(out)
    }
}

impl Refuser {
    fn log(
        &self,
        status: u16,
        seen: Seen<'_>,
        socket: Option<&SocketDigest>,
        length: usize,
        id: &str,
    ) {
        if !self.0.access_log.enabled() {
            return;
        }
        let peer = socket
            .and_then(|s| s.peer_addr())
            .and_then(|a| a.as_inet())
            .map(|a| a.ip().to_canonical());
        self.0.access_log.log(&AccessRecord {
            remote_addr: peer,
            method: seen.method,
            target: seen.target,
            protocol: if seen.http10 { "HTTP/1.0" } else { "HTTP/1.1" },
            status,
            body_bytes_sent: length as u64,
            request_id: id,
            ..AccessRecord::default()
        });
    }

    /// The answer to plain HTTP on a TLS port, as nginx gives it.
    pub(crate) fn plain_to_tls(&self) -> Bytes {
        let body = errors::page_plain_to_tls();
        let mut out = head("400 Bad Request", "text/html; charset=UTF-8", body.len());
        if self.0.config.headers.server {
            let _ = write!(out, "Server: {PRODUCT}\r\n");
        }
        out.push_str("\r\n");
        let mut out = out.into_bytes();
        out.extend_from_slice(&body);
        Bytes::from(out)
    }
}

fn head(status: &str, content_type: &str, length: usize) -> String {
    let date = httpdate::fmt_http_date(SystemTime::now());
    format!(
        "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: {content_type}\r\nConnection: close\r\nContent-Length: {length}\r\n"
    )
}
