//! From tables to a [`Snapshot`]. Only what a change touches is built again: a credential touches one shard of one index,
//! a plugin leaves the router alone, a route leaves the consumers alone.

use std::collections::HashMap;
use std::sync::Arc;

use silverback_entities::{Change, Tables};
use silverback_router::{Entry, Router};
use uuid::Uuid;

use crate::chain::Chain;
use crate::directory::DirectoryIndex;
use crate::registry::Registries;
use crate::snapshot::{RouteRuntime, Snapshot};

mod chains;
mod credentials;
mod services;

use chains::Chains;
use credentials::Credentials;
use services::ServiceCache;

/// Something in the configuration that cannot be served. What it concerns keeps its last good form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entity} {id}: {what}")]
pub struct Problem {
    /// The entity's name.
    pub entity: &'static str,
    /// Primary key.
    pub id: Uuid,
    /// What is wrong.
    pub what: String,
}

/// Builds snapshots, one after the other, on a thread of its own.
pub struct Builder {
    registries: Registries,
    tables: Tables,
    services: ServiceCache,
    chains: Chains,
    credentials: Credentials,
    directory: DirectoryIndex,
    dirty: Dirty,
    last: Option<Arc<Snapshot>>,
    router_problems: Vec<Problem>,
}

/// Which parts a change has touched since the last build.
#[derive(Debug, Clone, Copy, Default)]
struct Dirty {
    services: bool,
    routes: bool,
    plugins: bool,
}

/// Builds a snapshot from nothing: for checks and tests.
///
/// # Errors
/// Everything in the tables that cannot be served.
pub fn build(tables: Tables, registries: Registries) -> Result<Arc<Snapshot>, Vec<Problem>> {
    let mut builder = Builder::new(registries);
    builder.load(tables);
    let snapshot = builder.build();
    let problems = builder.problems();
    if problems.is_empty() {
        Ok(snapshot)
    } else {
        Err(problems)
    }
}

impl Builder {
    /// A builder without rows.
    pub fn new(mut registries: Registries) -> Self {
        registries.sort_plugins();
        Builder {
            registries,
            tables: Tables::default(),
            services: ServiceCache::default(),
            chains: Chains::default(),
            credentials: Credentials::default(),
            directory: DirectoryIndex::default(),
            dirty: Dirty {
                services: true,
                routes: true,
                plugins: true,
            },
            last: None,
            router_problems: Vec::new(),
        }
    }

    /// Takes all rows anew. What has not changed since keeps its state.
    pub fn load(&mut self, tables: Tables) {
        let before = std::mem::replace(&mut self.tables, tables);
        // Rows that are equal keep their identity, so that what was made from them is kept too.
        keep_equal(&before.services, &mut self.tables.services, |a, b| {
            a.updated_at == b.updated_at && same(a, b)
        });
        keep_equal(&before.routes, &mut self.tables.routes, |a, b| {
            a.updated_at == b.updated_at && same(a, b)
        });
        keep_equal(&before.plugins, &mut self.tables.plugins, |a, b| {
            a.updated_at == b.updated_at && same(a, b)
        });
        self.dirty = Dirty {
            services: true,
            routes: true,
            plugins: true,
        };
        self.directory = DirectoryIndex::default();
        self.credentials = Credentials::default();
        for c in self.tables.consumers.values() {
            self.directory.put_consumer(credentials::consumer(c));
        }
        let known = self.registries.plugins.iter().flat_map(|p| &p.entities);
        for def in known {
            let Some(rows) = self.tables.credentials.get(def.name) else {
                continue;
            };
            for row in rows.values() {
                self.credentials.put(&mut self.directory, def.name, row);
            }
        }
    }

    /// Applies changes.
    pub fn apply(&mut self, revision: i64, changes: Vec<Change>) {
        self.tables.revision = self.tables.revision.max(revision);
        for change in changes {
            match change.entity.as_str() {
                "services" => self.dirty.services = true,
                "routes" => self.dirty.routes = true,
                "plugins" => self.dirty.plugins = true,
                _ => {}
            }
            let (entity, id) = (change.entity.clone(), change.id);
            let before = self
                .tables
                .credentials
                .get(&entity)
                .and_then(|rows| rows.get(&id))
                .cloned();
            self.tables.apply(change);
            if entity == "consumers" {
                match self.tables.consumers.get(&id) {
                    Some(c) => {
                        let c = credentials::consumer(c);
                        self.directory.remove_consumer(id);
                        self.directory.put_consumer(c.clone());
                        self.credentials
                            .consumer_changed(&mut self.directory, &self.tables, id);
                    }
                    None => self.directory.remove_consumer(id),
                }
                continue;
            }
            let Some(def) = self
                .registries
                .plugins
                .iter()
                .flat_map(|p| &p.entities)
                .find(|d| d.name == entity)
            else {
                continue;
            };
            if let Some(before) = before {
                self.credentials
                    .remove(&mut self.directory, def.name, &before);
            }
            if let Some(row) = self
                .tables
                .credentials
                .get(&entity)
                .and_then(|rows| rows.get(&id))
            {
                self.credentials.put(&mut self.directory, def.name, row);
            }
        }
    }

    /// The rows it builds from.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Builds the snapshot of the rows as they are. What cannot be served is listed by [`Builder::problems`] and keeps its last
    /// good form.
    pub fn build(&mut self) -> Arc<Snapshot> {
        let dirty = std::mem::take(&mut self.dirty);
        if dirty.services || dirty.routes {
            self.services.update(&self.tables, &mut self.registries);
        }
        if dirty.plugins {
            self.chains.compile(&self.tables, &self.registries);
        }
        let last = self.last.clone();
        let (router, routes, global) = match &last {
            Some(l) if !(dirty.services || dirty.routes || dirty.plugins) => {
                (l.router.clone(), l.routes.clone(), l.global.clone())
            }
            _ => {
                let routes = self.routes(dirty.plugins);
                let global = self.chains.global();
                let unchanged = last.as_ref().filter(|_| !(dirty.services || dirty.routes));
                match unchanged {
                    Some(l) => (l.router.clone(), routes, global),
                    None => match self.router(&routes) {
                        Ok(router) => (router, routes, global),
                        // A router that cannot be built leaves the old routes in force.
                        Err(()) => match &last {
                            Some(l) => (l.router.clone(), l.routes.clone(), global),
                            None => self.without_bad_routes(&routes, global),
                        },
                    },
                }
            }
        };
        let snapshot = Arc::new(Snapshot {
            revision: self.tables.revision,
            router,
            routes,
            global,
            directory: self.directory.clone(),
        });
        self.last = Some(snapshot.clone());
        self.chains.sweep();
        self.registries.pools.sweep();
        snapshot
    }

    /// What cannot be served as it is configured.
    pub fn problems(&self) -> Vec<Problem> {
        self.router_problems
            .iter()
            .chain(self.chains.problems())
            .cloned()
            .collect()
    }

    /// All routes that are served over HTTP, by id.
    fn routes(&mut self, plugins_changed: bool) -> Arc<[Arc<RouteRuntime>]> {
        let known: HashMap<Uuid, &Arc<RouteRuntime>> = self
            .last
            .iter()
            .flat_map(|l| l.routes.iter())
            .map(|r| (r.route.id, r))
            .collect();
        let mut out = Vec::with_capacity(self.tables.routes.len());
        for route in self.tables.routes.values() {
            let service = match &route.service {
                None => None,
                Some(r) => match self.services.get(r.id) {
                    Some(s) if s.service.enabled => Some(s),
                    // A disabled service is as if its routes were not there. (One that is missing arrives with the next change.)
                    _ => continue,
                },
            };
            if !route.protocols.iter().any(|p| services::is_http(*p)) {
                continue;
            }
            if let Some(old) = known.get(&route.id)
                && !plugins_changed
                && Arc::ptr_eq(&old.route, route)
                && same_service(old.service.as_ref(), service)
            {
                out.push((*old).clone());
                continue;
            }
            let chain = self.chains.of(route.id, route.service.map(|s| s.id));
            out.push(Arc::new(self.services.route(
                route,
                service,
                chain,
                &self.registries,
            )));
        }
        out.sort_unstable_by_key(|r| r.route.id);
        out.into()
    }

    fn router(&mut self, routes: &[Arc<RouteRuntime>]) -> Result<Arc<Router>, ()> {
        match Router::build(&entries(routes), self.registries.flavor) {
            Ok(router) => {
                self.router_problems.clear();
                Ok(Arc::new(router))
            }
            Err(problems) => {
                self.router_problems = problems
                    .into_iter()
                    .map(|p| Problem {
                        entity: "routes",
                        id: p.route,
                        what: p.what,
                    })
                    .collect();
                Err(())
            }
        }
    }

    /// At the first build there is nothing to keep: all routes are served but those that cannot be.
    fn without_bad_routes(
        &self,
        routes: &[Arc<RouteRuntime>],
        global: Arc<Chain>,
    ) -> (Arc<Router>, Arc<[Arc<RouteRuntime>]>, Arc<Chain>) {
        let bad: Vec<Uuid> = self.router_problems.iter().map(|p| p.id).collect();
        let good: Arc<[_]> = routes
            .iter()
            .filter(|r| !bad.contains(&r.route.id))
            .cloned()
            .collect();
        match Router::build(&entries(&good), self.registries.flavor) {
            Ok(router) => (Arc::new(router), good, global),
            Err(_) => {
                let none = Router::build(&[], self.registries.flavor);
                let none = none
                    .unwrap_or_else(|_| unreachable!("a router without routes has no problems"));
                (Arc::new(none), Arc::from([]), global)
            }
        }
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

/// Whether two rows would be stored alike.
fn same<T: serde::Serialize>(a: &T, b: &T) -> bool {
    matches!((serde_json::to_vec(a), serde_json::to_vec(b)), (Ok(a), Ok(b)) if a == b)
}

fn keep_equal<T>(
    before: &HashMap<Uuid, Arc<T>>,
    after: &mut HashMap<Uuid, Arc<T>>,
    equal: impl Fn(&T, &T) -> bool,
) {
    for (id, row) in after {
        if let Some(old) = before.get(id)
            && equal(old, row)
        {
            *row = old.clone();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
