//! A blocking HTTP/1.1 client over one kept-alive connection, and raw exchanges for what no client would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::Error;
use crate::h1::{self, Parsed, Response};

/// How long a client waits for the next byte.
const PATIENCE: Duration = Duration::from_secs(30);

/// After one complete response, how long [`exchange`] waits for another.
const QUIET: Duration = Duration::from_millis(200);

/// One connection at a time, opened when needed and kept while the server keeps it.
#[derive(Debug)]
pub struct Client {
    addr: SocketAddr,
    patience: Duration,
    stream: Option<TcpStream>,
    received: Vec<u8>,
}

impl Client {
    /// A client of the server at `addr`; connects with the first request.
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            patience: PATIENCE,
            stream: None,
            received: Vec::new(),
        }
    }

    /// Waits at most this long for the next byte, rather than 30 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// `GET` without further headers.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn get(&mut self, path: &str) -> Result<Response, Error> {
        self.send("GET", path, &[], b"")
    }

    /// A request with a JSON body.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn json(
        &mut self,
        method: &str,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<Response, Error> {
        self.send(
            method,
            path,
            &[("Content-Type", "application/json")],
            body.to_string().as_bytes(),
        )
    }

    /// Sends a request and waits for the whole response. `Host` is the address unless `headers` has one. When a kept
    /// connection turns out to be closed before any byte of the answer, the request is sent once more on a new one.
    ///
    /// # Errors
    /// [`Error::Io`] when the server cannot be reached or goes away, [`Error::Http`] when it does not speak HTTP.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, Error> {
        let mut bytes = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
        let has = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !has("host") {
            bytes.extend_from_slice(format!("Host: {}\r\n", self.addr).as_bytes());
        }
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if (!body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH"))
            && !has("content-length")
        {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);

        let reused = self.stream.is_some();
        match self.attempt(method, &bytes) {
            Err(_) if reused && self.received.is_empty() => self.attempt(method, &bytes),
            other => other,
        }
    }

    fn attempt(&mut self, method: &str, bytes: &[u8]) -> Result<Response, Error> {
        self.received.clear();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.addr, self.patience)?,
        };
        let what = format!("talking to {}", self.addr);
        stream.write_all(bytes).map_err(Error::io(what.clone()))?;
        let mut buffer = [0; 16 * 1024];
        loop {
            let count = stream.read(&mut buffer).map_err(Error::io(what.clone()))?;
            self.received.extend_from_slice(&buffer[..count]);
            match h1::response(&self.received, method, count == 0) {
                Parsed::Complete(response, _) => {
                    if response.keeps_alive() && count > 0 {
                        self.stream = Some(stream);
                    }
                    return Ok(response);
                }
                Parsed::Invalid(why) => return Err(Error::Http(why.into())),
                Parsed::Partial if count == 0 => {
                    return Err(Error::Io {
                        what,
                        source: ErrorKind::UnexpectedEof.into(),
                    });
                }
                Parsed::Partial => {}
            }
        }
    }
}

/// Sends these bytes on a connection of their own and returns all that comes back: until the server closes, or until it has
/// answered at least once and then stays silent for 0.2 s. For malformed and smuggled requests, where the number of answers
/// and the closing are what matters; see [`is_closed`](Exchanged::is_closed).
///
/// # Errors
/// [`Error::Io`] when the server cannot be reached; [`Error::Timeout`] when it answers nothing and keeps the connection.
pub fn exchange(addr: SocketAddr, bytes: &[u8]) -> Result<Exchanged, Error> {
    let mut stream = connect(addr, QUIET)?;
    // A server may refuse after the first bytes and close: that it no longer reads the rest is part of its answer.
    let _refused = stream.write_all(bytes);
    let end = Instant::now() + PATIENCE;
    let mut received = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => {
                return Ok(Exchanged {
                    bytes: received,
                    closed: true,
                });
            }
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if matches!(h1::response(&received, "GET", false), Parsed::Complete(..)) {
                    return Ok(Exchanged {
                        bytes: received,
                        closed: false,
                    });
                }
                if Instant::now() >= end {
                    return Err(Error::Timeout {
                        what: format!("an answer of {addr}"),
                        seconds: PATIENCE.as_secs(),
                        log: String::from_utf8_lossy(&received).into_owned(),
                    });
                }
            }
            // A reset after the answer: the server closed with bytes of ours unread.
            Err(_) => {
                return Ok(Exchanged {
                    bytes: received,
                    closed: true,
                });
            }
        }
    }
}

/// What came back from [`exchange`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchanged {
    /// All bytes received.
    pub bytes: Vec<u8>,
    closed: bool,
}

impl Exchanged {
    /// Whether the server closed the connection.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The responses in order, as answers to requests with a body in the response (not `HEAD`).
    pub fn responses(&self) -> Vec<Response> {
        let mut rest = self.bytes.as_slice();
        let mut responses = Vec::new();
        while let Parsed::Complete(response, length) = h1::response(rest, "GET", self.closed) {
            responses.push(response);
            rest = &rest[length..];
            if rest.is_empty() {
                break;
            }
        }
        responses
    }
}

fn connect(addr: SocketAddr, patience: Duration) -> Result<TcpStream, Error> {
    let what = || format!("cannot connect to {addr}");
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).map_err(Error::io(what()))?;
    stream.set_nodelay(true).map_err(Error::io(what()))?;
    stream
        .set_read_timeout(Some(patience))
        .map_err(Error::io(what()))?;
    Ok(stream)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers each connection in turn with these bytes, once per request, then closes it.
    fn server(connections: Vec<Vec<&'static [u8]>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answers in connections {
                let (mut stream, _) = listener.accept().unwrap();
                for answer in answers {
                    let mut buffer = [0; 4096];
                    let _count = stream.read(&mut buffer).unwrap();
                    stream.write_all(answer).unwrap();
                }
            }
        });
        addr
    }

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    #[test]
    fn it_reuses_a_connection_and_replaces_one_that_was_closed() {
        let mut client = Client::new(server(vec![vec![OK, OK], vec![OK]]));
        for _ in 0..3 {
            assert_eq!(client.get("/").unwrap().text(), "ok");
        }
        assert!(client.get("/").is_err());
    }

    #[test]
    fn an_exchange_returns_every_answer_and_tells_who_closed() {
        let twice: &[u8] =
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let exchanged = exchange(server(vec![vec![twice]]), b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(exchanged.is_closed());
        let statuses: Vec<_> = exchanged.responses().iter().map(|r| r.status).collect();
        assert_eq!(statuses, [400, 200]);
    }
}
