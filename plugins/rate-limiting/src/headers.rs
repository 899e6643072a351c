//! What clients are told of their limits (`kong/plugins/rate-limiting/handler.lua`).

use std::sync::LazyLock;

use silverback_limits::{Limit, Window, number};
use silverback_plugin::{HeaderKey, ResponseHead};

use crate::{MAX_LIMITS, Reading};

struct Names {
    limit: HeaderKey,
    remaining: HeaderKey,
    reset: HeaderKey,
    retry_after: HeaderKey,
    limit_of: [HeaderKey; MAX_LIMITS],
    remaining_of: [HeaderKey; MAX_LIMITS],
}

static NAMES: LazyLock<Names> = LazyLock::new(|| Names {
    limit: HeaderKey::from_static("RateLimit-Limit"),
    remaining: HeaderKey::from_static("RateLimit-Remaining"),
    reset: HeaderKey::from_static("RateLimit-Reset"),
    retry_after: HeaderKey::from_static("Retry-After"),
    limit_of: [
        HeaderKey::from_static("X-RateLimit-Limit-Second"),
        HeaderKey::from_static("X-RateLimit-Limit-Minute"),
        HeaderKey::from_static("X-RateLimit-Limit-Hour"),
        HeaderKey::from_static("X-RateLimit-Limit-Day"),
        HeaderKey::from_static("X-RateLimit-Limit-Month"),
        HeaderKey::from_static("X-RateLimit-Limit-Year"),
    ],
    remaining_of: [
        HeaderKey::from_static("X-RateLimit-Remaining-Second"),
        HeaderKey::from_static("X-RateLimit-Remaining-Minute"),
        HeaderKey::from_static("X-RateLimit-Remaining-Hour"),
        HeaderKey::from_static("X-RateLimit-Remaining-Day"),
        HeaderKey::from_static("X-RateLimit-Remaining-Month"),
        HeaderKey::from_static("X-RateLimit-Remaining-Year"),
    ],
});

/// What a response says, kept from `access` to `header_filter`.
pub(crate) struct Told {
    reading: Reading,
    now: i64,
}

impl Told {
    pub(crate) fn new(reading: Reading, now: i64) -> Self {
        Told { reading, now }
    }

    /// Writes the headers.
    pub(crate) fn write(&self, limits: &[Limit], head: &mut dyn ResponseHead) {
        let names = &*NAMES;
        // The tightest limit speaks for all; of equal ones the longest.
        let mut tightest: Option<(&Limit, f64)> = None;
        for (limit, used) in limits.iter().zip(&self.reading.used) {
            let left = self.left(limit, *used);
            head.set(&names.limit_of[limit.period as usize], number(limit.shown));
            head.set(&names.remaining_of[limit.period as usize], number(left));
            if tightest.is_none_or(|(_, least)| left <= least) {
                tightest = Some((limit, left));
            }
        }
        let Some((limit, left)) = tightest else {
            return;
        };
        let window: Window = limit.period.window(self.now);
        let reset = limit.period.reset(&window, self.now) as f64;
        head.set(&names.limit, number(limit.shown));
        head.set(&names.remaining, number(left));
        head.set(&names.reset, number(reset));
        if !self.reading.admitted {
            head.set(&names.retry_after, number(reset));
        }
    }

    /// What is left of a limit, this request taken off where it counted.
    fn left(&self, limit: &Limit, used: u64) -> f64 {
        let counted = if self.reading.admitted { 1.0 } else { 0.0 };
        (limit.shown - used as f64 - counted).max(0.0)
    }
}
