//! Complaints that come by the thousand when a server is away, said now and then.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long after a complaint the next one of its kind is said.
const PAUSE: Duration = Duration::from_secs(10);

/// One kind of complaint. Counts what it stands for, and says so at once the first time and then at most every ten seconds.
#[derive(Debug, Default)]
pub struct Limited {
    unsaid: AtomicU64,
    /// Milliseconds on this module's clock; 0 before the first.
    said_at: AtomicU64,
}

impl Limited {
    /// Counts `n` more; answers how many there were since it was last said when it is to be said now.
    pub fn due(&self, n: u64) -> Option<u64> {
        self.unsaid.fetch_add(n, Ordering::Relaxed);
        let now = now();
        let said = self.said_at.load(Ordering::Relaxed);
        let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
        if said != 0 && now.saturating_sub(said) < pause {
            return None;
        }
        // Of several threads one says it.
        let first = self
            .said_at
            .compare_exchange(said, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        first.then(|| self.unsaid.swap(0, Ordering::Relaxed))
    }

    /// What was counted and not said, for the end.
    pub fn rest(&self) -> u64 {
        self.unsaid.swap(0, Ordering::Relaxed)
    }
}

/// Milliseconds since this module was first used, from 1.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    1 + u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_next_are_counted() {
        let limited = Limited::default();
        assert_eq!(limited.due(1), Some(1));
        assert_eq!(limited.due(2), None);
        assert_eq!(limited.due(3), None);
        assert_eq!(limited.rest(), 5);
    }
}
