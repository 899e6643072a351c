//! How a mock upstream answers, and where it breaks off.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::echo;
use crate::h1::{Headers, Request};

/// How one request is answered. Starts as an echo, a status or bytes; the rest is said on top of it.
#[derive(Debug, Clone)]
pub struct Answer {
    content: Content,
    delay: Duration,
    fault: Option<Fault>,
}

#[derive(Debug, Clone)]
enum Content {
    Echo,
    Fixed {
        status: u16,
        headers: Headers,
        body: Vec<u8>,
    },
    Slow {
        chunk: Vec<u8>,
        times: usize,
        every: Duration,
    },
    Raw(Vec<u8>),
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    CloseBeforeHeader,
    CloseAfterHeader,
    CloseAfter(usize),
    Reset,
    Hang,
}

impl Answer {
    /// What was received, as JSON; see [`echo`].
    pub fn echo() -> Self {
        Self {
            content: Content::Echo,
            delay: Duration::ZERO,
            fault: None,
        }
    }

    /// This status with an empty body.
    pub fn status(status: u16) -> Self {
        let content = Content::Fixed {
            status,
            headers: Headers::default(),
            body: Vec::new(),
        };
        Self {
            content,
            ..Self::echo()
        }
    }

    /// A body in chunks (`Transfer-Encoding: chunked`), `times` of them, one each `every`.
    pub fn slow_body(chunk: impl Into<Vec<u8>>, times: usize, every: Duration) -> Self {
        Self {
            content: Content::Slow {
                chunk: chunk.into(),
                times,
                every,
            },
            ..Self::echo()
        }
    }

    /// These bytes, HTTP or not, and then the connection is closed.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            content: Content::Raw(bytes.into()),
            ..Self::echo()
        }
    }

    /// Closes the connection without a byte of an answer.
    pub fn close_before_header() -> Self {
        Self {
            fault: Some(Fault::CloseBeforeHeader),
            ..Self::echo()
        }
    }

    /// Resets the connection (RST) without a byte of an answer.
    pub fn reset() -> Self {
        Self {
            fault: Some(Fault::Reset),
            ..Self::echo()
        }
    }

    /// Never answers, and keeps the connection open.
    pub fn hang() -> Self {
        Self {
            fault: Some(Fault::Hang),
            ..Self::echo()
        }
    }

    /// Adds a response header; only to an answer made from a status.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Content::Fixed { headers, .. } = &mut self.content {
            headers.0.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Sets the body; only of an answer made from a status.
    #[must_use]
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        if let Content::Fixed { body, .. } = &mut self.content {
            *body = bytes.into();
        }
        self
    }

    /// Waits before answering.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sends the header, then closes instead of sending the body.
    #[must_use]
    pub fn then_close_after_header(mut self) -> Self {
        self.fault = Some(Fault::CloseAfterHeader);
        self
    }

    /// Sends the first `bytes` bytes of the answer, header included, then closes.
    #[must_use]
    pub fn then_close_after(mut self, bytes: usize) -> Self {
        self.fault = Some(Fault::CloseAfter(bytes));
        self
    }
}

impl Answer {
    /// How long to wait before sending it.
    pub(super) fn wait(&self) -> Duration {
        self.delay
    }

    /// Whether it is an echo without any fault.
    pub(super) fn is_plain_echo(&self) -> bool {
        matches!(self.content, Content::Echo) && self.fault.is_none()
    }

    /// Sends it from the upstream called `name`; whether the connection stays.
    pub(super) async fn send(
        self,
        stream: &mut TcpStream,
        request: &Request,
        name: &str,
    ) -> std::io::Result<bool> {
        match self.fault {
            Some(Fault::CloseBeforeHeader) => return Ok(false),
            Some(Fault::Reset) => {
                stream.set_zero_linger()?;
                return Ok(false);
            }
            Some(Fault::Hang) => std::future::pending::<()>().await,
            _ => {}
        }
        let keep = request.keeps_alive();
        let (pieces, every, keep) = match self.content {
            Content::Raw(bytes) => (vec![bytes], Duration::ZERO, false),
            Content::Fixed {
                status,
                headers,
                body,
            } => {
                let bytes = echo::encode(status, &headers, &body, &request.method, false);
                (vec![bytes], Duration::ZERO, keep)
            }
            Content::Echo => {
                let reply = echo::reply(request, name);
                tokio::time::sleep(reply.delay).await;
                (vec![reply.bytes], Duration::ZERO, reply.keep_alive)
            }
            Content::Slow {
                chunk,
                times,
                every,
            } => (slow(&chunk, times), every, keep),
        };
        let mut left = match self.fault {
            Some(Fault::CloseAfter(count)) => count,
            Some(Fault::CloseAfterHeader) => header_length(&pieces[0]),
            _ => usize::MAX,
        };
        for (number, piece) in pieces.iter().enumerate() {
            if number > 0 {
                tokio::time::sleep(every).await;
            }
            let count = piece.len().min(left);
            stream.write_all(&piece[..count]).await?;
            left -= count;
            if left == 0 {
                return Ok(false);
            }
        }
        Ok(keep)
    }
}

/// The header, each chunk, and the end: what is sent at one time.
fn slow(chunk: &[u8], times: usize) -> Vec<Vec<u8>> {
    let mut pieces = vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()];
    let mut bytes = format!("{:x}\r\n", chunk.len()).into_bytes();
    bytes.extend_from_slice(chunk);
    bytes.extend_from_slice(b"\r\n");
    pieces.extend(std::iter::repeat_n(bytes, times));
    pieces.push(b"0\r\n\r\n".to_vec());
    pieces
}

fn header_length(bytes: &[u8]) -> usize {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
    end.map_or(bytes.len(), |at| at + 4)
}
