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

#[cfg(test)]
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
}
