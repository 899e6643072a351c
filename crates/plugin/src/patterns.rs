//! Regular expressions of a configuration, tried together on one text of a request.
//!
//! Kong's are PCRE. What needs neither look-around nor back-references is searched for all at once, byte by byte as PCRE does, in time that grows with
//! the text only and without allocating; the few others are tried one by one, with a limit on their steps.

use regex::bytes::{RegexBuilder, RegexSet, RegexSetBuilder};

use crate::flow::ConfigError;

/// Several regular expressions, of which one has to match.
#[derive(Debug, Clone)]
pub struct Patterns {
    together: RegexSet,
    one_by_one: Vec<fancy_regex::Regex>,
}

impl Patterns {
    /// Compiles them.
    ///
    /// # Errors
    /// At `field`, naming the expression that cannot be compiled.
    pub fn new<'a>(
        field: &str,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ConfigError> {
        let (mut plain, mut one_by_one) = (Vec::new(), Vec::new());
        for pattern in patterns {
            if RegexBuilder::new(pattern).unicode(false).build().is_ok() {
                plain.push(pattern);
                continue;
            }
            let other = fancy_regex::Regex::new(pattern)
                .map_err(|_| ConfigError::new(field, format!("not a valid regex: {pattern}")))?;
            one_by_one.push(other);
        }
        let together = RegexSetBuilder::new(plain)
            .unicode(false)
            .build()
            .map_err(|_| ConfigError::new(field, "regexes are too large together"))?;
        Ok(Patterns {
            together,
            one_by_one,
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.together.is_empty() && self.one_by_one.is_empty()
    }

    /// Whether one of them matches somewhere in the text. A search that takes too many steps finds nothing.
    pub fn is_match(&self, text: &[u8]) -> bool {
        if !self.together.is_empty() && self.together.is_match(text) {
            return true;
        }
        if self.one_by_one.is_empty() {
            return false;
        }
        let text = String::from_utf8_lossy(text);
        self.one_by_one
            .iter()
            .any(|p| p.is_match(&text).unwrap_or(false))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_of_several_has_to_match() {
        let patterns = Patterns::new("x", ["^ab+$", r"\d{3}"]).unwrap();
        for good in ["abb", "x123"] {
            assert!(patterns.is_match(good.as_bytes()), "{good}");
        }
        assert!(!patterns.is_match(b"abc12"));
        assert!(Patterns::new("x", []).unwrap().is_empty());
        assert!(!Patterns::new("x", []).unwrap().is_match(b""));
    }

    #[test]
    fn look_around_and_back_references_are_understood() {
        let patterns = Patterns::new("x", [r"^(?!.*evil)ok", r"(.)\1$"]).unwrap();
        assert!(!patterns.is_empty());
        for (text, matches) in [
            ("ok", true),
            ("ok evil", false),
            ("xx", true),
            ("xy", false),
        ] {
            assert_eq!(patterns.is_match(text.as_bytes()), matches, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_searched_too() {
        let patterns = Patterns::new("x", ["a.b", "ü"]).unwrap();
        assert!(patterns.is_match(b"\xffa\xfeb"));
        assert!(patterns.is_match("ü".as_bytes()));
        assert!(!patterns.is_match(b"\xff"));
    }

    #[test]
    fn a_search_without_end_is_given_up() {
        let patterns = Patterns::new("x", [r"^(?=(a+)+$)(a|aa)+$(?<!b)b"]).unwrap();
        assert!(!patterns.is_match("a".repeat(64).as_bytes()));
    }

    #[test]
    fn what_cannot_be_compiled_is_named() {
        let refused = Patterns::new("deny", ["a", "("]).unwrap_err();
        assert_eq!(refused.to_string(), "deny: not a valid regex: (");
    }
}
