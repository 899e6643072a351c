//! What the client gets of the function's answer.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use silverback_export::Answer;
use silverback_plugin::{Body, ConfigError, HeaderKey, PluginError, Response};

use crate::Config;

/// With or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Headers that are about the connection to Lambda, or about the length of what it sent.
static OF_THE_CONNECTION: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// How responses are made.
#[derive(Debug)]
pub(crate) struct Answers {
    /// The function says what the response is like.
    proxy: bool,
    unhandled: Option<StatusCode>,
    /// Empty lists become empty objects.
    legacy_arrays: bool,
}

impl Answers {
    pub(crate) fn new(config: &Config) -> Result<Self, ConfigError> {
        let unhandled = config.unhandled_status.map(StatusCode::from_u16);
        let unhandled = unhandled
            .transpose()
            .map_err(|_| ConfigError::new("unhandled_status", "is no HTTP status"))?;
        Ok(Answers {
            proxy: config.is_proxy_integration == Some(true),
            unhandled,
            legacy_arrays: config.empty_arrays_mode == "legacy",
        })
    }

    /// The response; an error when Lambda did not take the request.
    pub(crate) fn response(&self, answer: Answer) -> Result<Response, PluginError> {
        let Answer {
            status,
            headers,
            body,
        } = answer;
        if status.is_client_error() || status.is_server_error() {
            let said = String::from_utf8_lossy(&body);
            return Err(PluginError::new(format!(
                "Lambda answered {status}: {said}"
            )));
        }
        let content = content(&headers, body);
        let headers = kept(&headers);
        if self.proxy {
            return Ok(match Proxied::parse(&content) {
                Ok(proxied) => proxied.response(headers),
                Err(why) => bad_gateway(&why),
            });
        }
        let is_unhandled = headers
            .iter()
            .any(|(key, value)| *key.name() == "x-amz-function-error" && value == "Unhandled");
        let status = self.unhandled.filter(|_| is_unhandled).unwrap_or(status);
        let bytes = match content {
            Content::Json(bytes) if self.legacy_arrays => without_empty_arrays(bytes),
            Content::Json(bytes) | Content::Text(bytes) => bytes,
        };
        Ok(response(status, headers, bytes))
    }
}

/// A body.
enum Content {
    /// JSON that is no text.
    Json(Bytes),
    /// Anything else; of a JSON text what it says.
    Text(Bytes),
}

fn content(headers: &HeaderMap, body: Bytes) -> Content {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|v| v.to_str().ok()).unwrap_or_default();
    // `application/.*json`
    let kind = kind.to_ascii_lowercase();
    let is_json = kind
        .split_once("application/")
        .is_some_and(|(_, rest)| rest.contains("json"));
    if !is_json {
        return Content::Text(body);
    }
    if let Ok(text) = serde_json::from_slice::<String>(&body) {
        return Content::Text(text.into());
    }
    match serde_json::from_slice::<IgnoredAny>(&body) {
        Ok(_) => Content::Json(body),
        Err(_) => Content::Text(body),
    }
}

type Headers = Vec<(HeaderKey, HeaderValue)>;

/// Lambda's headers that go on to the client.
fn kept(headers: &HeaderMap) -> Headers {
    let pass = headers
        .iter()
        .filter(|(name, _)| !OF_THE_CONNECTION.contains(name));
    pass.filter_map(|(name, value)| Some((HeaderKey::new(name.as_str()).ok()?, value.clone())))
        .collect()
}

fn response(status: StatusCode, headers: Headers, bytes: Bytes) -> Response {
    let body = if bytes.is_empty() {
        Body::Empty
    } else {
        // Where the headers name none: nginx' `default_type`.
        let content_type = HeaderValue::from_static("text/plain; charset=UTF-8");
        Body::Bytes {
            content_type,
            bytes,
        }
    };
    Response {
        status,
        headers: headers.into(),
        body,
    }
}

fn bad_gateway(why: &str) -> Response {
    tracing::error!(
        plugin = "aws-lambda",
        "the function's answer is no response: {why}"
    );
    let body = json!({
        "message": "Bad Gateway",
        "error": format!("could not JSON decode Lambda function response: {why}"),
    });
    Response::json(StatusCode::BAD_GATEWAY, body.to_string())
}

/// A response as a function describes it (`is_proxy_integration`).
struct Proxied {
    status: StatusCode,
    headers: Headers,
    body: Bytes,
}

impl Proxied {
    /// The error is what the client reads.
    fn parse(content: &Content) -> Result<Self, String> {
        let (Content::Json(bytes) | Content::Text(bytes)) = content;
        if bytes.is_empty() {
            return Err("proxy response must be json format".to_owned());
        }
        let described = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let Value::Object(mut described) = described else {
            return Err("statusCode validation failed".to_owned());
        };
        let status = described.get("statusCode").and_then(status);
        let status = status.ok_or("statusCode validation failed")?;
        let mut headers = Headers::new();
        match described.remove("headers") {
            None => {}
            Some(Value::Object(map)) => add(&mut headers, map)?,
            Some(Value::Array(list)) if list.is_empty() => {}
            Some(_) => return Err("headers must be a table".to_owned()),
        }
        let body = match described.remove("body") {
            None => String::new(),
            Some(Value::String(body)) => body,
            Some(_) => return Err("body must be a string".to_owned()),
        };
        let base64 = match described.get("isBase64Encoded") {
            None => false,
            Some(Value::Bool(base64)) => *base64,
            Some(_) => return Err("isBase64Encoded must be a boolean".to_owned()),
        };
        match described.remove("multiValueHeaders") {
            None | Some(Value::Null) => {}
            Some(Value::Object(map)) => add(&mut headers, map)?,
            Some(Value::Array(list)) if list.is_empty() => {}
            Some(_) => return Err("multiValueHeaders must be a table".to_owned()),
        }
        let body = if base64 {
            let decoded = BASE64.decode(body);
            decoded.map_err(|e| format!("body: {e}"))?.into()
        } else {
            body.into()
        };
        Ok(Proxied {
            status,
            headers,
            body,
        })
    }

    /// Its headers take the place of Lambda's own.
    fn response(self, mut headers: Headers) -> Response {
        headers.retain(|(own, _)| !self.headers.iter().any(|(key, _)| key.name() == own.name()));
        headers.extend(self.headers);
        response(self.status, headers, self.body)
    }
}

/// A number, or a text with one.
fn status(value: &Value) -> Option<StatusCode> {
    let code = match value {
        Value::Number(n) => n.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let code = (100..=599_u16).find(|c| f64::from(*c) == code)?;
    StatusCode::from_u16(code).ok()
}

/// Adds headers in place of those of the same names.
fn add(headers: &mut Headers, map: Map<String, Value>) -> Result<(), String> {
    for (name, value) in map {
        let refused = || format!("header {name} cannot be sent");
        let key = HeaderKey::new(&name).map_err(|_| refused())?;
        if OF_THE_CONNECTION.contains(key.name()) {
            continue;
        }
        headers.retain(|(other, _)| other.name() != key.name());
        let values = match value {
            Value::Array(values) => values,
            one => vec![one],
        };
        for value in values {
            let text = match value {
                Value::String(text) => text,
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => return Err(refused()),
            };
            let value = HeaderValue::try_from(text).map_err(|_| refused())?;
            headers.push((key.clone(), value));
        }
    }
    Ok(())
}

/// JSON with `{}` for each `[]`.
fn without_empty_arrays(json: Bytes) -> Bytes {
    let mut out: Option<Vec<u8>> = None;
    let (mut copied, mut at, mut in_text) = (0, 0, false);
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => in_text = !in_text,
            b'\\' if in_text => at += 1,
            b'[' if !in_text => {
                let inside = json[at + 1..].iter();
                let blank = inside.take_while(|b| b.is_ascii_whitespace()).count();
                let end = at + 1 + blank;
                if json.get(end) == Some(&b']') {
                    let out = out.get_or_insert_with(|| Vec::with_capacity(json.len()));
                    out.extend_from_slice(&json[copied..at]);
                    out.extend_from_slice(b"{}");
                    copied = end + 1;
                    at = end;
                }
            }
            _ => {}
        }
        at += 1;
    }
    match out {
        None => json,
        Some(mut out) => {
            out.extend_from_slice(&json[copied..]);
            out.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lists_become_objects_and_all_else_stays() {
        let changed = |json: &'static str| {
            String::from_utf8_lossy(&without_empty_arrays(Bytes::from_static(json.as_bytes())))
                .into_owned()
        };
        for (json, expected) in [
            ("[]", "{}"),
            (
                r#"{"a":[ ], "b" : [[],[1]]}"#,
                r#"{"a":{}, "b" : [{},[1]]}"#,
            ),
            (r#"{"a":"[]","\"[]":"\\"}"#, r#"{"a":"[]","\"[]":"\\"}"#),
            ("[1, 2]", "[1, 2]"),
        ] {
            assert_eq!(changed(json), expected);
        }
    }

    #[test]
    fn a_status_is_a_number_or_a_text_with_one() {
        for (value, code) in [
            (json!(201), Some(201)),
            (json!("404"), Some(404)),
            (json!(200.0), Some(200)),
            (json!(99), None),
            (json!(600), None),
            (json!(200.5), None),
            (json!("ok"), None),
            (Value::Null, None),
        ] {
            assert_eq!(status(&value).map(|s| s.as_u16()), code, "{value}");
        }
    }
}
