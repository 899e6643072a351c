//! The time of day as text. A thread formats a given second once and copies the result for every further
//! line it writes in that second. No thread shares anything with another here.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local};

/// Seconds since the Unix epoch; 0 for clocks set before it.
pub fn unix_seconds() -> u64 {
    since_epoch(SystemTime::now()).as_secs()
}

/// Milliseconds since the Unix epoch; 0 for clocks set before it.
pub fn unix_millis() -> u64 {
    let elapsed = since_epoch(SystemTime::now());
    elapsed.as_secs() * 1000 + u64::from(elapsed.subsec_millis())
}

/// Appends nginx' `$time_local`: `13/Oct/2025:12:34:56 +0200`.
pub fn append_local_time(out: &mut String, now: SystemTime) {
    with_stamps(now, |stamps| out.push_str(&stamps.common));
}

/// Appends the error log's time stamp, local time: `2025/10/13 12:34:56`.
pub fn append_error_time(out: &mut String, now: SystemTime) {
    with_stamps(now, |stamps| out.push_str(&stamps.error));
}

/// Appends ISO 8601 with milliseconds and offset, local time: `2025-10-13T12:34:56.123+02:00`.
pub fn append_iso8601(out: &mut String, now: SystemTime) {
    let millis = since_epoch(now).subsec_millis();
    with_stamps(now, |stamps| {
        out.push_str(&stamps.iso);
        out.push('.');
        push_three_digits(out, millis);
        out.push_str(&stamps.offset);
    });
}

/// Appends `value` modulo 1000, padded with zeros to three digits.
pub(crate) fn push_three_digits(out: &mut String, value: u32) {
    for divisor in [100, 10, 1] {
        let digit = u8::try_from(value / divisor % 10).unwrap_or(0);
        out.push(char::from(b'0' + digit));
    }
}

fn since_epoch(now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The renderings of one second.
#[derive(Default)]
struct Stamps {
    /// The second rendered, plus one so that 0 means "nothing yet".
    second_plus_one: u64,
    common: String,
    error: String,
    iso: String,
    offset: String,
}

fn with_stamps(now: SystemTime, use_them: impl FnOnce(&Stamps)) {
    thread_local! {
        static STAMPS: RefCell<Stamps> = RefCell::default();
    }
    let second = since_epoch(now).as_secs();
    STAMPS.with_borrow_mut(|stamps| {
        if stamps.second_plus_one != second + 1 {
            stamps.render(second);
        }
        use_them(stamps);
    });
}

impl Stamps {
    fn render(&mut self, second: u64) {
        use std::fmt::Write;
        let utc = i64::try_from(second)
            .ok()
            .and_then(|second| DateTime::from_timestamp(second, 0))
            .unwrap_or_default();
        // chrono re-reads the zone when TZ or /etc/localtime changes, so summer time needs no restart.
        let local = utc.with_timezone(&Local);
        let renderings = [
            (&mut self.common, "%d/%b/%Y:%H:%M:%S %z"),
            (&mut self.error, "%Y/%m/%d %H:%M:%S"),
            (&mut self.iso, "%Y-%m-%dT%H:%M:%S"),
            (&mut self.offset, "%:z"),
        ];
        for (text, layout) in renderings {
            text.clear();
            // Writing to a String fails only for layouts chrono does not know; these are constants that
            // the tests below render.
            let _ = write!(text, "{}", local.format(layout));
        }
        self.second_plus_one = second + 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(second: u64, millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second) + Duration::from_millis(millis)
    }

    fn rendered(append: fn(&mut String, SystemTime), now: SystemTime) -> String {
        let mut out = String::new();
        append(&mut out, now);
        out
    }

    #[test]
    fn local_time_has_the_shape_of_the_common_log_format() {
        let text = rendered(append_local_time, at(1_760_359_696, 0));
        let parsed = DateTime::parse_from_str(&text, "%d/%b/%Y:%H:%M:%S %z").unwrap();
        assert_eq!(parsed.timestamp(), 1_760_359_696);
        assert_eq!(text.len(), "13/Oct/2025:12:34:56 +0000".len());
    }

    #[test]
    fn iso_time_carries_milliseconds() {
        let text = rendered(append_iso8601, at(1_760_359_696, 7));
        let parsed = DateTime::parse_from_rfc3339(&text).unwrap();
        assert_eq!(parsed.timestamp_millis(), 1_760_359_696_007);
    }

    #[test]
    fn error_time_has_nginx_shape() {
        let text = rendered(append_error_time, at(1_760_359_696, 0));
        assert!(
            chrono::NaiveDateTime::parse_from_str(&text, "%Y/%m/%d %H:%M:%S").is_ok(),
            "{text}"
        );
    }

    #[test]
    fn a_new_second_replaces_the_cached_text() {
        let first = rendered(append_iso8601, at(100, 0));
        let second = rendered(append_iso8601, at(101, 0));
        let again = rendered(append_iso8601, at(100, 0));
        assert_ne!(first, second);
        assert_eq!(first, again);
    }

    #[test]
    fn a_clock_before_the_epoch_reads_as_the_epoch() {
        let before = UNIX_EPOCH - Duration::from_secs(5);
        assert_eq!(
            rendered(append_iso8601, before),
            rendered(append_iso8601, UNIX_EPOCH)
        );
    }
}
