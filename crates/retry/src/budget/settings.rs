//! What an account is told to do, and its translation to fixed point.

use std::time::Duration;
use thiserror::Error;

/// One retry in fixed point. Amounts of less than a retry are whole multiples of a ten-thousandth, so that nothing
/// drifts however many deposits are added up.
pub(super) const TOKEN: u64 = 10_000;

/// Longest life of a deposit, in slots of one second.
pub(super) const MAX_TTL: u32 = 30;

/// Longest window of a ceiling, in slots of one second.
pub(super) const MAX_WINDOW: u32 = 60;

const MAX_RATIO: f64 = 10.0;
const MAX_FLOOR: f64 = 1_000_000.0;

/// A hard upper limit on retries, whatever the balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// Retries allowed in the whole cluster within any `window`. Each node gets an equal share, rounded down: a
    /// limit below the number of nodes leaves none to anybody.
    pub max_retries: u64,
    /// Whole seconds, 1 to 60.
    pub window: Duration,
}

/// Settings of one account.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Retries earned by each success of a first attempt, 0 to 10 in steps of 0.0001. Default 0.1.
    pub ratio: f64,
    /// How long a deposit can be spent, and over how long withdrawals count against it: whole seconds, 1 to 30.
    /// Default 10 s.
    pub ttl: Duration,
    /// Retries per second that need no success, for the whole cluster; each node gets an equal share. The floor of
    /// one `ttl` may be spent at once. Default 10.
    pub min_retries_per_second: f64,
    /// A limit that holds however good the balance is. Default none.
    pub ceiling: Option<Ceiling>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ratio: 0.1,
            ttl: Duration::from_secs(10),
            min_retries_per_second: 10.0,
            ceiling: None,
        }
    }
}

/// Why [`Settings`] were refused.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum SettingsError {
    /// The ratio is not a number from 0 to 10.
    #[error("ratio must be between 0 and 10, is {0}")]
    Ratio(f64),
    /// The floor is not a number from 0 to 1,000,000.
    #[error("min_retries_per_second must be between 0 and 1000000, is {0}")]
    Floor(f64),
    /// The time to live is not a whole number of seconds from 1 to 30.
    #[error("ttl must be a whole number of seconds between 1 and 30, is {0:?}")]
    Ttl(Duration),
    /// The window of the ceiling is not a whole number of seconds from 1 to 60.
    #[error("window must be a whole number of seconds between 1 and 60, is {0:?}")]
    Window(Duration),
}

/// [`Settings`] in slots and fixed point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Added per deposit, in fractions of [`TOKEN`].
    pub(super) deposit: u32,
    /// Floor of one `ttl` for the whole cluster, in fractions of [`TOKEN`].
    pub(super) reserve: u64,
    /// Slots that a deposit lives.
    pub(super) ttl_slots: u32,
    /// Retries per window in the whole cluster, and the slots that cover any window.
    pub(super) ceiling: Option<(u64, u32)>,
}

impl Rules {
    pub(super) fn new(settings: &Settings) -> Result<Self, SettingsError> {
        if !(0.0..=MAX_RATIO).contains(&settings.ratio) {
            return Err(SettingsError::Ratio(settings.ratio));
        }
        let floor = settings.min_retries_per_second;
        if !(0.0..=MAX_FLOOR).contains(&floor) {
            return Err(SettingsError::Floor(floor));
        }
        let ttl_slots =
            whole_seconds(settings.ttl, MAX_TTL).ok_or(SettingsError::Ttl(settings.ttl))?;
        let ceiling = match settings.ceiling {
            None => None,
            Some(Ceiling {
                max_retries,
                window,
            }) => {
                let slots =
                    whole_seconds(window, MAX_WINDOW).ok_or(SettingsError::Window(window))?;
                // The present slot is only partly over: one more is needed to cover a whole window at any moment.
                Some((max_retries, slots + 1))
            }
        };
        Ok(Self {
            // Both are in range and positive, so the cast only cuts a fraction that rounding has removed.
            deposit: (settings.ratio * TOKEN as f64).round() as u32,
            reserve: (floor * f64::from(ttl_slots) * TOKEN as f64).round() as u64,
            ttl_slots,
            ceiling,
        })
    }
}

fn whole_seconds(duration: Duration, most: u32) -> Option<u32> {
    let seconds = u32::try_from(duration.as_secs()).ok()?;
    (duration.subsec_nanos() == 0 && (1..=most).contains(&seconds)).then_some(seconds)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused_with_the_offending_value() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            Rules::new(&settings).unwrap_err().to_string()
        };
        assert!(with(|s| s.ratio = -0.1).contains("-0.1"));
        assert!(with(|s| s.ratio = f64::NAN).starts_with("ratio"));
        assert!(with(|s| s.min_retries_per_second = f64::INFINITY).contains("inf"));
        assert!(with(|s| s.ttl = Duration::from_millis(1_500)).contains("1.5s"));
        assert!(with(|s| s.ttl = Duration::ZERO).starts_with("ttl"));
        assert!(with(|s| s.ttl = Duration::from_secs(31)).contains("31s"));
        let minute = |s: &mut Settings| {
            s.ceiling = Some(Ceiling {
                max_retries: 1,
                window: Duration::from_secs(61),
            });
        };
        assert!(with(minute).starts_with("window"));
    }

    #[test]
    fn defaults_are_a_tenth_and_ten_per_second_over_ten_slots() {
        let rules = Rules::new(&Settings::default()).unwrap();
        assert_eq!(u64::from(rules.deposit) * 10, TOKEN);
        assert_eq!(rules.reserve, 100 * TOKEN);
        assert_eq!(rules.ttl_slots, 10);
        assert_eq!(rules.ceiling, None);
    }
}
