//! Upstreams, compiled; those whose rows and targets did not change are kept.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use silverback_balancer::{Balancer, Resolver};
use silverback_entities::{Tables, Target, Upstream};
use uuid::Uuid;

/// Compiled upstreams.
#[derive(Default)]
pub(super) struct Upstreams {
    made: HashMap<Uuid, Made>,
    by_name: HashMap<String, Uuid>,
    /// For snapshots.
    shared: Arc<HashMap<Uuid, Arc<Balancer>>>,
}

struct Made {
    row: Arc<Upstream>,
    /// In the order of their ids.
    targets: Vec<Arc<Target>>,
    balancer: Arc<Balancer>,
}

impl Upstreams {
    /// All of them.
    pub(super) fn all(&self) -> Arc<HashMap<Uuid, Arc<Balancer>>> {
        self.shared.clone()
    }

    /// The upstream of a name.
    pub(super) fn named(&self, name: &str) -> Option<(&Upstream, &Arc<Balancer>)> {
        let made = self.made.get(self.by_name.get(name)?)?;
        Some((&made.row, &made.balancer))
    }

    /// Brings all compiled upstreams in step with the rows.
    pub(super) fn update(&mut self, tables: &Tables, resolver: &Resolver) {
        let before = self.made.keys().copied();
        let ids = before.chain(tables.upstreams.keys().copied()).collect();
        self.refresh(&ids, tables, resolver);
    }

    /// Brings these in step with their rows. Answers the names that stand for something else now.
    pub(super) fn refresh(
        &mut self,
        ids: &HashSet<Uuid>,
        tables: &Tables,
        resolver: &Resolver,
    ) -> BTreeSet<String> {
        let mut of: HashMap<Uuid, Vec<Arc<Target>>> = HashMap::new();
        for target in tables.targets.values() {
            if ids.contains(&target.upstream.id) {
                of.entry(target.upstream.id)
                    .or_default()
                    .push(target.clone());
            }
        }
        let mut names = BTreeSet::new();
        for id in ids {
            let Some(row) = tables.upstreams.get(id) else {
                if let Some(gone) = self.made.remove(id) {
                    self.unname(&gone.row.name, *id);
                    names.insert(gone.row.name.clone());
                }
                continue;
            };
            let mut targets = of.remove(id).unwrap_or_default();
            targets.sort_by_key(|t| t.id);
            let before = self.made.get(id);
            let same = |m: &Made| {
                Arc::ptr_eq(&m.row, row)
                    && m.targets.len() == targets.len()
                    && m.targets
                        .iter()
                        .zip(&targets)
                        .all(|(a, b)| Arc::ptr_eq(a, b))
            };
            if before.is_some_and(same) {
                continue;
            }
            let rows = targets.iter().map(|t| &**t);
            let balancer = Balancer::new(row, rows, resolver.clone(), before.map(|m| &*m.balancer));
            let made = Made {
                row: row.clone(),
                targets,
                balancer,
            };
            if let Some(before) = self.made.insert(*id, made) {
                self.unname(&before.row.name, *id);
                names.insert(before.row.name.clone());
            }
            self.by_name.insert(row.name.clone(), *id);
            names.insert(row.name.clone());
        }
        if !names.is_empty() {
            let all = self.made.iter().map(|(id, m)| (*id, m.balancer.clone()));
            self.shared = Arc::new(all.collect());
        }
        names
    }

    /// Another may have taken the name meanwhile.
    fn unname(&mut self, name: &str, id: Uuid) {
        if self.by_name.get(name) == Some(&id) {
            self.by_name.remove(name);
        }
    }
}
