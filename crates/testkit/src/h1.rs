//! HTTP/1.1 as bytes. Takes what it is given as long as it can tell where a message ends: it must see what a gateway really
//! sent, with the names as they were written, and so it neither judges nor normalises. Not for production.

/// The outcome of looking at the bytes received so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed<T> {
    /// More bytes are needed.
    Partial,
    /// One message, and how many bytes it took.
    Complete(T, usize),
    /// The bytes cannot become a message.
    Invalid(&'static str),
}

/// Header fields in the order and the spelling received; each byte one character (Latin-1), so that nothing is lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The first value of a field, by name without case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// Every value of a field, by name without case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|v| v.split(','))
            .any(|t| t.trim().eq_ignore_ascii_case(token))
    }
}

/// A request as it arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The request target, usually a path and a query.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// The header fields.
    pub headers: Headers,
    /// The body without its transfer coding.
    pub body: Vec<u8>,
}

impl Request {
    /// Whether the sender keeps the connection for another request.
    pub fn keeps_alive(&self) -> bool {
        keeps_alive(&self.version, &self.headers)
    }
}

/// A response as it arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// The header fields.
    pub headers: Headers,
    /// The body without its transfer coding.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of a header field, by name without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// The body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether the sender keeps the connection for another response.
    pub fn keeps_alive(&self) -> bool {
        keeps_alive(&self.version, &self.headers)
    }
}

/// The head of a request and its length, before its body has arrived.
pub fn request_head(bytes: &[u8]) -> Parsed<Request> {
    let (first, headers, length) = match head(bytes) {
        Parsed::Complete(head, length) => (head.0, head.1, length),
        Parsed::Partial => return Parsed::Partial,
        Parsed::Invalid(why) => return Parsed::Invalid(why),
    };
    let mut words = first.splitn(3, ' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return Parsed::Invalid("a request line has three words");
    };
    let request = Request {
        method: method.into(),
        target: target.into(),
        version: version.into(),
        headers,
        body: Vec::new(),
    };
    Parsed::Complete(request, length)
}

/// A whole request from the start of `bytes`.
pub fn request(bytes: &[u8]) -> Parsed<Request> {
    let (mut request, start) = match request_head(bytes) {
        Parsed::Complete(request, length) => (request, length),
        other => return other,
    };
    let rest = &bytes[start..];
    let body = if request.headers.has_token("transfer-encoding", "chunked") {
        chunked(rest)
    } else {
        sized(rest, request.headers.get("content-length"), 0)
    };
    match body {
        Parsed::Partial => Parsed::Partial,
        Parsed::Invalid(why) => Parsed::Invalid(why),
        Parsed::Complete(body, length) => {
            request.body = body;
            Parsed::Complete(request, start + length)
        }
    }
}

/// A whole response from the start of `bytes`, which answers a request with `method`. `ended`: the peer has closed, so that a
/// body without a length is complete. Interim responses (1xx other than 101) are skipped.
pub fn response(bytes: &[u8], method: &str, ended: bool) -> Parsed<Response> {
    let (first, headers, start) = match head(bytes) {
        Parsed::Complete(head, length) => (head.0, head.1, length),
        Parsed::Partial => return Parsed::Partial,
        Parsed::Invalid(why) => return Parsed::Invalid(why),
    };
    let mut words = first.splitn(3, ' ');
    let (Some(version), Some(status)) = (
        words.next(),
        words.next().and_then(|s| s.parse::<u16>().ok()),
    ) else {
        return Parsed::Invalid("a status line has a version and a status");
    };
    let rest = &bytes[start..];
    if (100..200).contains(&status) && status != 101 {
        return match response(rest, method, ended) {
            Parsed::Complete(response, length) => Parsed::Complete(response, start + length),
            other => other,
        };
    }
    let bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
    let body = if bodiless {
        Parsed::Complete(Vec::new(), 0)
    } else if headers.has_token("transfer-encoding", "chunked") {
        chunked(rest)
    } else if headers.get("content-length").is_some() {
        sized(rest, headers.get("content-length"), 0)
    } else if ended {
        Parsed::Complete(rest.to_vec(), rest.len())
    } else {
        Parsed::Partial
    };
    match body {
        Parsed::Partial => Parsed::Partial,
        Parsed::Invalid(why) => Parsed::Invalid(why),
        Parsed::Complete(body, length) => Parsed::Complete(
            Response {
                status,
                reason: words.next().unwrap_or_default().into(),
                version: version.into(),
                headers,
                body,
            },
            start + length,
        ),
    }
}

fn keeps_alive(version: &str, headers: &Headers) -> bool {
    if version == "HTTP/1.0" {
        headers.has_token("connection", "keep-alive")
    } else {
        !headers.has_token("connection", "close")
    }
}

fn head(bytes: &[u8]) -> Parsed<(String, Headers)> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > 1 << 20 {
            Parsed::Invalid("a head of more than 1 MiB")
        } else {
            Parsed::Partial
        };
    };
    let mut lines = bytes[..end]
        .split(|&b| b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = latin1(lines.next().unwrap_or_default());
    let mut headers = Vec::new();
    for line in lines {
        let Some(colon) = line.iter().position(|&b| b == b':') else {
            return Parsed::Invalid("a header line without a colon");
        };
        headers.push((
            latin1(&line[..colon]),
            latin1(&line[colon + 1..]).trim().to_owned(),
        ));
    }
    Parsed::Complete((first, Headers(headers)), end + 4)
}

fn sized(bytes: &[u8], length: Option<&str>, default: usize) -> Parsed<Vec<u8>> {
    let length = match length.map(str::parse::<usize>) {
        None => default,
        Some(Ok(length)) => length,
        Some(Err(_)) => return Parsed::Invalid("a Content-Length that is no number"),
    };
    match bytes.get(..length) {
        None => Parsed::Partial,
        Some(body) => Parsed::Complete(body.to_vec(), length),
    }
}

fn chunked(bytes: &[u8]) -> Parsed<Vec<u8>> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else {
            return Parsed::Partial;
        };
        let size = latin1(&bytes[at..at + line]);
        let size = size.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(size, 16) else {
            return Parsed::Invalid("a chunk without a size");
        };
        at += line + 2;
        if size == 0 {
            return match trailers_end(&bytes[at..]) {
                None => Parsed::Partial,
                Some(length) => Parsed::Complete(body, at + length),
            };
        }
        match bytes.get(at..at.saturating_add(size)) {
            None => return Parsed::Partial,
            Some(chunk) => body.extend_from_slice(chunk),
        }
        at += size;
        match bytes.get(at..at + 2) {
            None => return Parsed::Partial,
            Some(b"\r\n") => at += 2,
            Some(_) => return Parsed::Invalid("a chunk longer than its size"),
        }
    }
}

/// How many bytes the trailer section takes, its empty line included.
fn trailers_end(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\r\n") {
        Some(2)
    } else {
        find(bytes, b"\r\n\r\n").map(|at| at + 4)
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn complete<T>(parsed: Parsed<T>) -> (T, usize) {
        match parsed {
            Parsed::Complete(value, length) => (value, length),
            Parsed::Partial => panic!("partial"),
            Parsed::Invalid(why) => panic!("{why}"),
        }
    }

    #[test]
    fn a_request_keeps_the_spelling_and_order_of_its_headers() {
        let bytes =
            b"POST /a?b=c HTTP/1.1\r\nhOST: x\r\nX-A:  1 \r\nContent-Length: 3\r\n\r\nabcGET";
        let (request, length) = complete(request(bytes));
        assert_eq!(length, bytes.len() - 3);
        assert_eq!(
            (request.method.as_str(), request.target.as_str()),
            ("POST", "/a?b=c")
        );
        assert_eq!(request.headers.0[0], ("hOST".to_owned(), "x".to_owned()));
        assert_eq!(request.headers.get("x-a"), Some("1"));
        assert_eq!(request.body, b"abc");
    }

    #[test]
    fn a_message_is_partial_at_each_cut() {
        let bytes =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: 1\r\n\r\n";
        for cut in 0..bytes.len() {
            assert_eq!(
                response(&bytes[..cut], "GET", false),
                Parsed::Partial,
                "cut at {cut}"
            );
        }
        let (response, length) = complete(response(bytes, "GET", false));
        assert_eq!(
            (response.status, response.body.as_slice(), length),
            (200, &b"abc"[..], bytes.len())
        );
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        let bytes = b"HTTP/1.0 200 OK\r\n\r\nrest";
        assert_eq!(response(bytes, "GET", false), Parsed::Partial);
        assert_eq!(complete(response(bytes, "GET", true)).0.body, b"rest");
    }

    #[test]
    fn answers_without_a_body_have_none_whatever_their_length_says() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        assert_eq!(complete(response(bytes, "HEAD", false)).1, bytes.len());
        let bytes = b"HTTP/1.1 304 Not Modified\r\n\r\n";
        assert_eq!(complete(response(bytes, "GET", false)).0.status, 304);
    }

    #[test]
    fn interim_responses_are_skipped() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(complete(response(bytes, "POST", false)).0.status, 204);
    }

    #[test]
    fn nonsense_is_told_from_an_unfinished_message() {
        assert!(matches!(request(b"nonsense\r\n\r\n"), Parsed::Invalid(_)));
        assert!(matches!(
            request(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"),
            Parsed::Invalid(_)
        ));
        let overlong = b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n";
        assert!(matches!(request(overlong), Parsed::Invalid(_)));
    }

    #[test]
    fn http_1_0_closes_unless_told_otherwise() {
        let (old, _) = complete(request(b"GET / HTTP/1.0\r\n\r\n"));
        let (new, _) = complete(request(b"GET / HTTP/1.1\r\n\r\n"));
        let (close, _) = complete(request(b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n"));
        assert!(!old.keeps_alive() && new.keeps_alive() && !close.keeps_alive());
    }
}
