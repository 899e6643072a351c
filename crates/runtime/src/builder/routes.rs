//! Routes and their router: built as a whole, or amended when little has changed since.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use silverback_entities::{Route, Tables};
use silverback_router::{Entry, Router};
use uuid::Uuid;

use super::chains::Chains;
use super::services::{ServiceCache, is_http};
use super::{Problem, services};
use crate::registry::Registries;
use crate::snapshot::{RouteRuntime, Routes};

/// With more routes than this changed since the last whole build, all are built again. Making a router for so many takes less than
/// a millisecond, and a request looks at both routers.
const FEW: usize = 256;

/// Routes with the router that finds them.
pub(super) type Routing = (Arc<Router>, Routes);

/// A whole build: a router and the routes by its numbers.
type Base = (Arc<Router>, Arc<[RouteRuntime]>);

/// What routes are made of.
pub(super) struct Parts<'a> {
    pub(super) tables: &'a Tables,
    pub(super) services: &'a ServiceCache,
    pub(super) chains: &'a mut Chains,
    pub(super) registries: &'a Registries,
}

/// A row that cannot be served as it is.
struct Bad {
    row: Arc<Route>,
    /// What is served in its place: the row as it was when it could be.
    good: Option<Arc<Route>>,
    problem: Problem,
}

/// The routes of the last whole build, and which of them are no longer as they were.
#[derive(Default)]
pub(super) struct RouteTable {
    base: Option<Base>,
    /// Routes that changed, came or went since.
    changed: HashSet<Uuid>,
    /// What was answered last.
    last: Option<Routing>,
    /// By the route's id.
    bad: BTreeMap<Uuid, Bad>,
}

impl RouteTable {
    /// Takes note of routes that changed, came or went.
    pub(super) fn touch(&mut self, routes: impl IntoIterator<Item = Uuid>) {
        self.changed.extend(routes);
    }

    /// Whether there is something to gain from a whole build.
    pub(super) fn amended(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Routes that cannot be served as they are.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.bad.values().map(|b| &b.problem)
    }

    /// The routes as they were before the last change, with the changes since.
    pub(super) fn update(&mut self, mut parts: Parts<'_>) -> Routing {
        if let Some(last) = &self.last
            && self.changed.is_empty()
        {
            return last.clone();
        }
        self.forgive(parts.tables);
        match self.amend(&mut parts) {
            Some(routing) => {
                self.last = Some(routing.clone());
                routing
            }
            None => self.rebuild(parts, false),
        }
    }

    /// All routes anew. `plugins_changed` says that chains have to be looked up again.
    pub(super) fn rebuild(&mut self, mut parts: Parts<'_>, plugins_changed: bool) -> Routing {
        self.forgive(parts.tables);
        let (router, routes) = loop {
            let routes = self.all(&mut parts, plugins_changed);
            let built = match &self.base {
                // The router knows rules and order of the routes, and nothing of their plugins.
                Some((router, base)) if same_rules(base, &routes) => {
                    break (router.clone(), routes);
                }
                _ => Router::build(&entries(&routes), parts.registries.flavor),
            };
            match built {
                Ok(router) => break (Arc::new(router), routes),
                // Then without those.
                Err(problems) => self.blame(problems, &routes),
            }
        };
        self.changed.clear();
        self.base = Some((router.clone(), routes.clone()));
        let routing = (router, Routes::new(routes));
        self.last = Some(routing.clone());
        routing
    }

    /// The last whole build with the changes since beside it; `None` when that cannot be or is not worth it.
    fn amend(&mut self, parts: &mut Parts<'_>) -> Option<Routing> {
        let (router, base) = self.base.clone()?;
        if self.changed.len() > FEW {
            return None;
        }
        let find = |id| base.binary_search_by_key(id, |r| r.info().id).ok();
        let mut gone: Vec<usize> = self.changed.iter().filter_map(find).collect();
        gone.sort_unstable();
        loop {
            let mut added = Vec::with_capacity(self.changed.len());
            for id in &self.changed {
                let Some(row) = parts.tables.routes.get(id).and_then(|r| self.served(r)) else {
                    continue;
                };
                let known = self.last.as_ref().and_then(|(_, routes)| routes.by_id(*id));
                added.extend(parts.make(row, known, false));
            }
            added.sort_unstable_by_key(|r| r.info().id);
            match router.amend(&gone, &entries(&added))? {
                Ok(router) => {
                    return Some((Arc::new(router), Routes::amended(base, gone, added)));
                }
                Err(problems) => self.blame(problems, &added),
            }
        }
    }

    /// All routes that are served over HTTP, by id.
    fn all(&self, parts: &mut Parts<'_>, plugins_changed: bool) -> Arc<[RouteRuntime]> {
        let last = self.last.iter().flat_map(|(_, routes)| routes.iter());
        let known: HashMap<Uuid, &RouteRuntime> = last.map(|r| (r.info().id, r)).collect();
        let mut out = Vec::with_capacity(parts.tables.routes.len());
        for row in parts.tables.routes.values() {
            let Some(row) = self.served(row) else {
                continue;
            };
            out.extend(parts.make(row, known.get(&row.id).copied(), plugins_changed));
        }
        out.sort_unstable_by_key(|r| r.info().id);
        out.into()
    }

    /// The row that is served for this one of the tables: itself, its last good form, or none.
    fn served<'a>(&'a self, row: &'a Arc<Route>) -> Option<&'a Arc<Route>> {
        match self.bad.get(&row.id) {
            Some(bad) => bad.good.as_ref(),
            None => Some(row),
        }
    }

    /// Forgets what was wrong with rows that are no more as they were.
    fn forgive(&mut self, tables: &Tables) {
        self.bad.retain(|id, bad| {
            let now = tables.routes.get(id);
            now.is_some_and(|row| Arc::ptr_eq(row, &bad.row))
        });
    }

    /// Takes the rows that a router could not be made of out of those that are served. Each call takes at least one of `routes`
    /// out, so that trying again comes to an end.
    fn blame(&mut self, problems: Vec<silverback_router::Problem>, routes: &[RouteRuntime]) {
        for p in problems {
            let find = |list: &[RouteRuntime]| {
                let n = list.binary_search_by_key(&p.route, |r| r.info().id).ok()?;
                Some(list[n].route().clone())
            };
            let Some(row) = find(routes) else {
                unreachable!("a router has problems with the routes it is given, and no others")
            };
            let good = || {
                let (_, routes) = self.last.as_ref()?;
                let good = routes.by_id(p.route)?.route();
                (!Arc::ptr_eq(good, &row)).then(|| good.clone())
            };
            match self.bad.get_mut(&p.route) {
                // One route may have several problems.
                Some(bad) if Arc::ptr_eq(&bad.row, &row) => {}
                // What was good is good no longer.
                Some(bad) => bad.good = None,
                None => {
                    let (good, problem) = (good(), problem(p));
                    self.bad.insert(problem.id, Bad { row, good, problem });
                }
            }
        }
    }
}

impl Parts<'_> {
    /// A route, compiled, unless it is not served; `known` when that is what would come out.
    fn make(
        &mut self,
        row: &Arc<Route>,
        known: Option<&RouteRuntime>,
        plugins_changed: bool,
    ) -> Option<RouteRuntime> {
        let service = match &row.service {
            None => None,
            // A disabled service is as if its routes were not there. (One that is missing arrives with the next change.)
            Some(r) => Some(self.services.get(r.id).filter(|s| s.service.enabled)?),
        };
        if !row.protocols.iter().any(|p| is_http(*p)) {
            return None;
        }
        let known = known
            .filter(|k| Arc::ptr_eq(k.route(), row) && same_service(k.service.as_ref(), service));
        if let Some(known) = known
            && !plugins_changed
        {
            return Some(known.clone());
        }
        let chain = self.chains.of(row.id, row.service.map(|s| s.id));
        if let Some(known) = known.filter(|k| Arc::ptr_eq(&k.chain, &chain)) {
            return Some(known.clone());
        }
        Some(services::route(row, service, chain, self.registries))
    }
}

fn problem(p: silverback_router::Problem) -> Problem {
    Problem {
        entity: "routes",
        id: p.route,
        what: p.what,
    }
}

fn entries(routes: &[RouteRuntime]) -> Vec<Entry> {
    let entry = |r: &RouteRuntime| Entry {
        route: r.route().clone(),
        service: r.service.as_ref().map(|s| s.service.clone()),
    };
    routes.iter().map(entry).collect()
}

/// Whether a router of the ones is a router of the others.
fn same_rules(a: &[RouteRuntime], b: &[RouteRuntime]) -> bool {
    fn row(r: &RouteRuntime) -> Option<&Arc<silverback_entities::Service>> {
        r.service.as_ref().map(|s| &s.service)
    }
    let same = |(a, b): (&RouteRuntime, &RouteRuntime)| {
        a.same(b)
            || Arc::ptr_eq(a.route(), b.route())
                && row(a).map(Arc::as_ptr) == row(b).map(Arc::as_ptr)
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

fn same_service(
    a: Option<&Arc<crate::ServiceRuntime>>,
    b: Option<&Arc<crate::ServiceRuntime>>,
) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}
