//! What the two endpoints and refusals answer: JSON objects, whatever the client accepts and without the id of the request, as in Kong.

use std::sync::LazyLock;

use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value};
use silverback_plugin::{HeaderKey, Response};

static CACHE_CONTROL: LazyLock<HeaderKey> =
    LazyLock::new(|| HeaderKey::from_static("cache-control"));
static PRAGMA: LazyLock<HeaderKey> = LazyLock::new(|| HeaderKey::from_static("pragma"));

/// Members of an answer.
pub(crate) type Members = Map<String, Value>;

/// What is wrong with a request, in the words of RFC 6749.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) error: &'static str,
    pub(crate) description: String,
}

impl Refusal {
    pub(crate) fn new(error: &'static str, description: impl Into<String>) -> Self {
        Refusal {
            error,
            description: description.into(),
        }
    }

    /// Something is missing or makes no sense.
    pub(crate) fn request(description: impl Into<String>) -> Self {
        Self::new("invalid_request", description)
    }

    /// The application is unknown, or has not proven who it is.
    pub(crate) fn client() -> Self {
        Self::new("invalid_client", "Invalid client authentication")
    }

    pub(crate) fn members(&self) -> Members {
        Members::from_iter([
            ("error".to_owned(), self.error.into()),
            (
                "error_description".to_owned(),
                self.description.as_str().into(),
            ),
        ])
    }
}

/// A response of an endpoint: it is for this client and this moment.
pub(crate) fn response(status: StatusCode, members: Members) -> Response {
    Response::json(status, Value::Object(members).to_string())
        .header(CACHE_CONTROL.clone(), HeaderValue::from_static("no-store"))
        .header(PRAGMA.clone(), HeaderValue::from_static("no-cache"))
}

/// The same members as arguments, by name, for an address that a browser is sent to.
pub(crate) fn arguments(present: &str, members: &Members) -> String {
    let mut all: Vec<(String, String)> = silverback_plugin::args::all(present.as_bytes())
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (
                text(&name),
                value.map_or_else(|| "true".to_owned(), |v| text(&v)),
            )
        })
        .filter(|(name, _)| !members.contains_key(name))
        .collect();
    all.extend(members.iter().map(|(name, value)| {
        let text = value.as_str().map(str::to_owned);
        (name.clone(), text.unwrap_or_else(|| value.to_string()))
    }));
    all.sort();
    let piece = |(name, value): (String, String)| match value.is_empty() {
        true => name,
        false => format!("{}={}", escaped(&name), escaped(&value)),
    };
    all.into_iter().map(piece).collect::<Vec<_>>().join("&")
}

/// With all but letters, digits and `_` escaped, in small hexadecimal digits, as LuaSocket does.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_added_to_those_that_are_there() {
        let members = Members::from_iter([
            ("state".to_owned(), "a b/c".into()),
            ("code".to_owned(), "x".into()),
            ("expires_in".to_owned(), 7200.into()),
        ]);
        assert_eq!(
            arguments("z=1&code=old&a%20b=", &members),
            "a b&code=x&expires_in=7200&state=a%20b%2fc&z=1"
        );
        assert_eq!(
            arguments("", &members),
            "code=x&expires_in=7200&state=a%20b%2fc"
        );
    }
}
