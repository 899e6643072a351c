//! A check that the gateway makes by itself: one connection, and one request where the check is one of HTTP.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use silverback_entities::{ActiveChecks, CheckType, Upstream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::health::Outcome;

/// The longest head of a response that is looked at.
const LONGEST: usize = 8192;

/// How the targets of an upstream are checked.
pub(crate) struct Probe {
    check: CheckType,
    timeout: Duration,
    path: String,
    /// Lines of the request.
    headers: String,
    /// Server name of the TLS handshake, and what is sent as `Host`, where they are not the target's.
    sni: Option<String>,
    host: Option<String>,
    verify: bool,
    /// For checks over TLS. Made once: it reads the system's authorities.
    connector: Option<SslConnector>,
    /// How many are made at once.
    pub(crate) concurrency: usize,
}

impl Probe {
    pub(crate) fn of(upstream: &Upstream) -> Self {
        let ActiveChecks {
            timeout,
            headers,
            https_sni,
            concurrency,
            r#type,
            http_path,
            https_verify_certificate,
            ..
        } = &upstream.healthchecks.active;
        let lines = headers.iter().flatten();
        let lines = lines.flat_map(|(name, values)| values.iter().map(move |v| (name, v)));
        let check = r#type.unwrap_or(CheckType::Http);
        Probe {
            connector: matches!(check, CheckType::Https | CheckType::Grpcs)
                .then(|| connector(*https_verify_certificate))
                .flatten(),
            check,
            // 0 is no limit to Kong, and a check that never ends is none.
            timeout: Duration::try_from_secs_f64(timeout.unwrap_or(1.0))
                .ok()
                .filter(|t| !t.is_zero())
                .unwrap_or(Duration::from_secs(60)),
            path: http_path.clone().unwrap_or_else(|| "/".to_owned()),
            headers: lines
                .map(|(name, value)| format!("{name}: {value}\r\n"))
                .collect(),
            sni: https_sni.clone(),
            host: upstream.host_header.clone(),
            verify: *https_verify_certificate,
            concurrency: concurrency.map_or(10, |n| n.max(1) as usize),
        }
    }

    /// Checks an address of the target `host`.
    pub(crate) async fn ask(&self, addr: SocketAddr, host: &str) -> Outcome {
        match tokio::time::timeout(self.timeout, self.attempt(addr, host)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(e)) => {
                tracing::debug!(%addr, "check: {e}");
                Outcome::TcpFailure
            }
            Err(_) => Outcome::Timeout,
        }
    }

    async fn attempt(&self, addr: SocketAddr, host: &str) -> std::io::Result<Outcome> {
        let stream = TcpStream::connect(addr).await?;
        match self.check {
            CheckType::Tcp | CheckType::Grpc => Ok(Outcome::Success),
            CheckType::Http => self.request(stream, host).await,
            CheckType::Https => self.request(self.tls(stream, host).await?, host).await,
            CheckType::Grpcs => self.tls(stream, host).await.map(|_| Outcome::Success),
        }
    }

    async fn tls(&self, stream: TcpStream, host: &str) -> std::io::Result<SslStream<TcpStream>> {
        let name = self.sni.as_deref().unwrap_or(host);
        let connector = self.connector.as_ref();
        let connector = connector.ok_or_else(|| std::io::Error::other("TLS cannot be set up"))?;
        let mut config = connector.configure()?;
        config.set_verify_hostname(self.verify);
        let mut stream = SslStream::new(config.into_ssl(name)?, stream)?;
        let shaken = Pin::new(&mut stream).connect().await;
        shaken.map_err(std::io::Error::other)?;
        Ok(stream)
    }

    async fn request(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        host: &str,
    ) -> std::io::Result<Outcome> {
        let host = self.host.as_deref().unwrap_or(host);
        let request = format!(
            "GET {} HTTP/1.0\r\nConnection: close\r\n{}Host: {host}\r\n\r\n",
            self.path, self.headers
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.contains(&b'\n') && head.len() < LONGEST {
            if stream.read_buf(&mut head).await? == 0 {
                break;
            }
        }
        Ok(status(&head).map_or(Outcome::TcpFailure, Outcome::Status))
    }
}

fn connector(verify: bool) -> Option<SslConnector> {
    let made = SslConnector::builder(SslMethod::tls_client());
    let mut made = made
        .inspect_err(|e| tracing::error!("checks over TLS fail: {e}"))
        .ok()?;
    if !verify {
        made.set_verify(SslVerifyMode::NONE);
    }
    Some(made.build())
}

/// The status that a response begins with.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|b| *b == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    words
        .next()
        .filter(|version| version.starts_with("HTTP/"))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_the_second_word_of_the_first_line() {
        assert_eq!(
            status(b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n"),
            Some(204)
        );
        assert_eq!(status(b"HTTP/1.0 503"), Some(503));
        for bad in [
            &b"SSH-2.0-x 200"[..],
            b"",
            b"HTTP/1.1",
            b"HTTP/1.1 ok",
            b"\xff\xff 200",
        ] {
            assert_eq!(status(bad), None, "{bad:?}");
        }
    }
}
