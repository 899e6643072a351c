//! Whom a request is for: hosts and paths that can be told apart, whoever reads them. HTTP/2's are held to the same.

use memchr::memchr;

/// Whether a text can be a host with or without a port. More lenient than RFC 3986, as strict as nginx.
pub(crate) fn valid_host(host: &[u8]) -> bool {
    !host.is_empty()
        && host[0] != b':'
        && host.iter().all(|b| {
            !matches!(
                b,
                0..=b' '
                    | 0x7f
                    | b'/'
                    | b'\\'
                    | b'@'
                    | b'?'
                    | b'#'
                    | b'"'
                    | b'<'
                    | b'>'
                    | b'`'
                    | b'^'
                    | b'{'
                    | b'}'
                    | b'|'
            )
        })
}

/// Whether the path of a target has only sound escapes, no NUL, and does not climb above its root; what nginx answers with 400.
pub(crate) fn valid_path(target: &[u8]) -> bool {
    let path = &target[..target
        .iter()
        .position(|b| matches!(b, b'?' | b'#'))
        .unwrap_or(target.len())];
    let plain = memchr(b'%', path).is_none();
    if plain && !path.windows(3).any(|w| w == b"/..") {
        return true;
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut i = 0;
    while i < path.len() {
        if path[i] != b'%' {
            decoded.push(path[i]);
            i += 1;
            continue;
        }
        let digit = |at: usize| path.get(at).and_then(|b| char::from(*b).to_digit(16));
        let (Some(high), Some(low)) = (digit(i + 1), digit(i + 2)) else {
            return false;
        };
        match u8::try_from(high << 4 | low) {
            Ok(0) | Err(_) => return false,
            Ok(b) => decoded.push(b),
        }
        i += 3;
    }
    let mut depth = 0i64;
    for segment in decoded.split(|b| *b == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return false;
        }
    }
    true
}
