//! Which media types are kept.

use http::HeaderValue;
use silverback_plugin::MediaType;

/// A media type whose answers are kept.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// In small letters, as are the names of parameters.
    main: Vec<u8>,
    sub: Vec<u8>,
    parameters: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Wanted {
    /// As configured; `None` for what is no media type, which no answer has.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parsed = MediaType::parse(text.as_bytes())?;
        Some(Wanted {
            main: parsed.main.to_ascii_lowercase(),
            sub: parsed.sub.to_ascii_lowercase(),
            parameters: parameters(&parsed),
        })
    }

    fn is(&self, other: &MediaType<'_>) -> bool {
        let is = |wanted: &[u8], part: &[u8]| wanted == b"*" || wanted.eq_ignore_ascii_case(part);
        if !is(&self.main, other.main) || !is(&self.sub, other.sub) {
            return false;
        }
        if other.parameters.is_empty() || self.parameters.is_empty() {
            return other.parameters.is_empty() && self.parameters.is_empty();
        }
        self.parameters == parameters(other)
    }
}

/// Whether an answer of that `Content-Type` is wanted.
pub(crate) fn is_wanted(wanted: &[Wanted], content_type: Option<&HeaderValue>) -> bool {
    let parsed = content_type.and_then(|t| MediaType::parse(t.as_bytes()));
    parsed.is_some_and(|parsed| wanted.iter().any(|w| w.is(&parsed)))
}

/// In order; of those with the same name the last one.
fn parameters(of: &MediaType<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all = of.parameters.iter();
    let all = all.map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()));
    let last: std::collections::BTreeMap<_, _> = all.collect();
    last.into_iter().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_to_be_the_same() {
        let is = |wanted: &str, given: &'static str| {
            let wanted: Vec<_> = Wanted::parse(wanted).into_iter().collect();
            is_wanted(&wanted, Some(&HeaderValue::from_static(given)))
        };
        for (wanted, given) in [
            ("application/json", "Application/JSON"),
            ("a/b; c=1;d=2", "a/b;D=2; C=1"),
            ("a/b; charset=\"utf-8\"", "a/b; charset=utf-8"),
            ("a/b; c=1", "a/b; c=2; c=1"),
            ("*/*", "a/b"),
            ("*", "a/b"),
            ("a/*", "a/b"),
            ("*/b; c=1", "a/b; c=1"),
        ] {
            assert!(is(wanted, given), "{wanted} {given}");
        }
        for (wanted, given) in [
            ("application/json", "application/json; charset=utf-8"),
            ("a/b; c=1", "a/b"),
            ("a/b; c=x", "a/b; c=X"),
            ("a/b; c=1", "a/b; c=1; d=2"),
            ("*/*", "a/b; c=1"),
            ("a/*", "b/b"),
            ("a/b", "a"),
            ("nonsense", "nonsense"),
        ] {
            assert!(!is(wanted, given), "{wanted} {given}");
        }
        assert!(!is_wanted(&[Wanted::parse("*/*").unwrap()], None));
    }
}
