//! `Cache-Control` and what follows from it. Learnt from `kong/tools/http.lua` (`parse_directive_header`, `calculate_resource_ttl`); a value that
//! is no number of seconds is passed over, where Kong fails.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, header};

/// What a request asks of caches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Asked {
    /// `no-store` or `no-cache`: an answer from the upstream is wanted, and not to be kept.
    pub(crate) bypass: bool,
    pub(crate) only_if_cached: bool,
    pub(crate) max_age: Option<u64>,
    /// `u64::MAX` when it may be stale for however long.
    pub(crate) max_stale: Option<u64>,
    pub(crate) min_fresh: Option<u64>,
}

/// What an answer says of how it may be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Said {
    /// `private`, `no-store` or `no-cache`.
    pub(crate) not_to_be_kept: bool,
    /// For how many seconds it is good; 0 when it does not say.
    pub(crate) ttl: u64,
    /// `must-revalidate`, `proxy-revalidate` or `s-maxage`: when it is no longer good it is not to be used, whatever a request says.
    pub(crate) must_revalidate: bool,
}

impl Asked {
    /// Of the values of a request's `Cache-Control`.
    pub(crate) fn of<'a>(values: impl IntoIterator<Item = &'a HeaderValue>) -> Self {
        let mut asked = Asked::default();
        each(values, |name, value| match name {
            b"no-store" | b"no-cache" => asked.bypass = true,
            b"only-if-cached" => asked.only_if_cached = true,
            b"max-age" => asked.max_age = value.and_then(seconds),
            b"max-stale" => asked.max_stale = value.map_or(Some(u64::MAX), seconds),
            b"min-fresh" => asked.min_fresh = value.and_then(seconds),
            _ => {}
        });
        asked
    }

    /// Whether an answer of that age will do.
    pub(crate) fn accepts(&self, age: u64, ttl: u64, must_revalidate: bool) -> bool {
        let too_old = self.max_age.is_some_and(|most| age > most);
        let soon_stale = self
            .min_fresh
            .is_some_and(|least| ttl.saturating_sub(age) < least);
        let stale = age.saturating_sub(ttl);
        let may_be_stale = match self.max_stale {
            Some(most) if !must_revalidate => most,
            _ => 0,
        };
        !too_old && !soon_stale && stale <= may_be_stale
    }
}

impl Said {
    /// Of an answer that came at that time.
    pub(crate) fn of(headers: &HeaderMap, now: SystemTime) -> Self {
        let mut said = Said::default();
        let (mut max_age, mut shared_max_age) = (None, None);
        each(
            headers.get_all(header::CACHE_CONTROL),
            |name, value| match name {
                b"private" | b"no-store" | b"no-cache" => said.not_to_be_kept = true,
                b"must-revalidate" | b"proxy-revalidate" => said.must_revalidate = true,
                b"max-age" => max_age = Some(value.and_then(seconds)),
                b"s-maxage" => {
                    said.must_revalidate = true;
                    shared_max_age = Some(value.and_then(seconds));
                }
                _ => {}
            },
        );
        // One that makes no sense makes the answer stale, as RFC 9111 (4.2.1) advises.
        let ttl = shared_max_age.or(max_age).map(Option::unwrap_or_default);
        said.ttl = ttl.or_else(|| until(headers, now)).unwrap_or_default();
        said
    }
}

/// Seconds until an answer expires.
fn until(headers: &HeaderMap, now: SystemTime) -> Option<u64> {
    let expires = headers.get_all(header::EXPIRES).iter().next_back()?;
    let expires = httpdate::parse_http_date(expires.to_str().ok()?).ok()?;
    Some(unix(expires).saturating_sub(unix(now)))
}

/// Whole seconds since 1970.
pub(crate) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Hands on names in small letters, and values without quotes.
fn each<'a>(
    values: impl IntoIterator<Item = &'a HeaderValue>,
    mut found: impl FnMut(&[u8], Option<&[u8]>),
) {
    for value in values {
        for directive in value.as_bytes().split(|b| *b == b',') {
            let mut parts = directive.splitn(2, |b| *b == b'=');
            let name = parts.next().unwrap_or_default().trim_ascii();
            let value = parts.next().map(|v| unquoted(v.trim_ascii()));
            // No directive is longer.
            let mut small = [0; 16];
            if let Some(small) = small.get_mut(..name.len()) {
                small.copy_from_slice(name);
                small.make_ascii_lowercase();
                found(small, value);
            }
        }
    }
}

fn unquoted(text: &[u8]) -> &[u8] {
    let inside = text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\""));
    inside.unwrap_or(text)
}

/// A number of seconds; one that is too large to be counted is as good as the largest.
fn seconds(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    // Room to add a moment to it.
    Some(text.parse().unwrap_or(u64::MAX).min(u64::from(u32::MAX)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn asked(text: &'static str) -> Asked {
        Asked::of([&HeaderValue::from_static(text)])
    }

    fn said(headers: &[(&str, &str)]) -> Said {
        let headers = headers
            .iter()
            .map(|(n, v)| (n.parse::<http::HeaderName>().unwrap(), v.parse().unwrap()))
            .collect();
        Said::of(&headers, UNIX_EPOCH + Duration::from_secs(1_000_000))
    }

    #[test]
    fn requests_ask_in_any_case_with_and_without_quotes() {
        let all = asked("Max-Age=60 , MIN-FRESH=\"5\",only-if-cached, max-stale, x=y,,");
        let expected = Asked {
            bypass: false,
            only_if_cached: true,
            max_age: Some(60),
            max_stale: Some(u64::MAX),
            min_fresh: Some(5),
        };
        assert_eq!(all, expected);
        assert!(asked("No-Store").bypass && asked("x, no-cache").bypass);
        assert_eq!(
            asked("max-age, max-stale=x, min-fresh=-1"),
            Asked::default()
        );
        assert_eq!(
            asked("max-age=99999999999999999999999").max_age,
            Some(u64::from(u32::MAX))
        );
    }

    #[test]
    fn an_answer_is_accepted_while_it_is_fresh_enough() {
        let plain = Asked::default();
        assert!(plain.accepts(10, 10, false));
        assert!(!plain.accepts(11, 10, false));
        assert!(asked("max-age=5").accepts(5, 10, false));
        assert!(!asked("max-age=5").accepts(6, 10, false));
        assert!(asked("min-fresh=5").accepts(5, 10, false));
        assert!(!asked("min-fresh=5").accepts(6, 10, false));
        assert!(asked("max-stale=5").accepts(15, 10, false));
        assert!(!asked("max-stale=5").accepts(16, 10, false));
        assert!(!asked("max-stale=5").accepts(11, 10, true));
        assert!(asked("max-stale").accepts(1_000_000, 10, false));
        assert!(!asked("max-stale, max-age=20").accepts(21, 10, false));
    }

    #[test]
    fn how_long_an_answer_is_good_is_said_in_three_ways() {
        assert_eq!(said(&[]), Said::default());
        assert_eq!(said(&[("cache-control", "max-age=60")]).ttl, 60);
        let shared = said(&[
            ("cache-control", "max-age=60"),
            ("cache-control", "s-maxage=5"),
        ]);
        assert_eq!((shared.ttl, shared.must_revalidate), (5, true));
        // 1970-01-12T13:46:40Z is a million seconds.
        let expires = ("expires", "Mon, 12 Jan 1970 13:46:50 GMT");
        assert_eq!(said(&[expires]).ttl, 10);
        assert_eq!(said(&[("expires", "0"), expires]).ttl, 10);
        assert_eq!(said(&[expires, ("cache-control", "max-age=3")]).ttl, 3);
        for stale in ["max-age=x", "max-age", "s-maxage=-1, max-age=9"] {
            assert_eq!(said(&[("cache-control", stale), expires]).ttl, 0, "{stale}");
        }
        assert_eq!(said(&[("expires", "Mon, 12 Jan 1970 13:00:00 GMT")]).ttl, 0);
    }

    #[test]
    fn an_answer_says_that_it_is_not_to_be_kept() {
        for no in [
            "private",
            "no-store",
            "No-Cache=\"set-cookie\"",
            "max-age=9, private",
        ] {
            assert!(said(&[("cache-control", no)]).not_to_be_kept, "{no}");
        }
        assert!(!said(&[("cache-control", "public, must-revalidate")]).not_to_be_kept);
        assert!(said(&[("cache-control", "proxy-revalidate")]).must_revalidate);
    }
}
