//! Answers: JSON with its length said, or nothing.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::etag;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// Said of an answer to a write that was only tried.
pub(crate) const DRY_RUN: HeaderName = HeaderName::from_static("silverback-dry-run");
/// The revision of what was written.
pub(crate) const REVISION: HeaderName = HeaderName::from_static("silverback-revision");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=UTF-8");

/// A JSON body.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => with(status, JSON, Body::from(bytes)),
        Err(error) => {
            tracing::error!(%error, "an answer is no JSON");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// 200 with a JSON body.
pub(crate) fn ok(body: &impl Serialize) -> Response {
    json(StatusCode::OK, body)
}

/// One row, with its version in `ETag`.
pub(crate) fn row(status: StatusCode, row: &Map<String, Value>) -> Response {
    let mut response = json(status, row);
    if let Ok(version) = HeaderValue::try_from(etag::of(row)) {
        response.headers_mut().insert(header::ETAG, version);
    }
    response
}

/// Says of an answer that what it speaks of has not happened.
pub(crate) fn dry(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(DRY_RUN, HeaderValue::from_static("true"));
    response
}

/// Says of an answer under which revision it was written.
pub(crate) fn written(mut response: Response, revision: Option<i64>) -> Response {
    if let Some(revision) = revision {
        response
            .headers_mut()
            .insert(REVISION, HeaderValue::from(revision));
    }
    response
}

/// 200 with a body that is JSON already.
pub(crate) fn ok_bytes(bytes: Bytes) -> Response {
    with(StatusCode::OK, JSON, Body::from(bytes))
}

/// A page for people, in nginx's form: Kong leaves answers without a body to it.
pub(crate) fn page(status: StatusCode) -> Response {
    let title = format!(
        "{} {}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default()
    );
    let text = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
    );
    with(status, HTML, Body::from(text))
}

/// Text for machines.
pub(crate) fn text(status: StatusCode, text: String) -> Response {
    with(status, TEXT, Body::from(text))
}

/// No body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn with(status: StatusCode, content_type: HeaderValue, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}
