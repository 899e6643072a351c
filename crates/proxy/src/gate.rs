//! The client's byte stream, cut into requests before the HTTP engine reads it.
//!
//! The engine is shown exactly one request at a time, and only one whose head passed [`framing`](crate::framing) and whose
//! chunks are well-formed. Bytes behind it (pipelined requests, or the first words of a protocol that was not yet agreed on) wait
//! here: they are part of the next request, or, once `101` was sent, of the other protocol. So a request is never read from bytes
//! that another party may take for a body, and nothing is forwarded as an upgraded stream before the upgrade.

mod linger;
mod stream;
mod write;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use pingora_core::protocols::{IO, SocketDigest};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

use crate::framing::{Chunks, Framing, Refusal, Seen, Verdict, empty_lines, judge};

const SCRATCH: usize = 16 * 1024;

/// Makes the answer to a refused request: the bytes to send before the connection is closed.
pub(crate) trait Refuse: Send + Sync {
    fn refuse(
        &self,
        refusal: Refusal,
        seen: Seen<'_>,
        socket: Option<&SocketDigest>,
        tls: bool,
    ) -> Bytes;
}

/// Where in a request the client's stream is.
enum State {
    /// Before or in its head.
    Head,
    /// In a body of so many bytes more.
    Length(u64),
    /// In a chunked body.
    Chunked(Chunks),
    /// In a body that is none: nothing of it is read any more, since nobody knows where it ends.
    Malformed,
    /// Behind it.
    Done,
    /// The stream is another protocol's.
    Tunnel,
    /// The request was refused: the answer is being sent.
    Refused(Bytes),
    /// It was sent; waiting for the client to close.
    Linger { timer: Pin<Box<Sleep>>, left: usize },
    /// Nothing comes any more.
    Closed,
}

/// See the module.
pub(crate) struct Gate<S> {
    inner: S,
    state: State,
    upgrade: bool,
    /// How many bytes of empty lines came in front of the request.
    empty: usize,
    /// Bytes of the client that were read and not yet passed on.
    held: BytesMut,
    /// How many of `held` may be passed on.
    free: usize,
    /// The client closed its side while bytes were held.
    eof: bool,
    /// Bytes to the client that wait for more, or for a flush: head and body of a short response leave in one piece.
    out: Vec<u8>,
    /// How many of them were written.
    sent: usize,
    refuse: Arc<dyn Refuse>,
}

/// How many bytes of empty lines may come in front of a request: some old clients send one behind a body, nobody sends hundreds.
const EMPTY_LINES: usize = 1024;

impl<S: IO> Gate<S> {
    pub(crate) fn new(inner: S, refuse: Arc<dyn Refuse>) -> Self {
        Gate {
            inner,
            state: State::Head,
            upgrade: false,
            empty: 0,
            held: BytesMut::new(),
            free: 0,
            eof: false,
            out: Vec::new(),
            sent: 0,
            refuse,
        }
    }

    /// A stream of another protocol from the beginning, passed on as it comes.
    pub(crate) fn tunnel(inner: S, refuse: Arc<dyn Refuse>) -> Self {
        Gate {
            state: State::Tunnel,
            ..Gate::new(inner, refuse)
        }
    }

    /// Makes ready for the next request, once the engine is done with one.
    pub(crate) fn next_request(&mut self) {
        self.state = match self.state {
            State::Done => State::Head,
            // The engine gives a stream back only when it has read the whole body; anything else is not to be trusted.
            _ => State::Closed,
        };
        self.upgrade = false;
        self.empty = 0;
    }

    /// Puts bytes that were passed on already back in front of the stream.
    pub(crate) fn unread(&mut self, bytes: &[u8]) {
        let rest = std::mem::replace(&mut self.held, BytesMut::from(bytes));
        self.held.unsplit(rest);
        self.free += bytes.len();
    }

    /// Judges the held bytes as the start of a request. Answers whether the engine can be served now.
    fn judge_held(&mut self) -> bool {
        // Empty lines go at once, so that they are neither kept nor read again with the bytes that follow.
        let empty = empty_lines(&self.held);
        self.held.advance(empty);
        self.empty += empty;
        let verdict = if self.empty > EMPTY_LINES {
            Verdict::Refuse(Refusal::BadRequest, Seen::default())
        } else {
            judge(&self.held)
        };
        match verdict {
            Verdict::Incomplete => return false,
            Verdict::Pass(head) => {
                let mut len = head.len;
                if let Some(new) = head.rewritten {
                    let rest = self.held.split_off(len);
                    self.held = BytesMut::from(&new[..]);
                    len = self.held.len();
                    self.held.unsplit(rest);
                }
                self.upgrade = head.upgrade;
                self.free = len;
                self.enter_body(head.body);
                if self.release().is_err() {
                    self.free = len;
                }
            }
            Verdict::Refuse(refusal, seen) => {
                let socket = self.inner.get_socket_digest();
                let answer = self.refuse.refuse(
                    refusal,
                    seen,
                    socket.as_deref(),
                    self.inner.get_ssl_digest().is_some(),
                );
                self.state = State::Refused(answer);
            }
        }
        true
    }

    fn enter_body(&mut self, body: Framing) {
        self.state = match body {
            Framing::Length(0) => State::Done,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::Chunked(Chunks::default()),
        };
    }

    /// Frees held bytes that belong to the request's body.
    fn release(&mut self) -> io::Result<()> {
        let n = self.body_part(self.free..self.held.len(), None)?;
        self.free += n;
        Ok(())
    }

    /// How many of these bytes, of `held` or of `other`, belong to the request, and moves on by them.
    fn body_part(
        &mut self,
        range: std::ops::Range<usize>,
        other: Option<&[u8]>,
    ) -> io::Result<usize> {
        let bytes = match other {
            Some(o) => o,
            None => &self.held[range],
        };
        let n = match &mut self.state {
            State::Length(left) => {
                let n = bytes
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= n as u64;
                if *left == 0 {
                    self.state = State::Done;
                }
                n
            }
            State::Chunked(chunks) => {
                let Ok(n) = chunks.advance(bytes) else {
                    self.state = State::Malformed;
                    return Err(bad_chunk());
                };
                if chunks.done() {
                    self.state = State::Done;
                }
                n
            }
            State::Tunnel => bytes.len(),
            _ => 0,
        };
        Ok(n)
    }

    /// Hands held bytes on.
    fn serve(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.free.min(buf.remaining());
        buf.put_slice(&self.held[..n]);
        self.held.advance(n);
        self.free -= n;
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
    }

    /// Reads what the client sends behind a request, to notice when it goes away.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // One request is kept waiting at most; the rest stays with the kernel.
        if self.eof || self.held.len() >= SCRATCH {
            return if self.eof && self.held.is_empty() {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        }
        let n = ready!(self.fill(cx))?;
        if n == 0 {
            self.eof = true;
            // A client may close its side after its last request. With more requests held it still waits for answers.
            return if self.held.is_empty() {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads into `held`.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut scratch = [std::mem::MaybeUninit::<u8>::uninit(); 4096];
        let mut buf = ReadBuf::uninit(&mut scratch);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf))?;
        self.held.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() && buf.filled().is_empty() {
            // The common case: one read brings the whole head, straight into the engine's buffer.
            ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            if empty_lines(buf.filled()) == 0
                && let Verdict::Pass(head) = judge(buf.filled())
                && head.rewritten.is_none()
            {
                self.upgrade = head.upgrade;
                self.enter_body(head.body);
                let all = buf.filled().len();
                let own = head.len
                    + self
                        .body_part(0..0, Some(&buf.filled()[head.len..]))
                        .unwrap_or(0);
                if own < all {
                    self.held.extend_from_slice(&buf.filled()[own..]);
                    buf.set_filled(own);
                }
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(buf.filled());
            buf.clear();
        }
        loop {
            if self.judge_held() {
                return self.poll_rest(cx, buf);
            }
            if self.eof || ready!(self.fill(cx))? == 0 {
                // Half a request and then nothing.
                self.state = State::Closed;
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.free > 0 {
            self.serve(buf);
            return Poll::Ready(Ok(()));
        }
        match self.state {
            State::Head => self.poll_head(cx, buf),
            State::Length(_) | State::Chunked(_) | State::Tunnel => {
                if !self.held.is_empty() {
                    self.release()?;
                    self.serve(buf);
                    return Poll::Ready(Ok(()));
                }
                let before = buf.filled().len();
                ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
                let all = buf.filled().len();
                if matches!(self.state, State::Tunnel) {
                    return Poll::Ready(Ok(()));
                }
                let own = before + self.body_part(0..0, Some(&buf.filled()[before..]))?;
                if own < all {
                    self.held.extend_from_slice(&buf.filled()[own..]);
                    buf.set_filled(own);
                }
                Poll::Ready(Ok(()))
            }
            State::Malformed => Poll::Ready(Err(bad_chunk())),
            State::Done => self.poll_idle(cx),
            State::Refused(_) | State::Linger { .. } => self.poll_refused(cx),
            State::Closed => Poll::Ready(Ok(())),
        }
    }
}

/// The text by which the error of a malformed chunk is known again.
pub(crate) const BAD_CHUNK: &str = "malformed chunked body";

fn bad_chunk() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, BAD_CHUNK)
}

impl<S: IO> AsyncRead for Gate<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().poll_rest(cx, buf)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
