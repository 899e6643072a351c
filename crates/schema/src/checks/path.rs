//! Paths of services and routes: the checks of `kong/db/schema/typedefs.lua`, the normal form of `kong/tools/uri.lua`.

use serde_json::Value;

use super::text;

/// A service's path: the characters of RFC 3986, with complete percent escapes.
pub fn path(v: &Value) -> Result<(), String> {
    let path = text(v);
    if !is_rfc3986(path) {
        return Err(format!(
            "invalid path: '{path}' (characters outside of the reserved list of RFC 3986 found)"
        ));
    }
    escapes(path)
}

/// A route's path: a prefix in normal form, or after `~` a regular expression.
pub fn route_path(v: &Value) -> Result<(), String> {
    let path = text(v);
    if is_rfc3986(path) {
        escapes(path)?;
    }
    let Some(pattern) = path.strip_prefix('~') else {
        let normal = normalize(path.as_bytes());
        if normal != path.as_bytes() {
            let normal = String::from_utf8_lossy(&normal);
            return Err(format!(
                "non-normalized path, consider use '{normal}' instead"
            ));
        }
        return Ok(());
    };
    pattern_compiles(pattern)
}

/// Kong compiles twice: with PCRE, and inside the router with the `regex` crate, which has no look-around and no back-references. Our
/// router has the latter only, so that such a pattern is refused here, in words that say why.
fn pattern_compiles(pattern: &str) -> Result<(), String> {
    let Err(e) = regex::Regex::new(pattern) else {
        return Ok(());
    };
    let why = e.to_string();
    let why = why
        .rsplit_once("error: ")
        .map_or(why.as_str(), |(_, last)| last)
        .trim();
    Err(format!("invalid regex: '{pattern}' (PCRE returned: {why})"))
}

/// Brings a path into the form in which requests are matched: escapes of unreserved and of other harmless characters decoded, escapes of
/// reserved characters in upper case, dot segments resolved, runs of slashes merged. Bytes, because `%FF` decodes to no text.
///
/// Learnt from `kong/tools/uri.lua`.
pub fn normalize(path: &[u8]) -> Vec<u8> {
    let decoded = decode_harmless(path);
    let mut out: Vec<u8> = Vec::with_capacity(decoded.len());
    let mut segments: Vec<usize> = Vec::new();
    let mut rest = decoded.as_slice();
    while !rest.is_empty() {
        if rest == b"/." || rest == b"/.." {
            if rest == b"/.."
                && let Some(start) = segments.pop()
            {
                out.truncate(start);
            }
            rest = b"/";
        } else if rest == b"." || rest == b".." {
            rest = b"";
        } else if rest.starts_with(b"../") {
            rest = &rest[3..];
        } else if rest.starts_with(b"./") || rest.starts_with(b"/./") {
            rest = &rest[2..];
        } else if rest.starts_with(b"/../") {
            if let Some(start) = segments.pop() {
                out.truncate(start);
            }
            rest = &rest[3..];
        } else if rest.starts_with(b"//") {
            rest = &rest[1..];
        } else {
            let end = rest[1..]
                .iter()
                .position(|b| *b == b'/')
                .map_or(rest.len(), |i| i + 1);
            segments.push(out.len());
            out.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out
}

fn decode_harmless(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut i = 0;
    while i < path.len() {
        let digit = |at: usize| path.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (path[i], digit(i + 1), digit(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                // Two hexadecimal digits make at most 255.
                let byte = (high * 16 + low) as u8;
                if b"!*'();:@&=+$,/?%#[]".contains(&byte) {
                    out.extend_from_slice(&[
                        b'%',
                        path[i + 1].to_ascii_uppercase(),
                        path[i + 2].to_ascii_uppercase(),
                    ]);
                } else {
                    out.push(byte);
                }
                i += 3;
            }
            (byte, ..) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    out
}

fn is_rfc3986(path: &str) -> bool {
    path.starts_with('/')
        && path
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_~/%:@!$&'()*+,;=".contains(&b))
}

fn escapes(path: &str) -> Result<(), String> {
    let bytes = path.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] != b'%' {
            i += 1;
            continue;
        }
        let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
        if !(hex(i + 1) && hex(i + 2)) {
            // Kong shows the text after replacing complete escapes by "___".
            let mut shown: String = path[i..].chars().take(3).collect();
            if let Some(inner) = shown[1..].find('%').map(|at| at + 1) {
                let at = i + inner;
                let whole = bytes
                    .get(at + 1..at + 3)
                    .is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit));
                if whole {
                    let keep = shown.len() - inner;
                    shown.truncate(inner);
                    shown.push_str(&"___"[..keep]);
                }
            }
            return Err(format!("invalid url-encoded value: '{shown}'"));
        }
        i += 3;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn normal_form_resolves_dots_slashes_and_escapes() {
        for (from, to) in [
            ("/", "/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/../../a", "/a"),
            ("/a//b", "/a/b"),
            ("/a/", "/a/"),
            ("/%41", "/A"),
            ("/%2f", "/%2F"),
            ("/%20", "/ "),
            ("/%2e%2e/a", "/a"),
            ("/a/.", "/a/"),
            ("/a%zz", "/a%zz"),
        ] {
            assert_eq!(
                String::from_utf8(normalize(from.as_bytes())).unwrap(),
                to,
                "{from}"
            );
        }
        assert_eq!(normalize(b"/%FF"), b"/\xff");
    }

    #[test]
    fn service_path_is_plain_rfc3986() {
        assert_eq!(path(&json!("/a%20b/(c)")), Ok(()));
        assert_eq!(
            path(&json!("/a b")).unwrap_err(),
            "invalid path: '/a b' (characters outside of the reserved list of RFC 3986 found)"
        );
        assert_eq!(
            path(&json!("/a%2")).unwrap_err(),
            "invalid url-encoded value: '%2'"
        );
        assert_eq!(
            path(&json!("/a%zzb")).unwrap_err(),
            "invalid url-encoded value: '%zz'"
        );
        assert_eq!(
            path(&json!("/%z%41")).unwrap_err(),
            "invalid url-encoded value: '%z_'"
        );
    }

    #[test]
    fn route_path_is_normal_or_a_regex() {
        for good in ["/", "/a b", "/ä", "/a%2F", "~/a/(\\d+)$", "~/[a-z"] {
            let got = route_path(&json!(good));
            assert_eq!(got.is_ok(), good != "~/[a-z", "{good}: {got:?}");
        }
        assert_eq!(
            route_path(&json!("~/[a-z")).unwrap_err(),
            "invalid regex: '/[a-z' (PCRE returned: unclosed character class)"
        );
        assert!(
            route_path(&json!("~/(?=a)"))
                .unwrap_err()
                .contains("look-around")
        );
        assert_eq!(
            route_path(&json!("/a/../b")).unwrap_err(),
            "non-normalized path, consider use '/b' instead"
        );
        assert_eq!(
            route_path(&json!("/a%20b")).unwrap_err(),
            "non-normalized path, consider use '/a b' instead"
        );
        assert_eq!(
            route_path(&json!("/a%2x")).unwrap_err(),
            "invalid url-encoded value: '%2x'"
        );
    }
}
