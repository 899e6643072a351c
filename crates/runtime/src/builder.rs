//! From tables to a [`Snapshot`]. Only what a change touches is built again: a credential touches one shard of one index,
//! a plugin leaves the router alone, a route leaves the consumers alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use silverback_entities::{Change, Row, Tables};
use uuid::Uuid;

use crate::directory::DirectoryIndex;
use crate::registry::Registries;
use crate::snapshot::Snapshot;

mod certificates;
mod chains;
mod credentials;
mod issued;
mod routes;
mod services;
mod upstreams;

use chains::Chains;
use credentials::Credentials;
use issued::IssuedRows;
use routes::{Parts, RouteTable};
use services::ServiceCache;
use upstreams::Upstreams;

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
    upstreams: Upstreams,
    services: ServiceCache,
    chains: Chains,
    credentials: Credentials,
    issued: IssuedRows,
    directory: DirectoryIndex,
    dirty: Dirty,
    routes: RouteTable,
}

/// Which parts a change has touched since the last build.
#[derive(Debug, Clone, Default)]
struct Dirty {
    everything: bool,
    services: HashSet<Uuid>,
    upstreams: HashSet<Uuid>,
    certificates: bool,
    plugins: bool,
}

impl Dirty {
    fn everything() -> Self {
        Dirty {
            everything: true,
            ..Dirty::default()
        }
    }
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
            upstreams: Upstreams::default(),
            services: ServiceCache::default(),
            chains: Chains::default(),
            credentials: Credentials::default(),
            issued: IssuedRows::default(),
            directory: DirectoryIndex::default(),
            dirty: Dirty::everything(),
            routes: RouteTable::default(),
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
        keep_equal(&before.upstreams, &mut self.tables.upstreams, |a, b| {
            a.updated_at == b.updated_at && same(a, b)
        });
        keep_equal(&before.targets, &mut self.tables.targets, same);
        keep_equal(&before.plugins, &mut self.tables.plugins, |a, b| {
            a.updated_at == b.updated_at && same(a, b)
        });
        self.dirty = Dirty::everything();
        self.directory = DirectoryIndex::default();
        self.credentials = Credentials::default();
        self.issued = IssuedRows::default();
        for c in self.tables.consumers.values() {
            self.directory
                .put_consumer(credentials::consumer(c), c.clone());
        }
        let plugins = &self.registries.plugins;
        let known = || plugins.iter().flat_map(|p| &p.entities);
        for def in known() {
            let rows = self.tables.credentials.get(def.name).into_iter().flatten();
            for (_, row) in rows {
                self.credentials.put(&mut self.directory, def, row);
            }
        }
        for def in known() {
            let rows = self.tables.issued.get(def.name).into_iter().flatten();
            for (_, row) in rows {
                self.issued
                    .put(&mut self.directory, plugins, &self.tables, def, row);
            }
        }
    }

    /// Applies changes.
    pub fn apply(&mut self, revision: i64, changes: Vec<Change>) {
        self.tables.revision = self.tables.revision.max(revision);
        for change in changes {
            match change.entity.as_str() {
                "services" => _ = self.dirty.services.insert(change.id),
                "routes" => self.routes.touch([change.id]),
                "plugins" => self.dirty.plugins = true,
                "upstreams" => _ = self.dirty.upstreams.insert(change.id),
                "targets" => {
                    let before = self.tables.targets.get(&change.id).map(|t| t.upstream.id);
                    let after = match &change.row {
                        Some(Row::Target(t)) => Some(t.upstream.id),
                        _ => None,
                    };
                    self.dirty.upstreams.extend(before.into_iter().chain(after));
                }
                "certificates" => self.dirty.certificates = true,
                // Certificates and plugins' configurations may refer to it.
                "vaults" => {
                    self.dirty.certificates = true;
                    self.dirty.plugins = true;
                }
                _ => {}
            }
            self.apply_to_directory(change);
        }
    }

    fn apply_to_directory(&mut self, change: Change) {
        fn row<T>(
            of: &BTreeMap<String, HashMap<Uuid, Arc<T>>>,
            at: &(String, Uuid),
        ) -> Option<Arc<T>> {
            of.get(&at.0)?.get(&at.1).cloned()
        }
        let at = (change.entity.clone(), change.id);
        let credential = row(&self.tables.credentials, &at);
        let issued = row(&self.tables.issued, &at);
        self.tables.apply(change);
        let Builder {
            registries: Registries { plugins, .. },
            tables,
            directory,
            ..
        } = self;
        let (entity, id) = (at.0.as_str(), at.1);
        if entity == "consumers" {
            let Some(c) = tables.consumers.get(&id) else {
                return directory.remove_consumer(id);
            };
            directory.remove_consumer(id);
            directory.put_consumer(credentials::consumer(c), c.clone());
            for credential in self.credentials.consumer_changed(directory, tables, id) {
                self.issued
                    .credential_changed(directory, plugins, tables, credential);
            }
            return;
        }
        let mut known = plugins.iter().flat_map(|p| &p.entities);
        let Some(def) = known.find(|d| d.name == entity) else {
            return;
        };
        if let Some(before) = credential {
            self.credentials.remove(directory, def, &before);
        }
        if let Some(before) = issued {
            self.issued.remove(directory, plugins, def, &before);
        }
        if let Some(row) = row(&tables.credentials, &at) {
            self.credentials.put(directory, def, &row);
        }
        if let Some(row) = row(&tables.issued, &at) {
            self.issued.put(directory, plugins, tables, def, &row);
        }
        self.issued
            .credential_changed(directory, plugins, tables, id);
    }

    /// The rows it builds from.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Builds the snapshot of the rows as they are. What cannot be served is listed by [`Builder::problems`] and keeps its last
    /// good form.
    ///
    /// After a few changes the router of the last whole build is amended, which costs a request a second look;
    /// [`Builder::settle`] builds it anew.
    pub fn build(&mut self) -> Arc<Snapshot> {
        let mut dirty = std::mem::take(&mut self.dirty);
        let resolver = self.registries.pools.resolver();
        if dirty.everything {
            self.upstreams.update(&self.tables, resolver);
        } else if !dirty.upstreams.is_empty() {
            let changed = self
                .upstreams
                .refresh(&dirty.upstreams, &self.tables, resolver);
            let services = self.tables.services.values();
            let sent = services.filter(|s| changed.contains(&s.host));
            dirty.services.extend(sent.map(|s| s.id));
        }
        if dirty.certificates {
            let of_upstream = |host| {
                self.upstreams
                    .named(host)
                    .and_then(|u| u.0.client_certificate)
            };
            let services = self.tables.services.values();
            let showing = services.filter(|s| {
                s.client_certificate
                    .or_else(|| of_upstream(&s.host))
                    .is_some()
            });
            dirty.services.extend(showing.map(|s| s.id));
        }
        if dirty.everything {
            self.services
                .update(&self.tables, &self.upstreams, &mut self.registries);
        }
        for id in &dirty.services {
            self.services
                .refresh(*id, &self.tables, &self.upstreams, &mut self.registries);
        }
        if !dirty.everything && !dirty.services.is_empty() {
            let of_service = |r: &silverback_entities::Route| {
                r.service.is_some_and(|s| dirty.services.contains(&s.id))
            };
            let routes = self.tables.routes.values().filter(|r| of_service(r));
            self.routes.touch(routes.map(|r| r.id));
        }
        let plugins = dirty.everything || dirty.plugins;
        if plugins {
            self.chains.compile(&self.tables, &self.registries);
        }
        self.finish(plugins, plugins)
    }

    /// Builds everything that was only amended so far, if there is such a thing, for the next lull.
    pub fn settle(&mut self) -> Option<Arc<Snapshot>> {
        self.routes.amended().then(|| self.finish(true, false))
    }

    fn finish(&mut self, whole: bool, plugins_changed: bool) -> Arc<Snapshot> {
        let parts = Parts {
            tables: &self.tables,
            services: &self.services,
            chains: &mut self.chains,
            registries: &self.registries,
        };
        let (router, routes) = if whole {
            self.routes.rebuild(parts, plugins_changed)
        } else {
            self.routes.update(parts)
        };
        let snapshot = Arc::new(Snapshot {
            revision: self.tables.revision,
            router,
            routes,
            global: self.chains.global(),
            directory: self.directory.clone(),
            upstreams: self.upstreams.all(),
            upstream_health: self.chains.upstream_health(),
        });
        self.chains.sweep();
        self.registries.pools.sweep();
        snapshot
    }

    /// What cannot be served as it is configured.
    pub fn problems(&self) -> Vec<Problem> {
        self.routes
            .problems()
            .chain(self.services.problems())
            .chain(self.chains.problems())
            .cloned()
            .collect()
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
