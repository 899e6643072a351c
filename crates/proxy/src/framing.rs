//! Where a request begins and ends on an HTTP/1 connection, read strictly.
//!
//! Two parties that read one byte stream differently can be made to disagree about where a request ends (request smuggling), so
//! whatever is ambiguous is refused before the HTTP engine sees it: RFC 9112 sections 2.2, 3, 5 and 6, and what nginx, in front of
//! which Kong 3.9.1 was recorded, refuses. Pure: bytes in, verdict out.

mod chunks;
mod target;

use memchr::{memchr, memrchr};

pub(crate) use chunks::Chunks;
pub(crate) use target::{valid_host, valid_path};

/// nginx's `large_client_header_buffers 4 8k`: the longest line and the longest head.
const LONGEST_LINE: usize = 8192;
const LONGEST_HEAD: usize = 4 * LONGEST_LINE;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 400.
    BadRequest,
    /// 400 with a text of its own; nginx's 494.
    HeaderTooLarge,
    /// 414.
    UriTooLong,
    /// `TRACE`, and `CONNECT` with a path: 405.
    MethodNotAllowed,
    /// A transfer coding that is not known: 501.
    NotImplemented,
    /// 505.
    VersionNotSupported,
    /// HTTP/0.9: the answer may have no head.
    Http09,
}

/// How the body of a request is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes, 0 without a body.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// A head that may be passed on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its length, the empty line included.
    pub(crate) len: usize,
    /// What follows it.
    pub(crate) body: Framing,
    /// Whether it asks for another protocol: as the HTTP engine sees it, by `Upgrade` alone.
    pub(crate) upgrade: bool,
    /// The head to pass on in its place: absolute form turned into origin form (RFC 9112, 3.2.2: the target's authority
    /// replaces `Host`).
    pub(crate) rewritten: Option<Vec<u8>>,
}

/// What to do with the bytes at the start of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    /// Wait for more.
    Incomplete,
    /// Pass it on.
    Pass(Head),
    /// Refuse it; what was read of the request so far.
    Refuse(Refusal, Seen<'a>),
}

/// What of a refused request is known, for the answer and the log.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen<'a> {
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) http10: bool,
    pub(crate) accept: Option<&'a [u8]>,
    pub(crate) content_type: Option<&'a [u8]>,
}

/// How many bytes in front of a request are empty lines, which are forgiven (RFC 9112, 2.2). They are no part of it.
pub(crate) fn empty_lines(buf: &[u8]) -> usize {
    buf.iter()
        .take_while(|b| matches!(b, b'\r' | b'\n'))
        .count()
}

/// Judges the bytes at the start of a request, behind what [`empty_lines`] counts.
pub(crate) fn judge(buf: &[u8]) -> Verdict<'_> {
    let mut reader = Reader {
        seen: Seen::default(),
        host: None,
        length: None,
        coding: None,
        upgrade: false,
    };
    match reader.run(buf) {
        Ok(Some(head)) => Verdict::Pass(head),
        Ok(None) => Verdict::Incomplete,
        Err(refusal) => Verdict::Refuse(refusal, reader.seen),
    }
}

/// Authority and path of a target in absolute form.
type Absolute<'a> = (&'a [u8], &'a [u8]);

struct Reader<'a> {
    seen: Seen<'a>,
    host: Option<&'a [u8]>,
    length: Option<u64>,
    coding: Option<&'a [u8]>,
    upgrade: bool,
}

impl<'a> Reader<'a> {
    fn run(&mut self, buf: &'a [u8]) -> Result<Option<Head>, Refusal> {
        let mut at = 0;
        let Some(line) = line(buf, &mut at) else {
            return if buf.len() > LONGEST_LINE {
                Err(Refusal::UriTooLong)
            } else {
                Ok(None)
            };
        };
        if line.len() > LONGEST_LINE {
            return Err(Refusal::UriTooLong);
        }
        let absolute = self.request_line(line)?;
        loop {
            let from = at;
            let Some(line) = self::line(buf, &mut at) else {
                let long = buf.len() - from > LONGEST_LINE || buf.len() > LONGEST_HEAD;
                return if long {
                    Err(Refusal::HeaderTooLarge)
                } else {
                    Ok(None)
                };
            };
            if line.is_empty() {
                break;
            }
            if line.len() > LONGEST_LINE || at > LONGEST_HEAD {
                return Err(Refusal::HeaderTooLarge);
            }
            self.header(line)?;
        }
        let body = self.body()?;
        match self.host {
            Some(host) if !valid_host(host) => return Err(Refusal::BadRequest),
            None if !self.seen.http10 => return Err(Refusal::BadRequest),
            _ => {}
        }
        match self.seen.method {
            b"TRACE" | b"CONNECT" => return Err(Refusal::MethodNotAllowed),
            _ => {}
        }
        let rewritten = absolute.map(|(authority, path)| self.rewrite(authority, path, &buf[..at]));
        Ok(Some(Head {
            len: at,
            body,
            upgrade: self.upgrade && !self.seen.http10,
            rewritten,
        }))
    }

    /// Reads the request line; answers authority and path of a target in absolute form.
    fn request_line(&mut self, line: &'a [u8]) -> Result<Option<Absolute<'a>>, Refusal> {
        let bad = Refusal::BadRequest;
        let space = memchr(b' ', line).ok_or(bad)?;
        let (method, rest) = (&line[..space], &line[space + 1..]);
        // nginx knows no other letters, so neither did any client that Kong served.
        if method.is_empty()
            || !method
                .iter()
                .all(|b| matches!(b, b'A'..=b'Z' | b'-' | b'_'))
        {
            return Err(bad);
        }
        self.seen.method = method;
        let (target, version) = match memrchr(b' ', rest) {
            Some(i) => (&rest[..i], Some(&rest[i + 1..])),
            None => (rest, None),
        };
        self.seen.target = target;
        if target.iter().any(|b| *b <= b' ' || *b == 0x7f) {
            return Err(bad);
        }
        match version {
            Some(b"HTTP/1.1") => {}
            Some(b"HTTP/1.0") => self.seen.http10 = true,
            Some([b'H', b'T', b'T', b'P', b'/', b'2'..=b'9', b'.', b'0'..=b'9']) => {
                return Err(Refusal::VersionNotSupported);
            }
            Some(_) => return Err(bad),
            None if method == b"GET" && target.first() == Some(&b'/') => {
                return Err(Refusal::Http09);
            }
            None => return Err(bad),
        }
        if target.first() == Some(&b'/') {
            return if valid_path(target) {
                Ok(None)
            } else {
                Err(bad)
            };
        }
        if method == b"CONNECT" {
            return Err(bad);
        }
        let scheme = memchr(b':', target).ok_or(bad)?;
        if !(target[..scheme].eq_ignore_ascii_case(b"http")
            || target[..scheme].eq_ignore_ascii_case(b"https"))
        {
            return Err(bad);
        }
        let rest = target[scheme..].strip_prefix(b"://").ok_or(bad)?;
        let end = rest
            .iter()
            .position(|b| matches!(b, b'/' | b'?' | b'#'))
            .unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if !valid_host(authority) || !valid_path(path) {
            return Err(bad);
        }
        Ok(Some((authority, path)))
    }

    fn header(&mut self, line: &'a [u8]) -> Result<(), Refusal> {
        let bad = Refusal::BadRequest;
        let colon = memchr(b':', line).ok_or(bad)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // Refuses an empty name, white space before the colon, and a folded line, which begins with white space.
        if name.is_empty() || !name.iter().all(|b| TOKEN[usize::from(*b)]) {
            return Err(bad);
        }
        // A carriage return without line feed, NUL and other control characters.
        if line[colon..]
            .iter()
            .any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f)
        {
            return Err(bad);
        }
        // Those that say where a request ends, or whom it is for, may be there once.
        let twice = match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host.replace(value).is_some(),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.length.replace(decimal(value).ok_or(bad)?).is_some()
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.coding.replace(value).is_some()
            }
            6 if name.eq_ignore_ascii_case(b"accept") => {
                self.seen.accept.get_or_insert(value);
                false
            }
            12 if name.eq_ignore_ascii_case(b"content-type") => {
                self.seen.content_type.get_or_insert(value);
                false
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade = true;
                false
            }
            _ => false,
        };
        if twice { Err(bad) } else { Ok(()) }
    }

    fn body(&self) -> Result<Framing, Refusal> {
        match (self.coding, self.length) {
            (None, length) => Ok(Framing::Length(length.unwrap_or(0))),
            (Some(_), Some(_)) => Err(Refusal::BadRequest),
            (Some(_), None) if self.seen.http10 => Err(Refusal::BadRequest),
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            (Some(_), None) => Err(Refusal::NotImplemented),
        }
    }

    fn rewrite(&self, authority: &[u8], path: &[u8], head: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(head.len() + 16);
        out.extend_from_slice(self.seen.method);
        out.push(b' ');
        if path.first() != Some(&b'/') {
            out.push(b'/');
        }
        out.extend_from_slice(path);
        out.extend_from_slice(if self.seen.http10 {
            b" HTTP/1.0\r\nHost: "
        } else {
            b" HTTP/1.1\r\nHost: "
        });
        out.extend_from_slice(authority);
        out.extend_from_slice(b"\r\n");
        let mut at = 0;
        let _ = line(head, &mut at);
        while let Some(line) = line(head, &mut at) {
            let is_host =
                line.len() > 4 && line[4] == b':' && line[..4].eq_ignore_ascii_case(b"host");
            if !is_host {
                out.extend_from_slice(line);
                out.extend_from_slice(b"\r\n");
            }
        }
        out
    }
}

/// The line at `at` without its end, and moves `at` behind it.
fn line<'a>(buf: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let rest = &buf[*at..];
    let end = memchr(b'\n', rest)?;
    *at += end + 1;
    let line = &rest[..end];
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')))
}

/// Characters of a header name (RFC 9110, 5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = matches!(i as u8, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
        i += 1;
    }
    table
};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
