//! Fields of a body: forms, multipart forms and JSON objects, as `kong.request.get_body` reads them (`kong/pdk/request.lua`).

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Map, Value};

use crate::arguments::{self, Found};

const FORM: &[u8] = b"application/x-www-form-urlencoded";
const JSON: &[u8] = b"application/json";
const MULTIPART: &[u8] = b"multipart/form-data";

/// The fields of a body.
pub enum Fields {
    /// A form.
    Form(Bytes),
    /// A JSON object.
    Json(Map<String, Value>),
    /// A form in parts.
    Multipart {
        /// The body.
        body: Bytes,
        /// What stands between its parts.
        boundary: Vec<u8>,
    },
}

impl Fields {
    /// Whether bodies of this type have fields.
    pub fn readable(content_type: Option<&HeaderValue>) -> bool {
        content_type.is_some_and(|t| {
            [FORM, JSON, MULTIPART]
                .into_iter()
                .any(|kind| is(t.as_bytes(), kind))
        })
    }

    /// The fields of a body of that type; `None` when it has none.
    pub fn parse(content_type: Option<&HeaderValue>, body: Bytes) -> Option<Self> {
        let content_type = content_type?.as_bytes();
        if is(content_type, FORM) {
            return Some(Fields::Form(body));
        }
        if is(content_type, JSON) {
            return serde_json::from_slice(&body).ok().map(Fields::Json);
        }
        let boundary = boundary(content_type).filter(|_| is(content_type, MULTIPART))?;
        Some(Fields::Multipart { body, boundary })
    }

    /// The values of that name.
    pub fn find(&self, name: &str) -> Found<'_> {
        match self {
            Fields::Form(body) => arguments::find(body, name.as_bytes()),
            Fields::Json(map) => match map.get(name) {
                None => Found::Nothing,
                Some(Value::String(s)) => Found::One(Cow::Borrowed(s.as_bytes())),
                // A table in Lua, as several values are.
                Some(Value::Array(_) | Value::Object(_)) => Found::Many,
                Some(_) => Found::NoText,
            },
            Fields::Multipart { body, boundary } => {
                let mut values = parts(body, boundary)
                    .filter(|p| p.name == Some(name.as_bytes()))
                    .map(|p| p.value);
                match (values.next(), values.next()) {
                    (None, _) => Found::Nothing,
                    (Some(one), None) => Found::One(Cow::Borrowed(one)),
                    (Some(_), Some(_)) => Found::Many,
                }
            }
        }
    }

    /// The body without that name; `None` when it is not there. The rest stays as it was sent, but for the white space of JSON.
    pub fn without(&self, name: &str) -> Option<Bytes> {
        match self {
            Fields::Form(body) => arguments::without(body, name.as_bytes()).map(Bytes::from),
            Fields::Json(map) => {
                let mut rest = map.clone();
                rest.shift_remove(name)?;
                serde_json::to_vec(&rest).ok().map(Bytes::from)
            }
            Fields::Multipart { body, boundary } => {
                parts(body, boundary).find(|p| p.name == Some(name.as_bytes()))?;
                let mut out = Vec::with_capacity(body.len());
                for part in parts(body, boundary).filter(|p| p.name != Some(name.as_bytes())) {
                    out.extend_from_slice(b"--");
                    out.extend_from_slice(boundary);
                    out.extend_from_slice(b"\r\n");
                    out.extend_from_slice(part.whole);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"--");
                out.extend_from_slice(boundary);
                out.extend_from_slice(b"--\r\n");
                Some(out.into())
            }
        }
    }
}

fn is(content_type: &[u8], kind: &[u8]) -> bool {
    content_type
        .get(..kind.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(kind))
}

/// The `boundary` parameter, with or without quotes.
fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    content_type
        .split(|b| *b == b';')
        .skip(1)
        .find_map(|parameter| {
            let parameter = parameter.trim_ascii();
            let key = parameter
                .get(..9)
                .filter(|k| k.eq_ignore_ascii_case(b"boundary="))?;
            let value = &parameter[key.len()..];
            let value = value
                .strip_prefix(b"\"")
                .and_then(|v| v.strip_suffix(b"\""))
                .unwrap_or(value);
            (!value.is_empty()).then(|| value.to_vec())
        })
}

struct Part<'a> {
    name: Option<&'a [u8]>,
    value: &'a [u8],
    /// Headers and value.
    whole: &'a [u8],
}

/// The parts of a multipart body (RFC 2046, 5.1.1). What cannot be read as a part is left out.
fn parts<'a>(body: &'a [u8], boundary: &'a [u8]) -> impl Iterator<Item = Part<'a>> {
    let mut delimiter = b"\r\n--".to_vec();
    delimiter.extend_from_slice(boundary);
    let mut rest = body
        .strip_prefix(&delimiter[2..])
        .or_else(|| after(body, &delimiter));
    std::iter::from_fn(move || {
        loop {
            let current = rest?;
            // `--` after a delimiter ends the body.
            let current = current.strip_prefix(b"\r\n")?;
            let end = position(current, &delimiter)?;
            rest = current.get(end + delimiter.len()..);
            let whole = &current[..end];
            if let Some(split) = position(whole, b"\r\n\r\n") {
                return Some(Part {
                    name: name(&whole[..split]),
                    value: &whole[split + 4..],
                    whole,
                });
            }
        }
    })
}

fn after<'a>(text: &'a [u8], what: &[u8]) -> Option<&'a [u8]> {
    position(text, what).map(|i| &text[i + what.len()..])
}

fn position(text: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, what)
}

/// The `name` of a part, from its `Content-Disposition`.
fn name(headers: &[u8]) -> Option<&[u8]> {
    headers.split(|b| *b == b'\n').find_map(|line| {
        let line = line.trim_ascii();
        line.get(..20)
            .filter(|h| h.eq_ignore_ascii_case(b"content-disposition:"))?;
        line.split(|b| *b == b';').find_map(|parameter| {
            let value = parameter.trim_ascii().strip_prefix(b"name=")?;
            Some(
                value
                    .strip_prefix(b"\"")
                    .and_then(|v| v.strip_suffix(b"\""))
                    .unwrap_or(value),
            )
        })
    })
}
