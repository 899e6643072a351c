//! The addresses behind one host and port, and the choice between them.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use arc_swap::ArcSwapOption;

use crate::resolver::{Answer, Resolver};

/// Why no address could be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// The name does not resolve; what the resolver said.
    #[error("name resolution failed: {0}")]
    Dns(String),
}

/// The addresses behind one host and port. Requests take them in turn; an attempt after a failure takes another where there is one.
pub struct Pool {
    host: String,
    port: u16,
    /// Set when the host is an address.
    fixed: Option<SocketAddr>,
    next: AtomicUsize,
    known: ArcSwapOption<Known>,
    refreshing: AtomicBool,
    resolver: Resolver,
    me: Weak<Pool>,
}

/// What the last resolution gave.
enum Known {
    Addresses(Answer),
    Failed { error: String, until: Instant },
}

impl Pool {
    /// The pool of a host and port. A name is resolved when the first request needs it.
    pub fn new(host: &str, port: u16, resolver: Resolver) -> Arc<Self> {
        let bare = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        let fixed = bare
            .parse::<IpAddr>()
            .ok()
            .map(|ip| SocketAddr::new(ip, port));
        Arc::new_cyclic(|me| Pool {
            host: host.to_owned(),
            port,
            fixed,
            next: AtomicUsize::new(0),
            known: ArcSwapOption::empty(),
            refreshing: AtomicBool::new(false),
            resolver,
            me: me.clone(),
        })
    }

    /// The host as configured.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// An address, when one is known: not one of `tried` if there is another. Never waits. An answer past its time is used
    /// once more while a fresh one is fetched in the background.
    pub fn try_pick(&self, tried: &[SocketAddr]) -> Option<SocketAddr> {
        if self.fixed.is_some() {
            return self.fixed;
        }
        let known = self.known.load();
        let Some(Known::Addresses(answer)) = known.as_deref() else {
            return None;
        };
        let now = Instant::now();
        if now >= answer.valid_until {
            if now >= answer.stale_until {
                return None;
            }
            self.refresh();
        }
        Some(self.choose(&answer.addresses, tried))
    }

    /// An address, waiting for DNS when nothing is known.
    pub async fn pick(&self, tried: &[SocketAddr]) -> Result<SocketAddr, PickError> {
        if let Some(a) = self.try_pick(tried) {
            return Ok(a);
        }
        if let Some(Known::Failed { error, until }) = self.known.load().as_deref()
            && Instant::now() < *until
        {
            return Err(PickError::Dns(error.clone()));
        }
        match self.resolver.lookup(&self.host).await {
            Ok(answer) => {
                let chosen = self.choose(&answer.addresses, tried);
                self.known.store(Some(Arc::new(Known::Addresses(answer))));
                Ok(chosen)
            }
            Err(error) => {
                let until = Instant::now() + self.resolver.error_ttl();
                self.known.store(Some(Arc::new(Known::Failed {
                    error: error.clone(),
                    until,
                })));
                Err(PickError::Dns(error))
            }
        }
    }

    fn choose(&self, addresses: &[IpAddr], tried: &[SocketAddr]) -> SocketAddr {
        // A single address needs no turn, and no write to memory that all threads share.
        let start = if addresses.len() == 1 {
            0
        } else {
            self.next.fetch_add(1, Ordering::Relaxed)
        };
        let in_turn =
            || (0..addresses.len()).map(|i| addresses[(start.wrapping_add(i)) % addresses.len()]);
        let fresh = in_turn().find(|ip| !tried.iter().any(|t| t.ip() == *ip));
        let ip = fresh.unwrap_or(addresses[start % addresses.len()]);
        SocketAddr::new(ip, self.port)
    }

    /// Fetches a fresh answer in the background; a failure keeps the old one until it is stale.
    fn refresh(&self) {
        if self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(me) = self.me.upgrade() else { return };
        self.resolver.runtime().spawn(async move {
            match me.resolver.lookup(&me.host).await {
                Ok(answer) => me.known.store(Some(Arc::new(Known::Addresses(answer)))),
                Err(e) => {
                    tracing::warn!(host = %me.host, "name resolution failed, the old answer stays: {e}");
                    let pause = me.resolver.error_ttl();
                    tokio::time::sleep(pause).await;
                }
            }
            me.refreshing.store(false, Ordering::Release);
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use tokio::runtime::Handle;

    use super::*;
    use crate::resolver::DnsConfig;

    fn hosts(text: &str) -> (tempfile::NamedTempFile, DnsConfig) {
        let mut f = tempfile::NamedTempFile::new().unwrap();
        f.write_all(text.as_bytes()).unwrap();
        // A name server that is never there: only the hosts file can answer.
        let servers = vec!["127.0.0.1:1".parse().unwrap()];
        let timeout = Duration::from_millis(20);
        let config = DnsConfig {
            hosts_file: f.path().to_owned(),
            servers,
            timeout,
            ..DnsConfig::default()
        };
        (f, config)
    }

    #[tokio::test]
    async fn an_address_needs_no_resolution() {
        let resolver = Resolver::new(DnsConfig::default(), Handle::current()).unwrap();
        let pool = Pool::new("127.0.0.1", 80, resolver.clone());
        assert_eq!(pool.try_pick(&[]), Some("127.0.0.1:80".parse().unwrap()));
        let pool = Pool::new("[::1]", 81, resolver);
        assert_eq!(pool.try_pick(&[]), Some("[::1]:81".parse().unwrap()));
    }

    #[tokio::test]
    async fn addresses_take_turns_and_a_retry_goes_elsewhere() {
        let (_f, config) = hosts("10.0.0.1 many.test\n10.0.0.2 many.test\n");
        let pool = Pool::new(
            "many.test",
            80,
            Resolver::new(config, Handle::current()).unwrap(),
        );
        assert_eq!(
            pool.try_pick(&[]),
            None,
            "nothing is known before the first resolution"
        );
        let first = pool.pick(&[]).await.unwrap();
        let second = pool.pick(&[]).await.unwrap();
        assert_ne!(first, second);
        for _ in 0..4 {
            assert_ne!(pool.pick(&[first]).await.unwrap(), first);
        }
        let all = [first, second];
        assert!(
            all.contains(&pool.pick(&all).await.unwrap()),
            "when all were tried any will do"
        );
    }

    #[tokio::test]
    async fn an_answer_past_its_time_is_used_while_it_is_renewed() {
        let (_f, mut config) = hosts("10.0.0.1 one.test\n");
        config.valid_ttl = Some(Duration::ZERO);
        let pool = Pool::new(
            "one.test",
            80,
            Resolver::new(config, Handle::current()).unwrap(),
        );
        pool.pick(&[]).await.unwrap();
        assert_eq!(pool.try_pick(&[]), Some("10.0.0.1:80".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_said_so() {
        let (_f, config) = hosts("10.0.0.1 one.test\n");
        let pool = Pool::new(
            "none.test",
            80,
            Resolver::new(config, Handle::current()).unwrap(),
        );
        assert!(matches!(pool.pick(&[]).await, Err(PickError::Dns(_))));
        assert!(
            matches!(pool.pick(&[]).await, Err(PickError::Dns(_))),
            "a remembered failure"
        );
    }
}
