//! Regular expressions of paths and headers, and the literal text that a match must contain.

use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::{Hir, HirKind, Look};

/// A pattern that is checked when the router is built and compiled when it is first needed.
///
/// Compiling takes some ten microseconds and several kilobytes; parsing takes one. With thousands of regular
/// expressions the difference is that between a build of milliseconds and one of a second.
#[derive(Debug)]
pub(crate) struct Pattern {
    source: Box<str>,
    unicode: bool,
    /// Every match starts with this, at the haystack's start.
    pub(crate) prefix: Box<[u8]>,
    /// Every match contains these, as pieces that do not overlap.
    pub(crate) needles: Vec<Box<[u8]>>,
    /// `None` inside when the pattern parses but is too large to compile.
    compiled: OnceLock<Option<Regex>>,
}

/// Patterns longer than this, and those with counted repetitions, may exceed the size limit.
const CHECK_SIZE_FROM: usize = 512;

impl Pattern {
    pub(crate) fn new(source: String, unicode: bool) -> Result<Self, String> {
        let hir = regex_syntax::ParserBuilder::new()
            .unicode(unicode)
            .utf8(unicode)
            .build()
            .parse(&source)
            .map_err(|e| e.to_string())?;
        let (prefix, needles) = literals(&hir);
        let risky = source.len() > CHECK_SIZE_FROM || source.contains('{');
        let pattern = Pattern {
            source: source.into(),
            unicode,
            prefix: prefix.into(),
            needles,
            compiled: OnceLock::new(),
        };
        if risky {
            let regex = pattern.compile().map_err(|e| e.to_string())?;
            // The cell is new, so it cannot be set already.
            let _ = pattern.compiled.set(Some(regex));
        }
        Ok(pattern)
    }

    fn compile(&self) -> Result<Regex, regex::Error> {
        RegexBuilder::new(&self.source)
            .unicode(self.unicode)
            .build()
    }

    /// The compiled expression; compiled now if it is not yet.
    pub(crate) fn regex(&self) -> Option<&Regex> {
        self.compiled
            .get_or_init(|| match self.compile() {
                Ok(r) => Some(r),
                Err(e) => {
                    tracing::error!(pattern = %self.source, error = %e, "a regular expression of a route cannot be compiled and never matches");
                    None
                }
            })
            .as_ref()
    }

    pub(crate) fn is_match(&self, text: &[u8]) -> bool {
        text.starts_with(&self.prefix) && self.regex().is_some_and(|r| r.is_match(text))
    }

    /// Start and length of the first match.
    pub(crate) fn find(&self, text: &[u8]) -> Option<(usize, usize)> {
        if !text.starts_with(&self.prefix) {
            return None;
        }
        self.regex()?.find(text).map(|m| (m.start(), m.len()))
    }
}

/// The literal a match starts with at the text's start, and the literals a match contains.
fn literals(hir: &Hir) -> (Vec<u8>, Vec<Box<[u8]>>) {
    let mut parts: Vec<Option<Vec<u8>>> = Vec::new();
    flatten(hir, &mut parts);
    let anchored = matches!(hir.kind(), HirKind::Concat(subs)
        if subs.first().is_some_and(|h| matches!(h.kind(), HirKind::Look(Look::Start))));
    let mut runs: Vec<Vec<u8>> = vec![Vec::new()];
    let mut prefix = Vec::new();
    let mut at_start = anchored;
    for part in parts {
        match part {
            Some(bytes) => {
                if at_start {
                    prefix.extend_from_slice(&bytes);
                }
                if let Some(run) = runs.last_mut() {
                    run.extend_from_slice(&bytes);
                }
            }
            None => {
                at_start = false;
                runs.push(Vec::new());
            }
        }
    }
    let needles = runs
        .into_iter()
        .filter(|r| !r.is_empty())
        .map(Vec::into_boxed_slice)
        .collect();
    (prefix, needles)
}

/// Literals in order, `None` where anything else may stand. Assertions take no room and are left out.
fn flatten(hir: &Hir, out: &mut Vec<Option<Vec<u8>>>) {
    match hir.kind() {
        HirKind::Literal(l) => out.push(Some(l.0.to_vec())),
        HirKind::Look(_) | HirKind::Empty => {}
        HirKind::Capture(c) => flatten(&c.sub, out),
        HirKind::Concat(subs) => subs.iter().for_each(|h| flatten(h, out)),
        HirKind::Repetition(_) | HirKind::Class(_) | HirKind::Alternation(_) => out.push(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[track_caller]
    fn lit(source: &str, prefix: &str, needles: &[&str]) {
        let p = Pattern::new(source.to_owned(), true).unwrap();
        assert_eq!(&*p.prefix, prefix.as_bytes(), "{source}");
        let got: Vec<_> = p
            .needles
            .iter()
            .map(|n| std::str::from_utf8(n).unwrap())
            .collect();
        assert_eq!(got, needles, "{source}");
    }

    #[test]
    fn prefix_and_needles_are_what_every_match_contains() {
        lit(r"^/a/\d+", "/a/", &["/a/"]);
        lit(r"^/a/\d+/users$", "/a/", &["/a/", "/users"]);
        lit(r"^/cap/(?P<v>v\d+)/x", "/cap/v", &["/cap/v", "/x"]);
        lit(r"^/a?b", "/", &["/", "b"]);
        lit(r"^/a|/bcd", "", &[]);
        lit(r"^/(?i)abc", "/", &["/"]);
        lit(r"(?m)^/abc", "", &["/abc"]);
    }

    #[test]
    fn a_wrong_or_too_large_pattern_is_an_error() {
        assert!(Pattern::new("^/a(".into(), true).is_err());
        assert!(Pattern::new(r"^/(?P<=a)".into(), true).is_err());
        assert!(Pattern::new(r"^/(\w{500}){500}".into(), true).is_err());
    }
}
