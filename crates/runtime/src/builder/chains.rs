//! Plugin rows, compiled, and the chains made of them. A plugin whose row did not change keeps its instance, and routes with
//! the same plugins share a chain.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use serde_json::{Map, Value};
use silverback_entities::{PluginRow, Tables};
use silverback_plugin::{InstanceInfo, PluginDef, PluginEnv};
use uuid::Uuid;

use super::Problem;
use crate::chain::{ByConsumer, Chain, Instance, Step};
use crate::refusing;
use crate::registry::Registries;
use crate::vault::Vaults;

/// Compiled plugins and chains.
#[derive(Default)]
pub(super) struct Chains {
    instances: HashMap<Uuid, Made>,
    /// What refuses requests in the place of plugins that there are not.
    refusing: HashMap<Uuid, Arc<Instance>>,
    /// In order of descending priority; only plugins that are configured somewhere.
    plugins: Vec<Scoped>,
    memo: HashMap<Vec<[usize; 4]>, Weak<Chain>>,
    problems: Vec<Problem>,
    /// Whether a configuration wants the health of targets shown.
    upstream_health: bool,
}

/// What was made of a row.
struct Made {
    row: Arc<PluginRow>,
    /// The configuration with its references resolved, where it has any.
    resolved: Option<Map<String, Value>>,
    instance: Arc<Instance>,
}

/// Configurations with the consumers they are for.
type OfConsumers = Vec<(Uuid, Arc<Instance>)>;

/// The configurations of one plugin by what they are for.
#[derive(Default)]
struct Scoped {
    global: Option<Arc<Instance>>,
    route: HashMap<Uuid, Arc<Instance>>,
    service: HashMap<Uuid, Arc<Instance>>,
    route_and_service: HashMap<(Uuid, Uuid), Arc<Instance>>,
    consumer: Option<Arc<ByConsumer>>,
    /// Strongest last: service + consumer, route + consumer, route + service + consumer.
    service_consumer: HashMap<Uuid, OfConsumers>,
    route_consumer: HashMap<Uuid, OfConsumers>,
    all: HashMap<(Uuid, Uuid), OfConsumers>,
    /// Made for routes that have consumers of their own, so that equal routes share them.
    specific: HashMap<(Uuid, Option<Uuid>), Arc<ByConsumer>>,
}

impl Chains {
    /// Compiles the rows of `plugins`.
    pub(super) fn compile(&mut self, tables: &Tables, registries: &Registries) {
        self.problems.clear();
        self.upstream_health = false;
        self.instances
            .retain(|id, _| tables.plugins.contains_key(id));
        self.refusing
            .retain(|id, _| tables.plugins.contains_key(id));
        let mut by_name: HashMap<&str, Vec<&Arc<PluginRow>>> = HashMap::new();
        for row in tables.plugins.values().filter(|r| r.enabled) {
            by_name.entry(row.name.as_str()).or_default().push(row);
        }
        self.plugins.clear();
        let vaults = Vaults::new(&registries.environment, tables);
        for def in &registries.plugins {
            let Some(mut rows) = by_name.remove(def.name) else {
                continue;
            };
            rows.sort_unstable_by_key(|r| r.id);
            let mut scoped = Scoped::default();
            let mut of_consumers = ByConsumer::default();
            for row in rows {
                let i = self.instance(def, row, &vaults, registries);
                let terms = i.handler.metric_terms();
                self.upstream_health |= terms.is_some_and(|t| t.upstream_health);
                scoped.take(i, &mut of_consumers);
            }
            scoped.consumer = (!of_consumers.is_empty()).then(|| Arc::new(of_consumers));
            self.plugins.push(scoped);
        }
        // The place of a plugin that is not known is not known either. The last is the one where the consumer, whom it may be
        // for, has been found.
        for (name, rows) in by_name {
            let mut scoped = Scoped::default();
            let mut of_consumers = ByConsumer::default();
            for row in rows {
                let what = format!("the plugin '{name}' is not known to this node");
                self.problems.push(Problem {
                    entity: "plugins",
                    id: row.id,
                    what,
                });
                scoped.take(self.refuse("unknown", scope(row)), &mut of_consumers);
            }
            scoped.consumer = (!of_consumers.is_empty()).then(|| Arc::new(of_consumers));
            self.plugins.push(scoped);
        }
    }

    /// The plugin of a row: the one made before when the row has not changed, else a new one. One that cannot be made leaves
    /// the previous one in force; without one, requests are refused.
    fn instance(
        &mut self,
        def: &PluginDef,
        row: &Arc<PluginRow>,
        vaults: &Vaults<'_>,
        registries: &Registries,
    ) -> Arc<Instance> {
        let info = scope(row);
        let problems = &mut self.problems;
        let mut report = |what: String| {
            let (entity, id) = ("plugins", row.id);
            problems.push(Problem { entity, id, what });
        };
        let resolved = vaults
            .resolved(&def.config, &row.config)
            .map(|(config, missing)| {
                let missing = missing.into_iter();
                missing.for_each(|what| report(format!("{}: {what}", def.name)));
                config
            });
        let known = self
            .instances
            .get(&row.id)
            .filter(|m| m.instance.name == def.name);
        if let Some(made) = known.filter(|m| m.instance.info == info)
            && (Arc::ptr_eq(&made.row, row) || made.row.config == row.config)
            && made.resolved == resolved
        {
            return made.instance.clone();
        }
        let env = PluginEnv {
            instance: &info,
            services: registries.services.as_ref(),
        };
        match (def.compile)(resolved.as_ref().unwrap_or(&row.config), &env) {
            Ok(handler) => {
                let instance = Arc::new(Instance {
                    name: def.name,
                    phases: def.phases,
                    info,
                    handler,
                });
                let made = Made {
                    row: row.clone(),
                    resolved,
                    instance: instance.clone(),
                };
                self.instances.insert(row.id, made);
                self.refusing.remove(&row.id);
                instance
            }
            Err(e) => {
                report(format!("{}: config.{e}", def.name));
                match known {
                    // Elsewhere than it was it guards nothing.
                    Some(made) if made.instance.info == info => made.instance.clone(),
                    _ => self.refuse(def.name, info),
                }
            }
        }
    }

    /// The same instance as long as it is for the same, so that chains stay the same.
    fn refuse(&mut self, name: &'static str, info: InstanceInfo) -> Arc<Instance> {
        let made = self.refusing.get(&info.id).filter(|i| i.info == info);
        if let Some(made) = made {
            return made.clone();
        }
        let (id, made) = (info.id, refusing::instance(name, info));
        self.refusing.insert(id, made.clone());
        made
    }

    /// The chain of a route.
    pub(super) fn of(&mut self, route: Uuid, service: Option<Uuid>) -> Arc<Chain> {
        let steps: Vec<Step> = self
            .plugins
            .iter_mut()
            .filter_map(|p| p.step(route, service))
            .collect();
        self.share(steps)
    }

    /// The chain of requests without a route.
    pub(super) fn global(&mut self) -> Arc<Chain> {
        let steps = self.plugins.iter().filter(|p| p.global.is_some());
        let steps = steps
            .map(|p| Step {
                base: p.global.clone(),
                ..Step::default()
            })
            .collect();
        self.share(steps)
    }

    /// Whether a configuration wants the health of targets shown.
    pub(super) fn upstream_health(&self) -> bool {
        self.upstream_health
    }

    /// Forgets chains that nobody uses.
    pub(super) fn sweep(&mut self) {
        self.memo.retain(|_, c| c.strong_count() > 0);
    }

    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn share(&mut self, steps: Vec<Step>) -> Arc<Chain> {
        // The addresses of what the chain itself keeps alive: as long as the chain lives no other thing can have them.
        let key: Vec<[usize; 4]> = steps
            .iter()
            .map(|s| {
                [
                    s.specific.as_ref().map_or(0, |a| Arc::as_ptr(a).addr()),
                    s.route_and_service
                        .as_ref()
                        .map_or(0, |a| Arc::as_ptr(a).addr()),
                    s.consumer.as_ref().map_or(0, |a| Arc::as_ptr(a).addr()),
                    s.base.as_ref().map_or(0, |a| Arc::as_ptr(a).addr()),
                ]
            })
            .collect();
        if let Some(chain) = self.memo.get(&key).and_then(Weak::upgrade) {
            return chain;
        }
        let chain = Arc::new(Chain::new(steps));
        self.memo.insert(key, Arc::downgrade(&chain));
        chain
    }
}

fn scope(row: &PluginRow) -> InstanceInfo {
    InstanceInfo {
        id: row.id,
        route: row.route.map(|r| r.id),
        service: row.service.map(|r| r.id),
        consumer: row.consumer.map(|r| r.id),
    }
}

impl Scoped {
    /// Files an instance under what it is for. Of two for the same the later wins; the database does not allow two.
    fn take(&mut self, i: Arc<Instance>, of_consumers: &mut ByConsumer) {
        let InstanceInfo {
            route,
            service,
            consumer,
            ..
        } = i.info;
        match (route, service, consumer) {
            (None, None, None) => self.global = Some(i),
            (Some(r), None, None) => drop(self.route.insert(r, i)),
            (None, Some(s), None) => drop(self.service.insert(s, i)),
            (Some(r), Some(s), None) => drop(self.route_and_service.insert((r, s), i)),
            (None, None, Some(c)) => drop(of_consumers.insert(c, i)),
            (None, Some(s), Some(c)) => self.service_consumer.entry(s).or_default().push((c, i)),
            (Some(r), None, Some(c)) => self.route_consumer.entry(r).or_default().push((c, i)),
            (Some(r), Some(s), Some(c)) => self.all.entry((r, s)).or_default().push((c, i)),
        }
    }

    /// What applies to a route; `None` when nothing may.
    fn step(&mut self, route: Uuid, service: Option<Uuid>) -> Option<Step> {
        let specific = self.specific(route, service);
        let of_service = service.and_then(|s| self.service.get(&s));
        let step = Step {
            specific,
            route_and_service: service
                .and_then(|s| self.route_and_service.get(&(route, s)))
                .cloned(),
            consumer: self.consumer.clone(),
            base: self
                .route
                .get(&route)
                .or(of_service)
                .or(self.global.as_ref())
                .cloned(),
        };
        let any = step.specific.is_some()
            || step.route_and_service.is_some()
            || step.consumer.is_some()
            || step.base.is_some();
        any.then_some(step)
    }

    fn specific(&mut self, route: Uuid, service: Option<Uuid>) -> Option<Arc<ByConsumer>> {
        let of_service = service.and_then(|s| self.service_consumer.get(&s));
        let of_route = self.route_consumer.get(&route);
        let of_both = service.and_then(|s| self.all.get(&(route, s)));
        if of_service.is_none() && of_route.is_none() && of_both.is_none() {
            return None;
        }
        let key = (route, service);
        if let Some(made) = self.specific.get(&key) {
            return Some(made.clone());
        }
        let mut map = ByConsumer::default();
        for (consumer, i) in of_service
            .into_iter()
            .chain(of_route)
            .chain(of_both)
            .flatten()
        {
            map.insert(*consumer, i.clone());
        }
        let made = Arc::new(map);
        self.specific.insert(key, made.clone());
        Some(made)
    }
}
