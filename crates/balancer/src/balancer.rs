//! An upstream: its targets, the addresses they stand for, and the choice of one for a request.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use futures::future::join_all;
use silverback_entities::{Algorithm, Target, Upstream};

use crate::checking::check;
use crate::goal::{Authority, Goal, HashInput, goal, inputs};
use crate::health::Checks;
use crate::order::{Address, Load, Order};
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
    first: tokio::sync::Mutex<()>,
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
    /// What the names of targets stood for last.
    answers: Mutex<HashMap<String, Answer>>,
    /// How often an address became healthy or unhealthy.
    pub(crate) turned: AtomicU64,
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
            first: tokio::sync::Mutex::default(),
            refreshing: AtomicBool::new(false),
            resolver,
            me: me.clone(),
        });
        balancer.arrange_known();
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
        self.resolve_first().await;
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

    /// Looks all names up unless somebody did.
    pub(crate) async fn resolve_first(&self) {
        let _first = self.first.lock().await;
        if self.ring.load().is_none() {
            self.resolve().await;
        }
    }

    /// Looks all names up, and arranges their addresses. A name that cannot be looked up keeps what it stood for until that is stale.
    async fn resolve(&self) {
        let named = self.targets.iter().filter(|t| t.fixed.is_none());
        let look_up = |t: &'_ Goal| {
            let host = t.host.clone();
            async move { (self.resolver.lookup(&host).await, host) }
        };
        let found = join_all(named.map(look_up)).await;
        let now = Instant::now();
        let mut until = None::<Instant>;
        let mut answers = self.answers();
        for (answer, host) in found {
            let again = match answer {
                Ok(answer) => {
                    let again = answer.valid_until;
                    answers.insert(host, answer);
                    again
                }
                Err(e) => {
                    tracing::error!(upstream = &*self.name, host, "name resolution failed: {e}");
                    if answers.get(&host).is_some_and(|a| now >= a.stale_until) {
                        answers.remove(&host);
                    }
                    now + self.resolver.error_ttl()
                }
            };
            until = Some(until.map_or(again, |u| u.min(again)));
        }
        answers.retain(|host, _| self.targets.iter().any(|t| t.host == *host));
        self.arrange(&answers, until);
    }

    /// Puts the addresses in order when none has to be looked up for that: a change of a target does not make requests wait for the names of
    /// the others, nor fail while those cannot be looked up.
    fn arrange_known(&self) {
        let answers = self.answers();
        let named = self.targets.iter().filter(|t| t.fixed.is_none());
        let known: Option<Vec<_>> = named.map(|t| answers.get(&t.host)).collect();
        if let Some(known) = known {
            let until = known.iter().map(|a| a.valid_until).min();
            self.arrange(&answers, until);
        }
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<String, Answer>> {
        let answers = self.kept.answers.lock();
        answers.unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the addresses in order.
    fn arrange(&self, answers: &HashMap<String, Answer>, until: Option<Instant>) {
        let mut addresses = Vec::new();
        let mut loads = self
            .kept
            .loads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let others = loads.values().map(|l| l.latency(0.0));
        let usual = others.sum::<f64>() / loads.len().max(1) as f64;
        for (n, goal) in self.targets.iter().enumerate() {
            let mut ips: Vec<IpAddr> = match (goal.fixed, answers.get(&goal.host)) {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use silverback_schema::{Op, complete};

    use super::*;
    use crate::DnsConfig;

    fn upstream() -> Upstream {
        let def = silverback_entities::core("upstreams").unwrap();
        let row = json!({ "name": "up" }).as_object().unwrap().clone();
        let row = complete(def, row, Op::Insert, 1).unwrap();
        serde_json::from_value(row.into()).unwrap()
    }

    fn target(target: &str) -> Target {
        let id = uuid::Uuid::nil();
        serde_json::from_value(json!({
            "id": id, "upstream": { "id": id }, "target": target, "weight": 1, "created_at": 1.5, "updated_at": 1.5
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn names_that_are_known_are_not_looked_up_again_because_another_target_changed() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = dir.path().join("hosts");
        std::fs::write(&hosts, "10.0.0.1 a.test\n").unwrap();
        let config = DnsConfig {
            hosts_file: hosts,
            timeout: Duration::from_millis(100),
            // Nobody is there to ask for other names.
            servers: vec![SocketAddr::from(([127, 0, 0, 1], 9))],
            ..DnsConfig::default()
        };
        let resolver = Resolver::new(config, tokio::runtime::Handle::current()).unwrap();
        let (row, a) = (upstream(), target("a.test:80"));
        let make = |targets: &[&Target], before: Option<&Balancer>| {
            Balancer::new(&row, targets.iter().copied(), resolver.clone(), before)
        };
        let first = make(&[&a], None);
        assert!(first.try_pick(b"", &[]).is_none(), "not looked up yet");
        let addr = SocketAddr::from(([10, 0, 0, 1], 80));
        assert_eq!(first.pick(b"", &[]).await.map(|p| p.addr), Ok(addr));

        let other = target("10.0.0.2:80");
        let second = make(&[&a, &other], Some(&first));
        let mut picked: Vec<_> = (0..2)
            .map(|_| {
                second
                    .try_pick(b"", &[])
                    .unwrap()
                    .unwrap()
                    .addr
                    .ip()
                    .to_string()
            })
            .collect();
        picked.sort();
        assert_eq!(picked, ["10.0.0.1", "10.0.0.2"]);

        let unknown = target("b.test:80");
        let third = make(&[&a, &unknown], Some(&second));
        assert!(
            third.try_pick(b"", &[]).is_none(),
            "there is a name that nobody knows"
        );
        assert_eq!(third.pick(b"", &[]).await.map(|p| p.addr), Ok(addr));
    }
}
