//! Windows of time: aligned to the UTC calendar, as `kong/tools/timestamp.lua` does.

use std::time::{SystemTime, UNIX_EPOCH};

use time::{Date, Month, OffsetDateTime};

/// The length of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Period {
    Second,
    Minute,
    Hour,
    Day,
    Month,
    Year,
}

impl Period {
    /// All, the shortest first.
    pub const ALL: [Period; 6] = [
        Period::Second,
        Period::Minute,
        Period::Hour,
        Period::Day,
        Period::Month,
        Period::Year,
    ];

    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        ["second", "minute", "hour", "day", "month", "year"][self as usize]
    }

    /// Kong's length in seconds, with months of 30 and years of 365 days (`kong/plugins/rate-limiting/expiration.lua`).
    pub fn seconds(self) -> i64 {
        [1, 60, 3_600, 86_400, 2_592_000, 31_536_000][self as usize]
    }

    /// The window that `now`, in seconds since 1970, lies in.
    pub fn window(self, now: i64) -> Window {
        match self {
            Period::Second | Period::Minute | Period::Hour | Period::Day => {
                let number = now.div_euclid(self.seconds());
                let start = number * self.seconds();
                Window {
                    number,
                    start,
                    end: start + self.seconds(),
                }
            }
            Period::Month | Period::Year => {
                // Times beyond the calendar, which ends in the year 9999, count as its start.
                let date = OffsetDateTime::from_unix_timestamp(now)
                    .unwrap_or(OffsetDateTime::UNIX_EPOCH)
                    .date();
                let (year, month) = (date.year(), date.month());
                if self == Period::Year {
                    let (start, end) = (
                        first_of(year, Month::January),
                        first_of(year + 1, Month::January),
                    );
                    return Window {
                        number: i64::from(year),
                        start,
                        end,
                    };
                }
                let next_year = if month == Month::December {
                    year + 1
                } else {
                    year
                };
                Window {
                    number: i64::from(year) * 12 + i64::from(u8::from(month)) - 1,
                    start: first_of(year, month),
                    end: first_of(next_year, month.next()),
                }
            }
        }
    }

    /// Seconds until the limit is as good as new: Kong's `RateLimit-Reset`.
    pub fn reset(self, window: &Window, now: i64) -> i64 {
        (self.seconds() - (now - window.start)).max(1)
    }
}

/// Seconds since 1970.
pub fn unix_seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

pub(crate) fn unix_now() -> i64 {
    unix_seconds(SystemTime::now())
}

/// What is wrong when a longer period has a lower limit than a shorter one.
pub fn out_of_order(limit: impl Fn(Period) -> Option<f64>) -> Option<String> {
    for (i, lower) in Period::ALL.into_iter().enumerate() {
        for upper in Period::ALL.into_iter().skip(i + 1) {
            if let (Some(low), Some(high)) = (limit(lower), limit(upper))
                && high < low
            {
                let (upper, lower) = (upper.name(), lower.name());
                return Some(format!(
                    "limit for {upper}({high:.1}) cannot be lower than the limit for {lower}({low:.1})"
                ));
            }
        }
    }
    None
}

fn first_of(year: i32, month: Month) -> i64 {
    Date::from_calendar_date(year, month, 1)
        .map_or(i64::MAX, |d| d.midnight().assume_utc().unix_timestamp())
}

/// A window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Counts windows of this length; the next one has the next number.
    pub number: i64,
    /// Its first second, since 1970.
    pub start: i64,
    /// The first second after it.
    pub end: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2026-11-22 15:46:52 UTC.
    const NOW: i64 = 1_795_362_412;

    #[test]
    fn windows_begin_where_the_calendar_does() {
        let start = |p: Period| p.window(NOW).start;
        assert_eq!(start(Period::Second), NOW);
        assert_eq!(start(Period::Minute), NOW - 52);
        assert_eq!(start(Period::Hour), NOW - 52 - 46 * 60);
        assert_eq!(start(Period::Day), NOW - 52 - 46 * 60 - 15 * 3600);
        assert_eq!(start(Period::Month), start(Period::Day) - 21 * 86_400);
        assert_eq!(start(Period::Year), 1_767_225_600);
    }

    #[test]
    fn windows_follow_each_other_without_gap() {
        for period in Period::ALL {
            let mut window = period.window(NOW);
            for _ in 0..30 {
                let next = period.window(window.end);
                assert_eq!(
                    (next.start, next.number),
                    (window.end, window.number + 1),
                    "{period:?}"
                );
                assert_eq!(period.window(next.end - 1), next);
                window = next;
            }
        }
    }

    #[test]
    fn reset_is_at_least_a_second() {
        let reset = |p: Period, now| p.reset(&p.window(now), now);
        assert_eq!(reset(Period::Second, NOW), 1);
        assert_eq!(reset(Period::Minute, NOW), 8);
        assert_eq!(reset(Period::Hour, NOW), 3600 - 52 - 46 * 60);
        // The 31st day of a month of 30 days.
        assert_eq!(reset(Period::Month, 1_793_491_199), 1);
    }
}
