//! An upstream: its targets, the addresses they stand for, and the choice of one for a request.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use futures::future::join_all;
use http::HeaderName;
use silverback_entities::{Algorithm, HashOn, Target, Upstream};

use crate::order::{Candidate, Load, Order};
use crate::resolver::{Answer, Resolver};

/// None of an upstream's targets can be asked: it has none, all have weight 0, or their names do not resolve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("No peers are available")]
pub struct NoPeer;

/// What of a request decides where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashInput {
    /// The id of the consumer, or else of the credential.
    Consumer,
    /// The client's address.
    Ip,
    /// A header.
    Header(HeaderName),
    /// A cookie, which the client is given when it has none.
    Cookie {
        /// Its name.
        name: String,
        /// Its `Path`.
        path: String,
    },
    /// The path.
    Path,
    /// An argument of the query.
    QueryArg(String),
    /// A group of the route's regular expression, by name or number.
    UriCapture(String),
}

/// An upstream with its targets.
pub struct Balancer {
    name: Box<str>,
    algorithm: Algorithm,
    slots: u32,
    inputs: Vec<HashInput>,
    /// In the order of their names and ports.
    targets: Vec<Goal>,
    next: Arc<AtomicU64>,
    loads: Arc<Mutex<Loads>>,
    ring: ArcSwapOption<Ring>,
    /// What the names stood for last, by the target's place.
    answers: Mutex<HashMap<usize, Answer>>,
    first: tokio::sync::Mutex<()>,
    refreshing: AtomicBool,
    resolver: Resolver,
    me: Weak<Balancer>,
}

type Loads = BTreeMap<(SocketAddr, String), Arc<Load>>;

/// A target.
struct Goal {
    host: String,
    port: u16,
    weight: u32,
    /// Set when the host is an address.
    fixed: Option<IpAddr>,
    /// What upstream requests name.
    authority: Arc<Authority>,
}

/// What upstream requests call a target.
#[derive(Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its host, as a server name of TLS; empty for addresses.
    pub sni: String,
    /// `Host` for requests in clear text and over TLS: with the port unless it is the scheme's own.
    clear: http::HeaderValue,
    tls: http::HeaderValue,
}

impl Authority {
    fn new(host: &str, port: u16) -> Self {
        let has_port = host.rsplit_once(':').is_some_and(|(h, p)| {
            !p.is_empty()
                && p.bytes().all(|b| b.is_ascii_digit())
                && !h.ends_with(':')
                && (!h.contains(':') || h.ends_with(']'))
        });
        let with = |own: u16| {
            let text = if has_port || port == own {
                host.to_owned()
            } else {
                format!("{host}:{port}")
            };
            // Hosts are checked when they are written: letters, digits and punctuation that a header may hold.
            http::HeaderValue::from_str(&text)
                .unwrap_or_else(|_| http::HeaderValue::from_static(""))
        };
        let bare = if has_port {
            host.rsplit_once(':').map_or(host, |(h, _)| h)
        } else {
            host
        };
        Authority {
            sni: if ip_of(bare).is_some() {
                String::new()
            } else {
                bare.to_owned()
            },
            clear: with(80),
            tls: with(443),
        }
    }

    /// The `Host` of a request to it.
    pub fn host(&self, tls: bool) -> &http::HeaderValue {
        if tls { &self.tls } else { &self.clear }
    }
}

struct Address {
    addr: SocketAddr,
    weight: u32,
    authority: Arc<Authority>,
    load: Arc<Load>,
}

impl Candidate for Address {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn weight(&self) -> u32 {
        self.weight
    }

    fn load(&self) -> &Load {
        &self.load
    }
}

/// The addresses as they are now.
struct Ring {
    addresses: Vec<Address>,
    order: Order,
    /// When a name has to be looked up again.
    until: Option<Instant>,
}

/// Where an attempt goes. While it is kept the attempt counts as under way.
pub struct Pick {
    /// The address.
    pub addr: SocketAddr,
    /// What it is called.
    pub authority: Arc<Authority>,
    _underway: Option<Underway>,
}

struct Underway {
    load: Arc<Load>,
    /// Set when it is the time that counts.
    begun: Option<Instant>,
}

impl Drop for Underway {
    fn drop(&mut self) {
        match self.begun {
            Some(begun) => self.load.measure(begun.elapsed()),
            None => self.load.closed(),
        }
    }
}

impl Balancer {
    /// Of an upstream's rows. What is known of addresses is taken over from `before`. Names are resolved when the first request
    /// needs them.
    pub fn new<'a>(
        upstream: &Upstream,
        targets: impl IntoIterator<Item = &'a Target>,
        resolver: Resolver,
        before: Option<&Balancer>,
    ) -> Arc<Self> {
        let mut goals: Vec<Goal> = targets
            .into_iter()
            .filter_map(|t| goal(t, upstream.host_header.as_deref()))
            .collect();
        goals.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
        let balancer = Arc::new_cyclic(|me| Balancer {
            name: upstream.name.as_str().into(),
            algorithm: upstream.algorithm.unwrap_or(Algorithm::RoundRobin),
            slots: upstream.slots.unwrap_or(10_000),
            inputs: inputs(upstream),
            targets: goals,
            next: before.map(|b| b.next.clone()).unwrap_or_default(),
            loads: before.map(|b| b.loads.clone()).unwrap_or_default(),
            ring: ArcSwapOption::empty(),
            answers: Mutex::default(),
            first: tokio::sync::Mutex::default(),
            refreshing: AtomicBool::new(false),
            resolver,
            me: me.clone(),
        });
        if balancer.targets.iter().all(|t| t.fixed.is_some()) {
            balancer.arrange(HashMap::new(), None);
        }
        balancer
    }

    /// The upstream's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What of a request is to be hashed: the first that the request has. Nothing where the algorithm does not hash.
    pub fn inputs(&self) -> &[HashInput] {
        &self.inputs
    }

    /// Where the next attempt goes: not to one of `tried` if there is another. `value` is what is hashed. Never waits; `None` when names
    /// have to be resolved first.
    ///
    /// # Errors
    /// When there is nothing to choose from.
    pub fn try_pick(&self, value: &[u8], tried: &[SocketAddr]) -> Option<Result<Pick, NoPeer>> {
        let ring = self.ring.load();
        let ring = ring.as_deref()?;
        if ring.until.is_some_and(|until| Instant::now() >= until) {
            self.refresh();
        }
        Some(self.choose(ring, value, tried))
    }

    /// The same, waiting for DNS when nothing is known.
    ///
    /// # Errors
    /// As [`Balancer::try_pick`].
    pub async fn pick(&self, value: &[u8], tried: &[SocketAddr]) -> Result<Pick, NoPeer> {
        if let Some(picked) = self.try_pick(value, tried) {
            return picked;
        }
        let _first = self.first.lock().await;
        if self.ring.load().is_none() {
            self.resolve().await;
        }
        self.try_pick(value, tried).unwrap_or(Err(NoPeer))
    }

    fn choose(&self, ring: &Ring, value: &[u8], tried: &[SocketAddr]) -> Result<Pick, NoPeer> {
        let n = ring.order.pick(&ring.addresses, &self.next, value, tried);
        let address = n.and_then(|n| ring.addresses.get(n)).ok_or(NoPeer)?;
        let load = || address.load.clone();
        let underway = match self.algorithm {
            Algorithm::RoundRobin | Algorithm::ConsistentHashing => None,
            Algorithm::LeastConnections => {
                address.load.opened();
                Some(Underway {
                    load: load(),
                    begun: None,
                })
            }
            Algorithm::Latency => Some(Underway {
                load: load(),
                begun: Some(Instant::now()),
            }),
        };
        Ok(Pick {
            addr: address.addr,
            authority: address.authority.clone(),
            _underway: underway,
        })
    }

    /// Looks all names up, and arranges their addresses. A name that cannot be looked up keeps what it stood for until that is stale.
    async fn resolve(&self) {
        let named = self.targets.iter().enumerate();
        let named = named.filter(|(_, t)| t.fixed.is_none());
        let found =
            join_all(named.map(|(n, t)| async move { (n, self.resolver.lookup(&t.host).await) }))
                .await;
        let now = Instant::now();
        let mut until = None::<Instant>;
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        for (n, answer) in found {
            let again = match answer {
                Ok(answer) => {
                    let again = answer.valid_until;
                    answers.insert(n, answer);
                    again
                }
                Err(e) => {
                    let host = &self.targets[n].host;
                    tracing::error!(upstream = &*self.name, host, "name resolution failed: {e}");
                    if answers.get(&n).is_some_and(|a| now >= a.stale_until) {
                        answers.remove(&n);
                    }
                    now + self.resolver.error_ttl()
                }
            };
            until = Some(until.map_or(again, |u| u.min(again)));
        }
        let known = answers.clone();
        drop(answers);
        self.arrange(known, until);
    }

    /// Puts the addresses in order.
    fn arrange(&self, answers: HashMap<usize, Answer>, until: Option<Instant>) {
        let mut addresses = Vec::new();
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let others = loads.values().map(|l| l.latency(0.0));
        let usual = others.sum::<f64>() / loads.len().max(1) as f64;
        for (n, goal) in self.targets.iter().enumerate() {
            let mut ips: Vec<IpAddr> = match (goal.fixed, answers.get(&n)) {
                (Some(ip), _) => vec![ip],
                (None, Some(answer)) => answer.addresses.clone(),
                (None, None) => Vec::new(),
            };
            ips.sort_by_key(ToString::to_string);
            ips.dedup();
            for ip in ips {
                let addr = SocketAddr::new(ip, goal.port);
                let load = loads.entry((addr, goal.host.clone()));
                addresses.push(Address {
                    addr,
                    weight: goal.weight,
                    authority: goal.authority.clone(),
                    load: load.or_insert_with(|| Arc::new(Load::new(usual))).clone(),
                });
            }
        }
        // Those of addresses that are gone; a ring that is still in use holds its own.
        loads.retain(|_, load| Arc::strong_count(load) > 1);
        drop(loads);
        let order = match self.algorithm {
            Algorithm::RoundRobin => Order::turns(&addresses),
            Algorithm::ConsistentHashing => {
                Order::continuum(&addresses, self.targets.len(), self.slots)
            }
            Algorithm::LeastConnections => Order::LeastConnections,
            Algorithm::Latency => Order::Latency,
        };
        self.ring.store(Some(Arc::new(Ring {
            addresses,
            order,
            until,
        })));
    }

    /// Looks the names up again in the background.
    fn refresh(&self) {
        if self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(me) = self.me.upgrade() else { return };
        self.resolver.runtime().spawn(async move {
            me.resolve().await;
            me.refreshing.store(false, Ordering::Release);
        });
    }
}

fn goal(target: &Target, host_header: Option<&str>) -> Option<Goal> {
    // Rows have one form, `host:port`.
    let (host, port) = target.target.rsplit_once(':')?;
    let port = port.parse().ok()?;
    Some(Goal {
        fixed: ip_of(host),
        authority: Arc::new(Authority::new(host_header.unwrap_or(host), port)),
        host: host.to_owned(),
        port,
        weight: u32::from(target.weight.unwrap_or(100)),
    })
}

fn ip_of(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

fn inputs(upstream: &Upstream) -> Vec<HashInput> {
    if upstream.algorithm != Some(Algorithm::ConsistentHashing) {
        return Vec::new();
    }
    let input = |on: Option<HashOn>,
                 header: &Option<String>,
                 arg: &Option<String>,
                 capture: &Option<String>| {
        Some(match on.unwrap_or(HashOn::None) {
            HashOn::None => return None,
            HashOn::Consumer => HashInput::Consumer,
            HashOn::Ip => HashInput::Ip,
            HashOn::Header => HashInput::Header(header.as_ref()?.parse().ok()?),
            HashOn::Cookie => HashInput::Cookie {
                name: upstream.hash_on_cookie.clone()?,
                path: upstream
                    .hash_on_cookie_path
                    .clone()
                    .unwrap_or_else(|| "/".to_owned()),
            },
            HashOn::Path => HashInput::Path,
            HashOn::QueryArg => HashInput::QueryArg(arg.clone()?),
            HashOn::UriCapture => HashInput::UriCapture(capture.clone()?),
        })
    };
    let first = input(
        upstream.hash_on,
        &upstream.hash_on_header,
        &upstream.hash_on_query_arg,
        &upstream.hash_on_uri_capture,
    );
    let Some(first) = first else {
        return Vec::new();
    };
    let fallback = input(
        upstream.hash_fallback,
        &upstream.hash_fallback_header,
        &upstream.hash_fallback_query_arg,
        &upstream.hash_fallback_uri_capture,
    );
    std::iter::once(first).chain(fallback).collect()
}
