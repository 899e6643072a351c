//! Request paths: normal form before matching, escaping before forwarding.
//!
//! Learnt from `kong/tools/uri.lua` and RFC 3986 sections 2.3, 5.2.4 and 6.2.2.

use std::borrow::Cow;

/// A request target up to its query.
///
/// A `?` as the very first byte belongs to the path, as in `strip_uri_args` of `kong/router/utils.lua`.
pub fn strip_query(target: &[u8]) -> &[u8] {
    match target.get(1..).and_then(|rest| memchr::memchr(b'?', rest)) {
        Some(i) => &target[..=i],
        None => target,
    }
}

/// The path as it is matched and forwarded: no dot segments, no empty segments, escapes only where they carry meaning.
///
/// Escaped bytes are decoded unless the byte is reserved in URIs; the escapes that stay get upper-case digits.
/// So the result may hold any byte but those of the reserved set that were escaped. Borrows when nothing changes.
pub fn normalize_path(raw: &[u8]) -> Cow<'_, [u8]> {
    let decoded = if memchr::memchr(b'%', raw).is_some() {
        decode(raw)
    } else {
        Cow::Borrowed(raw)
    };
    if is_plain(&decoded) {
        return decoded;
    }
    Cow::Owned(remove_segments(&decoded))
}

/// Whether no segment is empty, `.` or `..`.
fn is_plain(path: &[u8]) -> bool {
    if path.len() < 2 {
        return path != b".";
    }
    if path[0] == b'.' {
        return false;
    }
    path.windows(2)
        .all(|w| w[0] != b'/' || (w[1] != b'/' && w[1] != b'.'))
}

fn is_reserved(b: u8) -> bool {
    matches!(
        b,
        b'!' | b'*'
            | b'\''
            | b'('
            | b')'
            | b';'
            | b':'
            | b'@'
            | b'&'
            | b'='
            | b'+'
            | b'$'
            | b','
            | b'/'
            | b'?'
            | b'%'
            | b'#'
            | b'['
            | b']'
    )
}

fn hex(b: u8) -> Option<u8> {
    (b as char).to_digit(16).map(|d| d as u8)
}

fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Vec::with_capacity(raw.len());
    let mut i = 0;
    while i < raw.len() {
        let pair = match (
            raw[i],
            raw.get(i + 1).copied().and_then(hex),
            raw.get(i + 2).copied().and_then(hex),
        ) {
            (b'%', Some(high), Some(low)) => Some(high << 4 | low),
            _ => None,
        };
        match pair {
            Some(b) if is_reserved(b) => {
                out.extend(raw[i..i + 3].iter().map(u8::to_ascii_uppercase));
                i += 3;
            }
            Some(b) => {
                out.push(b);
                i += 3;
            }
            None => {
                out.push(raw[i]);
                i += 1;
            }
        }
    }
    if out == raw {
        Cow::Borrowed(raw)
    } else {
        Cow::Owned(out)
    }
}

/// RFC 3986 section 5.2.4, with runs of slashes taken as one.
fn remove_segments(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut rest = path;
    while !rest.is_empty() {
        match rest {
            b"/." => rest = b"/",
            b"/.." => {
                pop(&mut out);
                rest = b"/";
            }
            b"." | b".." => rest = b"",
            [b'.', b'.', b'/', ..] => rest = &rest[3..],
            [b'.', b'/', ..] => rest = &rest[2..],
            [b'/', b'.', b'/', ..] => rest = &rest[2..],
            [b'/', b'.', b'.', b'/', ..] => {
                pop(&mut out);
                rest = &rest[3..];
            }
            [b'/', b'/', ..] => rest = &rest[1..],
            _ => {
                let end = memchr::memchr(b'/', &rest[1..]).map_or(rest.len(), |i| i + 1);
                out.extend_from_slice(&rest[..end]);
                rest = &rest[end..];
            }
        }
    }
    out
}

/// Drops the last segment with the slash before it.
fn pop(out: &mut Vec<u8>) {
    out.truncate(memchr::memrchr(b'/', out).unwrap_or(0));
}

/// Whether a byte may stand unescaped in a path sent to an upstream.
pub(crate) fn is_safe(b: u8) -> bool {
    b.is_ascii_alphanumeric() || is_reserved(b) || matches!(b, b'-' | b'_' | b'.' | b'~')
}

/// The path with every byte escaped that may not stand in an HTTP request line.
///
/// Reserved bytes and existing escapes stay as they are.
pub fn escape_path(path: &[u8]) -> Cow<'_, str> {
    if path.iter().all(|&b| is_safe(b))
        && let Ok(s) = std::str::from_utf8(path)
    {
        return Cow::Borrowed(s);
    }
    let mut out = String::with_capacity(path.len() + 16);
    escape_into(path, &mut out);
    Cow::Owned(out)
}

/// Appends what [`escape_path`] returns.
pub(crate) fn escape_into(path: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &b in path {
        if is_safe(b) {
            out.push(b as char);
        } else {
            out.push('%');
            out.push(DIGITS[usize::from(b >> 4)] as char);
            out.push(DIGITS[usize::from(b & 15)] as char);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn normal(raw: &str, want: &str) {
        let got = normalize_path(raw.as_bytes());
        assert_eq!(String::from_utf8_lossy(&got), want, "{raw}");
    }

    #[test]
    fn plain_paths_are_borrowed() {
        for p in ["", "/", "/a", "/a/", "/a.b/c.d", "/a..b", "/a%2Fb"] {
            assert!(
                matches!(normalize_path(p.as_bytes()), Cow::Borrowed(b) if b == p.as_bytes()),
                "{p}"
            );
        }
    }

    #[test]
    fn dot_segments_and_double_slashes_go() {
        normal("//a", "/a");
        normal("/a//b///c", "/a/b/c");
        normal("/a/./b", "/a/b");
        normal("/a/../b", "/b");
        normal("/a/b/..", "/a/");
        normal("/a/.", "/a/");
        normal("/..", "/");
        normal("/../../a", "/a");
        normal("/a/.b/..c", "/a/.b/..c");
        normal("..", "");
        normal("./a", "a");
        normal("/a/", "/a/");
        normal("//", "/");
    }

    #[test]
    fn unreserved_and_other_bytes_are_decoded_and_reserved_ones_are_not() {
        normal("/%61", "/a");
        normal("/%7euser", "/~user");
        normal("/a%20b", "/a b");
        normal("/a%2fb", "/a%2Fb");
        normal("/a%2520b", "/a%2520b");
        normal("/%C3%BC", "/ü");
        normal("/%zz%4", "/%zz%4");
        normal("/x/%2e%2E/a", "/a");
        normal("/x%2F..%2Fa", "/x%2F..%2Fa");
    }

    #[test]
    fn escaping_leaves_reserved_bytes_and_escapes() {
        assert_eq!(
            escape_path(b"/a%2F!$&'()*+,;=:@[]#?"),
            "/a%2F!$&'()*+,;=:@[]#?"
        );
        assert!(matches!(escape_path(b"/plain-._~"), Cow::Borrowed(_)));
        assert_eq!(
            escape_path("/ü \"<>\\^`{|}\n".as_bytes()),
            "/%C3%BC%20%22%3C%3E%5C%5E%60%7B%7C%7D%0A"
        );
        assert_eq!(escape_path(&[b'/', 0xff]), "/%FF");
    }

    #[test]
    fn the_query_is_cut_off() {
        assert_eq!(strip_query(b"/a?b=/c?d"), b"/a");
        assert_eq!(strip_query(b"/a"), b"/a");
        assert_eq!(strip_query(b"?a?b"), b"?a");
        assert_eq!(strip_query(b""), b"");
    }
}
