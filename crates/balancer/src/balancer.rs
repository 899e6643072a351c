//! An upstream: its targets, the addresses they stand for, and the choice of one for a request.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use futures::future::join_all;
use silverback_entities::{Algorithm, Target, Upstream};

use crate::checking::check;
use crate::goal::{Authority, Goal, HashInput, goal, inputs};
use crate::health::Checks;
use crate::order::{Candidate, Load, Order};
use crate::probe::Probe;
use crate::resolver::{Answer, Resolver};

/// Of no number of turns.
const NOT_COUNTED: u64 = u64::MAX;

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

/// An upstream with its targets.
pub struct Balancer {
    pub(crate) name: Box<str>,
    algorithm: Algorithm,
    slots: u32,
    inputs: Vec<HashInput>,
    /// In the order of their names and ports.
    pub(crate) targets: Vec<Goal>,
    pub(crate) kept: Arc<Kept>,
    pub(crate) checks: Option<Checks>,
    /// In the lowest bit whether enough is healthy, in the others as of how many turns of addresses.
    pub(crate) healthy: AtomicU64,
    pub(crate) ring: ArcSwapOption<Ring>,
    /// What the names stood for last, by the target's place.
    pub(crate) answers: Mutex<HashMap<usize, Answer>>,
    pub(crate) first: tokio::sync::Mutex<()>,
    refreshing: AtomicBool,
    resolver: Resolver,
    me: Weak<Balancer>,
}

/// What outlives the balancer when its upstream or a target changes.
#[derive(Default)]
pub(crate) struct Kept {
    /// Whose turn it is.
    next: AtomicU64,
    loads: Mutex<BTreeMap<(SocketAddr, String), Arc<Load>>>,
    /// How often an address became healthy or unhealthy.
    pub(crate) turned: AtomicU64,
}

/// An address that a target stands for.
pub(crate) struct Address {
    pub(crate) addr: SocketAddr,
    /// The place of its target.
    pub(crate) goal: usize,
    pub(crate) weight: u32,
    authority: Arc<Authority>,
    pub(crate) load: Arc<Load>,
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
pub(crate) struct Ring {
    pub(crate) addresses: Vec<Address>,
    order: Order,
    /// When a name has to be looked up again.
    pub(crate) until: Option<Instant>,
}

/// Where an attempt goes. While it is kept the attempt counts as under way.
pub struct Pick {
    /// The address.
    pub addr: SocketAddr,
    /// What it is called.
    pub authority: Arc<Authority>,
    /// Where it counts how it ends.
    pub(crate) load: Option<Arc<Load>>,
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
            healthy: AtomicU64::new(NOT_COUNTED),
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
    pub(crate) async fn resolve(&self) {
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
        self.healthy.store(NOT_COUNTED, Ordering::Relaxed);
    }

    /// Looks the names up again in the background.
    pub(crate) fn refresh(&self) {
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
