//! Versions of rows: `ETag` and `If-Match` (RFC 9110, 8.8.3 and 13.1.1). Kong has none.
//!
//! A version is made of what the row looks like to clients, so that it is the same on every node and after a restart, and needs no column. What
//! is left of `ttl` is not part of it: it changes by itself.

use http::{HeaderMap, header};
use serde_json::{Map, Value};

/// The version of a row as it is shown, in quotes.
pub(crate) fn of(row: &Map<String, Value>) -> String {
    let mut hash = openssl::sha::Sha256::new();
    for (name, value) in row.iter().filter(|(name, _)| *name != "ttl") {
        hash.update(name.as_bytes());
        hash.update(b"=");
        hash.update(value.to_string().as_bytes());
        hash.update(b"\n");
    }
    let bytes = hash.finish();
    let hex: String = bytes.iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("\"{hex}\"")
}

/// The versions that a client would accept, as it wrote them; `None` when it does not care.
pub(crate) fn wanted(headers: &HeaderMap) -> Option<String> {
    let mut all = headers.get_all(header::IF_MATCH).iter().peekable();
    all.peek()?;
    let texts: Vec<&str> = all.map(|v| v.to_str().unwrap_or_default()).collect();
    Some(texts.join(","))
}

/// Whether a row that is there is one of the versions wanted. Weak ones match nothing, as the RFC has it.
pub(crate) fn matches(wanted: &str, row: &Map<String, Value>) -> bool {
    let own = of(row);
    wanted
        .split(',')
        .map(str::trim)
        .any(|one| one == "*" || one == own)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(v: Value) -> Map<String, Value> {
        v.as_object().unwrap().clone()
    }

    #[test]
    fn a_version_changes_with_the_row_and_not_with_time() {
        let a = of(&row(json!({ "name": "a", "port": 80 })));
        assert_eq!(a.len(), 34);
        assert_eq!(a, of(&row(json!({ "name": "a", "port": 80, "ttl": 5 }))));
        assert_ne!(a, of(&row(json!({ "name": "a", "port": 81 }))));
        assert_ne!(a, of(&row(json!({ "name": "a", "port": "80" }))));
    }

    #[test]
    fn one_of_several_versions_is_enough() {
        let it = row(json!({ "name": "a" }));
        let own = of(&it);
        assert!(matches(&own, &it) && matches("*", &it));
        assert!(matches(&format!("\"x\" , {own}"), &it));
        assert!(!matches("\"x\"", &it) && !matches("", &it));
        assert!(!matches(&format!("W/{own}"), &it));
        assert!(!matches(own.trim_matches('"'), &it));
    }

    #[test]
    fn several_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        assert_eq!(wanted(&headers), None);
        headers.append(header::IF_MATCH, "\"a\"".parse().unwrap());
        headers.append(header::IF_MATCH, "\"b\"".parse().unwrap());
        assert_eq!(wanted(&headers).unwrap(), "\"a\",\"b\"");
    }
}
