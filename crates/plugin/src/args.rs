//! Arguments in a query or a form, as nginx-lua's `ngx.req.get_uri_args` reads them.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

/// What may not stand in a name or value as it is.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// One argument, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Arg<'a> {
    /// Its name.
    pub name: Cow<'a, [u8]>,
    /// Its value; `None` when there is no `=`.
    pub value: Option<Cow<'a, [u8]>>,
}

impl Arg<'_> {
    /// Appends the argument as it stands in a query.
    pub fn encode(&self, out: &mut String) {
        out.extend(percent_encode(&self.name, RESERVED));
        if let Some(value) = &self.value {
            out.push('=');
            out.extend(percent_encode(value, RESERVED));
        }
    }
}

/// The arguments of a query or form. Those without a name are left out.
pub fn parse(text: &[u8]) -> impl Iterator<Item = Arg<'_>> {
    let pieces = text.split(|b| *b == b'&').map(split);
    pieces
        .map(|(name, value)| Arg {
            name: decode(name),
            value: value.map(decode),
        })
        .filter(|arg| !arg.name.is_empty())
}

/// Name and value of a piece between two `&`, as they stand there.
pub fn split(piece: &[u8]) -> (&[u8], Option<&[u8]>) {
    match piece.iter().position(|b| *b == b'=') {
        Some(i) => (&piece[..i], Some(&piece[i + 1..])),
        None => (piece, None),
    }
}

/// A name or value decoded: `+` is a space. What is no escape stays.
pub fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|b| matches!(b, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let spaces: Vec<u8> = text
        .iter()
        .map(|b| if *b == b'+' { b' ' } else { *b })
        .collect();
    Cow::Owned(percent_decode(&spaces).collect())
}

/// The values of one name in one place.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// None.
    Nothing,
    /// One.
    One(Cow<'a, [u8]>),
    /// Something that is no text: an argument without a value, a number.
    NoText,
    /// Several.
    Many,
}

/// Names and values, decoded, in their order; no value where there is no `=`.
pub fn all(query: &[u8]) -> impl Iterator<Item = (Cow<'_, [u8]>, Option<Cow<'_, [u8]>>)> {
    query.split(|b| *b == b'&').map(|piece| {
        let (name, value) = split(piece);
        (decode(name), value.map(decode))
    })
}

/// The arguments of that name.
pub fn find<'a>(query: &'a [u8], name: &[u8]) -> Found<'a> {
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
pub fn without(query: &[u8], name: &[u8]) -> Option<String> {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_and_written() {
        let args: Vec<_> = parse(b"a=1&&=x&b+c=%2f%zz&d&e=&f=g=h").collect();
        let text = |arg: &Arg<'_>| {
            let mut out = String::new();
            arg.encode(&mut out);
            out
        };
        let all: Vec<_> = args.iter().map(text).collect();
        assert_eq!(all, ["a=1", "b%20c=%2F%25zz", "d", "e=", "f=g%3Dh"]);
        assert_eq!(args[3 - 1].value, None);
        assert_eq!(parse(b"").count(), 0);
    }

    #[test]
    fn arguments_are_decoded() {
        let all: Vec<_> = all(b"a%62=1+2&flag&e=").collect();
        let want: [(&[u8], Option<&[u8]>); 3] =
            [(b"ab", Some(b"1 2")), (b"flag", None), (b"e", Some(b""))];
        for (got, want) in all.iter().zip(want) {
            assert_eq!((&*got.0, got.1.as_deref()), want);
        }
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn an_argument_is_found_by_its_name_however_it_is_written() {
        assert_eq!(find(b"a=1&%62=2", b"b"), Found::One(b"2".into()));
        assert_eq!(find(b"a=1&a=2", b"a"), Found::Many);
        assert_eq!(find(b"a", b"a"), Found::NoText);
        assert_eq!(find(b"", b"a"), Found::Nothing);
        assert_eq!(without(b"a=1&%62=2&c=3", b"b").unwrap(), "a=1&c=3");
        assert_eq!(without(b"a=1", b"b"), None);
    }
}
