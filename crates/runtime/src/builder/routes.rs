//! Routes and their router: built as a whole, or amended when little has changed since.

use std::collections::{HashMap, HashSet};
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
type Base = (Arc<Router>, Arc<[Arc<RouteRuntime>]>);

/// What routes are made of.
pub(super) struct Parts<'a> {
    pub(super) tables: &'a Tables,
    pub(super) services: &'a ServiceCache,
    pub(super) chains: &'a mut Chains,
    pub(super) registries: &'a Registries,
}

/// The routes of the last whole build, and which of them are no longer as they were.
#[derive(Default)]
pub(super) struct RouteTable {
    base: Option<Base>,
    /// Routes that changed, came or went since.
    changed: HashSet<Uuid>,
    /// What was answered last: what is in force when something cannot be built.
    last: Option<Routing>,
    problems: Vec<Problem>,
}

impl RouteTable {
    /// Takes note of routes that changed, came or went.
    pub(super) fn touch(&mut self, routes: impl IntoIterator<Item = Uuid>) {
        self.changed.extend(routes);
    }

    /// Takes note that any route may have changed.
    pub(super) fn forget(&mut self) {
        self.base = None;
    }

    /// Whether there is something to gain from a whole build.
    pub(super) fn amended(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Routes that cannot be served as they are.
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The routes as they were before the last change, with the changes since.
    pub(super) fn update(&mut self, mut parts: Parts<'_>) -> Routing {
        if let Some(last) = &self.last
            && self.changed.is_empty()
        {
            return last.clone();
        }
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
        let routes = self.all(&mut parts, plugins_changed);
        let same = match &self.base {
            // The router knows rules and order of the routes, and nothing of their plugins.
            Some((router, _)) if plugins_changed && self.changed.is_empty() => Some(router.clone()),
            _ => None,
        };
        let built = match same {
            Some(router) => Ok(router),
            None => Router::build(&entries(&routes), parts.registries.flavor).map(Arc::new),
        };
        let (router, routes) = match (built, &self.last) {
            (Ok(router), _) => {
                self.problems.clear();
                (router, routes)
            }
            (Err(problems), last) => {
                self.problems = problems.into_iter().map(problem).collect();
                // A router that cannot be built leaves the old routes in force.
                match last {
                    Some(last) => return last.clone(),
                    None => self.without_bad_routes(&routes, parts.registries),
                }
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
        let (router, base) = self.base.as_ref()?;
        if self.changed.len() > FEW {
            return None;
        }
        let mut gone: Vec<usize> = Vec::with_capacity(self.changed.len());
        let mut added = Vec::with_capacity(self.changed.len());
        for id in &self.changed {
            let before = base.binary_search_by_key(id, |r| r.route.id).ok();
            gone.extend(before);
            let Some(row) = parts.tables.routes.get(id) else {
                continue;
            };
            let known = self.last.as_ref().and_then(|(_, routes)| routes.by_id(*id));
            added.extend(parts.make(row, known, false));
        }
        added.sort_unstable_by_key(|r| r.route.id);
        gone.sort_unstable();
        match router.amend(&gone, &entries(&added))? {
            Ok(router) => {
                self.problems.clear();
                Some((Arc::new(router), Routes::amended(base.clone(), gone, added)))
            }
            Err(problems) => {
                self.problems = problems.into_iter().map(problem).collect();
                self.last.clone()
            }
        }
    }

    /// All routes that are served over HTTP, by id.
    fn all(&self, parts: &mut Parts<'_>, plugins_changed: bool) -> Arc<[Arc<RouteRuntime>]> {
        let last = self.last.iter().flat_map(|(_, routes)| routes.iter());
        let known: HashMap<Uuid, &Arc<RouteRuntime>> = last.map(|r| (r.route.id, r)).collect();
        let mut out = Vec::with_capacity(parts.tables.routes.len());
        for row in parts.tables.routes.values() {
            out.extend(parts.make(row, known.get(&row.id).copied(), plugins_changed));
        }
        out.sort_unstable_by_key(|r| r.route.id);
        out.into()
    }

    /// At the first build there is nothing to keep: all routes are served but those that cannot be.
    fn without_bad_routes(&self, routes: &[Arc<RouteRuntime>], registries: &Registries) -> Base {
        let bad: Vec<Uuid> = self.problems.iter().map(|p| p.id).collect();
        let good: Arc<[_]> = routes
            .iter()
            .filter(|r| !bad.contains(&r.route.id))
            .cloned()
            .collect();
        match Router::build(&entries(&good), registries.flavor) {
            Ok(router) => (Arc::new(router), good),
            Err(_) => {
                let none = Router::build(&[], registries.flavor);
                let none = none
                    .unwrap_or_else(|_| unreachable!("a router without routes has no problems"));
                (Arc::new(none), Arc::from([]))
            }
        }
    }
}

impl Parts<'_> {
    /// A route, compiled, unless it is not served; `known` when that is what would come out.
    fn make(
        &mut self,
        row: &Arc<Route>,
        known: Option<&Arc<RouteRuntime>>,
        plugins_changed: bool,
    ) -> Option<Arc<RouteRuntime>> {
        let service = match &row.service {
            None => None,
            // A disabled service is as if its routes were not there. (One that is missing arrives with the next change.)
            Some(r) => Some(self.services.get(r.id).filter(|s| s.service.enabled)?),
        };
        if !row.protocols.iter().any(|p| is_http(*p)) {
            return None;
        }
        let known = known
            .filter(|k| Arc::ptr_eq(&k.route, row) && same_service(k.service.as_ref(), service));
        if let Some(known) = known
            && !plugins_changed
        {
            return Some(known.clone());
        }
        let chain = self.chains.of(row.id, row.service.map(|s| s.id));
        if let Some(known) = known.filter(|k| Arc::ptr_eq(&k.chain, &chain)) {
            return Some(known.clone());
        }
        Some(Arc::new(services::route(
            row,
            service,
            chain,
            self.registries,
        )))
    }
}

fn problem(p: silverback_router::Problem) -> Problem {
    Problem {
        entity: "routes",
        id: p.route,
        what: p.what,
    }
}

fn entries(routes: &[Arc<RouteRuntime>]) -> Vec<Entry> {
    let entry = |r: &Arc<RouteRuntime>| Entry {
        route: r.route.clone(),
        service: r.service.as_ref().map(|s| s.service.clone()),
    };
    routes.iter().map(entry).collect()
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
