//! What accounts do: one by one, together and over time.
#![allow(clippy::unwrap_used)]

use super::*;
use std::time::Duration;

pub(super) fn at(seconds: f64) -> Moment {
    Moment::from_start(Duration::from_secs_f64(seconds))
}

pub(super) fn settings(ratio: f64, floor: f64) -> Settings {
    Settings {
        ratio,
        min_retries_per_second: floor,
        ..Settings::default()
    }
}

fn capped(max_retries: u64, window: u64) -> Settings {
    Settings {
        ceiling: Some(Ceiling {
            max_retries,
            window: Duration::from_secs(window),
        }),
        ..settings(0.0, 1_000.0)
    }
}

pub(super) fn budget(settings: Settings, nodes: &LiveNodes) -> Budget {
    Budget::new(Identity::Gateway, settings, nodes.clone()).unwrap()
}

pub(super) fn alone(settings: Settings) -> Budget {
    budget(settings, &LiveNodes::default())
}

/// Withdraws until refused; gives how often that worked.
fn drain(budget: &Budget, now: Moment) -> u64 {
    (0..).take_while(|_| budget.withdraw(now).is_ok()).count() as u64
}

#[test]
fn ten_successes_buy_one_retry_exactly() {
    let budget = alone(settings(0.1, 0.0));
    for success in 0..1_000 {
        let granted = budget.withdraw(at(1.0)).is_ok();
        assert_eq!(granted, success > 0 && success % 10 == 0, "{success}");
        budget.deposit(at(1.0));
    }
}

#[test]
fn requests_alone_pay_in_nothing() {
    let budget = alone(settings(0.1, 0.0));
    assert_eq!(budget.withdraw(at(0.0)), Err(Limit::Balance));
    assert_eq!(budget.gauges(at(0.0)).denials, 1);
    assert_eq!(budget.gauges(at(0.0)).withdrawals, 0);
}

#[test]
fn the_floor_needs_no_success_and_comes_back_after_the_ttl() {
    let budget = alone(settings(0.1, 10.0));
    assert_eq!(drain(&budget, at(0.0)), 100);
    assert_eq!(drain(&budget, at(9.999)), 0);
    assert_eq!(drain(&budget, at(10.0)), 100);
}

#[test]
fn the_burst_is_one_ttl_and_at_most_one_slot() {
    // The worst moment to begin is the end of a slot.
    let budget = alone(settings(0.1, 10.0));
    let retries = drain(&budget, at(0.999)) + drain(&budget, at(10.0));
    let time = 10.0 - 0.999;
    assert_eq!(retries, 200);
    assert!(200.0 <= 10.0 * (time + 10.0 + super::promise::BURST_SLOT));
    assert!(200.0 > 10.0 * (time + 10.0));
}

#[test]
fn deposits_live_ten_slots() {
    let budget = alone(settings(1.0, 0.0));
    budget.deposit(at(3.2));
    assert_eq!(budget.gauges(at(12.999)).balance, 1.0);
    assert_eq!(budget.gauges(at(13.0)).balance, 0.0);
    assert_eq!(budget.withdraw(at(13.0)), Err(Limit::Balance));
}

#[test]
fn slots_expire_one_after_another() {
    let budget = alone(settings(1.0, 0.0));
    for second in 0..10 {
        for _ in 0..=second {
            budget.deposit(at(f64::from(second)));
        }
    }
    let balances: Vec<f64> = (9..20)
        .map(|second| budget.gauges(at(f64::from(second))).balance)
        .collect();
    assert_eq!(
        balances,
        [55., 54., 52., 49., 45., 40., 34., 27., 19., 10., 0.]
    );
}

#[test]
fn slots_are_used_again_lap_after_lap() {
    let budget = alone(settings(0.5, 0.0));
    for second in 0..500 {
        budget.deposit(at(f64::from(second)));
        budget.deposit(at(f64::from(second)));
        assert_eq!(drain(&budget, at(f64::from(second))), 1, "{second}");
    }
    assert_eq!(budget.gauges(at(499.0)).withdrawals, 500);
    // A long silence leaves nothing behind.
    assert_eq!(budget.gauges(at(100_000.0)).balance, 0.0);
}

#[test]
fn withdrawals_outlive_the_deposits_that_covered_them() {
    // The strict reading: retries of a window are covered by that same window.
    let budget = alone(settings(1.0, 0.0));
    budget.deposit(at(0.0));
    assert_eq!(budget.withdraw(at(5.0)), Ok(()));
    assert_eq!(budget.gauges(at(12.0)).balance, -1.0);
    budget.deposit(at(12.0));
    assert_eq!(budget.withdraw(at(12.0)), Err(Limit::Balance));
    assert_eq!(budget.withdraw(at(15.0)), Ok(()));
}

#[test]
fn the_floor_is_divided_by_the_live_nodes() {
    let nodes = LiveNodes::new(16);
    let fleet: Vec<Budget> = (0..16)
        .map(|_| budget(settings(0.1, 10.0), &nodes))
        .collect();
    // 100 / 16 is 6.25 a node: the quarter waits for deposits.
    assert!(
        fleet
            .iter()
            .all(|node| node.gauges(at(0.0)).balance == 6.25)
    );
    let granted: u64 = fleet.iter().map(|node| drain(node, at(0.0))).sum();
    assert_eq!(granted, 96);
    for _ in 0..8 {
        fleet[0].deposit(at(0.0));
    }
    assert_eq!(drain(&fleet[0], at(0.0)), 1);
}

#[test]
fn a_change_of_nodes_redivides_the_floor_at_once() {
    let nodes = LiveNodes::new(1);
    let budget = budget(settings(0.1, 10.0), &nodes);
    for _ in 0..50 {
        budget.withdraw(at(0.0)).unwrap();
    }
    nodes.set(4);
    assert_eq!(budget.gauges(at(0.0)).balance, -25.0);
    assert_eq!(drain(&budget, at(0.0)), 0);
    nodes.set(1);
    assert_eq!(drain(&budget, at(0.0)), 50);
    nodes.set(0);
    assert_eq!(nodes.get(), 1);
}

#[test]
fn the_ceiling_holds_however_good_the_balance() {
    let budget = alone(capped(20, 10));
    assert_eq!(drain(&budget, at(0.5)), 20);
    assert_eq!(budget.withdraw(at(0.5)), Err(Limit::Ceiling));
    assert_eq!(budget.gauges(at(0.5)).ceiling_left, Some(0));
    // A whole window later, whatever the position within the slot.
    assert_eq!(drain(&budget, at(10.5)), 0);
    assert_eq!(drain(&budget, at(11.0)), 20);
}

#[test]
fn the_ceiling_is_divided_too_and_never_exceeded_by_rounding() {
    let nodes = LiveNodes::new(3);
    let fleet: Vec<Budget> = (0..3).map(|_| budget(capped(20, 10), &nodes)).collect();
    let granted: u64 = fleet.iter().map(|node| drain(node, at(0.0))).sum();
    assert_eq!(granted, 18);
}

#[test]
fn a_ceiling_that_is_set_later_counts_what_went_before() {
    let registry = Registry::new(LiveNodes::default());
    let before = registry
        .account(&Identity::Gateway, settings(0.0, 100.0))
        .unwrap();
    for _ in 0..15 {
        before.withdraw(at(2.0)).unwrap();
    }
    let after = registry
        .account(&Identity::Gateway, capped(20, 10))
        .unwrap();
    assert_eq!(drain(&after, at(3.0)), 5);
}

#[test]
fn a_late_thread_does_not_turn_back_time() {
    let budget = alone(settings(0.0, 1.0));
    assert_eq!(drain(&budget, at(1_000.0)), 10);
    // Its own window is empty; the account's is not.
    assert_eq!(drain(&budget, at(3.0)), 0);
    assert_eq!(drain(&budget, at(998.0)), 0);
}

#[test]
fn all_accounts_pay_or_none() {
    let named = |name: &str, floor| {
        Budget::new(
            Identity::Named(name.into()),
            settings(1.0, floor),
            LiveNodes::default(),
        )
        .unwrap()
    };
    let budgets = Budgets::new([
        named("service", 10.0),
        named("pool", 0.2),
        named("all", 10.0),
    ]);
    assert_eq!(budgets.withdraw(at(0.0)), Ok(()));
    assert_eq!(budgets.withdraw(at(0.0)), Ok(()));
    let refused = Exhausted {
        account: 1,
        limit: Limit::Balance,
    };
    assert_eq!(budgets.withdraw(at(0.0)), Err(refused));
    assert_eq!(take_from_all(&budgets), Err(refused));
    let gauges = budgets.gauges(at(0.0));
    assert_eq!(
        gauges.iter().map(|g| g.withdrawals).collect::<Vec<_>>(),
        [2; 3]
    );
    assert_eq!(
        gauges.iter().map(|g| g.denials).collect::<Vec<_>>(),
        [0, 2, 0]
    );
    assert_eq!(gauges[0].balance, 98.0);
    budgets.deposit(at(0.0));
    assert_eq!(budgets.withdraw(at(0.0)), Ok(()));
}

/// The path of a withdrawal that loses a race after its first look.
fn take_from_all(budgets: &Budgets) -> Result<(), Exhausted> {
    group::take_from(budgets, 0, at(0.0))
}

#[test]
fn an_account_that_comes_twice_is_charged_once() {
    let shared = alone(settings(0.0, 1.0));
    let budgets = Budgets::new([shared.clone(), shared]);
    assert_eq!(budgets.accounts().len(), 1);
    assert_eq!(
        (0..20)
            .filter(|_| budgets.withdraw(at(0.0)).is_ok())
            .count(),
        10
    );
}

#[test]
fn no_accounts_mean_no_limit() {
    let budgets = Budgets::unlimited();
    assert!((0..10_000).all(|_| budgets.withdraw(at(0.0)).is_ok()));
}
