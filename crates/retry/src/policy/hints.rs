//! What neighbours say about retrying: the upstream in its response, the previous hop in its request.

use std::time::{Duration, SystemTime};

/// Request header that tells the next hop the number of this attempt, counted from 1 over all hops. First attempts
/// go without it.
pub const ATTEMPT_HEADER: &str = "x-retry-attempt";

/// Request header in which gRPC clients give the number of attempts *before* this one (gRPC proposal A6).
pub const GRPC_ATTEMPTS_HEADER: &str = "grpc-previous-rpc-attempts";

/// gRPC's instruction about when to retry: the trailer `grpc-retry-pushback-ms` (gRPC proposal A6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// Retry after exactly this long.
    Wait(Duration),
    /// Do not retry.
    Stop,
}

impl Pushback {
    /// Reads the trailer's value. A negative number, or what is no number, means not to retry.
    #[must_use]
    pub fn parse(value: &str) -> Self {
        match value.trim().parse::<i64>().map(u64::try_from) {
            Ok(Ok(millis)) => Self::Wait(Duration::from_millis(millis)),
            _ => Self::Stop,
        }
    }
}

/// What a response said about trying again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// From `Retry-After`: not sooner than this; see [`retry_after`].
    pub retry_after: Option<Duration>,
    /// From `grpc-retry-pushback-ms`.
    pub pushback: Option<Pushback>,
}

impl Hints {
    /// The response said nothing.
    pub const NONE: Self = Self {
        retry_after: None,
        pushback: None,
    };
}

/// Reads a `Retry-After` value: seconds, or a date in any of the three forms of RFC 9110, 5.6.7, of which `now` is
/// subtracted. A date that has passed means zero; what is neither is `None`.
#[must_use]
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that do not fit are a long time, not nonsense.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// How many attempts were made at this request before it came in, from the values of [`ATTEMPT_HEADER`] and
/// [`GRPC_ATTEMPTS_HEADER`]. What cannot be read counts as none.
///
/// Only believe these headers from a trusted peer: a request marked as a retry is charged to the budget, so anybody
/// who may set the mark can empty it.
#[must_use]
pub fn previous_attempts(attempt: Option<&str>, grpc_previous: Option<&str>) -> u32 {
    let number = |value: Option<&str>| value.and_then(|v| v.trim().parse::<u32>().ok());
    let before_this = number(attempt).unwrap_or(1).saturating_sub(1);
    before_this.max(number(grpc_previous).unwrap_or(0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pushback_that_is_negative_or_unreadable_stops() {
        assert_eq!(
            Pushback::parse(" 250 "),
            Pushback::Wait(Duration::from_millis(250))
        );
        assert_eq!(Pushback::parse("0"), Pushback::Wait(Duration::ZERO));
        for value in ["-1", "", "soon", "1.5"] {
            assert_eq!(Pushback::parse(value), Pushback::Stop, "{value}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let secs = |value| retry_after(value, now).map(|wait| wait.as_secs());
        assert_eq!(secs("120"), Some(120));
        assert_eq!(secs("99999999999999999999999"), Some(u64::MAX));
        assert_eq!(secs("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
        assert_eq!(secs("Sunday, 06-Nov-94 08:49:47 GMT"), Some(10));
        assert_eq!(secs("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(secs("-5"), None);
        assert_eq!(secs("+5"), None);
        assert_eq!(secs("later"), None);
        assert_eq!(secs(""), None);
    }

    #[test]
    fn marks_of_both_kinds_give_the_number_of_earlier_attempts() {
        assert_eq!(previous_attempts(None, None), 0);
        assert_eq!(previous_attempts(Some("1"), None), 0);
        assert_eq!(previous_attempts(Some("3"), None), 2);
        assert_eq!(previous_attempts(Some("0"), Some("nonsense")), 0);
        assert_eq!(previous_attempts(None, Some("1")), 1);
        assert_eq!(previous_attempts(Some("2"), Some("4")), 4);
        assert_eq!(previous_attempts(Some("-2"), None), 0);
    }
}
