//! An HTTP/1.1 client for tests on Tokio: what it sends is what it was told, and what it got is shown as it came.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Gateway;
use crate::h1::{self, Parsed, Response};

/// How long a client waits for the next byte.
const PATIENCE: Duration = Duration::from_secs(30);

/// An address to call.
#[derive(Debug, Clone)]
pub struct Endpoint {
    addr: SocketAddr,
    tls: bool,
    sni: Option<String>,
    protocols: &'static [u8],
}

impl Endpoint {
    /// HTTP.
    pub fn plain(addr: SocketAddr) -> Self {
        Self {
            addr,
            tls: false,
            sni: None,
            protocols: b"",
        }
    }

    /// HTTPS; the certificate is not verified, and no ALPN is sent.
    pub fn tls(addr: SocketAddr) -> Self {
        Self {
            tls: true,
            ..Self::plain(addr)
        }
    }

    /// With this server name in the TLS handshake.
    #[must_use]
    pub fn sni(mut self, name: &str) -> Self {
        self.sni = Some(name.to_owned());
        self
    }

    /// With these protocols offered by ALPN, in its wire form: each with its length in front.
    #[must_use]
    pub fn protocols(mut self, list: &'static [u8]) -> Self {
        self.protocols = list;
        self
    }

    /// Where it is.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A call to it.
    pub fn call(&self, method: &str, path: &str) -> Call<'static> {
        Call::new(self.clone(), method, path)
    }

    /// `GET`.
    pub fn get(&self, path: &str) -> Call<'static> {
        self.call("GET", path)
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// When it is refused, or the TLS handshake fails.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let what = || format!("connecting to {}", self.addr);
        let tcp = TcpStream::connect(self.addr).await.with_context(what)?;
        tcp.set_nodelay(true)?;
        let stream: Pin<Box<dyn Stream>> = if self.tls {
            Box::pin(self.handshake(tcp).await.with_context(what)?)
        } else {
            Box::pin(tcp)
        };
        Ok(Connection {
            stream,
            received: Vec::new(),
        })
    }

    /// Opens a TLS connection, for clients of other protocols than HTTP/1.1.
    ///
    /// # Errors
    /// When it is refused, or the handshake fails.
    pub async fn connect_tls(&self) -> anyhow::Result<tokio_openssl::SslStream<TcpStream>> {
        let tcp = TcpStream::connect(self.addr).await?;
        tcp.set_nodelay(true)?;
        self.handshake(tcp).await
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
    ) -> anyhow::Result<tokio_openssl::SslStream<TcpStream>> {
        let mut connector = SslConnector::builder(SslMethod::tls_client())?;
        connector.set_verify(SslVerifyMode::NONE);
        if !self.protocols.is_empty() {
            connector.set_alpn_protos(self.protocols)?;
        }
        let mut config = connector.build().configure()?.verify_hostname(false);
        config.set_use_server_name_indication(self.sni.is_some());
        let ssl = config.into_ssl(self.sni.as_deref().unwrap_or("unnamed"))?;
        let mut stream = tokio_openssl::SslStream::new(ssl, tcp)?;
        Pin::new(&mut stream).connect().await?;
        Ok(stream)
    }
}

/// A request that has yet to be sent.
#[derive(Clone)]
#[must_use]
pub struct Call<'a> {
    endpoint: Endpoint,
    method: String,
    path: String,
    version: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    chunked: bool,
    settle: Option<&'a Gateway>,
    changes: Option<&'a Gateway>,
}

impl<'a> Call<'a> {
    pub(super) fn new(endpoint: Endpoint, method: &str, path: &str) -> Self {
        Self {
            endpoint,
            method: method.to_owned(),
            path: path.to_owned(),
            version: "HTTP/1.1",
            headers: Vec::new(),
            body: Vec::new(),
            chunked: false,
            settle: None,
            changes: None,
        }
    }

    pub(super) fn after_settling(mut self, gateway: &'a Gateway) -> Self {
        self.settle = Some(gateway);
        self
    }

    pub(super) fn changing(mut self, gateway: &'a Gateway) -> Self {
        self.changes = Some(gateway);
        self
    }

    /// With one more header field.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this `Host`; without it, the address.
    pub fn host(self, name: &str) -> Self {
        self.header("Host", name)
    }

    /// With a body and its length.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = bytes.into();
        self
    }

    /// With a body in chunks of 1,000 bytes.
    pub fn chunked(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.chunked = true;
        self.body(bytes)
    }

    /// With a JSON body.
    pub fn json(self, value: &serde_json::Value) -> Self {
        self.header("Content-Type", "application/json")
            .body(value.to_string())
    }

    /// With an urlencoded form as it goes over the wire.
    pub fn form(self, text: &str) -> Self {
        self.header("Content-Type", "application/x-www-form-urlencoded")
            .body(text)
    }

    /// As HTTP/1.0.
    pub fn http10(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    /// Sends it on a connection of its own and reads the whole answer.
    ///
    /// # Errors
    /// When the server cannot be reached, goes away, or does not speak HTTP.
    pub async fn send(self) -> anyhow::Result<Response> {
        self.prepare().await?;
        let mut connection = self.endpoint.connect().await?;
        connection.send(&self).await
    }

    /// Sends it and answers only with this status.
    ///
    /// # Errors
    /// As [`Call::send`], and when the status is another.
    pub async fn expect(self, status: u16) -> anyhow::Result<Response> {
        let line = format!("{} {}", self.method, self.path);
        let response = self.send().await?;
        if response.status != status {
            bail!(
                "{line}: {} instead of {status}: {}",
                response.status,
                response.text()
            );
        }
        Ok(response)
    }

    async fn prepare(&self) -> anyhow::Result<()> {
        if let Some(gateway) = self.settle {
            gateway.settle().await?;
        }
        if let Some(gateway) = self.changes
            && !matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
        {
            gateway.changed();
        }
        Ok(())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut headers = self.headers.clone();
        let has = |headers: &[(String, String)], n: &str| {
            headers.iter().any(|(h, _)| h.eq_ignore_ascii_case(n))
        };
        if !has(&headers, "host") {
            headers.insert(0, ("Host".into(), self.endpoint.addr.to_string()));
        }
        let mut body = Vec::new();
        if self.chunked {
            headers.push(("Transfer-Encoding".into(), "chunked".into()));
            for chunk in self.body.chunks(1000) {
                body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
        } else {
            let sized =
                !self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT" | "PATCH");
            if sized && !has(&headers, "content-length") {
                headers.push(("Content-Length".into(), self.body.len().to_string()));
            }
            body.extend_from_slice(&self.body);
        }
        request_bytes(&self.method, &self.path, self.version, &headers, &body)
    }
}

/// A request as bytes, just as given.
pub fn request_bytes(
    method: &str,
    target: &str,
    version: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> Vec<u8> {
    let mut bytes = format!("{method} {target} {version}\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// A connection that is kept for several requests, or for bytes that are none.
pub struct Connection {
    stream: Pin<Box<dyn Stream>>,
    received: Vec<u8>,
}

impl Connection {
    /// Sends a call (whatever its endpoint) and reads the whole answer.
    ///
    /// # Errors
    /// When the server goes away or does not speak HTTP.
    pub async fn send(&mut self, call: &Call<'_>) -> anyhow::Result<Response> {
        call.prepare().await?;
        let bytes = call.bytes();
        // A server may answer before it has read everything, and close: its answer counts.
        let (mut read, mut write) = tokio::io::split(&mut self.stream);
        let writing = async {
            let _refused = write.write_all(&bytes).await;
            let _refused = write.flush().await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = read_response(&mut read, &mut self.received, &call.method) => answer,
            () = writing => bail!("unreachable: writing never ends by itself"),
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the server has gone away.
    pub async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Reads the next answer, to a request with this method.
    ///
    /// # Errors
    /// When the server goes away or does not speak HTTP.
    pub async fn response(&mut self, method: &str) -> anyhow::Result<Response> {
        read_response(&mut self.stream, &mut self.received, method).await
    }

    /// Reads this many bytes.
    ///
    /// # Errors
    /// When the server goes away before.
    pub async fn bytes(&mut self, count: usize) -> anyhow::Result<Vec<u8>> {
        while self.received.len() < count {
            more(&mut self.stream, &mut self.received).await?;
        }
        Ok(self.received.drain(..count).collect())
    }

    /// Reads until the server closes, and returns what came; a reset counts as closing.
    ///
    /// # Errors
    /// When it keeps the connection open.
    pub async fn rest(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut buffer = [0; 4096];
        loop {
            match tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer)).await {
                Err(_) => bail!("the server keeps the connection open"),
                Ok(Ok(0) | Err(_)) => return Ok(std::mem::take(&mut self.received)),
                Ok(Ok(count)) => self.received.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

async fn read_response(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut Vec<u8>,
    method: &str,
) -> anyhow::Result<Response> {
    let mut ended = false;
    loop {
        match h1::response(received, method, ended) {
            Parsed::Complete(response, length) => {
                received.drain(..length);
                return Ok(response);
            }
            Parsed::Invalid(why) => bail!("not HTTP/1.1: {why}"),
            Parsed::Partial if ended => bail!(
                "closed in the middle of an answer: {:?}",
                String::from_utf8_lossy(received)
            ),
            Parsed::Partial => {}
        }
        ended = !read_some(stream, received).await?;
    }
}

async fn more(stream: &mut (impl AsyncRead + Unpin), received: &mut Vec<u8>) -> anyhow::Result<()> {
    if !read_some(stream, received).await? {
        bail!("closed after {:?}", String::from_utf8_lossy(received));
    }
    Ok(())
}

/// Whether there was something to read.
async fn read_some(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut Vec<u8>,
) -> anyhow::Result<bool> {
    received.reserve(64 * 1024);
    match tokio::time::timeout(PATIENCE, stream.read_buf(received)).await {
        Err(_) => bail!(
            "silent after {:?}",
            String::from_utf8_lossy(&received[..received.len().min(500)])
        ),
        Ok(Ok(count)) => Ok(count > 0),
        // What came before a reset may be a whole answer that ends with the connection.
        Ok(Err(_)) if !received.is_empty() => Ok(false),
        Ok(Err(error)) => Err(error.into()),
    }
}
