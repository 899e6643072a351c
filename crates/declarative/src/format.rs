//! [`Format`]: which entities a file may have, and what becomes of it.

use std::collections::HashMap;

use serde_json::{Map, Value};
use silverback_entities::{VAULT_KINDS, core, unknown_vault};
use silverback_plugin::PluginDef;
use silverback_schema::plugin_def::{Scopes, plugin_entity, unknown_plugin};
use silverback_schema::{EntityDef, Violations};

use crate::checked::{self, Accept};
use crate::errors::Invalid;
use crate::ids::Ids;
use crate::text::{self, Source};
use crate::walk::{self, Walked};
use crate::{Row, migrate, uniqueness};

/// What a declarative configuration of this gateway looks like.
#[derive(Debug)]
pub struct Format {
    /// Each after those it refers to.
    pub(crate) known: Vec<Known>,
    by_name: HashMap<&'static str, usize>,
    plugins: HashMap<&'static str, EntityDef>,
}

/// An entity.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) def: EntityDef,
    /// The same for rows whose values were transformed before, when there is anything to transform.
    transformed: Option<EntityDef>,
    pub(crate) ids: Ids,
    /// Entities that may be written below a row of this one: which, and their field that points here.
    pub(crate) children: Vec<(usize, &'static str)>,
}

/// What a file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// After migrations: `3.0`.
    pub format_version: String,
    /// Whether secrets are in plain text and are to be hashed where rows are stored.
    pub transform: bool,
}

/// A configuration that is right.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// What the file says about itself.
    pub meta: Meta,
    /// Entities that have rows, each after those it refers to.
    pub entities: Vec<(&'static str, Vec<Row>)>,
}

impl Declared {
    /// The body with which Kong answers: entities, and in each rows by their ids.
    pub fn to_json(&self) -> Value {
        let by_id = |rows: &Vec<Row>| {
            let id = |row: &Row| Some((row.get("id")?.as_str()?.to_owned(), row.clone().into()));
            Value::Object(rows.iter().filter_map(id).collect())
        };
        let entities = self.entities.iter();
        Value::Object(
            entities
                .map(|(name, rows)| ((*name).to_owned(), by_id(rows)))
                .collect(),
        )
    }
}

impl Format {
    /// With these entities (the core ones and those of the plugins) and plugins.
    pub fn new(entities: Vec<EntityDef>, plugins: &[PluginDef]) -> Self {
        let known: Vec<Known> = in_order(entities)
            .into_iter()
            .map(|def| Known {
                ids: Ids::of(&def),
                children: Vec::new(),
                transformed: (!def.transformations.is_empty()).then(|| EntityDef {
                    transformations: Vec::new(),
                    ..def.clone()
                }),
                def,
            })
            .collect();
        let by_name: HashMap<_, _> = known
            .iter()
            .enumerate()
            .map(|(i, k)| (k.def.name, i))
            .collect();
        let base = by_name.get("plugins").map(|i| known[*i].def.clone());
        let of = |plugin: &PluginDef| {
            let scopes = Scopes {
                consumer: plugin.scopes.consumer,
                service: plugin.scopes.service,
                route: plugin.scopes.route,
            };
            let (config, checks) = (plugin.config.clone(), plugin.checks.clone());
            let def = plugin_entity(
                base.as_ref()?,
                plugin.name,
                config,
                checks,
                plugin.protocols(),
                scopes,
            );
            Some((plugin.name, def))
        };
        let mut format = Format {
            plugins: plugins.iter().filter_map(of).collect(),
            known,
            by_name,
        };
        format.nest();
        format
    }

    /// The entities of a file, each after those it refers to.
    pub fn entities(&self) -> impl Iterator<Item = &EntityDef> {
        self.known.iter().map(|k| &k.def)
    }

    /// The entities of an export, in the same order.
    pub fn exported(&self) -> impl Iterator<Item = &EntityDef> {
        self.entities().filter(|d| d.exported)
    }

    /// The tree that a text stands for; [`Format::check`] makes rows of it.
    ///
    /// # Errors
    /// When it is neither JSON nor YAML, or no object.
    pub fn read(&self, contents: &[u8], source: Source<'_>) -> Result<Map<String, Value>, Invalid> {
        text::parse(contents, source)
    }

    /// The rows that a tree stands for. `accept` is asked about each complete row: what only the rest of the gateway can tell. `now` is in
    /// seconds since 1970.
    ///
    /// # Errors
    /// With everything that is wrong. References and uniqueness are looked at when each entity by itself is right, as in Kong.
    pub fn check(
        &self,
        tree: &mut Map<String, Value>,
        now: i64,
        accept: Accept<'_>,
    ) -> Result<Declared, Invalid> {
        migrate::migrate(tree);
        let Walked {
            meta,
            items,
            problems,
        } = walk::walk(self, tree);
        let checked = checked::check(self, meta.transform, items, problems, (now, accept))?;
        let entities = uniqueness::check(self, checked)?;
        Ok(Declared { meta, entities })
    }

    /// As [`Format::read`] and [`Format::check`].
    ///
    /// # Errors
    /// As those.
    pub fn parse(
        &self,
        contents: &[u8],
        source: Source<'_>,
        now: i64,
        accept: Accept<'_>,
    ) -> Result<Declared, Invalid> {
        self.check(&mut self.read(contents, source)?, now, accept)
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The definition that a row is checked with: of the plugin or kind of vault that it names. `transform`: whether secrets in it are in
    /// plain text.
    pub(crate) fn def_of<'a>(
        &'a self,
        known: &'a Known,
        transform: bool,
        fields: &Map<String, Value>,
    ) -> Result<&'a EntityDef, Violations> {
        let name = fields.get("name");
        let text = name.and_then(Value::as_str);
        match known.def.name {
            "plugins" => text
                .and_then(|n| self.plugins.get(n))
                .ok_or_else(|| unknown_plugin(name)),
            "vaults" => VAULT_KINDS
                .iter()
                .find(|(kind, _)| Some(*kind) == text)
                .map(|(_, def)| def)
                .ok_or_else(|| unknown_vault(name)),
            _ => Ok(known
                .transformed
                .as_ref()
                .filter(|_| !transform)
                .unwrap_or(&known.def)),
        }
    }

    /// Whoever has a foreign field may be written below what it points at, unless that has a field of the same name of its own.
    fn nest(&mut self) {
        for child in 0..self.known.len() {
            let name = self.known[child].def.name;
            let foreign: Vec<_> = self.known[child].def.foreign_keys().collect();
            for (field, to, _) in foreign {
                let Some(parent) = self.find(to) else {
                    continue;
                };
                let parent = &mut self.known[parent];
                if parent.def.field(name).is_none_or(|f| f.transient) {
                    parent.children.push((child, field));
                }
            }
        }
    }
}

/// Each after those it refers to; else core entities first, and by name (`kong/db/schema/topological_sort.lua`).
fn in_order(mut entities: Vec<EntityDef>) -> Vec<EntityDef> {
    entities.sort_by_key(|d| (core(d.name).is_none(), d.name));
    let mut out: Vec<EntityDef> = Vec::with_capacity(entities.len());
    while !entities.is_empty() {
        let missing = |d: &EntityDef| {
            let waits_for = |to: &str| to != d.name && entities.iter().any(|e| e.name == to);
            d.foreign_keys().any(|(_, to, _)| waits_for(to))
        };
        // In a circle whoever is first comes first.
        let next = entities.iter().position(|d| !missing(d)).unwrap_or(0);
        out.push(entities.remove(next));
    }
    out
}
