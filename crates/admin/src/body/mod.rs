//! Bodies of requests: JSON, forms, nothing (`before_filter` and `parse_params` in `kong/api/api_helpers.lua`,
//! `kong/api/arguments.lua`).
//!
//! What Kong answers with 500 or lets through to Postgres is refused here with 400: JSON that is no object, text that is not UTF-8,
//! NUL characters, which Postgres cannot store.

mod form;

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use serde_json::{Map, Value};

use crate::errors::ApiError;
use crate::texts;

/// Kong's `client_max_body_size` of the Admin API.
const MAX_BYTES: usize = 10 * 1024 * 1024;
/// Most bytes of a body that nobody wants.
const MAX_DISCARDED: usize = 64 * 1024;
/// Longest time for all of a body to arrive.
const MAX_TIME: Duration = Duration::from_secs(30);

/// What came in a body.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Payload {
    /// The fields; empty without a body.
    pub(crate) fields: Map<String, Value>,
    /// From a form: all values are texts, and the definition decides what they mean.
    pub(crate) is_form: bool,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Form,
    Multipart,
}

/// Reads the body of a request that writes.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Payload, ApiError> {
    if headers.contains_key(header::CONTENT_TYPE) || !body.is_end_stream() {
        if kind(headers).is_none() {
            discard(body).await;
            return Err(ApiError::UnsupportedMediaType);
        }
        let bytes = collect(body, MAX_BYTES).await?;
        return parse(headers, bytes).await;
    }
    Ok(Payload::default())
}

/// What a body says that is there already.
pub(crate) async fn parse(headers: &HeaderMap, bytes: Bytes) -> Result<Payload, ApiError> {
    if bytes.is_empty() && !headers.contains_key(header::CONTENT_TYPE) {
        return Ok(Payload::default());
    }
    let kind = kind(headers).ok_or(ApiError::UnsupportedMediaType)?;
    let fields = match kind {
        Kind::Json => json(&bytes)?,
        Kind::Form => form::urlencoded(&bytes)?,
        Kind::Multipart => {
            let content_type = headers.get(header::CONTENT_TYPE);
            let content_type = content_type.and_then(|v| v.to_str().ok());
            form::multipart(content_type.unwrap_or_default(), bytes).await?
        }
    };
    Ok(Payload {
        fields,
        is_form: kind != Kind::Json,
    })
}

/// Reads a JSON body that need not be an object.
pub(crate) async fn read_json(headers: &HeaderMap, body: Body) -> Result<Value, ApiError> {
    if kind(headers) != Some(Kind::Json) {
        discard(body).await;
        return Err(ApiError::UnsupportedMediaType);
    }
    match serde_json::from_slice(&collect(body, MAX_BYTES).await?) {
        Ok(value) if has_nul(&value) => Err(ApiError::bad(texts::NUL)),
        Ok(value) => Ok(value),
        Err(_) => Err(ApiError::bad(texts::BAD_JSON)),
    }
}

/// Reads a body that nobody wants, if it is small: left in the connection it would be in the way of the next request, and the connection
/// would have to be closed without a word.
pub(crate) async fn discard(body: Body) {
    if !body.is_end_stream() {
        let all = Limited::new(body, MAX_DISCARDED).collect();
        // Whatever goes wrong costs the connection and nothing else.
        let _ = tokio::time::timeout(MAX_TIME, all).await;
    }
}

/// All of a body, which must not be longer than `most`.
pub(crate) async fn collect(body: Body, most: usize) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::message(StatusCode::PAYLOAD_TOO_LARGE, texts::BODY_TOO_LARGE);
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(MAX_TIME, Limited::new(body, most).collect()).await {
        Ok(Ok(all)) => Ok(all.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::bad(texts::BODY_BROKEN)),
        Err(_) => Err(ApiError::message(
            StatusCode::REQUEST_TIMEOUT,
            texts::BODY_TOO_SLOW,
        )),
    }
}

fn kind(headers: &HeaderMap) -> Option<Kind> {
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    [
        ("application/json", Kind::Json),
        ("application/x-www-form-urlencoded", Kind::Form),
        ("multipart/form-data", Kind::Multipart),
    ]
    .into_iter()
    .find(|(name, _)| essence.eq_ignore_ascii_case(name))
    .map(|(_, kind)| kind)
}

fn json(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) if !map.iter().any(|(k, v)| k.contains('\0') || has_nul(v)) => {
            Ok(map)
        }
        Ok(Value::Object(_)) => Err(ApiError::bad(texts::NUL)),
        Ok(_) => Err(ApiError::bad(texts::NOT_AN_OBJECT)),
        Err(_) => Err(ApiError::bad(texts::BAD_JSON)),
    }
}

/// How deep a value nests is bounded by the parser.
fn has_nul(v: &Value) -> bool {
    match v {
        Value::String(s) => s.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(map) => map.iter().any(|(k, v)| k.contains('\0') || has_nul(v)),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn read_as(
        content_type: Option<&str>,
        body: impl Into<Body>,
    ) -> Result<Payload, (u16, String)> {
        let mut headers = HeaderMap::new();
        if let Some(t) = content_type {
            headers.insert(header::CONTENT_TYPE, t.parse().unwrap());
        }
        read(&headers, body.into()).await.map_err(|e| match e {
            ApiError::Json(status, body) => (
                status.as_u16(),
                body["message"].as_str().unwrap().to_owned(),
            ),
            ApiError::UnsupportedMediaType => (415, String::new()),
            ApiError::MethodNotAllowed => (405, String::new()),
            ApiError::Unauthorized => (401, String::new()),
        })
    }

    #[tokio::test]
    async fn json_objects_are_read() {
        let got = read_as(Some("application/json; charset=utf-8"), r#"{"a":1,"a":2}"#)
            .await
            .unwrap();
        assert_eq!(
            got,
            Payload {
                fields: json!({ "a": 2 }).as_object().unwrap().clone(),
                is_form: false
            }
        );
        assert!(
            read_as(Some("APPLICATION/JSON"), "{}")
                .await
                .unwrap()
                .fields
                .is_empty()
        );
    }

    #[tokio::test]
    async fn what_is_no_json_object_is_refused() {
        let deep = "[".repeat(5000);
        for (body, text) in [
            ("{\"a\":", texts::BAD_JSON),
            ("", texts::BAD_JSON),
            (deep.as_str(), texts::BAD_JSON),
            ("[1,2]", texts::NOT_AN_OBJECT),
            ("\"x\"", texts::NOT_AN_OBJECT),
            ("null", texts::NOT_AN_OBJECT),
            ("{\"a\":\"\\u0000\"}", texts::NUL),
            ("{\"a\":[{\"b\\u0000\":1}]}", texts::NUL),
        ] {
            assert_eq!(
                read_as(Some("application/json"), body.to_owned()).await,
                Err((400, text.to_owned())),
                "{body:.40}"
            );
        }
        assert_eq!(
            read_as(Some("application/json"), b"{\"a\":\"\xff\"}".to_vec()).await,
            Err((400, texts::BAD_JSON.to_owned()))
        );
    }

    #[tokio::test]
    async fn unknown_types_are_415_and_no_body_is_no_fields() {
        for t in ["text/plain", "application/xml", "application/vnd.api+json"] {
            assert_eq!(read_as(Some(t), "{}").await, Err((415, String::new())));
        }
        assert_eq!(read_as(None, "{}").await, Err((415, String::new())));
        assert!(
            read_as(None, Body::empty())
                .await
                .unwrap()
                .fields
                .is_empty()
        );
    }

    #[tokio::test]
    async fn too_much_is_413() {
        let big = vec![b' '; MAX_BYTES + 1];
        assert_eq!(
            read_as(Some("application/json"), big).await.unwrap_err().0,
            413
        );
    }

    #[tokio::test]
    async fn forms_are_read_as_texts() {
        let got = read_as(Some("application/x-www-form-urlencoded"), "a=1&b.c=x+y%21")
            .await
            .unwrap();
        assert_eq!(
            Value::Object(got.fields),
            json!({ "a": "1", "b": { "c": "x y!" } })
        );
        assert!(got.is_form);
    }
}
