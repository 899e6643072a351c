//! Where a request begins and ends on an HTTP/1 connection, read strictly.
//!
//! Two parties that read one byte stream differently can be made to disagree about where a request ends (request smuggling), so
//! whatever is ambiguous is refused before the HTTP engine sees it: RFC 9112 sections 2.2, 3, 5 and 6, and what nginx, in front of
//! which Kong 3.9.1 was recorded, refuses. Pure: bytes in, verdict out.

use memchr::{memchr, memrchr};

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

/// Follows a chunked body to its end (RFC 9112, 7.1).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunks {
    state: Chunk,
    left: u64,
    /// Digits of the size, or bytes of an extension or of trailers.
    count: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

/// A chunked body that is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadChunk;

impl Chunks {
    /// Follows these bytes: how many of them belong to the body. Fewer than all mean that the body has ended.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<usize, BadChunk> {
        const LONGEST: u32 = 8192;
        let mut i = 0;
        while i < bytes.len() {
            let b = bytes[i];
            match self.state {
                Chunk::Done => return Ok(i),
                Chunk::Data => {
                    let rest = u64::try_from(bytes.len() - i)
                        .unwrap_or(u64::MAX)
                        .min(self.left);
                    self.left -= rest;
                    i += usize::try_from(rest).unwrap_or(usize::MAX);
                    if self.left == 0 {
                        self.state = Chunk::DataCr;
                    }
                    continue;
                }
                Chunk::Size => match char::from(b).to_digit(16) {
                    Some(d) if self.count < 15 => {
                        self.left = self.left << 4 | u64::from(d);
                        self.count += 1;
                    }
                    None if self.count > 0 && b == b'\r' => self.state = Chunk::SizeEnd,
                    None if self.count > 0 && b == b';' => self.state = Chunk::Extension,
                    _ => return Err(BadChunk),
                },
                Chunk::Extension => match b {
                    b'\r' => self.state = Chunk::SizeEnd,
                    b'\t' | b' '..=0x7e | 0x80.. if self.count < LONGEST => self.count += 1,
                    _ => return Err(BadChunk),
                },
                Chunk::SizeEnd if b == b'\n' => {
                    self.count = 0;
                    self.state = if self.left == 0 {
                        Chunk::TrailerStart
                    } else {
                        Chunk::Data
                    };
                }
                Chunk::DataCr if b == b'\r' => self.state = Chunk::DataLf,
                Chunk::DataLf if b == b'\n' => *self = Chunks::default(),
                Chunk::TrailerStart => match b {
                    b'\r' => self.state = Chunk::EndLf,
                    _ if TOKEN[usize::from(b)] => self.state = Chunk::Trailer,
                    _ => return Err(BadChunk),
                },
                Chunk::Trailer => match b {
                    b'\r' => self.state = Chunk::TrailerLf,
                    b'\t' | b' '..=0x7e | 0x80.. if self.count < LONGEST => self.count += 1,
                    _ => return Err(BadChunk),
                },
                Chunk::TrailerLf if b == b'\n' => self.state = Chunk::TrailerStart,
                Chunk::EndLf if b == b'\n' => self.state = Chunk::Done,
                Chunk::SizeEnd
                | Chunk::DataCr
                | Chunk::DataLf
                | Chunk::TrailerLf
                | Chunk::EndLf => return Err(BadChunk),
            }
            i += 1;
        }
        Ok(i)
    }

    /// Whether the body has ended.
    pub(crate) fn done(&self) -> bool {
        self.state == Chunk::Done
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(head: &str, why: Refusal) {
        match judge(head.as_bytes()) {
            Verdict::Refuse(r, _) => assert_eq!(r, why, "{head:?}"),
            other => panic!("{head:?}: {other:?}"),
        }
    }

    #[track_caller]
    fn passed(head: &str) -> Head {
        match judge(head.as_bytes()) {
            Verdict::Pass(h) => h,
            other => panic!("{head:?}: {other:?}"),
        }
    }

    #[test]
    fn an_ordinary_head_passes_and_its_length_is_known() {
        let h = passed("GET /a?b HTTP/1.1\r\nHost: h.test:80\r\nX_Under: 1\r\n\r\nrest");
        assert_eq!(
            h,
            Head {
                len: 50,
                body: Framing::Length(0),
                upgrade: false,
                rewritten: None
            }
        );
        assert_eq!(
            passed("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\n\r\n").body,
            Framing::Length(12)
        );
        assert_eq!(
            passed("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n").body,
            Framing::Chunked
        );
        assert_eq!(passed("GET / HTTP/1.0\r\n\r\n").body, Framing::Length(0));
        assert!(passed("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n").upgrade);
        assert!(!passed("GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n").upgrade);
    }

    #[test]
    fn half_a_head_waits() {
        for n in 0.."GET / HTTP/1.1\r\nHost: h\r\n\r\n".len() - 1 {
            assert_eq!(
                judge(&b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..n]),
                Verdict::Incomplete,
                "{n}"
            );
        }
    }

    #[test]
    fn ambiguous_lengths_are_refused() {
        let h = |more: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{more}\r\n\r\n");
        for more in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: 1, 1",
            "Content-Length: +1",
            "Content-Length: -1",
            "Content-Length: 0x1",
            "Content-Length: ",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ] {
            refused(&h(more), Refusal::BadRequest);
        }
        for coding in [
            "gzip",
            "chunked, gzip",
            "gzip, chunked",
            "chunked;x=1",
            "xchunked",
            "identity",
        ] {
            refused(
                &h(&format!("Transfer-Encoding: {coding}")),
                Refusal::NotImplemented,
            );
        }
        refused(
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            Refusal::BadRequest,
        );
    }

    #[test]
    fn malformed_header_lines_are_refused() {
        for line in [
            "X : 1", "X\t: 1", ": 1", "X", " folded", "\tfolded", "X: a\rb", "X: a\0b", "X: \x7f",
            "X(1): a", "X\0: a",
        ] {
            refused(
                &format!("GET / HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n"),
                Refusal::BadRequest,
            );
        }
    }

    #[test]
    fn one_sound_host_is_wanted() {
        for hosts in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: \r\n",
            "Host: bad host\r\n",
            "Host: a@b\r\n",
            "Host: a/b\r\n",
        ] {
            refused(
                &format!("GET / HTTP/1.1\r\n{hosts}\r\n"),
                Refusal::BadRequest,
            );
        }
        passed("GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n");
    }

    #[test]
    fn malformed_request_lines_are_refused() {
        for l in [
            "get / HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET / HTTP/1.2",
            "GET / http/1.1",
            "G\0T / HTTP/1.1",
            "GET * HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "GET x HTTP/1.1",
            "GET /%zz HTTP/1.1",
            "GET /%00 HTTP/1.1",
            "GET /a\tb HTTP/1.1",
            "GET /.. HTTP/1.1",
            "GET /a/%2e%2e/../x HTTP/1.1",
            "CONNECT a.test:443 HTTP/1.1",
            "garbage",
            "GET / HTTP/1.1 ",
        ] {
            refused(&format!("{l}\r\nHost: h\r\n\r\n"), Refusal::BadRequest);
        }
        refused(
            "GET / HTTP/2.0\r\nHost: h\r\n\r\n",
            Refusal::VersionNotSupported,
        );
        refused("GET /\r\n", Refusal::Http09);
        refused(
            "TRACE / HTTP/1.1\r\nHost: h\r\n\r\n",
            Refusal::MethodNotAllowed,
        );
        refused(
            "CONNECT / HTTP/1.1\r\nHost: h\r\n\r\n",
            Refusal::MethodNotAllowed,
        );
        passed("GET /a/../b/%2e%2e/./x HTTP/1.1\r\nHost: h\r\n\r\n");
    }

    #[test]
    fn absolute_form_becomes_origin_form_with_its_own_host() {
        let h = passed("GET http://abs.test/x?y HTTP/1.1\r\nHost: other\r\nA: 1\r\n\r\n");
        assert_eq!(
            h.rewritten.unwrap(),
            b"GET /x?y HTTP/1.1\r\nHost: abs.test\r\nA: 1\r\n\r\n"
        );
        let h = passed("GET http://abs.test?y HTTP/1.0\r\n\r\n");
        assert_eq!(
            h.rewritten.unwrap(),
            b"GET /?y HTTP/1.0\r\nHost: abs.test\r\n\r\n"
        );
        refused(
            "GET http://u@abs.test/ HTTP/1.1\r\nHost: abs.test\r\n\r\n",
            Refusal::BadRequest,
        );
        refused(
            "GET ftp://abs.test/ HTTP/1.1\r\nHost: abs.test\r\n\r\n",
            Refusal::BadRequest,
        );
    }

    #[test]
    fn long_lines_and_long_heads_are_refused_before_they_are_complete() {
        refused(&format!("GET /{}", "a".repeat(9000)), Refusal::UriTooLong);
        refused(
            &format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(9000)),
            Refusal::HeaderTooLarge,
        );
        let many =
            "X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(600);
        refused(
            &format!("GET / HTTP/1.1\r\n{many}"),
            Refusal::HeaderTooLarge,
        );
    }

    fn chunks(parts: &[&[u8]]) -> Result<(usize, bool), BadChunk> {
        let mut c = Chunks::default();
        let mut n = 0;
        for p in parts {
            n += c.advance(p)?;
        }
        Ok((n, c.done()))
    }

    #[test]
    fn a_chunked_body_is_followed_to_its_end_however_it_is_cut() {
        let body = b"5;a=b\r\nhello\r\n1\r\nx\r\n0\r\nT: 1\r\n\r\n";
        assert_eq!(chunks(&[&body[..], b"GET /"]), Ok((body.len(), true)));
        for n in 0..body.len() {
            assert_eq!(
                chunks(&[&body[..n], &body[n..]]),
                Ok((body.len(), true)),
                "{n}"
            );
        }
        let both = [&body[..], b"GET / HTTP/1.1"].concat();
        assert_eq!(chunks(&[&both]), Ok((body.len(), true)));
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for body in [
            "\r\n",
            "x\r\n",
            "5\nhello",
            "5 \r\nhello\r\n",
            "0x5\r\nhello",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "-1\r\n",
            "1;\0\r\n",
            "fffffffffffffffff\r\n",
            "0\r\n x\r\n\r\n",
            "0\r\n\n",
        ] {
            assert_eq!(chunks(&[body.as_bytes()]), Err(BadChunk), "{body:?}");
        }
    }
}
