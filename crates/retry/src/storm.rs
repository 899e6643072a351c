//! A retry storm in miniature: sixteen gateway nodes in front of one upstream of bounded capacity.
//!
//! The upstream keeps working on requests that the gateway has given up on, which is what keeps a storm alive once
//! it has begun: its capacity falls to a fifth for five seconds, and the question is whether success ever comes
//! back. Time, arrivals and service times come from a seeded generator; budgets and terms are the real ones.

use crate::{
    Backoff, Budget, Budgets, Decision, Failure, Identity, LiveNodes, Moment, Request, Settings,
    Stage, Terms, Tries,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

const NODES: usize = 16;
const WORKERS: usize = 10;
/// Mean time a worker needs for a request: 1,000 a second together.
const SERVICE_TIME: f64 = 0.010;
const QUEUE: usize = 5_000;
const TIMEOUT: u64 = 1_000_000;
const DIP: std::ops::Range<u64> = 15_000_000..20_000_000;
const DIP_TO: f64 = 0.2;
const END: u64 = 55_000_000;

/// Time in microseconds: the upstream's queue is faster than the milliseconds the budget works in.
type Micros = u64;

#[derive(Debug)]
struct InFlight {
    node: usize,
    second: usize,
    tries: Tries,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    /// The upstream is done with this attempt.
    Done(usize),
    /// A new attempt at the request of this one.
    Again(usize),
}

#[derive(Debug, Default)]
struct Outcome {
    /// Requests that began in each second, those of them that succeeded, and attempts made in it.
    offered: Vec<u32>,
    succeeded: Vec<u32>,
    attempts: Vec<u32>,
}

impl Outcome {
    /// Share of requests that succeed, of those that begin from second `from` up to `to`.
    fn success(&self, from: usize, to: usize) -> f64 {
        let sum = |counts: &[u32]| f64::from(counts[from..to].iter().sum::<u32>());
        sum(&self.succeeded) / sum(&self.offered)
    }

    /// Seconds from the end of the dip until five seconds begin in which 99 % succeed; `None` when that takes longer
    /// than 27 seconds, which is when the run ends.
    fn recovery(&self) -> Option<usize> {
        let over = (DIP.end / 1_000_000) as usize;
        let last = (END / 1_000_000) as usize - 8;
        (over..last)
            .find(|second| self.success(*second, second + 5) >= 0.99)
            .map(|second| second - over)
    }

    /// Attempts per request over the whole run.
    fn amplification(&self) -> f64 {
        f64::from(self.attempts.iter().sum::<u32>()) / f64::from(self.offered.iter().sum::<u32>())
    }
}

struct Storm {
    random: SmallRng,
    now: Micros,
    events: BinaryHeap<Reverse<(Micros, u64, Event)>>,
    sequence: u64,
    /// All attempts so far, by number. `None`: answered or given up; the upstream does not know the difference.
    attempts: Vec<Option<InFlight>>,
    /// Time-outs fall due in the order they were set, so they need no heap.
    timeouts: VecDeque<(Micros, usize)>,
    queue: VecDeque<usize>,
    busy: usize,
    budgets: Vec<Budgets>,
    /// Pay in for each request instead of each success: what the first rule forbids.
    pay_on_request: bool,
    terms: Terms,
    outcome: Outcome,
}

impl Storm {
    fn run(rate: f64, seed: u64, terms: Terms, budgets: Vec<Budgets>) -> Outcome {
        Self::new(seed, terms, budgets).play(rate)
    }

    fn new(seed: u64, terms: Terms, budgets: Vec<Budgets>) -> Self {
        let seconds = (END / 1_000_000) as usize + 1;
        Self {
            random: SmallRng::seed_from_u64(seed),
            now: 0,
            events: BinaryHeap::new(),
            sequence: 0,
            attempts: Vec::new(),
            timeouts: VecDeque::new(),
            queue: VecDeque::new(),
            busy: 0,
            budgets,
            pay_on_request: false,
            terms,
            outcome: Outcome {
                offered: vec![0; seconds],
                succeeded: vec![0; seconds],
                attempts: vec![0; seconds],
            },
        }
    }

    fn play(mut self, rate: f64) -> Outcome {
        self.push(0, Event::Arrival);
        while let Some(Reverse((due, _, event))) = self.events.pop() {
            while let Some(&(timeout, attempt)) = self.timeouts.front()
                && timeout <= due
            {
                self.timeouts.pop_front();
                self.now = timeout;
                self.fail(attempt, Failure::Timeout(Stage::Read));
            }
            self.now = due;
            if self.now >= END {
                break;
            }
            match event {
                Event::Arrival => self.arrive(rate),
                Event::Done(attempt) => self.done(attempt),
                Event::Again(attempt) => self.send(attempt),
            }
        }
        self.outcome
    }

    fn push(&mut self, wait: Micros, event: Event) {
        self.sequence += 1;
        self.events
            .push(Reverse((self.now + wait, self.sequence, event)));
    }

    fn exponential(&mut self, mean: f64) -> Micros {
        let uniform: f64 = self.random.random();
        (-(1.0 - uniform).ln() * mean * 1e6) as Micros
    }

    fn second(&self) -> usize {
        (self.now / 1_000_000) as usize
    }

    fn moment(&self) -> Moment {
        Moment::from_millis(self.now / 1_000)
    }

    fn arrive(&mut self, rate: f64) {
        let next = self.exponential(1.0 / rate);
        self.push(next, Event::Arrival);
        let second = self.second();
        self.outcome.offered[second] += 1;
        let node = self.random.random_range(0..self.budgets.len());
        if self.pay_on_request {
            self.budgets[node].deposit(self.moment());
        }
        self.attempts.push(Some(InFlight {
            node,
            second,
            tries: Tries::begin(self.moment(), 0),
        }));
        self.send(self.attempts.len() - 1);
    }

    fn send(&mut self, attempt: usize) {
        let second = self.second();
        self.outcome.attempts[second] += 1;
        if self.queue.len() >= QUEUE {
            self.fail(attempt, Failure::ConnectFailed);
            return;
        }
        self.queue.push_back(attempt);
        self.timeouts.push_back((self.now + TIMEOUT, attempt));
        self.work();
    }

    fn work(&mut self) {
        while self.busy < WORKERS
            && let Some(attempt) = self.queue.pop_front()
        {
            self.busy += 1;
            let capacity = if DIP.contains(&self.now) { DIP_TO } else { 1.0 };
            let took = self.exponential(SERVICE_TIME / capacity);
            self.push(took, Event::Done(attempt));
        }
    }

    fn done(&mut self, attempt: usize) {
        self.busy -= 1;
        if let Some(request) = self.attempts[attempt].take() {
            self.outcome.succeeded[request.second] += 1;
            if !self.pay_on_request {
                let now = self.moment();
                request.tries.succeeded(&self.budgets[request.node], now);
            }
        }
        self.work();
    }

    fn fail(&mut self, attempt: usize, failure: Failure) {
        let Some(mut request) = self.attempts[attempt].take() else {
            return;
        };
        let jitter = self.random.random();
        let decision = request.tries.failed(
            &self.terms,
            &Request::default(),
            &failure,
            &self.budgets[request.node],
            self.moment(),
            jitter,
        );
        if let Decision::Retry { after, .. } = decision {
            self.attempts.push(Some(request));
            // Even a retry at once takes a while to be sent.
            let wait = Micros::try_from(after.as_micros()).unwrap_or(Micros::MAX);
            let again = Event::Again(self.attempts.len() - 1);
            self.push(wait.max(1_000), again);
        }
    }
}

fn fleet(settings: Settings) -> Vec<Budgets> {
    let nodes = LiveNodes::new(NODES as u32);
    let account = || Budget::new(Identity::Gateway, settings, nodes.clone());
    (0..NODES)
        .map(|_| Budgets::new(account().ok()))
        .inspect(|budgets| assert_eq!(budgets.accounts().len(), 1))
        .collect()
}

fn off() -> Vec<Budgets> {
    vec![Budgets::unlimited(); NODES]
}

#[test]
fn without_retries_the_upstream_comes_back() {
    let outcome = Storm::run(700.0, 1, Terms::kong(0), off());
    assert!(outcome.success(5, 15) > 0.999);
    assert!(outcome.success(15, 20) < 0.6, "the dip must hurt");
    assert!(
        outcome.recovery().is_some_and(|seconds| seconds <= 8),
        "{:?}",
        outcome.recovery()
    );
}

#[test]
fn kongs_default_never_comes_back() {
    let outcome = Storm::run(700.0, 1, Terms::kong(5), off());
    assert!(outcome.success(5, 15) > 0.999);
    assert_eq!(outcome.recovery(), None);
    assert!(outcome.success(40, 50) < 0.1, "{}", outcome.success(40, 50));
    assert!(outcome.amplification() > 2.0, "{}", outcome.amplification());
}

#[test]
fn backoff_alone_does_not_help() {
    let terms = Terms {
        backoff: Backoff::default(),
        deadline: Some(Duration::from_secs(30)),
        ..Terms::kong(5)
    };
    assert_eq!(Storm::run(700.0, 1, terms, off()).recovery(), None);
}

#[test]
fn with_the_budget_it_comes_back_at_seventy_percent_load() {
    for seed in 1..4 {
        let outcome = Storm::run(700.0, seed, Terms::kong(5), fleet(Settings::default()));
        let recovery = outcome.recovery();
        assert!(
            recovery.is_some_and(|seconds| seconds <= 12),
            "{recovery:?}"
        );
        assert!(outcome.amplification() < 1.1, "{}", outcome.amplification());
    }
}

#[test]
fn with_the_budget_it_comes_back_at_eighty_five_percent_load() {
    for seed in 1..4 {
        let outcome = Storm::run(850.0, seed, Terms::kong(5), fleet(Settings::default()));
        let recovery = outcome.recovery();
        assert!(
            recovery.is_some_and(|seconds| seconds <= 26),
            "{recovery:?}"
        );
        assert!(outcome.amplification() < 1.2, "{}", outcome.amplification());
    }
}

#[test]
fn paying_in_for_requests_would_keep_the_storm_alive() {
    // The first rule, all else being the default.
    let mut storm = Storm::new(1, Terms::kong(5), fleet(Settings::default()));
    storm.pay_on_request = true;
    assert_eq!(storm.play(850.0).recovery(), None);
}

#[test]
fn a_floor_for_every_node_would_keep_the_storm_alive() {
    // The second rule, all else being the default.
    let undivided = Settings {
        min_retries_per_second: 10.0 * NODES as f64,
        ..Settings::default()
    };
    let outcome = Storm::run(850.0, 1, Terms::kong(5), fleet(undivided));
    assert_eq!(outcome.recovery(), None);
}
