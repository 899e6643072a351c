//! What is checked of plugins' rows beside their definition: that their protocols fit where they are
//! (`check_protocols_match` in `kong/db/dao/plugins.lua`), and that a plugin can be made of them.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};
use silverback_plugin::env::{Increment, Task};
use silverback_plugin::{
    ClusterCounters, ConfigError, CounterError, InstanceInfo, PluginDef, PluginEnv, Services,
};
use silverback_schema::Violations;
use silverback_schema::reference::has_references;
use silverback_store::{Key, ListQuery};
use uuid::Uuid;

use super::reference;
use crate::app::App;
use crate::errors::ApiError;
use crate::model::{Entity, PLUGINS};
use crate::texts;

/// Whether a complete row can be served: the gateway's own checks, and for a plugin that it compiles.
pub(crate) fn accept(
    app: &App,
    entity: &Entity,
    row: &Map<String, Value>,
) -> Result<(), Violations> {
    for check in &entity.checks {
        check(row)?;
    }
    if entity.def.name == PLUGINS {
        compiles(app, row)
    } else {
        Ok(())
    }
}

fn compiles(app: &App, row: &Map<String, Value>) -> Result<(), Violations> {
    let name = row.get("name").and_then(Value::as_str);
    match name.and_then(|name| app.model.plugin(name)) {
        Some(known) => plugin_compiles(&known.plugin, row, app.store.has_database()),
        None => Ok(()),
    }
}

/// Whether a plugin can be made of a complete row. Without a database there are no counters that nodes share.
///
/// # Errors
/// With what the plugin says about its configuration.
pub fn plugin_compiles(
    plugin: &PluginDef,
    row: &Map<String, Value>,
    has_database: bool,
) -> Result<(), Violations> {
    let Some(Value::Object(config)) = row.get("config") else {
        return Ok(());
    };
    if has_references(&plugin.config, config) {
        // What a secret makes of it only the nodes know.
        return Ok(());
    }
    let instance = InstanceInfo {
        id: row
            .get("id")
            .and_then(Value::as_str)
            .and_then(|s| s.parse().ok())
            .unwrap_or_default(),
        route: reference(row, "route"),
        service: reference(row, "service"),
        consumer: reference(row, "consumer"),
    };
    let env = PluginEnv {
        instance: &instance,
        services: &NoServices { has_database },
    };
    match (plugin.compile)(config, &env) {
        Ok(_) => Ok(()),
        Err(ConfigError { field, message }) => {
            let parts = field.split('.').filter(|p| !p.is_empty()).rev();
            let nested = parts.fold(Value::from(message), |inner, part| {
                Value::Object(Map::from_iter([(part.to_owned(), inner)]))
            });
            Err(Violations::field("config", nested))
        }
    }
}

/// Whether a change is about where a plugin is or what it speaks there.
pub(super) fn moves(fields: &Map<String, Value>) -> bool {
    ["protocols", "service", "route"]
        .iter()
        .any(|f| fields.contains_key(*f))
}

/// Whether the protocols that a client gives are spoken where the plugin is to be. `stored` is the row that is changed.
pub(super) async fn check_protocols(
    app: &App,
    fields: &Map<String, Value>,
    stored: Option<&Map<String, Value>>,
) -> Result<(), ApiError> {
    let given = |name: &str| {
        fields
            .get(name)
            .or_else(|| stored.and_then(|row| row.get(name)))
    };
    let scope = |name: &str| given(name)?.get("id")?.as_str()?.parse::<Uuid>().ok();
    let Some(Value::Array(protocols)) = given("protocols") else {
        return Ok(());
    };
    let routes = app.model.of("routes")?;
    let fits = |route: &Map<String, Value>| {
        let spoken = route.get("protocols").and_then(Value::as_array);
        spoken.is_some_and(|spoken| protocols.iter().any(|p| spoken.contains(p)))
    };
    if let Some(id) = scope("route") {
        let route = app.store.get(&routes.def, &Key::Id(id)).await?;
        return match route {
            Some(route) if !fits(&route) => {
                Err(Violations::field("protocols", texts::ROUTE_PROTOCOLS).into())
            }
            _ => Ok(()),
        };
    }
    let Some(id) = scope("service") else {
        return Ok(());
    };
    let mut query = ListQuery {
        parent: Some(("service", id)),
        size: 1000,
        ..ListQuery::default()
    };
    let mut any = false;
    loop {
        let page = app.store.list(&routes.def, &query).await?;
        any |= !page.rows.is_empty();
        if page.rows.iter().any(fits) {
            return Ok(());
        }
        query.offset = page.next;
        if query.offset.is_none() {
            break;
        }
    }
    if any {
        Err(Violations::field("protocols", texts::SERVICE_PROTOCOLS).into())
    } else {
        Ok(())
    }
}

/// The node as a plugin sees it that is compiled only to see whether it can be: nothing is kept, no task runs.
pub(crate) struct NoServices {
    pub(crate) has_database: bool,
}

impl Services for NoServices {
    fn shared(
        &self,
        _key: &str,
        make: &mut dyn FnMut() -> Arc<dyn Any + Send + Sync>,
    ) -> Arc<dyn Any + Send + Sync> {
        make()
    }

    fn spawn(&self, task: Task) {
        drop(task);
    }

    fn counters(&self) -> Option<Arc<dyn ClusterCounters>> {
        self.has_database
            .then(|| Arc::new(NoCounters) as Arc<dyn ClusterCounters>)
    }
}

/// Counters that are there, so that a plugin may want them, and never asked.
struct NoCounters;

#[async_trait]
impl ClusterCounters for NoCounters {
    async fn add(&self, _increments: &[Increment]) -> Result<Vec<u64>, CounterError> {
        Err(CounterError(
            "a configuration that is only checked counts nothing".into(),
        ))
    }
}
