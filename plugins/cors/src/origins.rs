//! Who may read answers: the configured origins, and whether that of a request is among them.

use std::borrow::Cow;
use std::collections::HashSet;

use http::HeaderValue;
use silverback_plugin::schema::checks::split_url;
use silverback_plugin::{ConfigError, Patterns};

/// The configured origins.
#[derive(Debug)]
pub(crate) enum Origins {
    /// Any, without looking.
    Any,
    /// `*` beside others: any, where the request says whence it comes.
    AnyKnown,
    /// One, which is answered whoever asks: the browser compares.
    One(HeaderValue),
    /// Those that match.
    Listed {
        /// As [`Origin::text`].
        texts: HashSet<Box<str>>,
        /// For the whole origin.
        by_text: Patterns,
        /// For its host only.
        by_host: Patterns,
    },
}

/// What `Access-Control-Allow-Origin` says.
#[derive(Debug, PartialEq)]
pub(crate) enum Allowed {
    /// `*`.
    Any,
    /// This origin.
    This(HeaderValue),
    /// Nothing.
    Nobody,
}

impl Origins {
    pub(crate) fn compile(entries: &[String]) -> Result<Self, ConfigError> {
        match entries {
            [] => return Ok(Origins::Any),
            [one] if one == "*" => return Ok(Origins::Any),
            [one] if is_plain(one) => {
                return HeaderValue::from_str(one)
                    .map(Origins::One)
                    .map_err(|_| ConfigError::new("origins", "cannot be a header's value"));
            }
            several if several.iter().any(|entry| entry == "*") => return Ok(Origins::AnyKnown),
            _ => {}
        }
        let (plain, regexes): (Vec<&String>, Vec<&String>) =
            entries.iter().partition(|entry| is_plain(entry));
        let (by_text, by_host): (Vec<&String>, Vec<&String>) =
            regexes.into_iter().partition(|entry| entry.contains(':'));
        let patterns = |entries: Vec<&String>| {
            // Whole, so that nobody comes in under a name that only begins like an allowed one.
            let whole: Vec<String> = entries.iter().map(|e| format!("^(?:{e})$")).collect();
            Patterns::new("origins", whole.iter().map(String::as_str))
        };
        let text = |entry: &String| Origin::new(entry).text.into_owned().into_boxed_str();
        Ok(Origins::Listed {
            texts: plain.into_iter().map(text).collect(),
            by_text: patterns(by_text)?,
            by_host: patterns(by_host)?,
        })
    }

    /// Whether the answer is another one for another origin, so that caches must know.
    pub(crate) fn vary(&self) -> bool {
        !matches!(self, Origins::Any)
    }

    /// Who may read the answer to a request from that origin.
    pub(crate) fn allowed(&self, origin: Option<&HeaderValue>) -> Allowed {
        match (self, origin) {
            (Origins::Any, _) | (Origins::AnyKnown, Some(_)) => Allowed::Any,
            (Origins::One(value), _) => Allowed::This(value.clone()),
            (Origins::AnyKnown | Origins::Listed { .. }, None) => Allowed::Nobody,
            (
                Origins::Listed {
                    texts,
                    by_text,
                    by_host,
                },
                Some(given),
            ) => {
                let Ok(text) = std::str::from_utf8(given.as_bytes()) else {
                    return Allowed::Nobody;
                };
                let origin = Origin::new(text);
                let known = texts.contains(&*origin.text)
                    || by_text.is_match(origin.text.as_bytes())
                    || by_host.is_match(origin.host.as_bytes());
                match origin.text {
                    _ if !known => Allowed::Nobody,
                    Cow::Borrowed(_) => Allowed::This(given.clone()),
                    Cow::Owned(text) => {
                        HeaderValue::try_from(text).map_or(Allowed::Nobody, Allowed::This)
                    }
                }
            }
        }
    }
}

/// Whether an entry is an origin rather than a regular expression.
fn is_plain(entry: &str) -> bool {
    entry
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b".:/-".contains(&b))
}

/// An origin in its usual form: scheme, host and a port that is not the scheme's own.
struct Origin<'a> {
    text: Cow<'a, str>,
    host: &'a str,
}

impl<'a> Origin<'a> {
    fn new(given: &'a str) -> Self {
        let parts = split_url(given);
        let Some(host) = parts.host else {
            return Origin {
                text: Cow::Borrowed(given),
                host: given,
            };
        };
        let scheme = parts.scheme.map_or(["", ""], |s| [s, "://"]);
        let brackets = if host.contains(':') {
            ["[", "]"]
        } else {
            ["", ""]
        };
        let usual = matches!(
            (parts.scheme, parts.port),
            (Some("http"), Some("80")) | (Some("https"), Some("443"))
        );
        let port = match parts.port {
            Some(port) if !usual => [":", port],
            _ => ["", ""],
        };
        let pieces = [
            scheme[0],
            scheme[1],
            brackets[0],
            host,
            brackets[1],
            port[0],
            port[1],
        ];
        // All pieces were found in the text, in this order: when they fill it, they are it.
        let text = if pieces.iter().map(|p| p.len()).sum::<usize>() == given.len() {
            Cow::Borrowed(given)
        } else {
            Cow::Owned(pieces.concat())
        };
        Origin { text, host }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn origins(entries: &[&str]) -> Origins {
        let entries: Vec<String> = entries.iter().map(|e| (*e).to_owned()).collect();
        Origins::compile(&entries).unwrap()
    }

    /// What is answered to a request from that origin: `-` for nothing.
    fn answer(origins: &Origins, from: &str) -> String {
        let from = HeaderValue::from_bytes(from.as_bytes()).unwrap();
        match origins.allowed(Some(&from)) {
            Allowed::Any => "*".to_owned(),
            Allowed::This(value) => value.to_str().unwrap().to_owned(),
            Allowed::Nobody => "-".to_owned(),
        }
    }

    #[test]
    fn origins_are_compared_in_their_usual_form() {
        let two = origins(&["http://one.test:80", "https://two.test:8443", "null"]);
        for (from, expected) in [
            ("http://one.test", "http://one.test"),
            ("http://one.test:80", "http://one.test"),
            ("http://one.test/path", "http://one.test"),
            ("https://one.test", "-"),
            ("http://one.test:443", "-"),
            ("http://ONE.test", "-"),
            ("https://two.test:8443", "https://two.test:8443"),
            ("https://two.test", "-"),
            ("null", "null"),
            ("", "-"),
            ("http://one.test\u{e9}", "-"),
        ] {
            assert_eq!(answer(&two, from), expected, "{from}");
        }
        let bytes = HeaderValue::from_bytes(b"http://one.test\xff").unwrap();
        assert_eq!(two.allowed(Some(&bytes)), Allowed::Nobody);
    }

    #[test]
    fn regexes_with_a_colon_see_the_origin_and_others_its_host() {
        let some = origins(&[r"^http://.*\.re\.test$", r"\w+\.host\.test", "plain.test"]);
        for (from, expected) in [
            ("http://x.re.test", "http://x.re.test"),
            ("https://x.re.test", "-"),
            ("https://x.host.test:99", "https://x.host.test:99"),
            ("https://x.host.test:443", "https://x.host.test"),
            ("https://plain.test", "-"),
            ("plain.test", "plain.test"),
        ] {
            assert_eq!(answer(&some, from), expected, "{from}");
        }
    }

    #[test]
    fn regexes_match_all_or_nothing() {
        let some = origins(&[r"http://a\.test|http://b\.test", r"(?!evil).*\.c\.test"]);
        for (from, expected) in [
            ("http://a.test", "http://a.test"),
            ("http://b.test", "http://b.test"),
            ("http://a.test.evil.test", "-"),
            ("http://good.c.test", "http://good.c.test"),
            ("http://evil.c.test", "-"),
            ("http://x.c.test.evil.test", "-"),
        ] {
            assert_eq!(answer(&some, from), expected, "{from}");
        }
    }

    #[test]
    fn addresses_keep_their_brackets() {
        let some = origins(&[r"http://\[::1\]:\d+"]);
        assert_eq!(answer(&some, "http://[::1]:8080"), "http://[::1]:8080");
        assert_eq!(answer(&some, "http://[::1]:80"), "-");
    }

    #[test]
    fn one_origin_is_answered_to_everybody() {
        let one = origins(&["http://one.test"]);
        assert_eq!(answer(&one, "http://other.test"), "http://one.test");
        assert!(matches!(one.allowed(None), Allowed::This(_)));
        let regex = origins(&["http://on.\\.test"]);
        assert_eq!(answer(&regex, "http://other.test"), "-");
        assert_eq!(regex.allowed(None), Allowed::Nobody);
    }

    #[test]
    fn a_star_allows_any_origin() {
        for entries in [&[][..], &["*"], &["http://one.test", "*"]] {
            assert_eq!(answer(&origins(entries), "http://x.test"), "*");
        }
        assert_eq!(origins(&["*"]).allowed(None), Allowed::Any);
        assert_eq!(origins(&["*", "null"]).allowed(None), Allowed::Nobody);
        assert!(!origins(&["*"]).vary());
        assert!(origins(&["*", "null"]).vary());
    }
}
