//! The status listener: a few plain GET requests, answered by a closure. Apart from the data plane, so that it answers when the
//! workers are busy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::names::PRODUCT;

const LONGEST_HEAD: usize = 8192;
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer of the status listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusReply {
    /// The status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

impl StatusReply {
    /// 404 in Kong's shape.
    pub fn not_found() -> Self {
        let body = Bytes::from_static(b"{\"message\":\"Not found\"}");
        StatusReply {
            status: 404,
            content_type: "application/json; charset=utf-8",
            body,
        }
    }
}

/// Answers a path; the query is not part of it.
pub type StatusHandler = Arc<dyn Fn(&str) -> StatusReply + Send + Sync>;

/// A bound status listener.
pub struct StatusListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl StatusListener {
    /// Binds the address; within a runtime.
    ///
    /// # Errors
    /// What the operating system said.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(StatusListener { listener, address })
    }

    /// The address, with the port that was chosen for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers for ever; drop the future to stop.
    pub async fn serve(self, handler: StatusHandler) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let handler = handler.clone();
                    tokio::spawn(async move {
                        // Whoever is too slow, or goes away, gets no answer.
                        let _ = tokio::time::timeout(PATIENCE, answer(stream, &handler)).await;
                    });
                }
                Err(e) => {
                    tracing::error!("status listener: {e}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

async fn answer(mut stream: TcpStream, handler: &StatusHandler) -> io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        if head.len() > LONGEST_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let path = target.split('?').next().unwrap_or_default();
    let path = if path.len() > 1 {
        path.trim_end_matches('/')
    } else {
        path
    };
    let reply = match method {
        "GET" | "HEAD" => handler(path),
        _ => StatusReply {
            status: 405,
            content_type: "application/json; charset=utf-8",
            body: Bytes::from_static(b"{\"message\":\"Method not allowed\"}"),
        },
    };
    let reason = http::StatusCode::from_u16(reply.status)
        .ok()
        .and_then(|s| s.canonical_reason())
        .unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {} {reason}\r\nDate: {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\
         Access-Control-Allow-Origin: *\r\nServer: {PRODUCT}\r\n\r\n",
        reply.status,
        httpdate::fmt_http_date(std::time::SystemTime::now()),
        reply.content_type,
        reply.body.len(),
    );
    stream.write_all(head.as_bytes()).await?;
    if method != "HEAD" {
        stream.write_all(&reply.body).await?;
    }
    stream.shutdown().await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn paths_are_answered_by_the_handler() {
        let listener = StatusListener::bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let address = listener.address();
        let handler: StatusHandler = Arc::new(|path| StatusReply {
            status: 503,
            content_type: "text/plain",
            body: Bytes::from(path.to_owned()),
        });
        tokio::spawn(listener.serve(handler));
        let mut s = TcpStream::connect(address).await.unwrap();
        s.write_all(b"GET /status/ready/?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut text = String::new();
        s.read_to_string(&mut text).await.unwrap();
        assert!(
            text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
            "{text}"
        );
        assert!(text.ends_with("\r\n\r\n/status/ready"), "{text}");
    }
}
