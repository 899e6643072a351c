//! The gateway's own responses. Every one of them goes through [`respond`], so that plugins see them as they see the upstream's.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version, header};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use silverback_plugin::{Body, BodyCtx, Phases, Response, ResponseCtx};

use crate::errors::{self, Format};
use crate::exchange::{Exchange, view};
use crate::names::{K_LOCATION, number};
use crate::response_headers::{self, HeadView};

/// What a response of the gateway is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The gateway or a plugin answered by itself.
    Gateway,
    /// The upstream was turned to and gave no answer.
    Upstream,
}

/// Sends a response of the gateway.
pub(crate) async fn respond(
    session: &mut Session,
    x: &mut Exchange,
    response: Response,
    origin: Origin,
) -> Result<()> {
    let (head, body) = prepare(session, x, response, origin)?;
    let end = body.is_empty();
    session.write_response_header(Box::new(head), end).await?;
    if !end {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// Head and body, as the response phases of the plugins leave them.
fn prepare(
    session: &Session,
    x: &mut Exchange,
    response: Response,
    origin: Origin,
) -> Result<(ResponseHeader, Bytes)> {
    let client = session.req_header();
    let response = match response.body {
        Body::OfStatus => Response {
            headers: response.headers,
            ..handled(session, x, response.status.as_u16())
        },
        _ => response,
    };
    let is_kept = matches!(response.body, Body::Kept(_));
    let mut head = ResponseHeader::build(response.status, Some(10))?;
    for (key, value) in response.headers {
        head.append_header(key.wire().clone(), value)?;
    }
    let grpc = is_grpc(client);
    let (content_type, body) = match response.body {
        // gRPC has no bodies for errors: they travel in what would be the trailers.
        Body::Error(text) if grpc => {
            if let Ok(message) = HeaderValue::from_str(&text) {
                head.insert_header("grpc-message", message)?;
            }
            let content_type = HeaderValue::from_static("application/grpc");
            (Some(content_type), Bytes::new())
        }
        Body::Empty | Body::OfStatus => (None, Bytes::new()),
        Body::Untyped(bytes) | Body::Kept(bytes) => (None, bytes),
        Body::Bytes {
            content_type,
            bytes,
        } => (Some(content_type), bytes),
        Body::Error(text) => {
            let format = Format::negotiate(
                client
                    .headers
                    .get(header::ACCEPT)
                    .map(HeaderValue::as_bytes),
            );
            (
                Some(format.content_type()),
                format.render(&text, x.facts.request_id()),
            )
        }
    };
    if let Some(t) = content_type
        && !head.headers.contains_key(header::CONTENT_TYPE)
    {
        head.insert_header(header::CONTENT_TYPE, t)?;
    }
    if grpc && !head.headers.contains_key("grpc-status") {
        let status = grpc_status(response.status.as_u16());
        head.insert_header("grpc-status", number(status))?;
        if !head.headers.contains_key("grpc-message") {
            let message = HeaderValue::from_static(GRPC_MESSAGES[usize::from(status)]);
            head.insert_header("grpc-message", message)?;
        }
    }
    x.facts.local_response = true;
    x.facts.responded = Some(Instant::now());
    if is_kept {
        // Here waiting for the upstream begins and ends.
        let now = Instant::now();
        (x.facts.proxied, x.facts.upstream_header) = (Some(now), Some(now));
    }
    let mut body = Some(body);
    let chain_has = |x: &Exchange, phase| x.chain().has(phase);
    let length = |body: &Option<Bytes>| body.as_ref().map_or(0, Bytes::len);
    head.insert_header(header::CONTENT_LENGTH, number(length(&body)))?;
    if chain_has(x, Phases::HEADER_FILTER) {
        header_filter(session, x, &mut head);
    }
    if chain_has(x, Phases::BODY_FILTER) {
        body_filter(x, &mut body, true);
        head.insert_header(header::CONTENT_LENGTH, number(length(&body)))?;
    }
    // Kong sets its own after the plugins' (`header_filter.after`).
    if is_kept {
        response_headers::proxied(&mut head, client, x)?;
    } else {
        response_headers::local(&mut head, x, origin == Origin::Upstream)?;
    }
    if head.status == StatusCode::NO_CONTENT || head.status.is_informational() {
        head.remove_header(&header::CONTENT_LENGTH);
    }
    let none = client.method == Method::HEAD
        || matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    let body = if none {
        Bytes::new()
    } else {
        body.unwrap_or_default()
    };
    Ok((head, body))
}

/// Whether the client speaks gRPC.
fn is_grpc(client: &RequestHeader) -> bool {
    client.version == Version::HTTP_2
        && client
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|t| t.as_bytes().starts_with(b"application/grpc"))
}

/// The gRPC status for one of HTTP, which stays as it is (`kong/pdk/response.lua`).
fn grpc_status(status: u16) -> u8 {
    match status {
        200..=299 => 0,
        401 => 16,
        403 => 7,
        404 => 5,
        409 => 6,
        429 => 8,
        499 => 1,
        501 => 12,
        503 => 14,
        504 => 4,
        400..=499 => 3,
        500..=599 => 13,
        _ => 2,
    }
}

/// Names of the gRPC statuses, by number.
const GRPC_MESSAGES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Runs the plugins' `header_filter`.
pub(crate) fn header_filter(session: &Session, x: &mut Exchange, head: &mut ResponseHeader) {
    let Exchange {
        snapshot,
        route,
        picks,
        facts,
        ..
    } = x;
    let route = route.map(|r| &snapshot.routes[r]);
    let chain = route.map_or(&snapshot.global, |r| &r.chain);
    let client = session.req_header();
    let mut ctx = ResponseCtx {
        request: view(client, client.raw_path()),
        facts,
        head: &mut HeadView(head),
        route: route.map(|r| r.info()),
        service: route.and_then(|r| r.service.as_ref()).map(|s| &s.info),
    };
    chain.header_filter(picks, &mut ctx);
}

/// Runs the plugins' `body_filter`.
pub(crate) fn body_filter(x: &mut Exchange, chunk: &mut Option<Bytes>, end: bool) {
    let Exchange {
        snapshot,
        route,
        picks,
        facts,
        ..
    } = x;
    let chain = route.map_or(&snapshot.global, |r| &snapshot.routes[r].chain);
    chain.body_filter(picks, &mut BodyCtx { facts }, chunk, end);
}

/// The response to a failure that nginx would report: Kong's error handler makes its body.
pub(crate) fn handled(session: &Session, x: &Exchange, status: u16) -> Response {
    handled_as(session, x, status, errors::text_of(status))
}

/// The same with another text.
pub(crate) fn handled_as(session: &Session, x: &Exchange, status: u16, text: &str) -> Response {
    let headers = &session.req_header().headers;
    let get = |name| headers.get(name).map(HeaderValue::as_bytes);
    let default = x.shared.config.error_default_type;
    let (content_type, bytes) = errors::handled(
        get(header::ACCEPT),
        get(header::CONTENT_TYPE),
        default,
        text,
        x.facts.request_id(),
    );
    Response {
        status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        headers: Default::default(),
        body: Body::Bytes {
            content_type,
            bytes,
        },
    }
}

/// A redirection with nginx' page.
pub(crate) fn redirect(status: StatusCode, location: HeaderValue) -> Response {
    let reason = match status.as_u16() {
        301 => "301 Moved Permanently",
        302 => "302 Found",
        307 => "307 Temporary Redirect",
        _ => "308 Permanent Redirect",
    };
    // nginx names the character set on those pages only that it does not know as redirections.
    let content_type = if matches!(status.as_u16(), 301 | 302) {
        "text/html"
    } else {
        "text/html; charset=UTF-8"
    };
    let body = Body::Bytes {
        content_type: HeaderValue::from_static(content_type),
        bytes: errors::page(reason),
    };
    Response {
        status,
        headers: Default::default(),
        body,
    }
    .header(K_LOCATION.clone(), location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_statuses_become_grpcs() {
        for (http, grpc) in [
            (200, "OK"),
            (401, "Unauthenticated"),
            (404, "NotFound"),
            (418, "InvalidArgument"),
            (502, "Internal"),
            (302, "Unknown"),
        ] {
            assert_eq!(
                GRPC_MESSAGES[usize::from(grpc_status(http))],
                grpc,
                "{http}"
            );
        }
    }
}
