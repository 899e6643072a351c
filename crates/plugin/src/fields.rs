//! Fields of a body: forms, multipart forms and JSON objects, as `kong.request.get_body` reads them (`kong/pdk/request.lua`).

use std::borrow::Cow;

use crate::multipart::{self, boundary, parts};
use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Map, Value};

use crate::args::{self, Found};

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
            Fields::Form(body) => args::find(body, name.as_bytes()),
            Fields::Json(map) => match map.get(name) {
                None => Found::Nothing,
                Some(Value::String(s)) => Found::One(Cow::Borrowed(s.as_bytes())),
                // A table in Lua, as several values are.
                Some(Value::Array(_) | Value::Object(_)) => Found::Many,
                Some(_) => Found::NoText,
            },
            Fields::Multipart { body, boundary } => {
                let mut values = parts(body, boundary)
                    .filter(|p| p.name() == Some(name.as_bytes()))
                    .map(|p| p.value());
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
            Fields::Form(body) => args::without(body, name.as_bytes()).map(Bytes::from),
            Fields::Json(map) => {
                let mut rest = map.clone();
                rest.shift_remove(name)?;
                serde_json::to_vec(&rest).ok().map(Bytes::from)
            }
            Fields::Multipart { body, boundary } => {
                parts(body, boundary).find(|p| p.name() == Some(name.as_bytes()))?;
                let rest = parts(body, boundary).filter(|p| p.name() != Some(name.as_bytes()));
                let rest = rest.map(|p| Cow::Borrowed(p.whole));
                Some(multipart::join(boundary, rest).into())
            }
        }
    }
}

fn is(content_type: &[u8], kind: &[u8]) -> bool {
    content_type
        .get(..kind.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(kind))
}
