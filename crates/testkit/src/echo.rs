//! What an echo upstream answers: the request as JSON, so that a test sees what the gateway sent on.
//!
//! ```json
//! {"server": "..", "http_version": "HTTP/1.1", "method": "GET", "path": "/..", "headers": [["Host", ".."]], "body": ".."}
//! ```
//! Request headers steer it: `X-Echo-Status`, `X-Echo-Delay` (seconds), `X-Echo-Header` (`name: value`, repeatable),
//! `X-Echo-Body`, `X-Echo-Ct` (content type), `X-Echo-NoCt` (none), `X-Echo-Gzip`, `X-Echo-Chunked`, `X-Echo-Close` (closes without an answer), `X-Echo-Garbage`
//! (answers what is not HTTP). So does the path: `/_status/NNN`, `/_slow/SECONDS`, `/_close`.

use std::time::Duration;

use serde_json::json;

use crate::h1::{Headers, Request};

/// Bodies of this size and more are told by their length only.
const SHOWN_BODY: usize = 5000;

/// What to do with a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// How long to wait first.
    pub delay: Duration,
    /// The bytes to send; empty to send none.
    pub bytes: Vec<u8>,
    /// Whether the connection stays open afterwards.
    pub keep_alive: bool,
}

/// The answer of the echo upstream called `name`.
pub fn reply(request: &Request, name: &str) -> Reply {
    let headers = &request.headers;
    let seconds = headers
        .get("x-echo-delay")
        .or_else(|| path_argument(&request.target, "/_slow/"));
    let delay = seconds
        .and_then(|s| s.parse().ok())
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .unwrap_or_default();
    if headers.get("x-echo-close").is_some() || request.target.contains("/_close") {
        return Reply {
            delay,
            bytes: Vec::new(),
            keep_alive: false,
        };
    }
    if headers.get("x-echo-garbage").is_some() {
        return Reply {
            delay,
            bytes: b"garbage\r\n\r\n".to_vec(),
            keep_alive: false,
        };
    }
    let status = headers
        .get("x-echo-status")
        .or_else(|| path_argument(&request.target, "/_status/"))
        .and_then(|s| s.parse().ok())
        .unwrap_or(200);
    let mut fields = Vec::new();
    let zipped = headers.get("x-echo-gzip").is_some();
    if zipped {
        fields.push(("Content-Encoding".to_owned(), "gzip".to_owned()));
    }
    if headers.get("x-echo-noct").is_none() {
        let given = headers.get("x-echo-ct").unwrap_or("application/json");
        fields.push(("Content-Type".to_owned(), given.to_owned()));
    }
    for field in headers.all("x-echo-header") {
        if let Some((name, value)) = field.split_once(':') {
            fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    let body = match headers.get("x-echo-body") {
        Some(body) => body.as_bytes().to_vec(),
        None => describe(request, name).to_string().into_bytes(),
    };
    let body = if zipped { gzip(&body) } else { body };
    let keep_alive = request.keeps_alive();
    if !keep_alive {
        fields.push(("Connection".to_owned(), "close".to_owned()));
    }
    let chunked = headers.get("x-echo-chunked").is_some();
    let bytes = encode(status, &Headers(fields), &body, &request.method, chunked);
    Reply {
        delay,
        bytes,
        keep_alive,
    }
}

/// The request as the JSON that the echo upstream answers with.
pub fn describe(request: &Request, name: &str) -> serde_json::Value {
    let headers: Vec<_> = request
        .headers
        .0
        .iter()
        .map(|(n, v)| json!([n, v]))
        .collect();
    let body = if request.body.len() < SHOWN_BODY {
        String::from_utf8_lossy(&request.body).into_owned()
    } else {
        format!("({} bytes)", request.body.len())
    };
    json!({
        "server": name,
        "http_version": request.version,
        "method": request.method,
        "path": request.target,
        "headers": headers,
        "body": body,
    })
}

/// A response as bytes, its body left out where HTTP has none (`HEAD`, 204, 304).
pub fn encode(status: u16, headers: &Headers, body: &[u8], method: &str, chunked: bool) -> Vec<u8> {
    let mut out = format!(
        "HTTP/1.1 {status} {}\r\nServer: echo/1.0\r\n",
        reason(status)
    );
    for (name, value) in &headers.0 {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    if chunked {
        out.push_str("Transfer-Encoding: chunked\r\n\r\n");
    } else if status == 204 {
        out.push_str("\r\n");
    } else {
        out.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    }
    let mut out = out.into_bytes();
    if method == "HEAD" || matches!(status, 204 | 304) {
        return out;
    }
    if chunked {
        for chunk in body.chunks(100) {
            out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n\r\n");
    } else {
        out.extend_from_slice(body);
    }
    out
}

/// The bytes as a gzip file (RFC 1952) of stored blocks: nothing is gained, but any client can undo it.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut chunks = bytes.chunks(0xffff).peekable();
    if chunks.peek().is_none() {
        out.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    }
    while let Some(chunk) = chunks.next() {
        out.push(u8::from(chunks.peek().is_none()));
        // Chunks are at most 0xffff bytes long.
        let length = u16::try_from(chunk.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(chunk);
    }
    let crc = bytes.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    out.extend_from_slice(&(!crc).to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out
}

/// The reason phrase of a status that tests use; `Unknown` for others.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        409 => "Conflict",
        418 => "I'm a teapot",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

fn path_argument<'a>(target: &'a str, marker: &str) -> Option<&'a str> {
    let rest = target.split_once(marker)?.1;
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_zipped_body_is_that_of_the_rfc() {
        let zipped = gzip(b"123456789");
        assert_eq!(
            zipped[zipped.len() - 8..][..4],
            0xcbf4_3926_u32.to_le_bytes()
        );
        assert_eq!(zipped[10..15], [1, 9, 0, 0xf6, 0xff]);
    }
    use crate::h1::{self, Parsed, Response};

    fn ask(bytes: &str) -> (Reply, Response) {
        let Parsed::Complete(request, _) = h1::request(bytes.as_bytes()) else {
            panic!("no request: {bytes}")
        };
        let reply = reply(&request, "echo");
        let Parsed::Complete(response, length) = h1::response(&reply.bytes, &request.method, false)
        else {
            panic!("no response")
        };
        assert_eq!(length, reply.bytes.len());
        (reply, response)
    }

    #[test]
    fn it_tells_what_it_received() {
        let (reply, response) = ask("POST /a HTTP/1.1\r\nX-B: c\r\nContent-Length: 2\r\n\r\nhi");
        assert!(reply.keep_alive);
        assert_eq!(
            response.json(),
            json!({"server": "echo", "http_version": "HTTP/1.1", "method": "POST", "path": "/a",
                   "headers": [["X-B", "c"], ["Content-Length", "2"]], "body": "hi"})
        );
    }

    #[test]
    fn headers_and_paths_steer_it() {
        let (reply, response) = ask(
            "GET / HTTP/1.1\r\nX-Echo-Status: 503\r\nX-Echo-Delay: 0.5\r\nX-Echo-Header: Retry-After: 1\r\n\r\n",
        );
        assert_eq!(
            (response.status, response.header("retry-after")),
            (503, Some("1"))
        );
        assert_eq!(reply.delay, Duration::from_millis(500));
        assert_eq!(ask("GET /x/_status/404 HTTP/1.1\r\n\r\n").1.status, 404);
        assert_eq!(
            ask("GET /_slow/0.25 HTTP/1.1\r\n\r\n").0.delay,
            Duration::from_millis(250)
        );
        let (_, chunked) = ask("GET / HTTP/1.1\r\nX-Echo-Chunked: 1\r\nX-Echo-Body: abc\r\n\r\n");
        assert_eq!(chunked.body, b"abc");
    }

    #[test]
    fn it_closes_without_an_answer_when_told() {
        let Parsed::Complete(request, _) = h1::request(b"GET /_close HTTP/1.1\r\n\r\n") else {
            panic!()
        };
        assert_eq!(
            reply(&request, "echo"),
            Reply {
                delay: Duration::ZERO,
                bytes: Vec::new(),
                keep_alive: false
            }
        );
    }

    #[test]
    fn a_head_request_gets_the_length_without_the_body() {
        let (_, response) = ask("HEAD / HTTP/1.1\r\n\r\n");
        assert!(response.body.is_empty());
        assert_ne!(response.header("content-length"), Some("0"));
    }
}
