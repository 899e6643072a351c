//! The client's byte stream, cut into requests before the HTTP engine reads it.
//!
//! The engine is shown exactly one request at a time, and only one whose head passed [`framing`](crate::framing) and whose
//! chunks are well-formed. Bytes behind it (pipelined requests, or the first words of a protocol that was not yet agreed on) wait
//! here: they are part of the next request, or, once `101` was sent, of the other protocol. So a request is never read from bytes
//! that another party may take for a body, and nothing is forwarded as an upgraded stream before the upgrade.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, IO, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

use crate::framing::{Chunks, Framing, Refusal, Seen, Verdict, empty_lines, judge};

/// How long and how much is read from a client after its request was refused, so that it sees the answer rather than a reset.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;
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

/// How much is collected before it is written.
const COLLECTED: usize = 2048;

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

    /// Sends the answer to a refused request and lets the client read it; then the stream ends.
    fn poll_refused(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.state {
                State::Refused(answer) if answer.has_remaining() => {
                    let n = ready!(Pin::new(&mut self.inner).poll_write(cx, answer));
                    match n {
                        Ok(n) if n > 0 => answer.advance(n),
                        _ => self.state = State::Closed,
                    }
                }
                State::Refused(_) => {
                    let _ = ready!(Pin::new(&mut self.inner).poll_flush(cx));
                    let _ = ready!(Pin::new(&mut self.inner).poll_shutdown(cx));
                    self.state = State::Linger {
                        timer: Box::pin(tokio::time::sleep(LINGER)),
                        left: LINGER_BYTES,
                    };
                }
                State::Linger { timer, left } => {
                    let mut scratch = [std::mem::MaybeUninit::<u8>::uninit(); 4096];
                    let mut buf = ReadBuf::uninit(&mut scratch);
                    if timer.as_mut().poll(cx).is_ready() {
                        self.state = State::Closed;
                        continue;
                    }
                    let done = ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf)).is_err();
                    let n = buf.filled().len();
                    *left = left.saturating_sub(n);
                    if done || n == 0 || *left == 0 {
                        self.state = State::Closed;
                    }
                }
                _ => return Poll::Ready(Ok(())),
            }
        }
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

    /// Writes what was collected.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let n = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.out[self.sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += n;
        }
        self.emptied();
        Poll::Ready(Ok(()))
    }

    fn emptied(&mut self) {
        self.out.clear();
        self.sent = 0;
    }

    /// Reads what the client still sends, up to a point.
    async fn drain(&mut self) {
        let mut scratch = [0; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match self.inner.read(&mut scratch).await {
                Ok(n) if n > 0 => left = left.saturating_sub(n),
                _ => return,
            }
        }
    }

    /// The stream is another protocol's once the engine says so.
    fn watch_upgrade(&mut self, written: &[u8]) {
        if self.upgrade && written.starts_with(b"HTTP/1.1 101") {
            self.upgrade = false;
            self.state = State::Tunnel;
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

impl<S: IO> AsyncWrite for Gate<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        if me.upgrade {
            me.watch_upgrade(buf);
        }
        if me.out.len() + buf.len() <= COLLECTED {
            if me.out.capacity() == 0 {
                me.out.reserve_exact(COLLECTED);
            }
            me.out.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        // What waits and what comes go together where the stream can do that.
        if me.sent < me.out.len() && me.inner.is_write_vectored() {
            let both = [IoSlice::new(&me.out[me.sent..]), IoSlice::new(buf)];
            let n = ready!(Pin::new(&mut me.inner).poll_write_vectored(cx, &both))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let waiting = me.out.len() - me.sent;
            if n > waiting {
                me.emptied();
                return Poll::Ready(Ok(n - waiting));
            }
            me.sent += n;
        }
        ready!(me.poll_out(cx))?;
        Pin::new(&mut me.inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        ready!(me.poll_out(cx))?;
        Pin::new(&mut me.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        ready!(me.poll_out(cx))?;
        Pin::new(&mut me.inner).poll_shutdown(cx)
    }
}

#[async_trait]
impl<S: IO> Shutdown for Gate<S> {
    async fn shutdown(&mut self) {
        // A client that is gone takes nothing any more.
        let _ = AsyncWriteExt::flush(self).await;
        Shutdown::shutdown(&mut self.inner).await;
        if matches!(
            self.state,
            State::Length(_) | State::Chunked(_) | State::Malformed
        ) {
            // The client is still sending. Closing at once would reset the connection, and the reset may overtake
            // the answer.
            let _ = tokio::time::timeout(LINGER, self.drain()).await;
        }
    }
}

impl<S: IO> UniqueID for Gate<S> {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl<S: IO> Ssl for Gate<S> {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl<S: IO> GetTimingDigest for Gate<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
    fn get_read_pending_time(&self) -> Duration {
        self.inner.get_read_pending_time()
    }
    fn get_write_pending_time(&self) -> Duration {
        self.inner.get_write_pending_time()
    }
}

impl<S: IO> GetProxyDigest for Gate<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl<S: IO> GetSocketDigest for Gate<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

#[async_trait]
impl<S: IO> Peek for Gate<S> {}

impl<S: fmt::Debug> fmt::Debug for Gate<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    struct Texts;
    impl Refuse for Texts {
        fn refuse(
            &self,
            refusal: Refusal,
            _: Seen<'_>,
            _: Option<&SocketDigest>,
            _: bool,
        ) -> Bytes {
            Bytes::from(format!("{refusal:?}"))
        }
    }

    fn gate() -> (DuplexStream, Gate<DuplexStream>) {
        let (client, server) = duplex(1 << 20);
        (client, Gate::new(server, Arc::new(Texts)))
    }

    async fn read(gate: &mut Gate<DuplexStream>, want: &str) {
        let mut got = vec![0; want.len()];
        gate.read_exact(&mut got).await.unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), want);
    }

    /// Whether a read finds nothing for now.
    async fn pending(gate: &mut Gate<DuplexStream>) -> bool {
        let mut byte = [0; 1];
        futures::poll!(Box::pin(gate.read(&mut byte))).is_pending()
    }

    const A: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
    const B: &str = "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
    const C: &str =
        "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

    #[tokio::test]
    async fn pipelined_requests_come_one_at_a_time() {
        let (mut client, mut gate) = gate();
        client
            .write_all(format!("{A}{B}{C}{A}").as_bytes())
            .await
            .unwrap();
        for request in [A, B, C, A] {
            read(&mut gate, request).await;
            assert!(pending(&mut gate).await);
            gate.next_request();
        }
    }

    #[tokio::test]
    async fn a_request_may_come_byte_by_byte() {
        let (mut client, mut gate) = gate();
        for request in [C, B] {
            for b in request.as_bytes() {
                client.write_all(&[*b]).await.unwrap();
                if !request.contains("hello") {
                    assert!(pending(&mut gate).await);
                }
            }
            read(&mut gate, request).await;
            gate.next_request();
        }
    }

    #[tokio::test]
    async fn empty_lines_before_a_request_are_dropped() {
        let (mut client, mut gate) = gate();
        for _ in 0..2 {
            client
                .write_all(format!("\r\n\n{A}\r\n").as_bytes())
                .await
                .unwrap();
            read(&mut gate, A).await;
            assert!(pending(&mut gate).await);
            gate.next_request();
        }
        client.write_all(b"\r\n").await.unwrap();
        assert!(pending(&mut gate).await);
        assert!(gate.held.is_empty());
    }

    #[tokio::test]
    async fn endless_empty_lines_are_refused() {
        let (mut client, mut gate) = gate();
        // In pieces, as somebody sends them who wants them kept.
        for _ in 0..=EMPTY_LINES / 128 {
            client.write_all(&b"\r\n".repeat(64)).await.unwrap();
            if !matches!(gate.state, State::Head) {
                break;
            }
            assert!(pending(&mut gate).await);
            assert!(gate.held.is_empty());
        }
        let mut answer = [0; 10];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"BadRequest");
    }

    #[tokio::test]
    async fn a_refused_request_is_answered_and_never_seen() {
        let (mut client, mut gate) = gate();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            .await
            .unwrap();
        let server = tokio::spawn(async move {
            let mut all = Vec::new();
            gate.read_to_end(&mut all).await.unwrap();
            all
        });
        let mut answer = [0; 10];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"BadRequest");
        drop(client);
        assert!(server.await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_malformed_chunk_is_an_error() {
        let (mut client, mut gate) = gate();
        client
            .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await
            .unwrap();
        read(
            &mut gate,
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .await;
        client.write_all(b"5\nhello\r\n0\r\n\r\n").await.unwrap();
        let e = gate.read(&mut [0; 64]).await.unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_malformed_chunk_is_no_better_when_it_is_read_again() {
        let (mut client, mut gate) = gate();
        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        // Read on from where it fails, with the size of the second chunk, its beginning is an extension and the rest is data.
        let body = "1;a\r\nA\r\nf;\0xxxxxxxxx\r\n0\r\n\r\n";
        client
            .write_all(format!("{head}{body}").as_bytes())
            .await
            .unwrap();
        let mut first = [0; 256];
        let n = gate.read(&mut first).await.unwrap();
        assert_eq!(&first[..n], head.as_bytes());
        for _ in 0..3 {
            let mut again = [0; 64];
            let read = futures::poll!(Box::pin(gate.read(&mut again)));
            assert!(matches!(read, Poll::Ready(Err(_))), "{read:?}");
        }
    }

    #[tokio::test]
    async fn bytes_behind_an_upgrade_wait_for_101() {
        let (mut client, mut gate) = gate();
        let head = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        client
            .write_all(format!("{head}frames").as_bytes())
            .await
            .unwrap();
        read(&mut gate, head).await;
        assert!(pending(&mut gate).await);
        gate.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            .await
            .unwrap();
        read(&mut gate, "frames").await;
        client.write_all(b"more").await.unwrap();
        read(&mut gate, "more").await;
    }

    #[tokio::test]
    async fn bytes_behind_a_refused_upgrade_are_the_next_request() {
        let (mut client, mut gate) = gate();
        let head = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n";
        client
            .write_all(format!("{head}{A}").as_bytes())
            .await
            .unwrap();
        read(&mut gate, head).await;
        gate.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        assert!(pending(&mut gate).await);
        gate.next_request();
        read(&mut gate, A).await;
    }

    #[tokio::test]
    async fn absolute_form_is_rewritten() {
        let (mut client, mut gate) = gate();
        client
            .write_all(
                b"GET http://abs.test/x HTTP/1.1\r\nHost: o\r\nContent-Length: 1\r\n\r\nxGET",
            )
            .await
            .unwrap();
        read(
            &mut gate,
            "GET /x HTTP/1.1\r\nHost: abs.test\r\nContent-Length: 1\r\n\r\nx",
        )
        .await;
        assert!(pending(&mut gate).await);
    }

    #[tokio::test]
    async fn short_writes_leave_together_and_long_ones_at_once() {
        let (mut client, mut gate) = gate();
        gate.write_all(b"head").await.unwrap();
        gate.write_all(b"body").await.unwrap();
        let mut got = [0; 8];
        assert!(futures::poll!(Box::pin(client.read(&mut got))).is_pending());
        gate.flush().await.unwrap();
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"headbody");
        gate.write_all(b"head").await.unwrap();
        let long = vec![b'x'; 10_000];
        gate.write_all(&long).await.unwrap();
        let mut got = vec![0; 10_004];
        client.read_exact(&mut got).await.unwrap();
        assert!(got.starts_with(b"headx") && got.ends_with(b"x"));
    }

    #[tokio::test]
    async fn a_client_that_goes_away_is_noticed() {
        let (mut client, mut gate) = gate();
        client.write_all(A.as_bytes()).await.unwrap();
        read(&mut gate, A).await;
        drop(client);
        assert_eq!(gate.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
