//! Time as a value: the crate never reads a clock.

use std::time::Duration;

/// A moment on the caller's monotonic clock, in whole milliseconds since some start (usually that of the process).
///
/// Moments of one [`Registry`](crate::Registry) must come from one clock. They may arrive slightly out of order, as
/// they do when threads race; an account never runs backwards because of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The moment `millis` milliseconds after the start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The moment `elapsed` after the start, cut to milliseconds.
    #[must_use]
    pub fn from_start(elapsed: Duration) -> Self {
        Self(millis(elapsed))
    }

    /// Milliseconds since the start.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This moment plus `wait`; stays at the end of time rather than wrapping.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(millis(wait)))
    }

    /// Time from `earlier` to this moment; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_wrap_or_go_negative() {
        let moment = Moment::from_start(Duration::from_micros(1_500_999));
        assert_eq!(moment.as_millis(), 1_500);
        assert_eq!(moment.after(Duration::MAX), Moment::from_millis(u64::MAX));
        assert_eq!(Moment::from_millis(10).since(moment), Duration::ZERO);
        assert_eq!(
            moment.since(Moment::from_millis(500)),
            Duration::from_secs(1)
        );
    }
}
