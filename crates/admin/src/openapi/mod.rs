//! `GET /openapi.json`: the whole API as an OpenAPI 3.1 document.
//!
//! Paths and methods are those of the endpoint table, rows those of the definitions: an entity or a plugin that is added is in the document
//! without further ado. What endpoints do that are not about rows is said in one table, [`described`].

mod components;
mod described;
mod examples;
mod fields;
mod operations;

use serde_json::{Map, Value, json};
use silverback_plugin::PluginDef;
use silverback_schema::EntityDef;

use crate::info::KONG_VERSION;
use crate::model::Model;
use crate::table::{self, Endpoint, Target};

/// For people who read the document without this project at hand.
const INTRODUCTION: &str = "Kong's Admin API, as Silverback serves it.\n\n\
    Every endpoint that has `GET` has `HEAD` as well, and every endpoint has `OPTIONS`, which answers 204 with `Allow`. One slash at the end of \
    a path is as good as none. Unknown query arguments are ignored.\n\n\
    Bodies are JSON objects or forms (`application/x-www-form-urlencoded`, `multipart/form-data`). In forms, fields of records are written with \
    dots (`config.minute=5`), lists with brackets (`paths[]=/a&paths[]=/b`, `paths[1]=/a`) or, of texts, with commas; texts become numbers and \
    booleans where the field is one.\n\n\
    Errors are JSON objects with a `message`; those about rows have Kong's `name` and `code` and say in `fields` which fields are meant.";

/// The OpenAPI 3.1 document of an API over these entities and plugins, as `GET /openapi.json` answers it. `version` is the gateway's.
pub fn openapi_document(entities: Vec<EntityDef>, plugins: Vec<PluginDef>, version: &str) -> Value {
    let model = Model::new(entities, plugins);
    let endpoints = table::endpoints(&model);
    document(&model, &endpoints, version)
}

/// The document.
pub(crate) fn document(model: &Model, endpoints: &[Endpoint], version: &str) -> Value {
    let mut paths = Map::new();
    for endpoint in endpoints {
        let item = operations::path_item(model, endpoint);
        if !item.is_empty() {
            paths.insert(endpoint.path.clone(), Value::Object(item));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Silverback Admin API",
            "summary": format!("Kong {KONG_VERSION}'s Admin API"),
            "description": INTRODUCTION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "version": version,
        },
        "servers": [{ "url": "/", "description": "Where this document is." }],
        "tags": tags(model),
        "paths": paths,
        "components": components::all(model),
    })
}

/// Whether there is nothing at an endpoint, whatever is asked: it is in `GET /endpoints` only because it is in Kong's.
pub(crate) fn is_nothing(target: Target) -> bool {
    target == Target::Disabled
}

/// Groups of operations: the node, then each entity, then the plugins with endpoints of their own.
fn tags(model: &Model) -> Vec<Value> {
    let mut out: Vec<Value> = described::TAGS
        .iter()
        .map(|(name, text)| json!({ "name": name, "description": text }))
        .collect();
    out.extend(
        model
            .iter()
            .filter(|e| e.def.in_api)
            .map(|e| json!({ "name": e.def.name })),
    );
    let plugins = model.plugins().map(|p| &p.plugin);
    let mut own: Vec<&str> = plugins
        .filter(|p| !p.endpoints.is_empty())
        .map(|p| p.name)
        .collect();
    own.sort_unstable();
    out.extend(own.into_iter().map(|name| {
        let text = format!("The endpoints of the plugin {name}.");
        json!({ "name": name, "description": text })
    }));
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;
