//! The promise of an account, between threads and over random traces.
#![allow(clippy::unwrap_used)]

use super::tests::{alone, at, budget, settings};
use super::*;
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::VecDeque;
use std::sync::Barrier;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

/// Seconds a slot adds to the burst: a trace may begin at the end of one and end at the start of another.
pub(super) const BURST_SLOT: f64 = 1.0;

#[test]
fn threads_get_every_token_and_none_twice() {
    let accounts = [
        alone(settings(0.1, 50.0)),
        alone(settings(0.1, 50.0)),
        alone(settings(0.1, 500.0)),
    ];
    let budgets = Budgets::new(accounts);
    let start = Barrier::new(8);
    let granted = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..1_000 {
                        budgets.deposit(at(1.0));
                    }
                    start.wait();
                    (0..1_000)
                        .filter(|_| budgets.withdraw(at(1.0)).is_ok())
                        .count()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap())
            .sum::<usize>()
    });
    // 500 of the floor, and a tenth of 8,000.
    assert_eq!(granted, 1_300);
    for (gauges, balance) in budgets.gauges(at(1.0)).iter().zip([0.0, 0.0, 4_500.0]) {
        assert_eq!(gauges.deposits, 8_000);
        assert_eq!(gauges.withdrawals, 1_300);
        assert_eq!(gauges.balance, balance);
    }
}

#[test]
fn threads_with_clocks_apart_never_break_the_bounds() {
    let floor = 2.0;
    let rules = Settings {
        ceiling: Some(Ceiling {
            max_retries: 150,
            window: Duration::from_secs(5),
        }),
        ..settings(0.2, floor)
    };
    for seed in 0..20 {
        let service = alone(rules);
        let gateway = alone(settings(0.2, 5.0));
        let budgets = Budgets::new([service.clone(), gateway]);
        let clock = AtomicU64::new(0);
        let (successes, retries) = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|number| {
                    let (budgets, clock) = (&budgets, &clock);
                    scope.spawn(move || {
                        let mut random = StdRng::seed_from_u64(seed * 100 + number);
                        let (mut successes, mut retries) = (0_u64, 0_u64);
                        for _ in 0..4_000 {
                            let step = random.random_range(0..10);
                            let shared = clock.fetch_add(step, Ordering::Relaxed);
                            let lag = random.random_range(0..1_500);
                            let now = Moment::from_millis(shared.saturating_sub(lag));
                            if random.random_bool(0.5) {
                                budgets.deposit(now);
                                successes += 1;
                            } else {
                                retries += u64::from(budgets.withdraw(now).is_ok());
                            }
                        }
                        (successes, retries)
                    })
                })
                .collect();
            threads.into_iter().fold((0, 0), |(s, r), thread| {
                let (successes, retries) = thread.join().unwrap();
                (s + successes, r + retries)
            })
        });
        let elapsed = clock.load(Ordering::Relaxed) as f64 / 1_000.0;
        let bound = 0.2 * successes as f64 + floor * (elapsed + BURST_SLOT + 10.0);
        assert!(retries as f64 <= bound, "{retries} > {bound}");
        assert!(retries as f64 <= 150.0 * (elapsed / 5.0 + 1.0));
        // It is a bound and not a refusal of everything.
        assert!(retries > 200, "{retries}");
        let end = Moment::from_millis(clock.load(Ordering::Relaxed));
        for gauges in budgets.gauges(end) {
            assert_eq!((gauges.deposits, gauges.withdrawals), (successes, retries));
        }
        let settled = end.after(Duration::from_secs(100));
        assert_eq!(service.gauges(settled).balance, floor * 10.0);
        assert_eq!(service.gauges(settled).ceiling_left, Some(150));
    }
}

/// The account as one would write it down without threads: every event kept, nothing in fixed point but the ratio.
struct Ledger {
    ttl: u64,
    window: u64,
    ratio: u64,
    reserve: u64,
    most: u64,
    deposits: VecDeque<u64>,
    withdrawals: VecDeque<u64>,
}

impl Ledger {
    fn withdraw(&mut self, second: u64) -> bool {
        let recent = |events: &VecDeque<u64>, slots: u64| {
            events.iter().filter(|then| **then + slots > second).count() as u64
        };
        let has = recent(&self.deposits, self.ttl) * self.ratio + self.reserve;
        let granted = has >= (recent(&self.withdrawals, self.ttl) + 1) * TOKEN
            && recent(&self.withdrawals, self.window + 1) < self.most;
        if granted {
            self.withdrawals.push_back(second);
        }
        granted
    }
}

#[derive(Clone, Debug)]
enum Event {
    /// Milliseconds go by.
    Wait(u64),
    /// Requests, of which each first attempt fails or not, and each failure asks for retries until one is refused
    /// or five were made. Retries fail as well.
    Requests { count: u32, failing: bool },
    /// The number of live nodes changes.
    Nodes(u32),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0_u64..4_000).prop_map(Event::Wait),
        (1_u32..60, any::<bool>()).prop_map(|(count, failing)| Event::Requests { count, failing }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// attempts <= requests + ratio x successes + floor x time + one burst window, at every moment of every trace;
    /// and the account grants exactly what a ledger of all events would.
    #[test]
    fn attempts_stay_within_the_promise(
        ratio in 0_u32..=10_000,
        floor in 0_u32..20,
        ttl in 1_u64..=30,
        window in 1_u64..=60,
        most in prop_oneof![Just(u64::MAX), 0_u64..200],
        nodes in 1_u32..20,
        start in 0_u64..100_000,
        events in proptest::collection::vec(any_event(), 1..60),
    ) {
        let ratio_f = f64::from(ratio) / TOKEN as f64;
        let rules = Settings {
            ratio: ratio_f,
            ttl: Duration::from_secs(ttl),
            min_retries_per_second: f64::from(floor),
            ceiling: Some(Ceiling { max_retries: most, window: Duration::from_secs(window) }),
        };
        let budget = budget(rules, &LiveNodes::new(nodes));
        let mut ledger = Ledger {
            ttl,
            window,
            ratio: u64::from(ratio),
            reserve: u64::from(floor) * ttl * TOKEN / u64::from(nodes),
            most: most / u64::from(nodes),
            deposits: VecDeque::new(),
            withdrawals: VecDeque::new(),
        };
        let mut millis = start;
        let (mut requests, mut attempts, mut successes) = (0_u64, 0_u64, 0_u64);
        for event in events {
            match event {
                Event::Wait(more) => millis += more,
                Event::Nodes(_) => {}
                Event::Requests { count, failing } => for _ in 0..count {
                    let now = Moment::from_millis(millis);
                    requests += 1;
                    attempts += 1;
                    if !failing {
                        successes += 1;
                        budget.deposit(now);
                        ledger.deposits.push_back(millis / 1_000);
                        continue;
                    }
                    for _ in 0..5 {
                        let granted = budget.withdraw(now).is_ok();
                        prop_assert_eq!(granted, ledger.withdraw(millis / 1_000));
                        if !granted {
                            break;
                        }
                        attempts += 1;
                    }
                },
            }
            let time = (millis - start) as f64 / 1_000.0;
            let floor = f64::from(floor) / f64::from(nodes);
            let promise = requests as f64 + ratio_f * successes as f64 + floor * (time + BURST_SLOT + ttl as f64);
            prop_assert!(attempts as f64 <= promise + 1e-6, "{} > {}", attempts, promise);
            let windows = (time / window as f64).floor() + 1.0;
            prop_assert!((attempts - requests) as f64 <= (most / u64::from(nodes)) as f64 * windows);
        }
        let gauges = budget.gauges(Moment::from_millis(millis));
        prop_assert_eq!(gauges.deposits, successes);
        prop_assert_eq!(gauges.withdrawals, attempts - requests);
    }

    /// The cluster keeps the promise for the floor as a whole while nodes come and go: the greatest share any of
    /// them ever had counts.
    #[test]
    fn the_promise_survives_a_changing_number_of_nodes(
        events in proptest::collection::vec(
            prop_oneof![4 => any_event(), 1 => (1_u32..20).prop_map(Event::Nodes)],
            1..80,
        ),
    ) {
        let nodes = LiveNodes::new(4);
        let budget = budget(settings(0.1, 10.0), &nodes);
        let (mut millis, mut fewest, mut successes, mut retries) = (0, 4, 0, 0);
        for event in events {
            let now = Moment::from_millis(millis);
            match event {
                Event::Wait(more) => millis += more,
                Event::Nodes(count) => {
                    nodes.set(count);
                    fewest = fewest.min(count);
                }
                Event::Requests { count, failing: false } => {
                    (0..count).for_each(|_| budget.deposit(now));
                    successes += count;
                }
                Event::Requests { count, failing: true } => {
                    retries += (0..count * 5).filter(|_| budget.withdraw(now).is_ok()).count();
                }
            }
            let floor = 10.0 / f64::from(fewest);
            let promise = 0.1 * f64::from(successes) + floor * (millis as f64 / 1_000.0 + BURST_SLOT + 10.0);
            prop_assert!(retries as f64 <= promise + 1e-6, "{} > {}", retries, promise);
        }
    }
}
