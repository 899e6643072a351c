//! An upstream: its targets, the addresses they stand for, and the choice of one for a request.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use http::HeaderName;
use silverback_entities::{Algorithm, HashOn, Target, Upstream};

use crate::health::{Checks, Outcome};
use crate::order::{Candidate, Load, Order};
use crate::probe::Probe;
use crate::resolver::{Answer, Resolver};

/// None of an upstream's targets can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPeer {
    /// It has none, all have weight 0 or are unhealthy, or their names do not resolve.
    #[error("No peers are available")]
    None,
    /// Too many are unhealthy.
    #[error("Balancer is unhealthy")]
    Unhealthy,
}

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
    kept: Arc<Kept>,
    checks: Option<Checks>,
    /// Whether enough is healthy, as of that many turns of addresses.
    healthy: (AtomicBool, AtomicU64),
    ring: ArcSwapOption<Ring>,
    /// What the names stood for last, by the target's place.
    answers: Mutex<HashMap<usize, Answer>>,
    first: tokio::sync::Mutex<()>,
    refreshing: AtomicBool,
    resolver: Resolver,
    me: Weak<Balancer>,
}

/// What outlives the balancer when its upstream or a target changes.
#[derive(Default)]
struct Kept {
    /// Whose turn it is.
    next: AtomicU64,
    loads: Mutex<BTreeMap<(SocketAddr, String), Arc<Load>>>,
    /// How often an address became healthy or unhealthy.
    turned: AtomicU64,
}

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
    /// The place of its target.
    goal: usize,
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

    fn is_available(&self) -> bool {
        self.load.health.is_available()
    }
}

/// The addresses as they are now.
struct Ring {
    addresses: Vec<Address>,
    order: Order,
    /// When a name has to be looked up again.
    until: Option<Instant>,
}

/// What is known of an upstream's targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether anybody checks.
    pub checked: bool,
    /// Whether requests are sent to it.
    pub healthy: bool,
    /// Whether the names of its targets have been looked up.
    pub is_resolved: bool,
    /// In the order of their names and ports.
    pub targets: Vec<TargetState>,
}

/// What is known of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetState {
    /// `host:port`.
    pub target: String,
    /// Whether its name is known to stand for something.
    pub is_known: bool,
    /// Its addresses, the weight of each and whether requests are sent there.
    pub addresses: Vec<(SocketAddr, u32, bool)>,
}

/// Where an attempt goes. While it is kept the attempt counts as under way.
pub struct Pick {
    /// The address.
    pub addr: SocketAddr,
    /// What it is called.
    pub authority: Arc<Authority>,
    /// Where it counts how it ends.
    load: Option<Arc<Load>>,
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
            kept: before.map(|b| b.kept.clone()).unwrap_or_default(),
            checks: Checks::of(upstream),
            healthy: (AtomicBool::new(true), AtomicU64::new(u64::MAX)),
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
        if balancer.checks.is_some() && balancer.ring.load().is_none() {
            // Whoever asks for its health is told of its addresses.
            balancer.refresh();
        }
        if let Some(tick) = balancer.checks.as_ref().and_then(Checks::tick) {
            let (me, probe) = (Arc::downgrade(&balancer), Probe::of(upstream));
            balancer.resolver.runtime().spawn(check(me, probe, tick));
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
        self.try_pick(value, tried).unwrap_or(Err(NoPeer::None))
    }

    fn choose(&self, ring: &Ring, value: &[u8], tried: &[SocketAddr]) -> Result<Pick, NoPeer> {
        if self.checks.is_some() && !self.is_healthy(ring) {
            return Err(NoPeer::Unhealthy);
        }
        let n = ring
            .order
            .pick(&ring.addresses, &self.kept.next, value, tried);
        let address = n.and_then(|n| ring.addresses.get(n)).ok_or(NoPeer::None)?;
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
            load: self.checks.as_ref().map(|_| load()),
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
        let mut loads = self
            .kept
            .loads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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
                    goal: n,
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
        // Counted anew at the next request.
        self.healthy.1.store(u64::MAX, Ordering::Relaxed);
    }

    /// Whether more of the weight is healthy than the threshold says; counted only when an address has turned since.
    fn is_healthy(&self, ring: &Ring) -> bool {
        let Some(checks) = &self.checks else {
            return true;
        };
        let turned = self.kept.turned.load(Ordering::Relaxed);
        if self.healthy.1.load(Ordering::Relaxed) == turned {
            return self.healthy.0.load(Ordering::Relaxed);
        }
        let weight = |a: &Address| f64::from(a.weight);
        let total: f64 = ring.addresses.iter().map(weight).sum();
        let available = ring.addresses.iter().filter(|a| a.is_available());
        let available: f64 = available.map(weight).sum();
        let healthy = total > 0.0 && available / total * 100.0 > checks.threshold;
        self.healthy.0.store(healthy, Ordering::Relaxed);
        self.healthy.1.store(turned, Ordering::Relaxed);
        healthy
    }

    /// Takes in how an attempt ended.
    pub fn ended(&self, pick: &Pick, outcome: Outcome) {
        if let Some(load) = &pick.load {
            self.report(load, outcome, false);
        }
    }

    fn report(&self, load: &Load, outcome: Outcome, active: bool) {
        let Some(checks) = &self.checks else { return };
        let rules = if active {
            &checks.active
        } else {
            &checks.passive
        };
        if let Some(available) = load.health.report(rules, outcome) {
            self.turn(available, if active { "check" } else { "request" });
        }
    }

    fn turn(&self, available: bool, by: &'static str) {
        let health = if available { "healthy" } else { "unhealthy" };
        tracing::warn!(upstream = &*self.name, by, "a target is {health} now");
        self.kept.turned.fetch_add(1, Ordering::Relaxed);
    }

    /// An operator's word on the addresses of the target `host:port`, or on one of them, with or without a port.
    ///
    /// # Errors
    /// When nobody checks, or there is no such address.
    pub fn set_health(
        &self,
        target: &str,
        address: Option<&str>,
        healthy: bool,
    ) -> Result<(), String> {
        if self.checks.is_none() {
            return Err(format!("no healthchecker found for {}", self.name));
        }
        let ring = self.ring.load();
        let addresses = ring.iter().flat_map(|r| &r.addresses);
        let is_meant = |a: &&Address| {
            let goal = &self.targets[a.goal];
            let is_address =
                |text: &str| text.parse() == Ok(a.addr) || ip_of(text) == Some(a.addr.ip());
            format!("{}:{}", goal.host, goal.port) == target && address.is_none_or(is_address)
        };
        let mut found = false;
        for address in addresses.filter(is_meant) {
            found = true;
            if let Some(available) = address.load.health.set(healthy) {
                self.turn(available, "operator");
            }
        }
        match found {
            true => Ok(()),
            false => Err("target not found".to_owned()),
        }
    }

    /// What is known of the targets.
    pub fn health(&self) -> Health {
        let ring = self.ring.load();
        let ring = ring.as_deref();
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let target = |(n, goal): (usize, &Goal)| TargetState {
            target: format!("{}:{}", goal.host, goal.port),
            is_known: goal.fixed.is_some() || answers.contains_key(&n),
            addresses: ring
                .iter()
                .flat_map(|r| &r.addresses)
                .filter(|a| a.goal == n)
                .map(|a| (a.addr, a.weight, a.is_available()))
                .collect(),
        };
        Health {
            checked: self.checks.is_some(),
            healthy: match (ring, &self.checks) {
                (Some(ring), Some(_)) => self.is_healthy(ring),
                (ring, _) => ring.is_some_and(|r| r.addresses.iter().any(|a| a.weight > 0)),
            },
            is_resolved: ring.is_some(),
            targets: self.targets.iter().enumerate().map(target).collect(),
        }
    }

    /// Checks the addresses that are due.
    async fn check_due(&self, probe: &Probe, now: u64) {
        if self.ring.load().is_none() {
            let _first = self.first.lock().await;
            if self.ring.load().is_none() {
                self.resolve().await;
            }
        }
        let (Some(checks), Some(ring)) = (&self.checks, self.ring.load_full()) else {
            return;
        };
        if ring.until.is_some_and(|until| Instant::now() >= until) {
            self.refresh();
        }
        let due = ring
            .addresses
            .iter()
            .filter(|a| a.weight > 0 && a.load.health.is_due(checks, now));
        let all = stream::iter(due).for_each_concurrent(probe.concurrency, |a| async {
            let outcome = probe.ask(a.addr, &self.targets[a.goal].host).await;
            self.report(&a.load, outcome, true);
        });
        all.await;
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

/// Checks the addresses of a balancer for as long as it is there.
async fn check(balancer: Weak<Balancer>, probe: Probe, tick: Duration) {
    loop {
        match balancer.upgrade() {
            Some(balancer) => balancer.check_due(&probe, clock()).await,
            None => return,
        }
        tokio::time::sleep(tick).await;
    }
}

/// Milliseconds since this process looked first.
fn clock() -> u64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed().as_millis() as u64
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
