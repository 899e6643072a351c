//! The number that orders routes in the `traditional_compatible` flavour.

use silverback_entities::Route;
use uuid::{Uuid, uuid};

/// Namespace of the ids that Kong gives to the parts of a route that is split by its paths.
const PARTS: Uuid = uuid!("7f145bf9-0dce-4f91-98eb-debbce4b9f6b");

/// The most header rules that count.
const MAX_HEADERS: u64 = 255;

/// What a request is compared with first. The greatest wins.
///
/// Learnt from `get_priority` of `kong/router/transform.lua`, which packs into 64 bits: the number of kinds of rules
/// (bits 61 to 63), plain hosts only (60), number of headers (52 to 59), regular expression (51), its priority
/// (from 19), length of the path (0 to 18).
///
/// That is the intended layout. The arithmetic that Kong 3.9.1 really does is 32 bits wide for all that is counted at
/// run time: the shifts are taken modulo 32, so that the number of kinds lands in bits 29 to 31, the number of headers
/// in 20 to 27 and the regular expression's priority from 19, and only the two flags, which are 64-bit constants, stay
/// where they belong. Hence a route with plain hosts alone beats one with more rules that has a wildcard host or none,
/// and a regular expression beats any other path. This is what clients of a real Kong see, and so it is kept, down to
/// the overlap of the header count and the regular expression's priority.
///
/// From four kinds of rules on, Kong's sign bit is set and the result depends on how the processor converts negative
/// numbers. There the order is: such routes first, plain hosts, regular expression, then the number of kinds, and so on.
/// For the same reason a priority outside 0..=1023 counts as the nearest of these, and then for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Priority {
    four_kinds: bool,
    plain_hosts: bool,
    regex: bool,
    low: u64,
    regex_priority: i64,
    /// Of two routes that are alike the one with the greater id wins.
    id: Uuid,
}

/// Some paths of a route: all its regular expressions, or all plain paths of one length.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) paths: Vec<&'a str>,
    pub(crate) id: Uuid,
}

/// Splits a route so that each part has one priority. A route with no path is one part.
pub(crate) fn parts(route: &Route) -> Vec<Part<'_>> {
    let paths = route.paths.as_deref().unwrap_or_default();
    let mut groups: Vec<(usize, Vec<&str>)> = Vec::new();
    for path in paths {
        // No plain path is empty, so zero is free.
        let key = if path.starts_with('~') { 0 } else { path.len() };
        match groups.iter_mut().find(|(k, _)| *k == key) {
            Some((_, g)) => g.push(path),
            None => groups.push((key, vec![path])),
        }
    }
    if groups.len() < 2 {
        return vec![Part {
            paths: groups.pop().map(|(_, g)| g).unwrap_or_default(),
            id: route.id,
        }];
    }
    groups
        .into_iter()
        .enumerate()
        .map(|(i, (_, paths))| Part {
            paths,
            id: Uuid::new_v5(&PARTS, format!("{}#{}", route.id, i + 1).as_bytes()),
        })
        .collect()
}

impl Priority {
    pub(crate) fn of(route: &Route, part: &Part<'_>) -> Self {
        let headers = route
            .headers
            .as_ref()
            .map_or(0, |h| h.len() as u64)
            .min(MAX_HEADERS);
        let kinds = u64::from(!empty(&route.methods))
            + u64::from(!empty(&route.hosts))
            + u64::from(headers > 0)
            + u64::from(!empty(&route.snis))
            + u64::from(!part.paths.is_empty());
        let regex = part.paths.first().is_some_and(|p| p.starts_with('~'));
        let length = if regex {
            0
        } else {
            part.paths.first().map_or(0, |p| p.len() as u64)
        };
        let regex_priority = if regex {
            route.regex_priority.unwrap_or(0)
        } else {
            0
        };
        Priority {
            four_kinds: kinds >= 4,
            plain_hosts: route
                .hosts
                .as_ref()
                .is_some_and(|h| h.iter().all(|h| !h.contains('*'))),
            regex,
            low: (kinds & 3) << 29
                | headers << 20
                | (regex_priority.clamp(0, 1023) as u64) << 19
                | length & 0x7_FFFF,
            regex_priority,
            id: part.id,
        }
    }
}

fn empty<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{header, route, strings};

    fn first(change: impl FnOnce(&mut Route)) -> Priority {
        let r = route(1, change);
        let part = &parts(&r)[0];
        Priority::of(&r, part)
    }

    #[test]
    fn more_kinds_of_rules_win() {
        let both = first(|r| {
            r.methods = strings(&["GET"]);
            r.paths = strings(&["/"]);
        });
        assert!(both > first(|r| r.paths = strings(&["/a/much/longer/path"])));
    }

    #[test]
    fn plain_hosts_beat_more_kinds_as_kongs_arithmetic_has_it() {
        let host = first(|r| r.hosts = strings(&["a.test"]));
        assert!(
            host > first(|r| {
                r.methods = strings(&["GET"]);
                r.paths = strings(&["/a"]);
            })
        );
        assert!(
            host > first(|r| {
                r.hosts = strings(&["*.test"]);
                r.paths = strings(&["/a"]);
            })
        );
        assert!(
            first(|r| {
                r.hosts = strings(&["a.test"]);
                r.paths = strings(&["/a"]);
            }) > host
        );
    }

    #[test]
    fn a_regular_expression_beats_any_path_without_plain_hosts() {
        let regex = first(|r| r.paths = strings(&["~/a"]));
        assert!(
            regex
                > first(|r| {
                    r.methods = strings(&["GET"]);
                    r.paths = strings(&["/a/longer"]);
                })
        );
        assert!(first(|r| r.hosts = strings(&["a.test"])) > regex);
    }

    #[test]
    fn four_kinds_beat_three_and_keep_their_order() {
        let four = |len: usize| {
            first(|r| {
                r.hosts = strings(&["*.test"]);
                r.methods = strings(&["GET"]);
                r.headers = header("x-a", &["1"]);
                r.paths = Some(vec![format!("/{}", "a".repeat(len))]);
            })
        };
        assert!(
            four(1)
                > first(|r| {
                    r.hosts = strings(&["a.test"]);
                    r.methods = strings(&["GET"]);
                    r.paths = strings(&["/aaaa"]);
                })
        );
        assert!(four(5) > four(4));
    }

    #[test]
    fn regex_priority_orders_regular_expressions_only() {
        let re = |p| {
            first(|r| {
                r.paths = strings(&["~/a"]);
                r.regex_priority = Some(p);
            })
        };
        assert!(re(1) > re(0) && re(2000) > re(1500) && re(0) > re(-1));
        let plain = |p| {
            first(|r| {
                r.paths = strings(&["/a"]);
                r.regex_priority = Some(p);
            })
        };
        assert_eq!(plain(5), plain(0));
    }

    #[test]
    fn the_larger_id_wins_a_tie() {
        let of = |n| {
            let r = route(n, |r| r.paths = strings(&["/a"]));
            Priority::of(&r, &parts(&r)[0])
        };
        assert!(of(2) > of(1));
    }

    #[test]
    fn paths_are_split_by_length_and_by_kind() {
        let r = route(1, |r| {
            r.paths = strings(&["~/re$", "/long", "/one", "/two", "~/.*"])
        });
        let got: Vec<Vec<&str>> = parts(&r).into_iter().map(|p| p.paths).collect();
        assert_eq!(
            got,
            vec![vec!["~/re$", "~/.*"], vec!["/long"], vec!["/one", "/two"]]
        );
        assert_ne!(parts(&r)[0].id, r.id);
    }

    #[test]
    fn paths_of_one_length_stay_together_under_the_routes_id() {
        let r = route(1, |r| r.paths = strings(&["/one", "/two"]));
        assert_eq!(parts(&r).len(), 1);
        assert_eq!(parts(&r)[0].id, r.id);
    }
}
