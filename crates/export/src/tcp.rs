//! Bytes over TCP, with TLS or without, on one connection that is kept.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::FutureExt;
use openssl::error::ErrorStack;
use openssl::ssl::SslConnector;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_openssl::SslStream;

use crate::SendError;
use crate::http::{connector, with_causes};

/// Sends to one server.
pub struct TcpSender {
    host: String,
    port: u16,
    timeout: Duration,
    keepalive: Duration,
    /// With the server name of the handshake.
    tls: Option<(SslConnector, Option<String>)>,
    kept: Mutex<Option<Kept>>,
}

enum Stream {
    Plain(TcpStream),
    Tls(SslStream<TcpStream>),
}

/// A connection that was used before.
struct Kept {
    stream: Stream,
    since: Instant,
}

impl TcpSender {
    /// Sends to a server in the clear. `timeout` is for connecting and for sending, each; an idle connection is kept for `keepalive`.
    pub fn new(host: impl Into<String>, port: u16, timeout: Duration, keepalive: Duration) -> Self {
        TcpSender {
            host: host.into(),
            port,
            timeout,
            keepalive,
            tls: None,
            kept: Mutex::new(None),
        }
    }

    /// Over TLS, with this server name in the handshake if any. As in Kong the server's certificate is not verified.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn tls(mut self, server_name: Option<String>) -> Result<Self, ErrorStack> {
        self.tls = Some((connector(false)?.build(), server_name));
        Ok(self)
    }

    /// Sends all of it, on the connection of before if that is still good.
    ///
    /// # Errors
    /// When it could not be sent. Some of it may have been.
    pub async fn send(&self, bytes: &[u8]) -> Result<(), SendError> {
        let mut kept = self.kept.lock().await;
        if let Some(mut before) = kept.take()
            && before.since.elapsed() < self.keepalive
            && before.stream.is_open()
        {
            let mut written = 0;
            match before.stream.write(bytes, self.timeout, &mut written).await {
                Ok(()) => {
                    before.since = Instant::now();
                    *kept = Some(before);
                    return Ok(());
                }
                // The server may have some of it, and must not count it twice.
                Err(e) if written > 0 => return Err(SendError::Send(e)),
                Err(_) => {}
            }
        }
        let mut stream = self.connect().await?;
        let written = stream.write(bytes, self.timeout, &mut 0).await;
        written.map_err(SendError::Send)?;
        *kept = Some(Kept {
            stream,
            since: Instant::now(),
        });
        Ok(())
    }

    async fn connect(&self) -> Result<Stream, SendError> {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let tcp = within(self.timeout, connecting).await;
        let tcp = tcp.map_err(SendError::Connect)?;
        // Without it a message may wait for the acknowledgement of the one before; where it cannot be set it may.
        let _ = tcp.set_nodelay(true);
        let Some((connector, name)) = &self.tls else {
            return Ok(Stream::Plain(tcp));
        };
        let failed = |e: &dyn std::error::Error| SendError::Handshake(with_causes(e));
        let mut setup = connector.configure().map_err(|e| failed(&e))?;
        setup.set_verify_hostname(false);
        setup.set_use_server_name_indication(name.is_some());
        let ssl = setup.into_ssl(name.as_deref().unwrap_or(&self.host));
        let ssl = ssl.map_err(|e| failed(&e))?;
        let mut stream = SslStream::new(ssl, tcp).map_err(|e| failed(&e))?;
        match timeout(self.timeout, Pin::new(&mut stream).connect()).await {
            Ok(Ok(())) => Ok(Stream::Tls(stream)),
            Ok(Err(e)) => Err(failed(&e)),
            Err(_) => Err(SendError::Handshake("timeout".to_owned())),
        }
    }
}

impl fmt::Debug for TcpSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpSender({}:{})", self.host, self.port)
    }
}

impl Stream {
    /// Whether the other side has left the connection open. What it has said is read and forgotten.
    fn is_open(&mut self) -> bool {
        let mut forgotten = [0; 1024];
        loop {
            let read = match self {
                Stream::Plain(s) => s.read(&mut forgotten).now_or_never(),
                Stream::Tls(s) => s.read(&mut forgotten).now_or_never(),
            };
            match read {
                None => break,
                Some(Ok(0) | Err(_)) => return false,
                Some(Ok(_)) => {}
            }
        }
        // Tokio may not have heard of the end yet; the system has.
        let tcp = match self {
            Stream::Plain(s) => s,
            Stream::Tls(s) => s.get_ref(),
        };
        let mut first = [MaybeUninit::uninit()];
        match SockRef::from(tcp).peek(&mut first) {
            Ok(n) => n > 0,
            Err(e) => e.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Writes all of it; `written` tells of how much the system took, also when that fails.
    async fn write(
        &mut self,
        bytes: &[u8],
        limit: Duration,
        written: &mut usize,
    ) -> io::Result<()> {
        within(limit, async {
            while *written < bytes.len() {
                let left = &bytes[*written..];
                let n = match self {
                    Stream::Plain(s) => s.write(left).await?,
                    Stream::Tls(s) => s.write(left).await?,
                };
                if n == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                *written += n;
            }
            match self {
                Stream::Plain(s) => s.flush().await,
                Stream::Tls(s) => s.flush().await,
            }
        })
        .await
    }
}

async fn within<T>(limit: Duration, doing: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = timeout(limit, doing).await;
    done.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "timeout")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
