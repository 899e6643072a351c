//! The router: built once from the routes, read by every request.

use std::sync::Arc;

use silverback_entities::{Protocol, Route, Service};
use uuid::Uuid;

use crate::compat::Compat;
use crate::index::Best;
use crate::matcher::{Matcher, PathHit, Paths, Query};
use crate::request::{Flavor, Request};
use crate::traditional::Traditional;

/// One route with the service it leads to.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The route.
    pub route: Arc<Route>,
    /// Its service, if it has one.
    pub service: Option<Arc<Service>>,
}

/// Why a route cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route {route}: {what}")]
pub struct Problem {
    /// The route's id.
    pub route: Uuid,
    /// What is wrong, in words for the one who wrote the route.
    pub what: String,
}

/// A route that was found for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Number of the entry: those the router was built from come first, then those [`Router::amend`] was given.
    pub entry: usize,
    pub(crate) flavor: Flavor,
    rank: u32,
    hit: Option<PathHit>,
}

impl Match {
    /// The piece of the request's path that the route's path matched; `None` for a route without paths.
    ///
    /// It starts where the path starts, but for regular expressions that are not anchored in all their branches.
    pub fn matched_path<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let hit = self.hit?;
        path.get(hit.start as usize..(hit.start + hit.len) as usize)
    }

    #[cfg(test)]
    pub(crate) fn for_tests(flavor: Flavor, matched: Option<(usize, usize)>) -> Self {
        let hit = matched.map(|(start, len)| PathHit {
            start: start as u32,
            len: len as u32,
            regex: None,
        });
        Match {
            entry: 0,
            flavor,
            rank: 0,
            hit,
        }
    }
}

/// What the groups of a regular expression matched in the path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captures {
    /// By number, the whole match at 0. A group that took no part is `None`.
    pub numbered: Vec<Option<String>>,
    /// By name. Groups that took no part are left out.
    pub named: Vec<(String, String)>,
}

/// An index over routes. Immutable; share it behind an `Arc` and replace it as a whole.
///
/// A few changes need no new index over all routes: [`Router::amend`] makes a router that shares the old one's and has a
/// small one beside it.
#[derive(Debug)]
pub struct Router {
    base: Arc<Layer>,
    /// Entries of the base that are no more.
    gone: Gone,
    /// Routes that came after the base was built.
    added: Option<Box<Layer>>,
    /// Whether any route that is left looks at paths.
    reads_paths: bool,
}

/// Some of a router's routes, compiled.
#[derive(Debug)]
struct Layer {
    inner: Inner,
    /// Of each entry, whether it looks at paths.
    reads_paths: Box<[bool]>,
}

#[derive(Debug)]
enum Inner {
    Compat(Compat),
    Traditional(Box<Traditional>),
}

impl Layer {
    fn build(entries: &[Entry], flavor: Flavor) -> Result<Layer, Vec<Problem>> {
        let inner = match flavor {
            Flavor::TraditionalCompatible => Inner::Compat(Compat::build(entries)?),
            Flavor::Traditional => Inner::Traditional(Box::new(Traditional::build(entries)?)),
        };
        let reads_paths =
            |e: &Entry| is_served(e) && e.route.paths.as_ref().is_some_and(|p| !p.is_empty());
        Ok(Layer {
            inner,
            reads_paths: entries.iter().map(reads_paths).collect(),
        })
    }

    fn matchers(&self) -> &[Matcher] {
        match &self.inner {
            Inner::Compat(r) => &r.matchers,
            Inner::Traditional(r) => &r.matchers,
        }
    }
}

impl Router {
    /// Compiles the routes.
    ///
    /// Routes for streams, routes whose service is disabled and routes without any rule are left out.
    ///
    /// # Errors
    /// One [`Problem`] for each route whose regular expressions cannot be used.
    pub fn build(entries: &[Entry], flavor: Flavor) -> Result<Router, Vec<Problem>> {
        let base = Layer::build(entries, flavor)?;
        Ok(Router {
            reads_paths: base.reads_paths.contains(&true),
            base: Arc::new(base),
            gone: Gone::default(),
            added: None,
        })
    }

    /// A router over the routes this one was *built* from, without those whose numbers are in `gone`, and with `added`, which
    /// are numbered on from the last. What this router was amended with before counts no longer.
    ///
    /// Takes time for what was added alone. Of the `traditional` flavour, which looks at all routes to decide between two, there is
    /// nothing to share: `None`.
    ///
    /// # Errors
    /// One [`Problem`] for each added route whose regular expressions cannot be used.
    pub fn amend(&self, gone: &[usize], added: &[Entry]) -> Option<Result<Router, Vec<Problem>>> {
        let Inner::Compat(_) = &self.base.inner else {
            return None;
        };
        let added = match Layer::build(added, Flavor::TraditionalCompatible) {
            Ok(layer) => layer,
            Err(problems) => return Some(Err(problems)),
        };
        let mut bits = Gone::default();
        gone.iter().for_each(|&n| bits.put(n));
        let left = self.base.reads_paths.iter().enumerate();
        let reads_paths = added.reads_paths.contains(&true)
            || left.filter(|(_, r)| **r).any(|(n, _)| !bits.has(n as u32));
        Some(Ok(Router {
            base: self.base.clone(),
            gone: bits,
            added: (!added.reads_paths.is_empty()).then(|| Box::new(added)),
            reads_paths,
        }))
    }

    /// The route that serves a request, if any.
    pub fn find(&self, req: &Request<'_>) -> Option<Match> {
        let base = &*self.base;
        let mut q = Query {
            req,
            flavor: Flavor::Traditional,
            tls: req.is_tls(),
            gone: &self.gone,
        };
        let (best, first) = match &base.inner {
            Inner::Compat(r) => {
                q.flavor = Flavor::TraditionalCompatible;
                // Kong's matcher takes text: with a path that is none it fails as soon as a rule asks for it.
                if self.reads_paths && std::str::from_utf8(req.path).is_err() {
                    return None;
                }
                let best = r.find(&q);
                match &self.added {
                    None => (best, 0),
                    Some(added) => {
                        q.gone = &NOTHING;
                        let Inner::Compat(newer) = &added.inner else {
                            return None;
                        };
                        let other = newer.find(&q);
                        if newer.priority(other.rank) > r.priority(best.rank) {
                            (other, base.reads_paths.len())
                        } else {
                            (best, 0)
                        }
                    }
                }
            }
            Inner::Traditional(r) => (r.find(&q), 0),
        };
        (best.rank != Best::NONE.rank).then_some(Match {
            entry: first + best.entry as usize,
            flavor: q.flavor,
            rank: best.rank,
            hit: best.hit,
        })
    }

    /// What the groups of the route's regular expression matched; `None` when there is none or no group took part.
    ///
    /// `found` comes from this router and `path` is the one it was found with.
    pub fn captures(&self, found: &Match, path: &[u8]) -> Option<Captures> {
        let layer = if found.entry < self.base.reads_paths.len() {
            &*self.base
        } else {
            self.added.as_deref()?
        };
        let Paths::Regex(patterns) = &layer.matchers().get(found.rank as usize)?.paths else {
            return None;
        };
        let regex = patterns.get(found.hit?.regex? as usize)?.regex()?;
        let groups = regex.captures(path)?;
        if groups.iter().skip(1).all(|g| g.is_none()) {
            return None;
        }
        let text = |m: regex::bytes::Match<'_>| String::from_utf8_lossy(m.as_bytes()).into_owned();
        Some(Captures {
            numbered: groups.iter().map(|g| g.map(text)).collect(),
            named: regex
                .capture_names()
                .flatten()
                .filter_map(|n| Some((n.to_owned(), text(groups.name(n)?))))
                .collect(),
        })
    }

    /// Compiles all regular expressions that no request has needed yet.
    ///
    /// [`build`](Self::build) only parses them, and the first request that gets near one compiles it.
    /// Some ten microseconds and a few kilobytes for each.
    pub fn warm(&self) {
        let added = self.added.iter().flat_map(|l| l.matchers());
        for m in self.base.matchers().iter().chain(added) {
            let paths = if let Paths::Regex(patterns) = &m.paths {
                patterns.as_slice()
            } else {
                &[]
            };
            for p in paths
                .iter()
                .chain(m.headers.iter().flat_map(|h| &h.patterns))
            {
                p.regex();
            }
        }
    }
}

/// A set of entries' numbers.
#[derive(Debug, Default)]
pub(crate) struct Gone(Vec<u64>);

static NOTHING: Gone = Gone(Vec::new());

impl Gone {
    fn put(&mut self, n: usize) {
        if self.0.len() <= n / 64 {
            self.0.resize(n / 64 + 1, 0);
        }
        self.0[n / 64] |= 1 << (n % 64);
    }

    #[inline]
    pub(crate) fn has(&self, n: u32) -> bool {
        self.0
            .get(n as usize / 64)
            .is_some_and(|bits| bits & 1 << (n % 64) != 0)
    }
}

/// Whether HTTP requests can be routed to the entry at all. Learnt from `should_process_route` and `new_router` of
/// `kong/runloop/handler.lua`.
pub(crate) fn is_served(entry: &Entry) -> bool {
    let r = &*entry.route;
    let http = r.protocols.iter().any(|p| {
        matches!(
            p,
            Protocol::Http | Protocol::Https | Protocol::Grpc | Protocol::Grpcs
        )
    });
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    let rules = some(&r.hosts)
        || some(&r.paths)
        || some(&r.methods)
        || some(&r.snis)
        || r.headers.as_ref().is_some_and(|h| !h.is_empty());
    http && rules && entry.service.as_ref().is_none_or(|s| s.enabled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;
    use crate::oracle::{entries, header, route, strings};

    const BOTH: [Flavor; 2] = [Flavor::TraditionalCompatible, Flavor::Traditional];

    fn get<'a>(path: &'a str, headers: &'a HeaderMap) -> Request<'a> {
        Request {
            method: "GET",
            host: "a.test",
            host_port: None,
            port: 8000,
            path: path.as_bytes(),
            headers,
            sni: None,
            scheme: "http",
        }
    }

    #[test]
    fn a_bad_regular_expression_is_a_problem_of_its_route() {
        let entries = entries(vec![
            route(1, |r| r.paths = strings(&["/fine", "~/bad("])),
            route(2, |r| r.paths = strings(&["~/fine"])),
            route(3, |r| r.headers = header("x-a", &["~*["])),
        ]);
        for flavor in BOTH {
            let problems = Router::build(&entries, flavor).unwrap_err();
            let routes: Vec<Uuid> = problems.iter().map(|p| p.route).collect();
            assert_eq!(routes, [entries[0].route.id, entries[2].route.id]);
            assert!(problems[0].what.contains("~/bad("), "{}", problems[0].what);
        }
    }

    #[test]
    fn captures_are_told_by_number_and_by_name() {
        let entries = entries(vec![
            route(1, |r| r.paths = strings(&["~/c/(?<ver>v\\d+)/(x)?(.*)$"])),
            route(2, |r| r.paths = strings(&["~/n/\\d+"])),
            route(3, |r| r.paths = strings(&["/p"])),
        ]);
        for flavor in BOTH {
            let router = Router::build(&entries, flavor).unwrap();
            let headers = HeaderMap::new();
            let captures = |path: &str| {
                let found = router.find(&get(path, &headers)).unwrap();
                router.captures(&found, path.as_bytes())
            };
            let text = |s: &str| Some(s.to_owned());
            assert_eq!(
                captures("/c/v2/rest/of"),
                Some(Captures {
                    numbered: vec![text("/c/v2/rest/of"), text("v2"), None, text("rest/of")],
                    named: vec![("ver".to_owned(), "v2".to_owned())],
                })
            );
            assert_eq!(captures("/n/1"), None);
            assert_eq!(captures("/p"), None);
        }
    }

    #[test]
    fn routes_for_streams_and_of_disabled_services_are_left_out() {
        let headers = HeaderMap::new();
        let service = serde_json::json!({
            "id": Uuid::nil(), "created_at": 0, "updated_at": 0, "protocol": "http", "host": "up.test", "port": 80, "enabled": false,
        });
        let service: Service = serde_json::from_value(service).unwrap();
        let mut all = entries(vec![
            route(1, |r| r.paths = strings(&["/"])),
            route(2, |r| {
                r.snis = strings(&["a.test"]);
                r.protocols = vec![Protocol::Tls];
            }),
            route(3, |_| {}),
        ]);
        for flavor in BOTH {
            assert_eq!(
                Router::build(&all, flavor)
                    .unwrap()
                    .find(&get("/", &headers))
                    .map(|m| m.entry),
                Some(0)
            );
        }
        all[0].service = Some(Arc::new(service));
        for flavor in BOTH {
            assert_eq!(
                Router::build(&all, flavor)
                    .unwrap()
                    .find(&get("/", &headers)),
                None
            );
        }
    }

    #[test]
    fn an_https_only_route_is_found_in_clear_text() {
        let entries = entries(vec![route(1, |r| {
            r.paths = strings(&["/"]);
            r.protocols = vec![Protocol::Https];
        })]);
        let headers = HeaderMap::new();
        for flavor in BOTH {
            let router = Router::build(&entries, flavor).unwrap();
            assert!(router.find(&get("/", &headers)).is_some());
            let tls = Request {
                scheme: "https",
                ..get("/", &headers)
            };
            assert!(router.find(&tls).is_some());
        }
    }

    #[test]
    fn a_header_sent_with_underscores_matches_dashes_in_the_compatible_flavour_only() {
        let entries = entries(vec![route(1, |r| r.headers = header("X-Tenant", &["One"]))]);
        let mut headers = HeaderMap::new();
        headers.insert(
            HeaderName::from_static("x_tenant"),
            HeaderValue::from_static("oNe"),
        );
        let found = BOTH.map(|f| {
            Router::build(&entries, f)
                .unwrap()
                .find(&get("/", &headers))
                .is_some()
        });
        assert_eq!(found, [true, false]);
    }

    #[test]
    fn a_path_that_is_no_text_finds_nothing_once_any_route_has_paths() {
        let mut routes = vec![route(1, |r| r.hosts = strings(&["a.test"]))];
        let headers = HeaderMap::new();
        let req = Request {
            path: b"/\xff",
            ..get("/", &headers)
        };
        let found = |routes: &[Route]| {
            Router::build(&entries(routes.to_vec()), Flavor::TraditionalCompatible)
                .unwrap()
                .find(&req)
        };
        assert!(found(&routes).is_some());
        routes.push(route(2, |r| r.paths = strings(&["/other"])));
        assert!(found(&routes).is_none());
    }

    #[test]
    fn warming_compiles_what_was_only_parsed() {
        let entries = entries(vec![route(1, |r| r.paths = strings(&["~/a/\\d+"]))]);
        let router = Router::build(&entries, Flavor::TraditionalCompatible).unwrap();
        router.warm();
        let headers = HeaderMap::new();
        assert_eq!(
            router
                .find(&get("/a/12/x", &headers))
                .unwrap()
                .matched_path(b"/a/12/x"),
            Some(&b"/a/12"[..])
        );
    }

    #[test]
    fn a_router_can_be_built_on_one_thread_and_read_on_others() {
        fn shared<T: Send + Sync>() {}
        shared::<Router>();
    }
}
