//! The path sent upstream.

use std::borrow::Cow;

use silverback_entities::{PathHandling, Route};

use crate::path::{escape_into, escape_path};
use crate::request::Flavor;
use crate::router::Match;

/// What of a route says how the upstream's path is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathRule {
    strip: bool,
    v1: bool,
}

impl PathRule {
    /// The rule of a route.
    pub fn of(route: &Route) -> Self {
        PathRule {
            strip: route.strip_path,
            v1: route.path_handling == Some(PathHandling::V1),
        }
    }
}

/// The value of `X-Forwarded-Prefix`: what was cut off the front of the path, `None` when nothing or only `/` was.
pub fn forwarded_prefix<'p>(rule: PathRule, found: &Match, path: &'p [u8]) -> Option<&'p [u8]> {
    if !rule.strip {
        return None;
    }
    found.matched_path(path).filter(|p| *p != b"/")
}

/// The escaped path to send upstream, without a query.
///
/// `base` is the service's `path`; `path` is the normalised path that was matched. Borrows when it is a piece of `path`.
/// Learnt from `set_upstream_uri` of `kong/router/atc.lua`, `get_upstream_uri_v0` of `kong/router/utils.lua`
/// and `find_match` of `kong/router/traditional.lua`; `path_handling` `v1` has a meaning in the last alone.
pub fn upstream_path<'p>(
    rule: PathRule,
    base: Option<&str>,
    found: &Match,
    path: &'p [u8],
) -> Cow<'p, str> {
    let base = base.unwrap_or("/");
    // Without a matched path the leading slash counts as matched.
    let cut = if rule.strip {
        found.matched_path(path).map_or(1, <[u8]>::len)
    } else {
        1
    };
    let rest = path.get(cut..).unwrap_or_default();
    let rest = if found.flavor == Flavor::Traditional && found.matched_path(path).is_none() {
        rest
    } else {
        without_dots(rest)
    };
    let (front, slash, back) = if found.flavor == Flavor::Traditional && rule.v1 {
        join_v1(rule.strip, base, rest, path)
    } else {
        join_v0(rule.strip, base, rest, path)
    };
    if front.is_empty() {
        if !slash {
            return escape_path(back);
        }
        if back.is_empty() {
            return Cow::Borrowed("/");
        }
        // What is left is the end of the path, so the slash may be right before it.
        let from = path.len() - back.len();
        if from > 0 && path[from - 1] == b'/' {
            return escape_path(&path[from - 1..]);
        }
    }
    let mut out = String::with_capacity(front.len() + 1 + back.len());
    escape_into(front.as_bytes(), &mut out);
    if slash {
        out.push('/');
    }
    escape_into(back, &mut out);
    Cow::Owned(out)
}

/// Cutting in the middle of a segment can leave a dot segment in front.
fn without_dots(rest: &[u8]) -> &[u8] {
    match rest {
        b"." | b".." => b"",
        [b'.', b'/', tail @ ..] | [b'.', b'.', b'/', tail @ ..] => tail,
        _ => rest,
    }
}

/// The path in three pieces: the base without its last slash, whether a slash follows, the rest.
type Joined<'b, 'p> = (&'b str, bool, &'p [u8]);

/// With exactly one slash between base and rest.
fn join_v0<'b, 'p>(strip: bool, base: &'b str, rest: &'p [u8], path: &'p [u8]) -> Joined<'b, 'p> {
    let ends_in_slash = path.last() == Some(&b'/');
    match (base.strip_suffix('/'), strip, rest) {
        (Some(open), true, b"") => (open, open.is_empty() || ends_in_slash, b""),
        (None, true, b"") => (base, path.len() > 1 && ends_in_slash, b""),
        (open, true, [b'/', ..]) => (open.unwrap_or(base), false, rest),
        (open, true, _) => (open.unwrap_or(base), true, rest),
        (Some(open), false, _) => (open, true, path.get(1..).unwrap_or_default()),
        (None, false, _) => (base, false, if path == b"/" { b"" } else { path }),
    }
}

/// As they are, with two slashes taken as one.
fn join_v1<'b, 'p>(strip: bool, base: &'b str, rest: &'p [u8], path: &'p [u8]) -> Joined<'b, 'p> {
    let back = if strip {
        rest
    } else {
        path.get(1..).unwrap_or_default()
    };
    match base.strip_suffix('/') {
        Some(open) => (open, !(strip && back.first() == Some(&b'/')), back),
        None => (base, false, back),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::route;

    fn sent(
        flavor: Flavor,
        strip: bool,
        handling: PathHandling,
        base: Option<&str>,
        matched: Option<&str>,
        path: &str,
    ) -> String {
        let r = route(1, |r| {
            r.strip_path = strip;
            r.path_handling = Some(handling);
        });
        let found = Match::for_tests(flavor, matched.map(|m| (0, m.len())));
        upstream_path(PathRule::of(&r), base, &found, path.as_bytes()).into_owned()
    }

    #[track_caller]
    fn v0(strip: bool, base: Option<&str>, matched: Option<&str>, path: &str, want: &str) {
        assert_eq!(
            sent(
                Flavor::TraditionalCompatible,
                strip,
                PathHandling::V0,
                base,
                matched,
                path
            ),
            want
        );
    }

    #[test]
    fn one_slash_stands_between_base_and_rest() {
        v0(true, Some("/s"), Some("/r"), "/r", "/s");
        v0(true, Some("/s"), Some("/r"), "/r/", "/s/");
        v0(true, Some("/s"), Some("/r"), "/rx", "/s/x");
        v0(true, Some("/s/"), Some("/r"), "/r", "/s");
        v0(true, Some("/s/"), Some("/r/"), "/r/", "/s/");
        v0(true, Some("/s/"), Some("/r"), "/r/x", "/s/x");
        v0(true, None, Some("/r"), "/r", "/");
        v0(true, None, Some("/r"), "/rx", "/x");
        v0(false, Some("/s"), Some("/r"), "/r/x", "/s/r/x");
        v0(false, Some("/s/"), Some("/r"), "/r/x", "/s/r/x");
        v0(false, Some("/s"), Some("/"), "/", "/s");
        v0(false, Some("/s/"), Some("/"), "/", "/s/");
        v0(true, Some("/s"), None, "/x", "/s/x");
        v0(true, Some("/s"), None, "/", "/s");
    }

    #[test]
    fn a_dot_segment_left_by_cutting_is_dropped() {
        v0(true, Some("/s"), Some("/r"), "/r..", "/s");
        v0(true, Some("/s"), Some("/r"), "/r../x", "/s/x");
        v0(true, None, Some("/r"), "/r./x", "/x");
    }

    #[test]
    fn what_is_sent_is_escaped() {
        v0(
            true,
            Some("/s"),
            Some("/r"),
            "/r/a b\u{fc}",
            "/s/a%20b%C3%BC",
        );
        v0(false, None, None, "/a b", "/a%20b");
    }

    #[test]
    fn a_piece_of_the_path_is_borrowed() {
        let r = route(1, |r| r.strip_path = true);
        let found = Match::for_tests(Flavor::TraditionalCompatible, Some((0, 3)));
        assert!(matches!(
            upstream_path(PathRule::of(&r), None, &found, b"/r/x"),
            Cow::Borrowed("/x")
        ));
        let found = Match::for_tests(Flavor::TraditionalCompatible, Some((0, 2)));
        assert!(matches!(
            upstream_path(PathRule::of(&r), Some("/"), &found, b"/r/x"),
            Cow::Borrowed("/x")
        ));
    }

    #[test]
    fn v1_joins_as_they_are_in_the_traditional_flavour_only() {
        let v1 = |flavor, path| sent(flavor, true, PathHandling::V1, Some("/s"), Some("/r"), path);
        assert_eq!(v1(Flavor::Traditional, "/rx"), "/sx");
        assert_eq!(v1(Flavor::TraditionalCompatible, "/rx"), "/s/x");
        assert_eq!(
            sent(
                Flavor::Traditional,
                false,
                PathHandling::V1,
                Some("/s"),
                Some("/r"),
                "/r/x"
            ),
            "/sr/x"
        );
        assert_eq!(
            sent(
                Flavor::Traditional,
                false,
                PathHandling::V1,
                Some("/s/"),
                Some("/r"),
                "/r/x"
            ),
            "/s/r/x"
        );
        assert_eq!(
            sent(
                Flavor::Traditional,
                true,
                PathHandling::V1,
                Some("/s/"),
                Some("/r"),
                "/r/x"
            ),
            "/s/x"
        );
    }

    #[test]
    fn the_prefix_is_told_only_when_it_was_cut_off() {
        let r = route(1, |r| r.strip_path = true);
        let of = |len| Match::for_tests(Flavor::TraditionalCompatible, Some((0, len)));
        assert_eq!(
            forwarded_prefix(PathRule::of(&r), &of(2), b"/r/x"),
            Some(&b"/r"[..])
        );
        assert_eq!(forwarded_prefix(PathRule::of(&r), &of(1), b"/r/x"), None);
        let r = route(1, |r| r.strip_path = false);
        assert_eq!(forwarded_prefix(PathRule::of(&r), &of(2), b"/r/x"), None);
    }
}
