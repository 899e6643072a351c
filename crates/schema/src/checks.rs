//! Checks in code that many definitions share, with Kong's texts (`kong/db/schema/typedefs.lua`, `kong/tools/http.lua`).
//!
//! Each fits [`Field::check`](crate::Field::check). They look at strings only; a value of another type passes.

mod host;
mod path;
mod url;

use serde_json::Value;

pub use host::{
    HostKind, HostParts, host, host_pattern, host_with_optional_port, ip, ip_or_cidr, sni,
    split_host, wildcard_sni,
};
pub use path::{normalize as normalize_path, path, route_path};
pub use url::{UrlParts, split_url, url};

fn text(v: &Value) -> &str {
    v.as_str().unwrap_or_default()
}

/// A tag: printable ASCII without `,` and `/`, or any other UTF-8.
pub fn tag(v: &Value) -> Result<(), String> {
    let s = text(v);
    let bad = |c: char| c == ',' || c == '/' || (c.is_ascii() && !(' '..='~').contains(&c));
    if s.contains(bad) {
        return Err(format!(
            "invalid tag '{s}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"
        ));
    }
    Ok(())
}

/// A name: ASCII letters, digits and `.-_~`, or any non-ASCII UTF-8.
pub fn utf8_name(v: &Value) -> Result<(), String> {
    let s = text(v);
    let bad =
        |c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_' | '~');
    if s.contains(bad) {
        return Err(format!(
            "invalid value '{s}': the only accepted ascii characters are alphanumerics or ., -, _, and ~"
        ));
    }
    Ok(())
}

/// Whether that is a regular expression.
pub fn is_regex(s: &str) -> bool {
    fancy_regex::Regex::new(s).is_ok()
}

/// The name of an HTTP header, narrower than RFC 9110 allows.
pub fn header_name(v: &Value) -> Result<(), String> {
    let s = text(v);
    if s.is_empty() {
        return Err("no header name provided".into());
    }
    if !s
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    {
        return Err(format!(
            "bad header name '{s}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"
        ));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tags_are_printable_without_comma_and_slash() {
        for good in ["a", "a b", "ä", "~", "a.b-c_d"] {
            assert_eq!(tag(&json!(good)), Ok(()), "{good}");
        }
        for bad in ["a,b", "a/b", "a\tb", "\u{7f}"] {
            assert!(
                tag(&json!(bad))
                    .unwrap_err()
                    .starts_with(&format!("invalid tag '{bad}':"))
            );
        }
    }

    #[test]
    fn names_take_any_letters_and_few_signs() {
        assert_eq!(utf8_name(&json!("a.b-c_d~1ä")), Ok(()));
        for bad in ["a b", "a/b", "a,b", "a%"] {
            assert!(utf8_name(&json!(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn header_names_are_letters_digits_dash_underscore() {
        assert_eq!(header_name(&json!("X-a_1")), Ok(()));
        assert_eq!(
            header_name(&json!("a b")).unwrap_err(),
            "bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-'"
        );
        assert_eq!(
            header_name(&json!("")).unwrap_err(),
            "no header name provided"
        );
    }
}
