//! What goes to the client: collected, so that head and body of a short response leave in one piece.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pingora_core::protocols::IO;
use tokio::io::AsyncWrite;

use super::{Gate, State};

/// How much is collected before it is written.
const COLLECTED: usize = 2048;

impl<S: IO> Gate<S> {
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

    /// The stream is another protocol's once the engine says so.
    fn watch_upgrade(&mut self, written: &[u8]) {
        if self.upgrade && written.starts_with(b"HTTP/1.1 101") {
            self.upgrade = false;
            self.state = State::Tunnel;
        }
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
