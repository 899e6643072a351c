//! Listening sockets, worker threads, and how they stop.
//!
//! Each worker is one thread with its own runtime, its own upstream connections and its own view of the listening sockets, so that
//! nothing of a request leaves its thread. This is nginx's arrangement, and cheaper than work stealing.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::FutureExt;
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::stream::Stream as TcpIo;
use pingora_core::protocols::{ALPN, GetSocketDigest, IO, SocketDigest, Ssl, Stream};
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use socket2::{Domain, Protocol, Socket, Type};
use std::os::fd::AsRawFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::config::{ProxyConfig, Shared};
use crate::gate::{Gate, Refuse};
use crate::refuse::Refuser;
use crate::service::Proxy;
use crate::tls::{Acceptor, Certificate, CertificateError};

/// Length of what an HTTP/2 client sends first (RFC 9113, 3.4).
const H2_PREFACE: usize = 24;

/// An address to listen on; one entry of Kong's `proxy_listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address; port 0 lets the system choose.
    pub address: SocketAddr,
    /// Whether TLS is spoken.
    pub ssl: bool,
    /// Whether HTTP/2 is offered (over TLS).
    pub http2: bool,
    /// Whether each worker gets a socket of its own.
    pub reuseport: bool,
    /// How many connections may wait to be accepted.
    pub backlog: u32,
}

impl Listen {
    /// Plain HTTP with a backlog of 16384, Kong's default.
    pub fn http(address: SocketAddr) -> Self {
        Listen {
            address,
            ssl: false,
            http2: false,
            reuseport: false,
            backlog: 16384,
        }
    }

    /// TLS with HTTP/2.
    pub fn https(address: SocketAddr) -> Self {
        Listen {
            ssl: true,
            http2: true,
            ..Listen::http(address)
        }
    }
}

/// Why the data plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A TLS listener without certificate.
    #[error("a listener with ssl needs a certificate")]
    NoCertificate,
    /// A worker cannot be started.
    #[error("cannot start a worker: {0}")]
    Worker(io::Error),
}

struct Bound {
    listen: Listen,
    /// One per worker with `reuseport`, else one.
    sockets: Vec<StdListener>,
}

/// Sockets that are bound and accept connections, though nobody serves them yet.
pub struct Listeners {
    bound: Vec<Bound>,
    workers: usize,
}

impl Listeners {
    /// Binds all addresses for so many workers; 0 for one per core.
    ///
    /// # Errors
    /// [`StartError::Bind`] for the first that cannot be bound.
    pub fn bind(listens: &[Listen], threads: usize) -> Result<Self, StartError> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if threads == 0 { cores() } else { threads };
        let mut bound = Vec::with_capacity(listens.len());
        for listen in listens {
            let mut listen = listen.clone();
            let fail = |address| move |source| StartError::Bind { address, source };
            let mut sockets = Vec::new();
            for _ in 0..if listen.reuseport { workers } else { 1 } {
                let socket = open(&listen).map_err(fail(listen.address))?;
                // The system's choice holds for the other workers' sockets too.
                listen.address = socket.local_addr().map_err(fail(listen.address))?;
                sockets.push(socket);
            }
            bound.push(Bound { listen, sockets });
        }
        Ok(Listeners { bound, workers })
    }

    /// The addresses, with the ports that were chosen for port 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|b| b.listen.address).collect()
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// [`StartError`] when the certificate or a thread cannot be had.
    pub fn serve(
        self,
        shared: &Shared,
        certificates: &[Certificate],
    ) -> Result<Server, StartError> {
        let acceptor = |b: &Bound| match (b.listen.ssl, certificates) {
            (false, _) => Ok(None),
            (true, []) => Err(StartError::NoCertificate),
            (true, all) => Ok(Some(Acceptor::new(all, b.listen.http2)?)),
        };
        let acceptors = self
            .bound
            .iter()
            .map(acceptor)
            .collect::<Result<Vec<_>, _>>()?;
        let (stop, watch) = watch::channel(None);
        let mut threads = Vec::with_capacity(self.workers);
        let addresses = self.addresses();
        for n in 0..self.workers {
            let mut doors = Vec::new();
            for (b, acceptor) in self.bound.iter().zip(&acceptors) {
                let socket = b.sockets.get(n).unwrap_or(&b.sockets[0]);
                doors.push(Door {
                    socket: socket.try_clone().map_err(StartError::Worker)?,
                    tls: acceptor.clone(),
                });
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(StartError::Worker)?;
            let (shared, watch) = (shared.clone(), watch.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{n}"));
            let thread = thread.spawn(move || runtime.block_on(worker(shared, doors, watch)));
            threads.push(thread.map_err(StartError::Worker)?);
        }
        Ok(Server {
            addresses,
            stop,
            threads,
        })
    }
}

/// Workers that serve.
pub struct Server {
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<Option<Duration>>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// The addresses served.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no more connections, lets requests that are under way come to their end, at most for `grace`, and waits for that.
    /// With no grace all connections are closed at once. Blocks: not for a runtime's thread.
    pub fn stop(mut self, grace: Duration) {
        self.stop.send_replace(Some(grace));
        for t in self.threads.drain(..) {
            if t.join().is_err() {
                tracing::error!("a worker ended by a panic");
            }
        }
    }

    /// Whether all workers are there.
    pub fn healthy(&self) -> bool {
        self.threads.iter().all(|t| !t.is_finished())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Workers end by themselves; nobody waits for them.
        self.stop.send_replace(Some(Duration::ZERO));
    }
}

fn open(listen: &Listen) -> io::Result<StdListener> {
    let socket = Socket::new(
        Domain::for_address(listen.address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if listen.reuseport {
        socket.set_reuse_port(true)?;
    }
    if listen.address.is_ipv6() {
        // nginx' default, so that 0.0.0.0 and [::] may be listened on side by side.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&listen.address.into())?;
    socket.listen(i32::try_from(listen.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// A listening socket as one worker sees it.
struct Door {
    socket: StdListener,
    tls: Option<Acceptor>,
}

struct Worker {
    proxy: Arc<HttpProxy<Proxy>>,
    shared: Arc<Shared>,
    refuse: Arc<Refuser>,
    /// Turns true when the worker stops.
    stopping: watch::Receiver<bool>,
}

async fn worker(shared: Shared, doors: Vec<Door>, mut stop: watch::Receiver<Option<Duration>>) {
    // A handle of this thread's own, so that its counter is no other thread's business.
    let shared = Arc::new(shared);
    let conf = ServerConf {
        threads: 1,
        // Attempts are bounded by the terms of each request.
        max_retries: usize::MAX,
        upstream_keepalive_pool_size: shared.config.upstream_keepalive_pool_size,
        ca_file: shared.config.ca_file.clone(),
        ..ServerConf::default()
    };
    let mut proxy = HttpProxy::new(Proxy::new(shared.clone()), Arc::new(conf));
    proxy.server_options = Some(server_options(&shared.config));
    proxy.handle_init_modules();
    let (stopped, stopping) = watch::channel(false);
    let worker = Arc::new(Worker {
        proxy: Arc::new(proxy),
        refuse: Arc::new(Refuser(shared.clone())),
        shared,
        stopping,
    });
    let (open, mut closed) = mpsc::channel::<()>(1);
    let doors: Vec<_> = doors
        .into_iter()
        .map(|d| tokio::spawn(accept(worker.clone(), d, open.clone())))
        .collect();
    drop(open);
    // The sender is gone only when the server is, which also means to stop.
    let grace = match stop.wait_for(Option::is_some).await {
        Ok(grace) => grace.unwrap_or_default(),
        Err(_) => Duration::ZERO,
    };
    for d in doors {
        d.abort();
    }
    stopped.send_replace(true);
    worker.proxy.http_cleanup().await;
    // Nothing is ever sent; the channel ends with the last connection.
    let _ = tokio::time::timeout(grace, closed.recv()).await;
}

fn server_options(config: &ProxyConfig) -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    // Without keep-alive a client still gets the time to send its first request.
    let idle = if config.client_keepalive.is_zero() {
        config.client_read_timeout
    } else {
        config.client_keepalive
    };
    options.h2_idle_timeout = Some(idle);
    options
}

async fn accept(worker: Arc<Worker>, door: Door, open: mpsc::Sender<()>) {
    let listener = match TcpListener::from_std(door.socket) {
        Ok(l) => l,
        Err(e) => return tracing::error!("cannot accept connections: {e}"),
    };
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (worker, tls, open) = (worker.clone(), door.tls.clone(), open.clone());
                tokio::spawn(async move {
                    let node = worker.shared.metrics.node();
                    node.connection_accepted();
                    let served = AssertUnwindSafe(connection(&worker, stream, peer, tls))
                        .catch_unwind()
                        .await;
                    if served.is_err() {
                        tracing::error!(%peer, "connection ended by a panic");
                    }
                    node.connection_closed();
                    drop(open);
                });
            }
            Err(e) => {
                tracing::error!("cannot accept a connection: {e}");
                // Mostly too many open files: give connections time to end.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(worker: &Worker, stream: TcpStream, peer: SocketAddr, tls: Option<Acceptor>) {
    if let Err(e) = stream.set_nodelay(true) {
        tracing::debug!(%peer, "cannot set TCP_NODELAY: {e}");
    }
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // A fresh cell takes its first value.
    let _ = digest.peer_addr.set(Some(peer.into()));
    let Some(acceptor) = tls else {
        let mut io = TcpIo::from(stream);
        io.set_socket_digest(digest);
        return http1(worker, io).await;
    };
    let limit = worker.shared.config.client_read_timeout;
    let Ok(Ok(first)) = tokio::time::timeout(limit, first_byte(&stream)).await else {
        return;
    };
    if first.is_ascii_uppercase() {
        return plain_to_tls(worker, stream).await;
    }
    let mut io = TcpIo::from(stream);
    io.set_socket_digest(digest);
    let io = match tokio::time::timeout(limit, acceptor.accept(io)).await {
        Ok(Ok(io)) => io,
        Ok(Err(e)) => return tracing::info!(%peer, "TLS handshake failed: {e}"),
        Err(_) => return tracing::info!(%peer, "TLS handshake timed out"),
    };
    if matches!(io.selected_alpn_proto(), Some(ALPN::H2)) {
        http2(worker, io, peer).await;
    } else {
        http1(worker, io).await;
    }
}

/// Serves an HTTP/2 connection, once its client has begun to speak: Pingora would wait for that without end.
async fn http2<S: IO + 'static>(worker: &Worker, mut io: S, peer: SocketAddr) {
    let mut preface = [0; H2_PREFACE];
    let limit = worker.shared.config.client_read_timeout;
    match tokio::time::timeout(limit, io.read_exact(&mut preface)).await {
        Ok(Ok(_)) => {}
        Ok(Err(e)) => return tracing::debug!(%peer, "no HTTP/2 preface: {e}"),
        Err(_) => return tracing::debug!(%peer, "no HTTP/2 preface in time"),
    }
    let mut gate = Gate::tunnel(io, worker.refuse.clone());
    gate.unread(&preface);
    let stream: Stream = Box::new(gate);
    worker.proxy.process_new(stream, &worker.stopping).await;
}

/// Serves the requests of an HTTP/1 connection, one after the other.
async fn http1<S: IO + 'static>(worker: &Worker, io: S) {
    let refuse: Arc<dyn Refuse> = worker.refuse.clone();
    let mut gate = Box::new(Gate::new(io, refuse));
    let mut settings: Option<HttpPersistentSettings> = None;
    let keepalive = worker.shared.config.client_keepalive.as_secs();
    loop {
        let mut session = ServerSession::new_http1(gate as Stream);
        if let Some(settings) = settings.take() {
            settings.apply_to_session(&mut session);
        }
        let stopping = *worker.stopping.borrow();
        session.set_keepalive(if stopping || keepalive == 0 {
            None
        } else {
            Some(keepalive)
        });
        session.set_read_timeout(Some(worker.shared.config.client_read_timeout));
        let Some(reused) = worker
            .proxy
            .process_new_http(session, &worker.stopping)
            .await
        else {
            return;
        };
        let (stream, next) = reused.consume();
        settings = next;
        let Ok(mut again) = stream.into_any().downcast::<Gate<S>>() else {
            return;
        };
        again.next_request();
        gate = again;
    }
}

async fn first_byte(stream: &TcpStream) -> io::Result<u8> {
    let mut byte = [0];
    stream.peek(&mut byte).await?;
    Ok(byte[0])
}

/// Tells a client that speaks plain HTTP on a TLS port.
async fn plain_to_tls(worker: &Worker, mut stream: TcpStream) {
    let tell = async {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await?;
        stream.write_all(&worker.refuse.plain_to_tls()).await?;
        stream.shutdown().await?;
        while stream.read(&mut head).await? > 0 {}
        io::Result::Ok(())
    };
    // A client that does not take the answer goes without.
    let _ = tokio::time::timeout(Duration::from_secs(2), tell).await;
}
