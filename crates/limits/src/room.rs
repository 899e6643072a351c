//! How many counters a node keeps. Whoever can choose what he is counted by (a header, an address out of a large IPv6 block) could
//! otherwise fill the memory: a counter of a month lives for a month.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Interval;

const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// A bound on counters. It is kept by the task that sweeps them, so for the moment until that has run there may be a few more.
#[derive(Debug)]
pub(crate) struct Room {
    most: usize,
    full: Arc<Notify>,
}

/// When the counters are to be swept; held apart from them, so that the task keeps nothing alive while it waits.
pub(crate) struct Sweeps {
    full: Arc<Notify>,
    tick: Interval,
}

impl Room {
    pub(crate) fn new(most: usize) -> Self {
        Room {
            most,
            full: Arc::default(),
        }
    }

    /// To be told when there is one more: wakes the sweeping task when there are too many.
    pub(crate) fn grown_to(&self, len: usize) {
        if len > self.most {
            self.full.notify_one();
        }
    }

    /// When to sweep: now and then, and at once when there are too many.
    pub(crate) fn sweeps(&self) -> Sweeps {
        Sweeps {
            full: self.full(),
            tick: tokio::time::interval(SWEEP_EVERY),
        }
    }

    /// Notified when there are too many.
    pub(crate) fn full(&self) -> Arc<Notify> {
        self.full.clone()
    }

    /// Which of these have to go, though they are in use; `None` when there is room. `counts` has what is in each.
    pub(crate) fn surplus(&self, len: usize, counts: impl Iterator<Item = u64>) -> Option<Surplus> {
        if len <= self.most {
            return None;
        }
        // An eighth is made free, so that this is not done again for each one that comes.
        let surplus = len - (self.most - self.most / 8);
        tracing::warn!(
            dropped = surplus,
            most = self.most,
            "too many rate limit counters: those with the least in them are dropped"
        );
        Some(Surplus::of(surplus, counts))
    }
}

impl Sweeps {
    /// Waits for the next time.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.tick.tick() => {}
            () = self.full.notified() => {}
        }
    }
}

/// Counters to drop: those with the least in them. A caller who is limited stays limited, however many others come.
#[derive(Debug)]
pub(crate) struct Surplus {
    /// All with fewer digits go.
    digits: u32,
    /// And so many of those with as many.
    more: usize,
}

impl Surplus {
    fn of(surplus: usize, counts: impl Iterator<Item = u64>) -> Self {
        let mut by_digits = [0_usize; 65];
        for count in counts {
            by_digits[digits(count) as usize] += 1;
        }
        let mut more = surplus;
        for (digits, n) in (0..).zip(by_digits) {
            if more <= n {
                return Surplus { digits, more };
            }
            more -= n;
        }
        Surplus { digits: 65, more }
    }

    /// Whether a counter with so much in it goes. To be asked once for each.
    pub(crate) fn takes(&mut self, count: u64) -> bool {
        let digits = digits(count);
        if digits == self.digits && self.more > 0 {
            self.more -= 1;
            return true;
        }
        digits < self.digits
    }
}

/// Binary ones: exact enough to tell small counts from large ones, and few enough to be counted.
fn digits(count: u64) -> u32 {
    64 - count.leading_zeros()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_go_until_an_eighth_is_free() {
        let room = Room::new(80);
        assert!(room.surplus(80, [].into_iter()).is_none());
        let counts: Vec<u64> = (0..60).map(|_| 1).chain((0..30).map(|_| 1000)).collect();
        let mut surplus = room.surplus(90, counts.iter().copied()).unwrap();
        let left: Vec<_> = counts.iter().filter(|c| !surplus.takes(**c)).collect();
        assert_eq!(left.len(), 70);
        assert_eq!(left.iter().filter(|c| ***c == 1000).count(), 30);
    }

    #[test]
    fn when_all_are_large_some_go_nevertheless() {
        let room = Room::new(8);
        let counts = [u64::MAX; 20];
        let mut surplus = room.surplus(20, counts.into_iter()).unwrap();
        assert_eq!(counts.iter().filter(|c| !surplus.takes(**c)).count(), 7);
    }
}
