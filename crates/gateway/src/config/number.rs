//! Numbers: counts, ports, durations and sizes.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde_json::{Value, json};

use super::value::Codec;

/// A whole number between `MIN` and `MAX`.
pub enum Integer<const MIN: u64, const MAX: u64> {}

impl<const MIN: u64, const MAX: u64> Codec for Integer<MIN, MAX> {
    type Out = u64;

    fn parse(name: &str, raw: &str) -> Result<u64, String> {
        let number = finite(name, raw)?;
        let whole = raw.parse::<u64>().ok();
        match whole {
            Some(whole) if (MIN..=MAX).contains(&whole) => Ok(whole),
            None if number.fract() != 0.0 => Err(format!("{name} must be an integer, got '{raw}'")),
            _ if MAX == u64::MAX => Err(format!("{name} must be {MIN} or greater, got '{raw}'")),
            _ => Err(format!(
                "{name} must be between {MIN} and {MAX}, got '{raw}'"
            )),
        }
    }

    fn render(value: &u64) -> String {
        value.to_string()
    }

    fn describe() -> String {
        if MAX == u64::MAX {
            format!("integer, {MIN} or greater")
        } else {
            format!("integer, {MIN} to {MAX}")
        }
    }

    fn json(value: &u64) -> Option<Value> {
        Some(json!(value))
    }
}

/// A whole number, zero included.
pub(super) type Count = Integer<0, { u64::MAX }>;

/// A TCP port.
pub enum Port {}

impl Codec for Port {
    type Out = u16;

    fn parse(name: &str, raw: &str) -> Result<u16, String> {
        let port = Integer::<1, 65535>::parse(name, raw)?;
        u16::try_from(port).map_err(|_| format!("{name} is not a port: '{raw}'"))
    }

    fn render(value: &u16) -> String {
        value.to_string()
    }

    fn describe() -> String {
        Integer::<1, 65535>::describe()
    }

    fn json(value: &u16) -> Option<Value> {
        Some(json!(value))
    }
}

/// A number from 0 to `MAX`.
pub enum Decimal<const MAX: u64> {}

impl<const MAX: u64> Codec for Decimal<MAX> {
    type Out = f64;

    fn parse(name: &str, raw: &str) -> Result<f64, String> {
        let number = finite(name, raw)?;
        #[allow(
            clippy::cast_precision_loss,
            reason = "the limits of the table are small"
        )]
        if !(0.0..=MAX as f64).contains(&number) {
            return Err(format!("{name} must be between 0 and {MAX}, got '{raw}'"));
        }
        Ok(number)
    }

    fn render(value: &f64) -> String {
        value.to_string()
    }

    fn describe() -> String {
        format!("number, 0 to {MAX}")
    }

    fn json(value: &f64) -> Option<Value> {
        Some(number(*value))
    }
}

/// A whole number of seconds between `MIN` and `MAX`.
pub enum WholeSeconds<const MIN: u64, const MAX: u64> {}

impl<const MIN: u64, const MAX: u64> Codec for WholeSeconds<MIN, MAX> {
    type Out = Duration;

    fn parse(name: &str, raw: &str) -> Result<Duration, String> {
        Integer::<MIN, MAX>::parse(name, raw).map(Duration::from_secs)
    }

    fn render(value: &Duration) -> String {
        value.as_secs().to_string()
    }

    fn describe() -> String {
        format!("whole seconds, {MIN} to {MAX}")
    }

    fn json(value: &Duration) -> Option<Value> {
        Some(json!(value.as_secs()))
    }
}

/// A duration in seconds; fractions are fine.
pub enum Seconds {}

impl Codec for Seconds {
    type Out = Duration;

    fn parse(name: &str, raw: &str) -> Result<Duration, String> {
        duration(name, raw, 1.0)
    }

    fn render(value: &Duration) -> String {
        value.as_secs_f64().to_string()
    }

    fn describe() -> String {
        "seconds, 0 or greater".into()
    }

    fn json(value: &Duration) -> Option<Value> {
        Some(number(value.as_secs_f64()))
    }
}

/// [`Seconds`] that may not be zero.
pub enum PositiveSeconds {}

impl Codec for PositiveSeconds {
    type Out = Duration;

    fn parse(name: &str, raw: &str) -> Result<Duration, String> {
        match Seconds::parse(name, raw) {
            Ok(value) if !value.is_zero() => Ok(value),
            _ => {
                finite(name, raw)?;
                Err(format!("{name} must be greater than 0"))
            }
        }
    }

    fn render(value: &Duration) -> String {
        Seconds::render(value)
    }

    fn describe() -> String {
        "seconds, greater than 0".into()
    }

    fn json(value: &Duration) -> Option<Value> {
        Seconds::json(value)
    }
}

/// A duration in milliseconds.
pub enum Millis {}

impl Codec for Millis {
    type Out = Duration;

    fn parse(name: &str, raw: &str) -> Result<Duration, String> {
        duration(name, raw, 1000.0)
    }

    fn render(value: &Duration) -> String {
        (value.as_secs_f64() * 1000.0).to_string()
    }

    fn describe() -> String {
        "milliseconds, 0 or greater".into()
    }

    fn json(value: &Duration) -> Option<Value> {
        Some(number(value.as_secs_f64() * 1000.0))
    }
}

/// A number of bytes in nginx's notation: `0`, `512`, `8k`, `10m`, `1g`.
pub enum Size {}

impl Codec for Size {
    type Out = u64;

    fn parse(name: &str, raw: &str) -> Result<u64, String> {
        let invalid =
            || format!("{name} is not a size: '{raw}' (bytes, or with a suffix k, m or g)");
        let (digits, unit) = match raw.char_indices().last() {
            Some((at, 'k' | 'K')) => (&raw[..at], 1 << 10),
            Some((at, 'm' | 'M')) => (&raw[..at], 1 << 20),
            Some((at, 'g' | 'G')) => (&raw[..at], 1 << 30),
            _ => (raw, 1),
        };
        digits
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(unit))
            .ok_or_else(invalid)
    }

    fn render(value: &u64) -> String {
        for (unit, suffix) in [(1 << 30, "g"), (1 << 20, "m"), (1 << 10, "k")] {
            if *value >= unit && value.is_multiple_of(unit) {
                return format!("{}{suffix}", value / unit);
            }
        }
        value.to_string()
    }

    fn describe() -> String {
        "size in bytes, or with `k`, `m`, `g`".into()
    }
}

/// How many threads serve requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// One per core.
    Auto,
    /// So many.
    Fixed(NonZeroUsize),
}

impl Workers {
    /// The number of threads on this machine.
    #[must_use]
    pub fn threads(self) -> usize {
        match self {
            Self::Auto => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            Self::Fixed(count) => count.get(),
        }
    }
}

impl Codec for Workers {
    type Out = Self;

    fn parse(name: &str, raw: &str) -> Result<Self, String> {
        if raw == "auto" {
            return Ok(Self::Auto);
        }
        match raw.parse::<NonZeroUsize>() {
            Ok(count) if count.get() <= 1024 => Ok(Self::Fixed(count)),
            _ => Err(format!(
                "{name} has an invalid value: '{raw}' (auto, or a number from 1 to 1024)"
            )),
        }
    }

    fn render(value: &Self) -> String {
        match value {
            Self::Auto => "auto".into(),
            Self::Fixed(count) => count.to_string(),
        }
    }

    fn describe() -> String {
        "`auto` or a number".into()
    }
}

fn finite(name: &str, raw: &str) -> Result<f64, String> {
    match raw.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("{name} is not a number: '{raw}'")),
    }
}

fn duration(name: &str, raw: &str, per_second: f64) -> Result<Duration, String> {
    let number = finite(name, raw)?;
    if number < 0.0 {
        return Err(format!("{name} must be 0 or greater, got '{raw}'"));
    }
    Duration::try_from_secs_f64(number / per_second)
        .map_err(|_| format!("{name} is too large: '{raw}'"))
}

/// Whole numbers without a decimal point, as Kong prints them.
fn number(value: f64) -> Value {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "checked to be whole and small"
    )]
    if value.fract() == 0.0 && value.abs() < 9e15 {
        json!(value as i64)
    } else {
        json!(value)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_say_what_is_wrong_with_them() {
        assert_eq!(Count::parse("n", "12"), Ok(12));
        assert_eq!(
            Count::parse("n", "abc").unwrap_err(),
            "n is not a number: 'abc'"
        );
        assert_eq!(Count::parse("n", "").unwrap_err(), "n is not a number: ''");
        assert_eq!(
            Count::parse("n", "-1").unwrap_err(),
            "n must be 0 or greater, got '-1'"
        );
        assert_eq!(
            Count::parse("n", "1.5").unwrap_err(),
            "n must be an integer, got '1.5'"
        );
        assert_eq!(
            Port::parse("pg_port", "0").unwrap_err(),
            "pg_port must be between 1 and 65535, got '0'"
        );
        assert_eq!(
            Count::parse("n", "inf").unwrap_err(),
            "n is not a number: 'inf'"
        );
        assert_eq!(Decimal::<10>::parse("n", "0.25"), Ok(0.25));
        assert_eq!(
            Decimal::<10>::parse("n", "-0.1").unwrap_err(),
            "n must be between 0 and 10, got '-0.1'"
        );
        assert_eq!(
            WholeSeconds::<1, 30>::parse("n", "31").unwrap_err(),
            "n must be between 1 and 30, got '31'"
        );
    }

    #[test]
    fn durations_keep_their_unit() {
        assert_eq!(Millis::parse("t", "5000"), Ok(Duration::from_secs(5)));
        assert_eq!(Millis::render(&Duration::from_millis(250)), "250");
        assert_eq!(Millis::json(&Duration::from_secs(5)), Some(json!(5000)));
        assert_eq!(Seconds::parse("t", "0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(Seconds::json(&Duration::from_millis(500)), Some(json!(0.5)));
        assert_eq!(
            PositiveSeconds::parse("t", "0").unwrap_err(),
            "t must be greater than 0"
        );
        assert_eq!(
            PositiveSeconds::parse("t", "x").unwrap_err(),
            "t is not a number: 'x'"
        );
        assert!(Seconds::parse("t", "1e300").is_err());
    }

    #[test]
    fn workers_are_auto_or_a_number() {
        assert_eq!(Workers::parse("w", "auto"), Ok(Workers::Auto));
        assert_eq!(Workers::parse("w", "4").unwrap().threads(), 4);
        assert!(Workers::Auto.threads() >= 1);
        assert!(Workers::parse("w", "0").is_err());
    }

    #[test]
    fn sizes_are_nginx_sizes() {
        for (raw, bytes) in [
            ("0", 0),
            ("512", 512),
            ("8k", 8192),
            ("10m", 10 << 20),
            ("1G", 1 << 30),
        ] {
            assert_eq!(Size::parse("s", raw), Ok(bytes));
            assert_eq!(Size::render(&bytes), raw.to_lowercase());
        }
        for raw in ["", "k", "-1", "1x", "99999999999999999999g", "1é"] {
            assert!(Size::parse("s", raw).is_err(), "{raw}");
        }
    }
}
