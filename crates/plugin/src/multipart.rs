//! Multipart forms (RFC 2046, 5.1.1; RFC 7578) as lists of parts, which stay the bytes they were.

use std::borrow::Cow;
use std::ops::Range;

/// The `boundary` parameter of a `Content-Type`, with or without quotes.
pub fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    content_type
        .split(|b| *b == b';')
        .skip(1)
        .find_map(|parameter| {
            let parameter = parameter.trim_ascii();
            let key = parameter
                .get(..9)
                .filter(|k| k.eq_ignore_ascii_case(b"boundary="))?;
            let value = unquoted(&parameter[key.len()..]);
            (!value.is_empty()).then(|| value.to_vec())
        })
}

/// A part of a multipart body.
#[derive(Debug, Clone, PartialEq)]
pub struct Part<'a> {
    /// Headers and value.
    pub whole: &'a [u8],
    /// Where in it the name is, with its quotes.
    name: Option<Range<usize>>,
    /// Where in it the value begins.
    value: usize,
}

impl<'a> Part<'a> {
    /// The name that its `Content-Disposition` says.
    pub fn name(&self) -> Option<&'a [u8]> {
        self.name.clone().map(|at| unquoted(&self.whole[at]))
    }

    /// The value.
    pub fn value(&self) -> &'a [u8] {
        &self.whole[self.value..]
    }

    /// Headers and value with another name; as they are when the part has none.
    pub fn renamed(&self, name: &[u8]) -> Vec<u8> {
        match self.name.clone() {
            Some(at) => [
                &self.whole[..at.start],
                &quoted(name),
                &self.whole[at.end..],
            ]
            .concat(),
            None => self.whole.to_vec(),
        }
    }
}

/// The parts of a body. What cannot be read as a part is left out.
pub fn parts<'a>(body: &'a [u8], boundary: &'a [u8]) -> impl Iterator<Item = Part<'a>> {
    let mut pieces = Pieces::new(body, boundary);
    std::iter::from_fn(move || {
        loop {
            match pieces.next()? {
                Some(part) => return Some(part),
                None => continue,
            }
        }
    })
}

/// The parts of a body of which nothing would be lost if it were made of them anew; else `None`.
pub fn all_parts<'a>(body: &'a [u8], boundary: &'a [u8]) -> Option<Vec<Part<'a>>> {
    let mut pieces = Pieces::new(body, boundary);
    let parts = std::iter::from_fn(|| pieces.next()).collect::<Option<_>>()?;
    pieces
        .rest
        .is_some_and(|end| end.starts_with(b"--"))
        .then_some(parts)
}

/// A simple part: headers and value.
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let name = quoted(name);
    [
        b"Content-Disposition: form-data; name=",
        &name[..],
        b"\r\n\r\n",
        value,
    ]
    .concat()
}

/// A body of these parts; of none, nothing.
pub fn join<'a>(boundary: &[u8], parts: impl IntoIterator<Item = Cow<'a, [u8]>>) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        for piece in [b"--", boundary, b"\r\n", &part, b"\r\n"] {
            out.extend_from_slice(piece);
        }
    }
    if !out.is_empty() {
        for piece in [b"--", boundary, b"--\r\n"] {
            out.extend_from_slice(piece);
        }
    }
    out
}

/// What stands between delimiters.
struct Pieces<'a> {
    delimiter: Vec<u8>,
    /// What follows the last delimiter; `None` when none was found.
    rest: Option<&'a [u8]>,
}

impl<'a> Pieces<'a> {
    fn new(body: &'a [u8], boundary: &[u8]) -> Self {
        let delimiter = [b"\r\n--", boundary].concat();
        let rest = body
            .strip_prefix(&delimiter[2..])
            .or_else(|| position(body, &delimiter).map(|i| &body[i + delimiter.len()..]));
        Pieces { delimiter, rest }
    }

    /// The next piece; `Some(None)` when it is no part. `--` after a delimiter ends the body.
    fn next(&mut self) -> Option<Option<Part<'a>>> {
        let current = self.rest?.strip_prefix(b"\r\n")?;
        let Some(end) = position(current, &self.delimiter) else {
            self.rest = None;
            return None;
        };
        self.rest = current.get(end + self.delimiter.len()..);
        let whole = &current[..end];
        Some(position(whole, b"\r\n\r\n").map(|headers| Part {
            whole,
            name: name(&whole[..headers]),
            value: headers + 4,
        }))
    }
}

fn position(text: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, what)
}

fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"")
        .and_then(|t| t.strip_suffix(b"\""))
        .unwrap_or(text)
}

/// As browsers write a name.
fn quoted(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 2);
    out.push(b'"');
    for b in name {
        match b {
            b'"' => out.extend_from_slice(b"%22"),
            b'\r' => out.extend_from_slice(b"%0D"),
            b'\n' => out.extend_from_slice(b"%0A"),
            b => out.push(*b),
        }
    }
    out.push(b'"');
    out
}

/// Where among a part's headers its name is.
fn name(headers: &[u8]) -> Option<Range<usize>> {
    let mut line_start = 0;
    for line in headers.split(|b| *b == b'\n') {
        let disposition = line
            .trim_ascii()
            .get(..20)
            .is_some_and(|h| h.eq_ignore_ascii_case(b"content-disposition:"));
        let mut start = line_start;
        for parameter in line.split(|b| *b == b';') {
            let blanks = parameter.len() - parameter.trim_ascii_start().len();
            if let Some(value) = parameter.trim_ascii().strip_prefix(b"name=")
                && disposition
            {
                let from = start + blanks + b"name=".len();
                return Some(from..from + value.len());
            }
            start += parameter.len() + 1;
        }
        line_start += line.len() + 1;
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"--b\r\ncontent-disposition: form-data; name=\"a\"; filename=\"f\"\r\nX: name=z\r\n\r\n1\r\n--b\r\n\
        Content-Disposition: form-data;name=c\r\n\r\n\r\n--b--\r\n";

    #[test]
    fn parts_are_read_renamed_and_joined() {
        let parts = all_parts(BODY, b"b").unwrap();
        let seen: Vec<_> = parts.iter().map(|p| (p.name(), p.value())).collect();
        assert_eq!(
            seen,
            [(Some(&b"a"[..]), &b"1"[..]), (Some(&b"c"[..]), &b""[..])]
        );
        assert_eq!(
            parts[0].renamed(b"x\"y"),
            b"content-disposition: form-data; name=\"x%22y\"; filename=\"f\"\r\nX: name=z\r\n\r\n1"
        );
        assert_eq!(
            parts[1].renamed(b"d"),
            b"Content-Disposition: form-data;name=\"d\"\r\n\r\n"
        );
        let again = join(b"b", parts.iter().map(|p| Cow::Borrowed(p.whole)));
        assert_eq!(again, BODY);
        assert_eq!(
            join(b"b", [Cow::Owned(field(b"n", b"v"))]),
            b"--b\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\nv\r\n--b--\r\n"
        );
        assert_eq!(join(b"b", []), b"");
    }

    #[test]
    fn a_body_of_which_something_would_be_lost_is_not_taken_apart() {
        let half = &BODY[..BODY.len() - 6];
        assert_eq!(all_parts(half, b"b"), None);
        assert_eq!(parts(half, b"b").count(), 1);
        let no_part = b"--b\r\nx\r\n--b\r\nContent-Disposition: form-data; name=c\r\n\r\n\r\n--b--";
        assert_eq!(all_parts(no_part, b"b"), None);
        assert_eq!(parts(no_part, b"b").count(), 1);
        assert_eq!(all_parts(b"--b\nX: 1\n\n1\n--b--", b"b"), None);
        assert_eq!(all_parts(b"", b"b"), None);
        assert_eq!(all_parts(b"--b--\r\n", b"b"), Some(vec![]));
    }

    #[test]
    fn the_boundary_is_a_parameter() {
        let of = |t: &str| boundary(t.as_bytes()).map(|b| String::from_utf8(b).unwrap());
        assert_eq!(of("multipart/form-data; boundary=x").as_deref(), Some("x"));
        assert_eq!(
            of("multipart/form-data; a=b; Boundary=\"x y\"").as_deref(),
            Some("x y")
        );
        assert_eq!(of("multipart/form-data; boundary="), None);
        assert_eq!(of("boundary=x"), None);
    }
}
