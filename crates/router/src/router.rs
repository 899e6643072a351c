//! The router: built once from the routes, read by every request.

use std::sync::Arc;

use silverback_entities::{Protocol, Route, Service};
use uuid::Uuid;

use crate::compat::Compat;
use crate::index::Best;
use crate::matcher::{Matcher, PathHit, Paths, Query};
use crate::protocol::wants_https;
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
    /// Index into the entries that the router was built from.
    pub entry: usize,
    /// Whether the route is for `https` alone and the request's connection is in clear text.
    /// [`protocol_verdict`](crate::protocol_verdict) says what to answer.
    pub needs_https: bool,
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
            needs_https: false,
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
#[derive(Debug)]
pub struct Router {
    inner: Inner,
    https_only: Box<[bool]>,
}

#[derive(Debug)]
enum Inner {
    Compat(Compat),
    Traditional(Traditional),
}

impl Router {
    /// Compiles the routes.
    ///
    /// Routes for streams, routes whose service is disabled and routes without any rule are left out.
    ///
    /// # Errors
    /// One [`Problem`] for each route whose regular expressions cannot be used.
    pub fn build(entries: &[Entry], flavor: Flavor) -> Result<Router, Vec<Problem>> {
        let inner = match flavor {
            Flavor::TraditionalCompatible => Inner::Compat(Compat::build(entries)?),
            Flavor::Traditional => Inner::Traditional(Traditional::build(entries)?),
        };
        Ok(Router {
            inner,
            https_only: entries.iter().map(|e| wants_https(&e.route)).collect(),
        })
    }

    /// The route that serves a request, if any.
    pub fn find(&self, req: &Request<'_>) -> Option<Match> {
        let query = |flavor| Query {
            req,
            flavor,
            tls: req.is_tls(),
        };
        let (flavor, best) = match &self.inner {
            Inner::Compat(r) => (
                Flavor::TraditionalCompatible,
                r.find(&query(Flavor::TraditionalCompatible)),
            ),
            Inner::Traditional(r) => (Flavor::Traditional, r.find(&query(Flavor::Traditional))),
        };
        if best.rank == Best::NONE.rank {
            return None;
        }
        let entry = self.matcher(best.rank)?.entry as usize;
        let needs_https = self.https_only.get(entry).copied().unwrap_or(false) && !req.is_tls();
        Some(Match {
            entry,
            needs_https,
            flavor,
            rank: best.rank,
            hit: best.hit,
        })
    }

    /// What the groups of the route's regular expression matched; `None` when there is none or no group took part.
    ///
    /// `found` comes from this router and `path` is the one it was found with.
    pub fn captures(&self, found: &Match, path: &[u8]) -> Option<Captures> {
        let Paths::Regex(patterns) = &self.matcher(found.rank)?.paths else {
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
        for m in self.matchers() {
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

    fn matchers(&self) -> &[Matcher] {
        match &self.inner {
            Inner::Compat(r) => &r.matchers,
            Inner::Traditional(r) => &r.matchers,
        }
    }

    fn matcher(&self, rank: u32) -> Option<&Matcher> {
        self.matchers().get(rank as usize)
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
