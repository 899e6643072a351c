//! Arguments in a query or a form, as nginx-lua's `ngx.req.get_uri_args` reads them.

use silverback_plugin::args::{decode, split};

use crate::Found;

/// The arguments of that name.
pub(crate) fn find<'a>(query: &'a [u8], name: &[u8]) -> Found<'a> {
    let mut found = Found::Nothing;
    for piece in query.split(|b| *b == b'&') {
        let (key, value) = split(piece);
        if !is(key, name) {
            continue;
        }
        found = match (found, value) {
            (Found::Nothing, Some(value)) => Found::One(decode(value)),
            (Found::Nothing, None) => Found::NoText,
            _ => return Found::Many,
        };
    }
    found
}

/// The query without the arguments of that name; `None` when there are none. Order and spelling of the others stay.
pub(crate) fn without(query: &[u8], name: &[u8]) -> Option<String> {
    let pieces = || query.split(|b| *b == b'&');
    if !pieces().any(|p| is(split(p).0, name)) {
        return None;
    }
    let kept: Vec<&[u8]> = pieces().filter(|p| !is(split(p).0, name)).collect();
    let kept = kept.join(&b'&');
    // Bytes that are no UTF-8 cannot be said in an edit of the query: they go on percent-encoded, which means the same.
    Some(match String::from_utf8(kept) {
        Ok(text) => text,
        Err(e) => {
            let encode = |b: &u8| {
                if b.is_ascii() {
                    char::from(*b).to_string()
                } else {
                    format!("%{b:02X}")
                }
            };
            e.as_bytes().iter().map(encode).collect()
        }
    })
}

fn is(key: &[u8], name: &[u8]) -> bool {
    key == name || (key.len() > name.len() && *decode(key) == *name)
}
