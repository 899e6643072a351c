//! Sockets: binds the listeners, speaks HTTP/1.x (and HTTP/2 where TLS agrees on it) on them, stops with grace.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslMethod, SslVerifyMode, select_next_proto};
use openssl::x509::X509;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_openssl::SslStream;
use tower::ServiceExt as _;

/// Longest wait for a request's head, the pause before it included.
const HEAD: Duration = Duration::from_secs(75);
/// Longest TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long requests may take to end once the server is to stop.
const GRACE: Duration = Duration::from_secs(10);
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const BACKLOG: i32 = 1024;

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// An address cannot be listened on.
    #[error("the Admin API cannot listen on {addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificates cannot be used.
    #[error("the Admin API's certificates cannot be used: {0}")]
    Tls(String),
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where; port 0 lets the system choose.
    pub addr: SocketAddr,
    /// Whether connections are TLS.
    pub tls: bool,
    /// Whether HTTP/2 is offered in the TLS handshake.
    pub http2: bool,
    /// Whether other processes may listen on it at the same time (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Connections that may wait to be accepted; 1024 when `None`.
    pub backlog: Option<u32>,
    /// Whether an IPv6 address leaves IPv4 alone (`IPV6_V6ONLY`); as the system has it when `None`.
    pub v6only: Option<bool>,
}

impl Listen {
    /// Plain HTTP on that address.
    pub fn plain(addr: SocketAddr) -> Self {
        Listen {
            addr,
            tls: false,
            http2: false,
            reuse_port: false,
            backlog: None,
            v6only: None,
        }
    }
}

/// A certificate with its chain, and its key; both PEM.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate, then those between it and the root.
    pub chain: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("chain", &self.chain.len())
            .finish_non_exhaustive()
    }
}

/// Who is at the other end; in the extensions of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// That the connection is TLS; in the extensions of a request.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    /// Whose certificate the client has shown, if it was asked for one and it is of an authority that we trust.
    pub(crate) subject: Option<Arc<str>>,
}

/// The Admin API with its sockets bound; connections wait until [`AdminServer::run`].
pub struct AdminServer {
    router: Router,
    sockets: Vec<(StdListener, Option<Arc<SslAcceptor>>)>,
    addrs: Vec<SocketAddr>,
}

impl AdminServer {
    pub(crate) fn bind(
        router: Router,
        listen: &[Listen],
        certificates: &[Certificate],
        authorities: Option<&[u8]>,
    ) -> Result<Self, AdminError> {
        let mut sockets = Vec::new();
        let mut addrs = Vec::new();
        for l in listen {
            let at = |source| AdminError::Bind {
                addr: l.addr,
                source,
            };
            let tls = l
                .tls
                .then(|| acceptor(certificates, l.http2, authorities))
                .transpose()?
                .map(Arc::new);
            let socket = socket(l).map_err(at)?;
            addrs.push(socket.local_addr().map_err(at)?);
            sockets.push((socket, tls));
        }
        Ok(AdminServer {
            router,
            sockets,
            addrs,
        })
    }

    /// Where it listens, in the order of the settings; ports that the system chose are known here.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The API without sockets, for tests: a tower service.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Serves until `stop` is done, then lets requests that are being answered end (at most 10 seconds). Must run inside a Tokio runtime.
    ///
    /// # Errors
    /// When a socket cannot be handed to the runtime.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<(), AdminError> {
        let (closing, closed) = watch::channel(false);
        let mut loops = Vec::new();
        for ((socket, tls), addr) in self.sockets.into_iter().zip(self.addrs) {
            let listener = TcpListener::from_std(socket)
                .map_err(|source| AdminError::Bind { addr, source })?;
            tracing::info!(%addr, tls = tls.is_some(), "the Admin API listens");
            loops.push(tokio::spawn(accept(
                listener,
                tls,
                self.router.clone(),
                closed.clone(),
            )));
        }
        stop.await;
        // The loops hear it, or are gone already.
        let _ = closing.send(true);
        for l in loops {
            if let Err(error) = l.await {
                tracing::error!(%error, "a listener of the Admin API failed");
            }
        }
        Ok(())
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<Arc<SslAcceptor>>,
    router: Router,
    mut closed: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closed.changed() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (watcher, router, tls) = (graceful.watcher(), router.clone(), tls.clone());
                tokio::spawn(connection(stream, peer, tls, router, watcher));
            }
            // Of the connection, not of the listener.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                tracing::warn!(%error, "the Admin API cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests to the Admin API were cut off: they did not end in time");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<SslAcceptor>>,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    // Answers are one write each: waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let service = |tls: Option<Tls>| {
        TowerToHyperService::new(router.map_request(move |mut request: http::Request<_>| {
            request.extensions_mut().insert(Peer(peer));
            if let Some(tls) = &tls {
                request.extensions_mut().insert(tls.clone());
            }
            request
        }))
    };
    let mut h1 = hyper::server::conn::http1::Builder::new();
    h1.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let ended = match tls {
        None => {
            watcher
                .watch(h1.serve_connection(TokioIo::new(stream), service(None)))
                .await
        }
        Some(acceptor) => {
            let stream = match tokio::time::timeout(HANDSHAKE, handshake(&acceptor, stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(why)) => {
                    return tracing::debug!(%peer, why, "TLS handshake with the Admin API failed");
                }
                Err(_) => {
                    return tracing::debug!(%peer, "TLS handshake with the Admin API took too long");
                }
            };
            let service = service(Some(Tls {
                subject: stream.ssl().peer_certificate().map(|c| subject(&c).into()),
            }));
            if stream.ssl().selected_alpn_protocol() == Some(b"h2") {
                let mut h2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                h2.timer(TokioTimer::new()).keep_alive_interval(HEAD);
                watcher
                    .watch(h2.serve_connection(TokioIo::new(stream), service))
                    .await
            } else {
                watcher
                    .watch(h1.serve_connection(TokioIo::new(stream), service))
                    .await
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection to the Admin API ended badly");
    }
}

/// Whose certificate it is: `CN=ops, O=Example`.
fn subject(certificate: &X509) -> String {
    let name = certificate.subject_name();
    let parts = name.entries().map(|entry| {
        let kind = entry.object().nid().short_name().unwrap_or("?");
        let text = entry.data().to_string();
        format!("{kind}={}", text.unwrap_or_default())
    });
    parts.collect::<Vec<_>>().join(", ")
}

async fn handshake(
    acceptor: &SslAcceptor,
    stream: TcpStream,
) -> Result<SslStream<TcpStream>, String> {
    let ssl = Ssl::new(acceptor.context()).map_err(|e| e.to_string())?;
    let mut stream = SslStream::new(ssl, stream).map_err(|e| e.to_string())?;
    Pin::new(&mut stream)
        .accept()
        .await
        .map_err(|e| e.to_string())?;
    Ok(stream)
}

fn socket(l: &Listen) -> io::Result<StdListener> {
    let socket = Socket::new(
        Domain::for_address(l.addr),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if l.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if let (true, Some(only)) = (l.addr.is_ipv6(), l.v6only) {
        socket.set_only_v6(only)?;
    }
    socket.bind(&l.addr.into())?;
    socket.listen(
        l.backlog
            .map_or(BACKLOG, |n| i32::try_from(n).unwrap_or(i32::MAX)),
    )?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// One context for certificates of different kinds of keys: OpenSSL picks the one the client can use.
fn acceptor(
    certificates: &[Certificate],
    http2: bool,
    authorities: Option<&[u8]>,
) -> Result<SslAcceptor, AdminError> {
    let bad = |e: openssl::error::ErrorStack| AdminError::Tls(e.to_string());
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).map_err(bad)?;
    if certificates.is_empty() {
        return Err(AdminError::Tls(
            "an ssl listener needs a certificate and there is none".into(),
        ));
    }
    for c in certificates {
        let mut chain = X509::stack_from_pem(&c.chain).map_err(bad)?.into_iter();
        let leaf = chain
            .next()
            .ok_or_else(|| AdminError::Tls("a certificate file holds no certificate".into()))?;
        let key = openssl::pkey::PKey::private_key_from_pem(&c.key).map_err(bad)?;
        builder.set_certificate(&leaf).map_err(bad)?;
        builder.set_private_key(&key).map_err(bad)?;
        builder.check_private_key().map_err(bad)?;
        for above in chain {
            builder.add_extra_chain_cert(above).map_err(bad)?;
        }
    }
    if let Some(pem) = authorities {
        let all = X509::stack_from_pem(pem).map_err(bad)?;
        if all.is_empty() {
            return Err(AdminError::Tls(
                "the authorities of clients hold no certificate".into(),
            ));
        }
        for authority in all {
            builder.add_client_ca(&authority).map_err(bad)?;
            builder.cert_store_mut().add_cert(authority).map_err(bad)?;
        }
        // Who shows none may still have a token; one that cannot be verified ends the handshake.
        builder.set_verify(SslVerifyMode::PEER);
        // Without it a session with a certificate could not be resumed.
        builder
            .set_session_id_context(b"silverback-admin")
            .map_err(bad)?;
    }
    let protocols: &'static [u8] = if http2 {
        b"\x02h2\x08http/1.1"
    } else {
        b"\x08http/1.1"
    };
    builder.set_alpn_select_callback(move |_, client| {
        select_next_proto(protocols, client).ok_or(AlpnError::NOACK)
    });
    Ok(builder.build())
}
