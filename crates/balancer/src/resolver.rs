//! Names to addresses. Answers are kept for their TTL and, while a new one is fetched or cannot be had, for a while longer.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ProtocolConfig, ResolveHosts,
    ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Hosts, ResolverBuilder};
use tokio::runtime::Handle;

/// How names are resolved. Kong's `dns_*` settings.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// Name servers; those of `/etc/resolv.conf` when empty.
    pub servers: Vec<SocketAddr>,
    /// The hosts file.
    pub hosts_file: PathBuf,
    /// Overrides the TTL of answers.
    pub valid_ttl: Option<Duration>,
    /// How long an expired answer may still be used while a fresh one cannot be had.
    pub stale_ttl: Duration,
    /// How long a failure is remembered.
    pub error_ttl: Duration,
    /// How long to wait for a name server, each time it is asked.
    pub timeout: Duration,
}

impl Default for DnsConfig {
    fn default() -> Self {
        DnsConfig {
            servers: Vec::new(),
            hosts_file: PathBuf::from("/etc/hosts"),
            valid_ttl: None,
            stale_ttl: Duration::from_secs(3600),
            error_ttl: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
        }
    }
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) valid_until: Instant,
    pub(crate) stale_until: Instant,
}

/// Resolves names on the node's background runtime: a connection to a name server must not be tied to a proxy thread.
#[derive(Clone)]
pub struct Resolver {
    resolver: Arc<TokioResolver>,
    runtime: Handle,
    config: Arc<DnsConfig>,
}

/// The resolver cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up name resolution: {0}")]
pub struct SetUpError(String);

impl Resolver {
    /// Reads the system's settings as far as `config` does not say otherwise.
    pub fn new(config: DnsConfig, runtime: Handle) -> Result<Self, SetUpError> {
        let err = |e: &dyn std::fmt::Display| SetUpError(e.to_string());
        let mut builder: ResolverBuilder<TokioRuntimeProvider> = if config.servers.is_empty() {
            match TokioResolver::builder_tokio() {
                Ok(b) => b,
                // Without a readable resolv.conf the hosts file and addresses still work.
                Err(e) => {
                    tracing::warn!("no name servers: {e}");
                    TokioResolver::builder_with_config(
                        ResolverConfig::from_name_servers(Vec::new()),
                        TokioRuntimeProvider::default(),
                    )
                }
            }
        } else {
            let servers = config.servers.iter().map(|s| {
                let on_port = |protocol| {
                    let mut c = ConnectionConfig::new(protocol);
                    c.port = s.port();
                    c
                };
                let both = vec![on_port(ProtocolConfig::Udp), on_port(ProtocolConfig::Tcp)];
                NameServerConfig::new(s.ip(), true, both)
            });
            TokioResolver::builder_with_config(
                ResolverConfig::from_name_servers(servers.collect()),
                TokioRuntimeProvider::default(),
            )
        };
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        options.timeout = config.timeout;
        options.use_hosts_file = ResolveHosts::Always;
        let mut resolver = builder.build().map_err(|e| err(&e))?;
        let mut hosts = Hosts::default();
        match std::fs::File::open(&config.hosts_file) {
            Ok(f) => hosts.read_hosts_conf(f).map_err(|e| err(&e))?,
            Err(e) => tracing::warn!("cannot read {}: {e}", config.hosts_file.display()),
        }
        resolver.set_hosts(Arc::new(hosts));
        Ok(Resolver {
            resolver: Arc::new(resolver),
            runtime,
            config: Arc::new(config),
        })
    }

    /// Looks a name up now.
    pub(crate) async fn lookup(&self, name: &str) -> Result<Answer, String> {
        let resolver = self.resolver.clone();
        let owned = name.to_owned();
        let found = self
            .runtime
            .spawn(async move { resolver.lookup_ip(owned.as_str()).await });
        let found = found
            .await
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
        let addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() {
            return Err("no records".to_owned());
        }
        let now = Instant::now();
        let valid_until = match self.config.valid_ttl {
            Some(ttl) => now + ttl,
            None => found.valid_until().max(now + Duration::from_secs(1)),
        };
        // A hosts file's answers come with a TTL of a day or more; look again often enough to see it change.
        let valid_until = valid_until.min(now + Duration::from_secs(3600));
        Ok(Answer {
            addresses,
            valid_until,
            stale_until: valid_until + self.config.stale_ttl,
        })
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn error_ttl(&self) -> Duration {
        self.config.error_ttl
    }
}
