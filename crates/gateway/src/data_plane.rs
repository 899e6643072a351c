//! The data plane of a node: the proxy's listeners and the status listener.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use silverback_proxy::{
    Certificate, Format, HeadersConfig, Listen, Listeners, ProxyConfig, RealIp, Server, Shared,
    StatusHandler, StatusListener, StatusReply, TrustedIps,
};
use silverback_runtime::Engine;
use silverback_telemetry::AccessLog;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::config::{Config, Listener, PemSource};
use crate::pg;
use crate::status::NodeStatus;

/// Listeners that serve.
pub(crate) struct DataPlane {
    server: Server,
    addrs: Vec<SocketAddr>,
    status_addrs: Vec<SocketAddr>,
    status_tasks: Vec<JoinHandle<()>>,
}

impl DataPlane {
    /// Binds and serves. The status listeners run on `background`.
    pub(crate) fn start(
        config: &Config,
        engine: &Engine,
        access_log: &Arc<AccessLog>,
        status: &Arc<NodeStatus>,
        background: &Handle,
    ) -> anyhow::Result<Self> {
        let listens = config
            .proxy_listeners()
            .iter()
            .map(listen)
            .collect::<anyhow::Result<Vec<_>>>()?;
        let threads = config.nginx_worker_processes.threads();
        let listeners = Listeners::bind(&listens, threads)?;
        let certificates = match listens.iter().any(|l| l.ssl) {
            true => certificates(config)?,
            false => Vec::new(),
        };
        let shared = Shared {
            config: Arc::new(settings(config, threads)?),
            current: engine.current(),
            metrics: status.metrics().clone(),
            access_log: access_log.clone(),
        };
        let addrs = listeners.addresses();
        let mut status_addrs = Vec::new();
        let mut bound = Vec::new();
        for l in &config.status_listen {
            let listener = background
                .block_on(StatusListener::bind(l.addr))
                .with_context(|| format!("the status listener cannot be bound to {}", l.addr))?;
            status_addrs.push(listener.address());
            bound.push(listener);
        }
        let server = listeners.serve(&shared, &certificates)?;
        let handler = handler(status);
        let serve = |l: StatusListener| background.spawn(l.serve(handler.clone()));
        let status_tasks = bound.into_iter().map(serve).collect();
        Ok(DataPlane {
            server,
            addrs,
            status_addrs,
            status_tasks,
        })
    }

    /// Where the proxy listens.
    pub(crate) fn proxy_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Where the status API listens.
    pub(crate) fn status_addrs(&self) -> &[SocketAddr] {
        &self.status_addrs
    }

    /// Takes no more connections and waits for requests in flight, at most for `grace`.
    pub(crate) fn stop(self, grace: Duration) {
        self.server.stop(grace);
        self.status_tasks.iter().for_each(JoinHandle::abort);
    }
}

fn listen(l: &Listener) -> anyhow::Result<Listen> {
    if l.proxy_protocol {
        bail!(
            "proxy_listen: proxy_protocol is not supported yet ({})",
            l.addr
        );
    }
    if l.deferred {
        tracing::warn!("proxy_listen: deferred has no effect ({})", l.addr);
    }
    Ok(Listen {
        address: l.addr,
        ssl: l.tls,
        http2: l.http2,
        reuseport: l.reuseport,
        backlog: l.backlog.unwrap_or(511),
    })
}

fn settings(config: &Config, threads: usize) -> anyhow::Result<ProxyConfig> {
    let trusted: Vec<String> = config.trusted_ips.iter().map(ToString::to_string).collect();
    let headers = HeadersConfig::parse(config.headers.tokens.iter().map(String::as_str))?;
    if config.real_ip_header == "proxy_protocol" {
        bail!("real_ip_header: proxy_protocol is not supported yet");
    }
    Ok(ProxyConfig {
        headers,
        upstream_request_id: config.headers_upstream.request_id,
        real_ip: RealIp {
            trusted: TrustedIps::parse(trusted.iter().map(String::as_str))?,
            header: config
                .real_ip_header
                .parse()
                .context("real_ip_header is not the name of a header")?,
            recursive: config.real_ip_recursive,
        },
        error_default_type: Format::of_media_type(config.error_default_type.as_str())
            .unwrap_or_default(),
        client_max_body_size: config.client_max_body_size,
        upstream_keepalive_pool_size: usize::try_from(config.upstream_keepalive_pool_size)
            .unwrap_or(usize::MAX),
        upstream_keepalive_idle: config.upstream_keepalive_idle_timeout,
        debug_header: config.allow_debug_header,
        ca_file: pg::trusted_authorities(config)?.map(|p| p.display().to_string()),
        threads,
        ..ProxyConfig::default()
    })
}

/// The certificates as files; those given as text are written below the prefix.
fn certificates(config: &Config) -> anyhow::Result<Vec<Certificate>> {
    let dir = config.prefix.join("ssl");
    let pairs = config.proxy_certificates()?;
    pairs
        .iter()
        .enumerate()
        .map(|(n, (chain, key))| {
            Ok(Certificate {
                chain: as_file(chain, &dir, &format!("inline-{n}.crt"))?,
                key: as_file(key, &dir, &format!("inline-{n}.key"))?,
            })
        })
        .collect()
}

fn as_file(source: &PemSource, dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    if let PemSource::File(path) = source {
        return Ok(path.clone());
    }
    let path = dir.join(name);
    let text = source.read()?;
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let open = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path);
    open.and_then(|mut f| f.write_all(&text))
        .with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Answers of the status API.
fn handler(status: &Arc<NodeStatus>) -> StatusHandler {
    const JSON: &str = "application/json; charset=utf-8";
    let status = status.clone();
    Arc::new(move |path| match path {
        "/status" => StatusReply {
            status: 200,
            content_type: JSON,
            body: status.status().to_string().into(),
        },
        "/status/ready" if status.ready() => StatusReply {
            status: 200,
            content_type: JSON,
            body: r#"{"message":"ready"}"#.into(),
        },
        "/status/ready" => StatusReply {
            status: 503,
            content_type: JSON,
            body: r#"{"message":"no configuration available"}"#.into(),
        },
        "/metrics" => StatusReply {
            status: 200,
            content_type: silverback_telemetry::metrics::CONTENT_TYPE,
            body: status.exposition().into(),
        },
        _ => StatusReply::not_found(),
    })
}
