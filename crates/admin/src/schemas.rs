//! `/schemas/...`: what rows may look like, and whether one does (`kong/api/routes/kong.lua`, `kong/api/routes/plugins.lua`).

use http::StatusCode;
use serde_json::{Value, json};
use silverback_entities::SCHEMAS_ONLY;
use silverback_schema::{Op, complete, render};

use crate::crud::{Call, accept, now};
use crate::errors::{Answer, ApiError};
use crate::model::{self, PLUGINS, PluginEntity, VAULTS};
use crate::{respond, texts};

/// `GET /schemas/{entity}`
pub(crate) fn entity(call: &Call<'_>) -> Answer {
    let name = call.segment(1)?;
    let stored = call.app.model.get(&name).map(|e| &e.def);
    let def = stored.or_else(|| SCHEMAS_ONLY.iter().find(|d| d.name == name));
    let def = def.ok_or_else(|| no_entity(&name))?;
    Ok(respond::ok(&render::schema_json(def)))
}

/// `GET /schemas/plugins/{name}`
pub(crate) fn plugin(call: &Call<'_>) -> Answer {
    Ok(respond::ok(&render::plugin_schema_json(&named(call)?.def)))
}

/// `GET /plugins/schema/{name}`: only `config`, as before Kong 1.2.
pub(crate) fn plugin_config(call: &Call<'_>) -> Answer {
    let schema = render::plugin_schema_json(&named(call)?.def);
    let config = schema["fields"]
        .as_array()
        .into_iter()
        .flatten()
        .find_map(|f| f.get("config"));
    let fields = config
        .and_then(|c| c.get("fields"))
        .cloned()
        .unwrap_or_else(|| json!([]));
    let checks = config
        .and_then(|c| c.get("entity_checks"))
        .cloned()
        .unwrap_or_else(|| json!([]));
    Ok(respond::ok(
        &json!({ "entity_checks": checks, "fields": fields }),
    ))
}

/// `POST /schemas/{entity}/validate`. Values of forms stay texts here, as in Kong.
pub(crate) fn validate_entity(call: Call<'_>) -> Answer {
    let name = call.segment(1)?;
    validate(call, &name)
}

/// `POST /schemas/plugins/validate`
pub(crate) fn validate_plugin(call: Call<'_>) -> Answer {
    validate(call, PLUGINS)
}

/// `GET /schemas/vaults/{name}`
pub(crate) fn vault(call: &Call<'_>) -> Answer {
    let name = call.segment(2)?;
    let def = model::vault(&name).ok_or_else(|| {
        ApiError::message(StatusCode::NOT_FOUND, &format!("No vault named '{name}'"))
    })?;
    Ok(respond::ok(&render::plugin_schema_json(def)))
}

/// `POST /schemas/vaults/validate`
pub(crate) fn validate_vault(call: Call<'_>) -> Answer {
    validate(call, VAULTS)
}

/// `GET /schemas/filters/{name}`: there are no filters.
pub(crate) fn filter(call: &Call<'_>) -> Answer {
    let name = call.segment(2)?;
    Err(ApiError::message(
        StatusCode::NOT_FOUND,
        &format!("Filter '{name}' not found"),
    ))
}

fn validate(call: Call<'_>, name: &str) -> Answer {
    let fields = call.payload.fields;
    let Some(entity) = call.app.model.get(name) else {
        let def = SCHEMAS_ONLY.iter().find(|d| d.name == name);
        complete(
            def.ok_or_else(|| no_entity(name))?,
            fields,
            Op::Insert,
            now(),
        )?;
        return Ok(respond::ok(&json!({ "message": texts::VALID })));
    };
    let def = call.app.model.def_of(entity, &fields, None)?;
    let row = complete(def, fields, Op::Insert, now())?;
    accept(call.app, entity, &row)?;
    Ok(respond::ok(&json!({ "message": texts::VALID })))
}

fn named<'a>(call: &Call<'a>) -> Result<&'a PluginEntity, ApiError> {
    let name = call.segment(2)?;
    let found = call.app.model.plugin(&name);
    found.ok_or_else(|| {
        ApiError::message(StatusCode::NOT_FOUND, &format!("No plugin named '{name}'"))
    })
}

fn no_entity(name: &str) -> ApiError {
    ApiError::Json(
        StatusCode::NOT_FOUND,
        json!({ "message": Value::from(format!("No entity named '{name}'")) }),
    )
}
