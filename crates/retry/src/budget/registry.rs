//! Where accounts survive a change of configuration.

use super::account::{Account, default_stripes};
use super::settings::Rules;
use super::{Budget, Gauges, Identity, LiveNodes, Settings, SettingsError};
use crate::Moment;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// All accounts of this node, by what they belong to.
///
/// An account lives as long as some snapshot uses it. A new snapshot is built while the old one is still in use, so
/// it finds the balances of whatever both have in common; what is gone from the configuration is forgotten with the
/// last request that still runs under it.
///
/// [`Registry::account`] takes a lock: call it when a snapshot is built, never for a request.
#[derive(Debug)]
pub struct Registry {
    nodes: LiveNodes,
    stripes: usize,
    accounts: Mutex<Accounts>,
}

#[derive(Debug, Default)]
struct Accounts {
    by_identity: HashMap<Identity, Entry>,
    /// Size at which dead entries are next looked for; doubling it makes the search free of charge on average.
    sweep_at: usize,
}

#[derive(Debug)]
struct Entry {
    account: Weak<Account>,
    rules: Rules,
}

impl Registry {
    /// An empty registry whose accounts share `nodes`, striped for the processors of this machine.
    #[must_use]
    pub fn new(nodes: LiveNodes) -> Self {
        Self::with_stripes(nodes, default_stripes())
    }

    /// As [`Registry::new`], for a known number of threads that deposit. Rounded up to a power of two, at most 16;
    /// a stripe costs 256 bytes per account.
    #[must_use]
    pub fn with_stripes(nodes: LiveNodes, stripes: usize) -> Self {
        Self {
            nodes,
            stripes,
            accounts: Mutex::default(),
        }
    }

    /// The number of live nodes that floors and ceilings are divided by.
    #[must_use]
    pub fn nodes(&self) -> &LiveNodes {
        &self.nodes
    }

    /// The account of `identity` under `settings`: the one that is in use, with its balance, or a new one.
    ///
    /// # Errors
    /// When `settings` are out of range.
    pub fn account(
        &self,
        identity: &Identity,
        settings: Settings,
    ) -> Result<Budget, SettingsError> {
        let rules = Rules::new(&settings)?;
        let mut accounts = self.lock();
        let known = accounts
            .by_identity
            .get(identity)
            .and_then(|entry| entry.account.upgrade());
        let account =
            known.unwrap_or_else(|| Arc::new(Account::new(identity.clone(), self.stripes)));
        accounts.insert(identity, &account, rules);
        Ok(Budget {
            account,
            rules,
            nodes: self.nodes.clone(),
        })
    }

    /// Readings of every account in use, ordered by identity; balances are under the settings asked for last.
    #[must_use]
    pub fn gauges(&self, now: Moment) -> Vec<Gauges> {
        let budgets: Vec<Budget> = self
            .lock()
            .by_identity
            .values()
            .filter_map(|entry| {
                Some(Budget {
                    account: entry.account.upgrade()?,
                    rules: entry.rules,
                    nodes: self.nodes.clone(),
                })
            })
            .collect();
        let mut gauges: Vec<Gauges> = budgets.iter().map(|budget| budget.gauges(now)).collect();
        gauges.sort_by(|a, b| a.identity.cmp(&b.identity));
        gauges
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        // Nothing is left half done between two statements under this lock, so a panic elsewhere does no harm.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accounts {
    fn insert(&mut self, identity: &Identity, account: &Arc<Account>, rules: Rules) {
        let entry = Entry {
            account: Arc::downgrade(account),
            rules,
        };
        self.by_identity.insert(identity.clone(), entry);
        if self.by_identity.len() > self.sweep_at {
            self.by_identity
                .retain(|_, entry| entry.account.strong_count() > 0);
            self.sweep_at = (self.by_identity.len() * 2).max(64);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_millis(5_000);

    fn no_floor(ratio: f64) -> Settings {
        Settings {
            ratio,
            min_retries_per_second: 0.0,
            ..Settings::default()
        }
    }

    #[test]
    fn an_account_outlasts_the_snapshot_that_opened_it() {
        let registry = Registry::new(LiveNodes::default());
        let old = registry
            .account(&Identity::Service(1), no_floor(1.0))
            .unwrap();
        old.deposit(NOW);
        let new = registry
            .account(&Identity::Service(1), no_floor(1.0))
            .unwrap();
        drop(old);
        assert_eq!(new.withdraw(NOW), Ok(()));
        assert!(new.withdraw(NOW).is_err());
    }

    #[test]
    fn changed_settings_keep_the_balance() {
        let registry = Registry::new(LiveNodes::default());
        let old = registry.account(&Identity::Gateway, no_floor(0.5)).unwrap();
        for _ in 0..4 {
            old.deposit(NOW);
        }
        let changed = Settings {
            ttl: std::time::Duration::from_secs(20),
            ..no_floor(0.1)
        };
        let new = registry.account(&Identity::Gateway, changed).unwrap();
        assert!((new.gauges(NOW).balance - 2.0).abs() < 1e-9);
        // A request that began under the old settings still pays as they say, into the same balance.
        old.deposit(NOW);
        new.deposit(NOW);
        assert!((new.gauges(NOW).balance - 2.6).abs() < 1e-9);
    }

    #[test]
    fn different_things_have_different_accounts() {
        let registry = Registry::new(LiveNodes::default());
        let keys = [
            Identity::Gateway,
            Identity::Service(1),
            Identity::Pool(1),
            Identity::Named("a.example:80".into()),
        ];
        let budgets = keys
            .clone()
            .map(|key| registry.account(&key, no_floor(1.0)).unwrap());
        budgets[1].deposit(NOW);
        let listed = registry.gauges(NOW);
        assert_eq!(listed.len(), 4);
        for (reading, key) in listed.iter().zip(&keys) {
            assert_eq!(&reading.identity, key);
            assert_eq!(reading.deposits, u64::from(*key == Identity::Service(1)));
        }
        assert_eq!(
            listed[1].identity.to_string(),
            "service:00000000-0000-0000-0000-000000000001"
        );
    }

    #[test]
    fn an_account_nobody_uses_is_forgotten() {
        let registry = Registry::with_stripes(LiveNodes::default(), 1);
        for id in 0..1_000 {
            let budget = registry
                .account(&Identity::Service(id), no_floor(1.0))
                .unwrap();
            budget.deposit(NOW);
        }
        assert!(registry.gauges(NOW).is_empty());
        assert!(registry.lock().by_identity.len() <= 65);
        let again = registry
            .account(&Identity::Service(999), no_floor(1.0))
            .unwrap();
        assert_eq!(again.gauges(NOW).deposits, 0);
    }

    #[test]
    fn refused_settings_leave_the_account_alone() {
        let registry = Registry::new(LiveNodes::default());
        assert!(
            registry
                .account(&Identity::Gateway, no_floor(-1.0))
                .is_err()
        );
        assert!(registry.gauges(NOW).is_empty());
    }
}
