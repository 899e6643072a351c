//! The health of an upstream's targets: who is asked, what is reported, and what it means for the upstream.

use std::net::SocketAddr;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};

use crate::balancer::{Balancer, Pick, Ring};
use crate::goal::{Goal, ip_of};
use crate::health::Outcome;
use crate::order::{Address, Load};
use crate::probe::Probe;

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
    /// Its addresses, the weight of each and whether requests are sent there.
    pub addresses: Vec<(SocketAddr, u32, bool)>,
}

impl Balancer {
    /// Whether more of the weight is healthy than the threshold says; counted only when an address has turned since.
    pub(crate) fn is_healthy(&self, ring: &Ring) -> bool {
        let Some(checks) = &self.checks else {
            return true;
        };
        let turned = self.kept.turned.load(Ordering::Relaxed);
        let counted = self.healthy.load(Ordering::Relaxed);
        if counted >> 1 == turned {
            return counted & 1 == 1;
        }
        let weight = |a: &Address| f64::from(a.weight);
        let total: f64 = ring.addresses.iter().map(weight).sum();
        let available = ring.addresses.iter().filter(|a| a.is_available());
        let available: f64 = available.map(weight).sum();
        let healthy = total > 0.0 && available / total * 100.0 > checks.threshold;
        // Both in one, or two threads that count at once could leave the answer of one with the number of the other.
        let counted = turned << 1 | u64::from(healthy);
        self.healthy.store(counted, Ordering::Relaxed);
        healthy
    }

    /// Takes in how an attempt ended.
    pub fn ended(&self, pick: &Pick, outcome: Outcome) {
        if let Some(load) = &pick.load {
            self.report(pick.addr, load, outcome, false);
        }
    }

    fn report(&self, addr: SocketAddr, load: &Load, outcome: Outcome, active: bool) {
        let Some(checks) = &self.checks else { return };
        let rules = if active {
            &checks.active
        } else {
            &checks.passive
        };
        if let Some(available) = load.health.report(rules, outcome) {
            let by = if active { "a check" } else { "requests" };
            self.turn(addr, available, by);
        }
    }

    fn turn(&self, addr: SocketAddr, available: bool, by: &'static str) {
        let health = if available { "healthy" } else { "unhealthy" };
        tracing::warn!(upstream = &*self.name, %addr, by, "a target is {health} now");
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
                self.turn(address.addr, available, "an operator");
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
        let target = |(n, goal): (usize, &Goal)| TargetState {
            target: format!("{}:{}", goal.host, goal.port),
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
            self.resolve_first().await;
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
            self.report(a.addr, &a.load, outcome, true);
        });
        all.await;
    }
}

/// Checks the addresses of a balancer for as long as it is there.
pub(crate) async fn check(balancer: Weak<Balancer>, probe: Probe, tick: Duration) {
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
