//! The entities the API serves: their definitions, and for plugins the definition of each plugin's rows; made once, shared by all requests.

use std::collections::HashMap;

use serde_json::{Map, Value};
use silverback_entities::{VAULT_KINDS, unknown_vault};
use silverback_plugin::PluginDef;
use silverback_schema::plugin_def::{Scopes, plugin_entity, unknown_plugin};
use silverback_schema::{EntityDef, Op, Violations, complete};
use uuid::Uuid;

use crate::errors::ApiError;

/// The entity whose rows differ by the plugin they configure.
pub(crate) const PLUGINS: &str = "plugins";

/// The entity whose rows differ by the kind of vault.
pub(crate) const VAULTS: &str = "vaults";

/// What the gateway says about rows that their definition cannot say, such as whether its router can be built with them.
pub type RowCheck = Box<dyn Fn(&Map<String, Value>) -> Result<(), Violations> + Send + Sync>;

/// An entity.
pub(crate) struct Entity {
    pub(crate) def: EntityDef,
    /// The fields by which a row can be named, each as a definition of its own, to check values that come in paths and references.
    unique: Vec<(&'static str, EntityDef)>,
    /// References: the field and the entity it points at, for entities we have.
    pub(crate) foreign: Vec<(&'static str, &'static str)>,
    /// Additional checks of complete rows.
    pub(crate) checks: Vec<RowCheck>,
}

/// A plugin and the definition of its rows.
pub(crate) struct PluginEntity {
    pub(crate) plugin: PluginDef,
    pub(crate) def: EntityDef,
}

/// All entities.
pub(crate) struct Model {
    entities: Vec<Entity>,
    by_name: HashMap<&'static str, usize>,
    plugins: HashMap<&'static str, PluginEntity>,
}

impl Model {
    /// Of these definitions and plugins; the plugins' own entities are among `defs` already.
    pub(crate) fn new(defs: Vec<EntityDef>, plugins: Vec<PluginDef>) -> Self {
        let names: Vec<&'static str> = defs.iter().map(|d| d.name).collect();
        let entities: Vec<Entity> = defs
            .into_iter()
            .map(|def| Entity::new(def, &names))
            .collect();
        let by_name = entities
            .iter()
            .enumerate()
            .map(|(i, e)| (e.def.name, i))
            .collect();
        let mut model = Model {
            entities,
            by_name,
            plugins: HashMap::new(),
        };
        if let Some(base) = model.get(PLUGINS) {
            let of = |plugin: PluginDef| {
                let p = &plugin.scopes;
                let scopes = Scopes {
                    consumer: p.consumer,
                    service: p.service,
                    route: p.route,
                };
                let (config, checks) = (plugin.config.clone(), plugin.checks.clone());
                let def = plugin_entity(
                    &base.def,
                    plugin.name,
                    config,
                    checks,
                    plugin.protocols(),
                    scopes,
                );
                (plugin.name, PluginEntity { plugin, def })
            };
            model.plugins = plugins.into_iter().map(of).collect();
        }
        model
    }

    /// The entity of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Entity> {
        self.by_name.get(name).map(|i| &self.entities[*i])
    }

    /// The entity of a name that the route table took from this very model.
    pub(crate) fn of(&self, name: &'static str) -> Result<&Entity, ApiError> {
        self.get(name).ok_or_else(ApiError::not_found)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entity> {
        self.entities.iter()
    }

    /// Adds a check.
    pub(crate) fn add_check(&mut self, entity: &str, check: RowCheck) {
        if let Some(i) = self.by_name.get(entity) {
            self.entities[*i].checks.push(check);
        }
    }

    /// The plugin of that name.
    pub(crate) fn plugin(&self, name: &str) -> Option<&PluginEntity> {
        self.plugins.get(name)
    }

    /// All plugins.
    pub(crate) fn plugins(&self) -> impl Iterator<Item = &PluginEntity> {
        self.plugins.values()
    }

    /// The definition that a client's row is checked with: of the plugin or kind of vault that it names, or else that `stored` is of.
    pub(crate) fn def_of<'a>(
        &'a self,
        entity: &'a Entity,
        input: &Map<String, Value>,
        stored: Option<&Map<String, Value>>,
    ) -> Result<&'a EntityDef, Violations> {
        if !entity.has_kinds() {
            return Ok(&entity.def);
        }
        let name = input
            .get("name")
            .or_else(|| stored.and_then(|row| row.get("name")));
        let text = name.and_then(Value::as_str);
        if entity.def.name == VAULTS {
            return text.and_then(vault).ok_or_else(|| unknown_vault(name));
        }
        let known = text.and_then(|n| self.plugin(n));
        known.map(|p| &p.def).ok_or_else(|| unknown_plugin(name))
    }

    /// The definition that a stored row is shown with: a plugin that is no longer there still has its row.
    pub(crate) fn def_to_show<'a>(
        &'a self,
        entity: &'a Entity,
        row: &Map<String, Value>,
    ) -> &'a EntityDef {
        self.def_of(entity, row, None).unwrap_or(&entity.def)
    }
}

impl Entity {
    fn new(def: EntityDef, known: &[&'static str]) -> Self {
        let mut names: Vec<&'static str> = def.unique_fields().collect();
        names.extend(
            def.endpoint_key
                .filter(|k| *k != "id" && !names.contains(k)),
        );
        let alone = |name: &'static str| {
            let field = def.field(name)?.clone();
            Some((name, EntityDef::new(def.name, vec![(name, field)])))
        };
        let unique = names.into_iter().filter_map(alone).collect();
        let foreign = def
            .foreign_keys()
            .map(|(f, to, _)| (f, to))
            .filter(|(_, to)| known.contains(to))
            .collect();
        Entity {
            def,
            unique,
            foreign,
            checks: Vec::new(),
        }
    }

    /// Whether what a row may look like depends on the `name` in it.
    pub(crate) fn has_kinds(&self) -> bool {
        matches!(self.def.name, PLUGINS | VAULTS)
    }

    /// The fields by which a row can be named.
    pub(crate) fn unique_fields(&self) -> impl Iterator<Item = &'static str> {
        self.unique.iter().map(|(n, _)| *n)
    }

    /// What is wrong with a value of a unique field.
    pub(crate) fn check_unique(&self, field: &str, value: &Value) -> Result<(), String> {
        let Some((_, def)) = self.unique.iter().find(|(n, _)| *n == field) else {
            return Ok(());
        };
        let row = Map::from_iter([(field.to_owned(), value.clone())]);
        match complete(def, row, Op::Insert, 0) {
            Ok(_) => Ok(()),
            Err(wrong) => Err(wrong
                .0
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or("invalid value")
                .to_owned()),
        }
    }
}

/// The definition of rows of a kind of vault.
pub(crate) fn vault(kind: &str) -> Option<&'static EntityDef> {
    let found = VAULT_KINDS.iter().find(|(name, _)| *name == kind);
    found.map(|(_, def)| def)
}

/// A UUID in its usual form and no other, as Kong takes them.
pub(crate) fn uuid(text: &str) -> Option<Uuid> {
    (text.len() == 36)
        .then(|| Uuid::try_parse(text).ok())
        .flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use silverback_entities::CORE;

    use super::*;

    #[test]
    fn unique_values_are_checked_alone() {
        let model = Model::new(CORE.clone(), Vec::new());
        let services = model.get("services").unwrap();
        assert_eq!(services.check_unique("name", &json!("a")), Ok(()));
        assert_eq!(
            services.check_unique("name", &json!("../routes")),
            Err("invalid value '../routes': the only accepted ascii characters are alphanumerics or ., -, _, and ~".into())
        );
        assert_eq!(
            services.check_unique("name", &json!(1)),
            Err("expected a string".into())
        );
        assert_eq!(
            model
                .get("consumers")
                .unwrap()
                .unique_fields()
                .collect::<Vec<_>>(),
            ["username", "custom_id"]
        );
    }

    #[test]
    fn references_to_entities_we_do_not_have_are_left_out() {
        let model = Model::new(CORE.clone(), Vec::new());
        assert_eq!(
            model.get("routes").unwrap().foreign,
            [("service", "services")]
        );
        let mut alone = CORE.clone();
        alone.retain(|d| d.name == "services");
        let model = Model::new(alone, Vec::new());
        assert!(model.get("services").unwrap().foreign.is_empty());
    }

    #[test]
    fn rows_of_unknown_plugins_are_refused_and_still_shown() {
        let model = Model::new(CORE.clone(), Vec::new());
        let plugins = model.get(PLUGINS).unwrap();
        let row = json!({ "name": "gone" }).as_object().unwrap().clone();
        let refused = model.def_of(plugins, &row, None).unwrap_err();
        assert!(refused.message().contains("plugin 'gone' not enabled"));
        assert_eq!(model.def_to_show(plugins, &row).name, PLUGINS);
    }

    #[test]
    fn only_the_usual_form_is_a_uuid() {
        assert!(uuid("00000001-0000-4000-8000-00000000000A").is_some());
        for bad in [
            "",
            "x",
            "00000001000040008000000000000001",
            "{00000001-0000-4000-8000-000000000001}",
        ] {
            assert!(uuid(bad).is_none(), "{bad}");
        }
    }
}
