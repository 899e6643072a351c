//! References by name: `{"service": {"name": "x"}}` becomes `{"service": {"id": ".."}}` (`resolve_foreign` in `kong/db/dao/init.lua`).

use serde_json::{Map, Value, json};
use silverback_store::Key;

use crate::app::App;
use crate::errors::ApiError;
use crate::model::{Entity, uuid};

/// Looks up what is named; what is neither an id nor a fitting name is left for validation.
pub(super) async fn resolve(
    app: &App,
    entity: &Entity,
    fields: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    let mut missing = Vec::new();
    for &(field, to) in &entity.foreign {
        let Some(Value::Object(given)) = fields.get(field) else {
            continue;
        };
        if given
            .get("id")
            .and_then(Value::as_str)
            .is_some_and(|id| uuid(id).is_some())
        {
            continue;
        }
        let target = app.model.of(to)?;
        let mut tried = Vec::new();
        let mut found = None;
        for unique in target.unique_fields() {
            let Some(name) = given.get(unique).filter(|v| v.is_string()) else {
                continue;
            };
            if target.check_unique(unique, name).is_err() {
                continue;
            }
            let text = name.as_str().unwrap_or_default();
            if let Some(row) = app
                .store
                .get(&target.def, &Key::Unique(unique, text))
                .await?
            {
                found = row.get("id").cloned();
                break;
            }
            tried.push((field, unique, name.clone(), to));
        }
        match found {
            Some(id) => {
                fields.insert(field.to_owned(), json!({ "id": id }));
            }
            None => missing.extend(tried),
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(ApiError::unresolved(&missing))
    }
}
