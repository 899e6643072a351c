//! Several accounts that are charged together.

use super::{Budget, Gauges, Limit};
use crate::Moment;
use std::sync::Arc;
use thiserror::Error;

/// A retry was refused because one of the accounts it would have to pay from has nothing left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("retry budget exhausted")]
pub struct Exhausted {
    /// Position in [`Budgets::accounts`] of the account that refused.
    pub account: usize,
    /// Which of its limits was reached.
    pub limit: Limit,
}

/// The accounts one route pays from: its service's, its target pool's, the gateway's.
///
/// Built with the snapshot; clones share everything. With no accounts every retry is granted, which is how the
/// budget is switched off.
#[derive(Clone, Debug, Default)]
pub struct Budgets(Arc<[Budget]>);

impl Budgets {
    /// Groups `budgets`. An account that comes twice is charged once, under the settings it came with first.
    #[must_use]
    pub fn new(budgets: impl IntoIterator<Item = Budget>) -> Self {
        let mut distinct: Vec<Budget> = Vec::new();
        for budget in budgets {
            if !distinct
                .iter()
                .any(|other| Arc::ptr_eq(&other.account, &budget.account))
            {
                distinct.push(budget);
            }
        }
        Self(distinct.into())
    }

    /// No accounts: retries are limited by their terms alone.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// The accounts, in the order they are charged.
    #[must_use]
    pub fn accounts(&self) -> &[Budget] {
        &self.0
    }

    /// Pays in for one success of a first attempt, to every account.
    pub fn deposit(&self, now: Moment) {
        for budget in self.0.iter() {
            budget.deposit(now);
        }
    }

    /// Pays for one retry from every account, or from none.
    ///
    /// Never grants more than any account has. When threads race for the last tokens of two accounts, one may find
    /// an account empty that another is about to give its token back to; it is then refused although a moment
    /// later it would not be.
    ///
    /// # Errors
    /// When an account has nothing left; the denial is counted there.
    pub fn withdraw(&self, now: Moment) -> Result<(), Exhausted> {
        // A look first, so that during a storm one empty account does not keep the others' tokens in the air.
        for (account, budget) in self.0.iter().enumerate() {
            if let Err(limit) = budget.peek(now) {
                budget.account.deny();
                return Err(Exhausted { account, limit });
            }
        }
        take_from(self, 0, now)
    }

    /// Readings of all accounts.
    #[must_use]
    pub fn gauges(&self, now: Moment) -> Vec<Gauges> {
        self.0.iter().map(|budget| budget.gauges(now)).collect()
    }
}

/// Takes from the accounts at `account` and after it. Recursion keeps what has to be given back on the stack.
pub(super) fn take_from(budgets: &Budgets, account: usize, now: Moment) -> Result<(), Exhausted> {
    let Some(budget) = budgets.0.get(account) else {
        return Ok(());
    };
    match budget.take(now) {
        Ok(slot) => {
            take_from(budgets, account + 1, now).inspect_err(|_| budget.account.refund(slot))
        }
        Err(limit) => {
            budget.account.deny();
            Err(Exhausted { account, limit })
        }
    }
}
