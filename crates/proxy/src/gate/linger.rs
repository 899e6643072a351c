//! How a stream ends whose client is still sending: closing at once would reset the connection, and the reset may overtake the answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Buf;
use pingora_core::protocols::{IO, Shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::{Gate, State};

/// How long and how much is read from a client after its request was refused, so that it sees the answer rather than a reset.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

impl<S: IO> Gate<S> {
    /// Sends the answer to a refused request and lets the client read it; then the stream ends.
    pub(super) fn poll_refused(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
