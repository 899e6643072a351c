//! Rows in: checked, completed, stored.

use http::StatusCode;
use serde_json::{Map, Value, json};
use silverback_schema::validate::ttl_violation;
use silverback_schema::{Op, complete, form, patch};
use silverback_store::Row;

use super::certificates::{self, CA_CERTIFICATES, CERTIFICATES};
use super::{Parent, RowKey, accept, now, plugins, read, reference, references};
use crate::app::App;
use crate::body::Payload;
use crate::errors::{Answer, ApiError};
use crate::model::{Entity, PLUGINS, uuid};
use crate::respond;

/// `POST`.
pub(super) async fn insert(
    app: &App,
    entity: &Entity,
    payload: Payload,
    parent: Option<Parent>,
) -> Answer {
    let row = completed(app, entity, payload, parent, Op::Insert).await?;
    let stored = if entity.def.name == CERTIFICATES {
        certificates::put(app, entity, row, Op::Insert).await?
    } else {
        app.store.insert(&entity.def, row).await?
    };
    Ok(respond::row(
        StatusCode::CREATED,
        &read::shown(app, entity, stored).await?,
    ))
}

/// `PUT`: what the path says about the row wins over what the body says. With a name in the path, an id in the body is that of a new row; a
/// row that is there keeps its own.
pub(super) async fn upsert(
    app: &App,
    entity: &Entity,
    key: RowKey,
    mut payload: Payload,
    parent: Option<Parent>,
) -> Answer {
    match &key {
        RowKey::Id(id) => payload.fields.insert("id".into(), id.to_string().into()),
        RowKey::Named(field, value) => payload
            .fields
            .insert((*field).to_owned(), value.as_str().into()),
    };
    let row = completed(app, entity, payload, parent, Op::Upsert).await?;
    let stored = match key {
        RowKey::Id(_) if entity.def.name == CERTIFICATES => {
            certificates::put(app, entity, row, Op::Upsert).await?
        }
        RowKey::Id(_) => app.store.upsert(&entity.def, row).await?,
        RowKey::Named(field, _) => app.store.upsert_by(&entity.def, field, row).await?,
    };
    Ok(respond::row(
        StatusCode::OK,
        &read::shown(app, entity, stored).await?,
    ))
}

/// `PATCH`. The row is read, changed and written in one transaction, so that of two changes at the same time none is lost.
pub(super) async fn update(
    app: &App,
    entity: &Entity,
    key: &RowKey,
    payload: Payload,
    parent: Option<Parent>,
) -> Answer {
    let stored = changed(app, entity, key, payload, parent).await?;
    Ok(respond::row(
        StatusCode::OK,
        &read::shown(app, entity, stored).await?,
    ))
}

/// `DELETE`. That there is no such row is no failure.
pub(super) async fn delete(app: &App, entity: &Entity, key: &RowKey) -> Answer {
    match (entity.def.name, key) {
        (CERTIFICATES, RowKey::Id(id)) => certificates::delete(app, entity, *id).await?,
        (CA_CERTIFICATES, RowKey::Id(id)) => {
            certificates::authority_is_free(app, entity, *id).await?;
            app.store.delete(&entity.def, &key.store()).await?;
        }
        _ => drop(app.store.delete(&entity.def, &key.store()).await?),
    }
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// Makes a row point at another.
pub(super) async fn point(
    app: &App,
    entity: &Entity,
    key: &RowKey,
    to: Parent,
) -> Result<(), ApiError> {
    let fields = Map::from_iter([(to.0.to_owned(), json!({ "id": to.1.to_string() }))]);
    changed(
        app,
        entity,
        key,
        Payload {
            fields,
            is_form: false,
        },
        None,
    )
    .await
    .map(drop)
}

async fn changed(
    app: &App,
    entity: &Entity,
    key: &RowKey,
    mut payload: Payload,
    parent: Option<Parent>,
) -> Result<Row, ApiError> {
    if let Some((field, id)) = parent {
        // Said by the path, and as good as said in the body: what depends on it may be changed.
        let given = payload.fields.entry(field);
        given.or_insert_with(|| json!({ "id": id.to_string() }));
    }
    let not_found = || {
        if parent.is_some() {
            ApiError::not_found()
        } else {
            key.not_found()
        }
    };
    let before = if needs_row(entity, &payload) {
        let row = app.store.get(&entity.def, &key.store()).await?;
        // Kong asks for a plugin's name first when the body does not say it, and then has other words.
        let named = payload.fields.contains_key("name");
        let row = row.ok_or_else(|| {
            if named {
                not_found()
            } else {
                ApiError::not_found()
            }
        })?;
        if parent.is_some_and(|(field, id)| reference(&row, field) != Some(id)) {
            return Err(not_found());
        }
        Some(row)
    } else {
        None
    };
    let fields = prepared(app, entity, payload, before.as_ref()).await?;
    let names = certificates::names(entity, &fields);
    if let (Some(names), RowKey::Id(id)) = (&names, key) {
        certificates::check_names(app, names, Some(*id)).await?;
    }
    let change = |old: &Row| -> Result<Row, ApiError> {
        let def = app.model.def_of(entity, &fields, Some(old))?;
        let row = patch(def, old, fields, now())?;
        accept(app, entity, &row)?;
        Ok(row)
    };
    let stored = app
        .store
        .update_with(&entity.def, &key.store(), parent, change)
        .await?
        .ok_or_else(not_found)?;
    if let (Some(names), RowKey::Id(id)) = (names, key) {
        certificates::replace_names(app, *id, &names).await?;
    }
    Ok(stored)
}

/// Whether a change can be understood only with the row before one's eyes: a plugin's or a vault's, whose name decides what the body
/// means, or a plugin's whose protocols have to fit its place.
fn needs_row(entity: &Entity, payload: &Payload) -> bool {
    let unnamed = entity.has_kinds() && !payload.fields.contains_key("name");
    unnamed || entity.def.name == PLUGINS && plugins::moves(&payload.fields)
}

/// A body as a complete row.
async fn completed(
    app: &App,
    entity: &Entity,
    mut payload: Payload,
    parent: Option<Parent>,
    op: Op,
) -> Result<Row, ApiError> {
    if let Some((field, id)) = parent {
        payload
            .fields
            .insert(field.to_owned(), json!({ "id": id.to_string() }));
    }
    let fields = prepared(app, entity, payload, None).await?;
    let names = certificates::names(entity, &fields);
    if let Some(names) = &names {
        let own = fields.get("id").and_then(Value::as_str).and_then(uuid);
        certificates::check_names(app, names, own).await?;
    }
    let def = app.model.def_of(entity, &fields, None)?;
    let mut row = complete(def, fields, op, now())?;
    accept(app, entity, &row)?;
    if entity.def.name == CERTIFICATES && names.is_none() {
        // Not said is another thing than none.
        row.remove("snis");
    }
    Ok(row)
}

/// What is done before the definition speaks, in Kong's order: types of forms, `ttl`, references by name, protocols of plugins.
async fn prepared(
    app: &App,
    entity: &Entity,
    payload: Payload,
    stored: Option<&Row>,
) -> Result<Map<String, Value>, ApiError> {
    let def = app.model.def_of(entity, &payload.fields, stored)?;
    let mut fields = payload.fields;
    if payload.is_form {
        fields = form::infer(def, fields);
    }
    if def.ttl
        && let Some(text) = fields.get("ttl").and_then(ttl_violation)
    {
        return Err(ApiError::invalid_option("ttl", &text));
    }
    references::resolve(app, entity, &mut fields).await?;
    if entity.def.name == PLUGINS && (stored.is_none() || plugins::moves(&fields)) {
        plugins::check_protocols(app, &fields, stored).await?;
    }
    Ok(fields)
}
