//! Whether an address answers, learnt from checks and from requests. The counting is that of Kong's `lua-resty-healthcheck`.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use silverback_entities::{CheckType, Healthchecks, Upstream};

/// How an attempt or a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With a response of that status.
    Status(u16),
    /// With nothing to look at but that it worked.
    Success,
    /// Without a connection, or with one that broke off.
    TcpFailure,
    /// Without a response in time.
    Timeout,
}

/// What is taken for a success and for a failure, and how many of them change an address's state. 0 is never.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rules {
    good: Vec<u16>,
    bad: Vec<u16>,
    successes: u8,
    http_failures: u8,
    tcp_failures: u8,
    timeouts: u8,
}

/// The checks of an upstream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checks {
    pub(crate) active: Rules,
    pub(crate) passive: Rules,
    /// Time between two checks of a healthy address; zero for none.
    pub(crate) healthy_every: Duration,
    /// The same of an unhealthy one.
    pub(crate) unhealthy_every: Duration,
    /// How much of the weight, in percent, has to be more than that.
    pub(crate) threshold: f64,
}

impl Checks {
    /// `None` when nothing would ever be found unhealthy (`is_upstream_using_healthcheck` in `kong/runloop/balancer/healthcheckers.lua`).
    pub(crate) fn of(upstream: &Upstream) -> Option<Self> {
        let Healthchecks {
            active,
            passive,
            threshold,
        } = &upstream.healthchecks;
        let seconds =
            |s: Option<f64>| Duration::try_from_secs_f64(s.unwrap_or(0.0)).unwrap_or_default();
        // As in Kong, the HTTP side of the gateway makes no checks of type tcp.
        let makes = active.r#type != Some(CheckType::Tcp);
        let every = |s| if makes { seconds(s) } else { Duration::ZERO };
        let n = Option::unwrap_or_default;
        let is_used = seconds(active.healthy.interval) > Duration::ZERO
            || seconds(active.unhealthy.interval) > Duration::ZERO
            || n(passive.unhealthy.tcp_failures) > 0
            || n(passive.unhealthy.timeouts) > 0
            || n(passive.unhealthy.http_failures) > 0;
        // Active and passive checks have records of their own, with the same fields.
        macro_rules! rules {
            ($of:ident) => {
                Rules {
                    good: $of.healthy.http_statuses.clone().unwrap_or_default(),
                    bad: $of.unhealthy.http_statuses.clone().unwrap_or_default(),
                    successes: n($of.healthy.successes),
                    http_failures: n($of.unhealthy.http_failures),
                    tcp_failures: n($of.unhealthy.tcp_failures),
                    timeouts: n($of.unhealthy.timeouts),
                }
            };
        }
        is_used.then(|| Checks {
            active: rules!(active),
            passive: rules!(passive),
            healthy_every: every(active.healthy.interval),
            unhealthy_every: every(active.unhealthy.interval),
            threshold: threshold.unwrap_or(0.0),
        })
    }

    /// How often to look whether a check is due; `None` when there are none to make.
    pub(crate) fn tick(&self) -> Option<Duration> {
        let both = [self.healthy_every, self.unhealthy_every];
        let least = both.into_iter().filter(|d| !d.is_zero()).min()?;
        Some((least / 4).clamp(Duration::from_millis(25), Duration::from_millis(500)))
    }
}

const HEALTHY: u8 = 0;
/// With failures, but not enough of them.
const MOSTLY_HEALTHY: u8 = 1;
/// With successes, but not enough of them.
const MOSTLY_UNHEALTHY: u8 = 2;
const UNHEALTHY: u8 = 3;

/// What is known of an address.
#[derive(Debug, Default)]
pub(crate) struct State {
    level: AtomicU8,
    counts: Mutex<Counts>,
    /// When it was checked last, in milliseconds on the balancer's clock; 0 is never.
    checked: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts {
    successes: u8,
    http_failures: u8,
    tcp_failures: u8,
    timeouts: u8,
}

impl State {
    /// Whether requests are sent there.
    pub(crate) fn is_available(&self) -> bool {
        self.level.load(Ordering::Relaxed) <= MOSTLY_HEALTHY
    }

    /// Takes an outcome in. Whether the address is available from now on, when that changed.
    pub(crate) fn report(&self, rules: &Rules, outcome: Outcome) -> Option<bool> {
        let success = match outcome {
            Outcome::Success => true,
            Outcome::Status(code) if rules.good.contains(&code) => true,
            Outcome::Status(code) if rules.bad.contains(&code) => false,
            Outcome::Status(_) => return None,
            Outcome::TcpFailure | Outcome::Timeout => false,
        };
        let level = self.level.load(Ordering::Relaxed);
        // What changes nothing takes no lock: nearly every request is a success at a healthy address.
        if success && (level == HEALTHY || rules.successes == 0) || !success && level == UNHEALTHY {
            return None;
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let level = self.level.load(Ordering::Relaxed);
        let (count, limit) = match outcome {
            _ if success => (&mut counts.successes, rules.successes),
            Outcome::TcpFailure => (&mut counts.tcp_failures, rules.tcp_failures),
            Outcome::Timeout => (&mut counts.timeouts, rules.timeouts),
            Outcome::Status(_) | Outcome::Success => {
                (&mut counts.http_failures, rules.http_failures)
            }
        };
        if limit == 0 {
            return None;
        }
        *count = count.saturating_add(1);
        let enough = *count >= limit;
        let next = if success {
            *counts = Counts {
                successes: counts.successes,
                ..Counts::default()
            };
            match level {
                HEALTHY | MOSTLY_HEALTHY => HEALTHY,
                _ if enough => HEALTHY,
                _ => MOSTLY_UNHEALTHY,
            }
        } else {
            counts.successes = 0;
            match level {
                _ if enough => UNHEALTHY,
                MOSTLY_UNHEALTHY | UNHEALTHY => UNHEALTHY,
                _ => MOSTLY_HEALTHY,
            }
        };
        if next == HEALTHY || next == UNHEALTHY {
            *counts = Counts::default();
        }
        self.turn(next)
    }

    /// An operator's word. Whether that changed anything.
    pub(crate) fn set(&self, healthy: bool) -> Option<bool> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts = Counts::default();
        self.turn(if healthy { HEALTHY } else { UNHEALTHY })
    }

    /// Called with the counts locked.
    fn turn(&self, next: u8) -> Option<bool> {
        let before = self.level.swap(next, Ordering::Relaxed);
        let available = next <= MOSTLY_HEALTHY;
        ((before <= MOSTLY_HEALTHY) != available).then_some(available)
    }

    /// Whether a check is due at `now`, in milliseconds; it counts as made from then on.
    pub(crate) fn is_due(&self, checks: &Checks, now: u64) -> bool {
        let every = if self.is_available() {
            checks.healthy_every
        } else {
            checks.unhealthy_every
        };
        if every.is_zero() {
            return false;
        }
        let last = self.checked.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= every.as_millis() as u64;
        if due {
            self.checked.store(now.max(1), Ordering::Relaxed);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            good: vec![200],
            bad: vec![500],
            successes: 2,
            http_failures: 3,
            tcp_failures: 1,
            timeouts: 0,
        }
    }

    #[test]
    fn enough_failures_make_unhealthy_and_enough_successes_healthy() {
        let (state, rules) = (State::default(), rules());
        let bad = Outcome::Status(500);
        assert_eq!([(); 2].map(|()| state.report(&rules, bad)), [None, None]);
        assert!(state.is_available());
        assert_eq!(state.report(&rules, bad), Some(false));
        assert_eq!(state.report(&rules, Outcome::Status(200)), None);
        assert!(!state.is_available());
        assert_eq!(state.report(&rules, Outcome::Success), Some(true));
    }

    #[test]
    fn a_success_forgives_failures_and_a_failure_takes_successes_back() {
        let (state, rules) = (State::default(), rules());
        let (good, bad) = (Outcome::Status(200), Outcome::Status(500));
        for outcome in [bad, bad, good, bad, bad] {
            assert_eq!(state.report(&rules, outcome), None);
        }
        assert_eq!(state.report(&rules, bad), Some(false));
        for outcome in [good, bad, good] {
            assert_eq!(state.report(&rules, outcome), None);
        }
        assert_eq!(state.report(&rules, good), Some(true));
    }

    #[test]
    fn what_has_no_limit_and_other_statuses_do_not_count() {
        let (state, rules) = (State::default(), rules());
        for _ in 0..10 {
            assert_eq!(state.report(&rules, Outcome::Timeout), None);
            assert_eq!(state.report(&rules, Outcome::Status(404)), None);
        }
        assert_eq!(state.report(&rules, Outcome::TcpFailure), Some(false));
        assert_eq!(state.set(false), None);
        assert_eq!(state.set(true), Some(true));
    }

    #[test]
    fn checks_are_due_by_what_an_address_is() {
        let checks = Checks {
            active: rules(),
            passive: rules(),
            healthy_every: Duration::from_secs(5),
            unhealthy_every: Duration::ZERO,
            threshold: 0.0,
        };
        let state = State::default();
        assert!(state.is_due(&checks, 10) && !state.is_due(&checks, 5000));
        assert!(state.is_due(&checks, 5010));
        state.set(false);
        assert!(!state.is_due(&checks, 100_000));
    }
}
