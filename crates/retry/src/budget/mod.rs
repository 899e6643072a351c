//! Retry budgets: accounts that successes pay into and retries pay out of.
//!
//! A [`Budget`] joins two things of different age. The balance belongs to the thing that is protected, a service
//! say, and outlasts configurations; it is found once, through the [`Registry`], when a snapshot is built. The
//! settings belong to the snapshot. A configuration that is built but never put to use therefore changes nothing,
//! and changed settings find the balance that is there.

mod account;
mod group;
#[cfg(test)]
mod promise;
mod registry;
mod settings;
mod slots;
#[cfg(test)]
mod tests;

pub use group::{Budgets, Exhausted};
pub use registry::Registry;
pub use settings::{Ceiling, Settings, SettingsError};

use crate::Moment;
use account::Account;
use settings::{Rules, TOKEN};
use slots::{Slot, slot_of};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What an account belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// The whole gateway.
    Gateway,
    /// A service, by its UUID.
    Service(u128),
    /// A pool of targets that several services may share, by the UUID of its upstream.
    Pool(u128),
    /// Anything else, by a name of the caller's choice: a plain host that has no upstream entity, for example.
    Named(Arc<str>),
}

impl fmt::Display for Identity {
    /// `gateway`, `service:<uuid>`, `pool:<uuid>` or `named:<name>`, the UUIDs in the usual lower-case form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, id) = match self {
            Self::Gateway => return f.write_str("gateway"),
            Self::Named(name) => return write!(f, "named:{name}"),
            Self::Service(id) => ("service", id),
            Self::Pool(id) => ("pool", id),
        };
        write!(
            f,
            "{kind}:{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            id >> 96,
            (id >> 80) & 0xffff,
            (id >> 64) & 0xffff,
            (id >> 48) & 0xffff,
            id & 0xffff_ffff_ffff,
        )
    }
}

/// How many gateway nodes are alive; shared by all accounts of a [`Registry`], and 1 until told otherwise.
///
/// Clones share the number. When the source of the number is away, leave it alone: the last known share stays.
#[derive(Clone, Debug)]
pub struct LiveNodes(Arc<AtomicU32>);

impl Default for LiveNodes {
    fn default() -> Self {
        Self::new(1)
    }
}

impl LiveNodes {
    /// Starts at `count` nodes; 0 counts as 1, since whoever asks is alive.
    #[must_use]
    pub fn new(count: u32) -> Self {
        Self(Arc::new(AtomicU32::new(count.max(1))))
    }

    /// Sets the number of live nodes; it holds from the next withdrawal on. 0 counts as 1.
    pub fn set(&self, count: u32) {
        self.0.store(count.max(1), Ordering::Relaxed);
    }

    /// The number of live nodes, at least 1.
    #[must_use]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Which limit of an account was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Deposits and floor are spent.
    Balance,
    /// [`Ceiling::max_retries`] were made within the window.
    Ceiling,
}

/// Readings of one account on this node, for metrics and the Admin API.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauges {
    /// Whose account.
    pub identity: Identity,
    /// Retries that could be made now, the node's share of the floor included. Below zero when the spending of the
    /// last `ttl` is no longer covered, because deposits have expired or the floor was divided further.
    pub balance: f64,
    /// Retries left under the ceiling now; `None` without a ceiling.
    pub ceiling_left: Option<u64>,
    /// Successes paid in since the account was opened (each worth `ratio` retries).
    pub deposits: u64,
    /// Retries paid out since the account was opened.
    pub withdrawals: u64,
    /// Retries refused by this account since it was opened.
    pub denials: u64,
}

/// One account under one set of settings. Clones share the balance.
#[derive(Clone, Debug)]
pub struct Budget {
    account: Arc<Account>,
    rules: Rules,
    nodes: LiveNodes,
}

impl Budget {
    /// An account of its own, known to no registry.
    ///
    /// # Errors
    /// When `settings` are out of range.
    pub fn new(
        identity: Identity,
        settings: Settings,
        nodes: LiveNodes,
    ) -> Result<Self, SettingsError> {
        let rules = Rules::new(&settings)?;
        let account = Arc::new(Account::new(identity, account::default_stripes()));
        Ok(Self {
            account,
            rules,
            nodes,
        })
    }

    /// Whose account this is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.account.identity
    }

    /// Pays in `ratio` for one success of a first attempt.
    pub fn deposit(&self, now: Moment) {
        self.account.deposit(slot_of(now), self.rules.deposit);
    }

    /// Pays for one retry.
    ///
    /// # Errors
    /// When there is not a whole retry left; nothing is withdrawn then.
    pub fn withdraw(&self, now: Moment) -> Result<(), Limit> {
        self.take(now)
            .map(|_| ())
            .inspect_err(|_| self.account.deny())
    }

    /// Reads the account without changing it.
    #[must_use]
    pub fn gauges(&self, now: Moment) -> Gauges {
        let reading = self.account.reading();
        let slot = self.account.present(slot_of(now));
        let (deposits, withdrawals, denials) = self.account.totals();
        Gauges {
            identity: self.identity().clone(),
            balance: self.balance(reading, slot) as f64 / TOKEN as f64,
            ceiling_left: self.ceiling_left(reading, slot),
            deposits,
            withdrawals,
            denials,
        }
    }

    /// Balance in fractions of [`TOKEN`].
    fn balance(&self, reading: u64, slot: Slot) -> i64 {
        let slots = self.rules.ttl_slots;
        let share = self.rules.reserve / u64::from(self.nodes.get());
        let has = self.account.deposited(slot, slots) + share;
        let spent = self.account.net_withdrawn(reading, slot, slots) * TOKEN;
        // Far below 2^63: 16 stripes of 30 slots of 32 bits, and at most 2^31 withdrawals of 10^4.
        has as i64 - spent as i64
    }

    fn ceiling_left(&self, reading: u64, slot: Slot) -> Option<u64> {
        let (most, slots) = self.rules.ceiling?;
        let share = most / u64::from(self.nodes.get());
        Some(share.saturating_sub(self.account.net_withdrawn(reading, slot, slots)))
    }

    fn check(&self, reading: u64, slot: Slot) -> Result<(), Limit> {
        if self.ceiling_left(reading, slot) == Some(0) {
            return Err(Limit::Ceiling);
        }
        if self.balance(reading, slot) < TOKEN as i64 {
            return Err(Limit::Balance);
        }
        Ok(())
    }

    /// Whether [`Budget::take`] would succeed now.
    fn peek(&self, now: Moment) -> Result<(), Limit> {
        self.check(self.account.reading(), self.account.present(slot_of(now)))
    }

    /// Withdraws, and says for which slot, without counting a denial.
    fn take(&self, now: Moment) -> Result<Slot, Limit> {
        loop {
            let reading = self.account.reading();
            let slot = self.account.present(slot_of(now));
            self.check(reading, slot)?;
            self.account.open(slot, reading);
            // A failure means that another thread has withdrawn, so that what was checked is out of date.
            if self.account.take(reading) {
                return Ok(slot);
            }
        }
    }
}
