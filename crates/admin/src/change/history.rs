//! `GET /revisions`, `GET /revisions/{revision}`: what was written, by whom, and what was there before and after.

use serde_json::{Map, Value, json};
use silverback_schema::output::show;
use silverback_store::{ADMIN_TOKENS, Change, Page, Revision, Row};

use super::redact;
use crate::app::App;
use crate::crud::{Call, listed};
use crate::errors::{Answer, ApiError};
use crate::respond;

/// `GET /revisions`, newest first.
pub(crate) async fn revisions(call: &Call<'_>) -> Answer {
    let size = call.args.size()?;
    let Page { rows, next } = call
        .app
        .store
        .revisions(size, call.args.get("offset"))
        .await?;
    let rows = rows.iter().map(head).collect();
    Ok(respond::ok(&listed(rows, next, |offset| {
        call.args.next("/revisions", offset, false)
    })))
}

/// `GET /revisions/{revision}`
pub(crate) async fn revision(call: &Call<'_>) -> Answer {
    let (revision, changes) = read(call).await?;
    let mut body = head(&revision);
    let changes = changes.into_iter().map(|c| shown(call.app, c)).collect();
    body.insert("changes".into(), changes);
    Ok(respond::ok(&body))
}

/// The revision that the path names.
pub(super) async fn read(call: &Call<'_>) -> Result<(Revision, Vec<Change>), ApiError> {
    let text = call.segment(1)?;
    let number: i64 = text.parse().map_err(|_| ApiError::not_found())?;
    let found = call.app.store.revision(number).await?;
    found.ok_or_else(ApiError::not_found)
}

fn head(r: &Revision) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("revision".into(), r.revision.into());
    out.insert("at".into(), json!(r.at));
    out.insert("who".into(), json!(r.actor));
    out.insert("inserted".into(), r.inserted.into());
    out.insert("updated".into(), r.updated.into());
    out.insert("deleted".into(), r.deleted.into());
    out.insert("entities".into(), json!(r.entities));
    out
}

fn shown(app: &App, change: Change) -> Value {
    let fields = match (&change.before, &change.after) {
        (Some(before), Some(after)) => after
            .iter()
            .filter(|(name, v)| !same(before.get(*name).unwrap_or(&Value::Null), v))
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
            .into(),
        _ => Value::Null,
    };
    json!({
        "entity": change.entity,
        "id": change.id.to_string(),
        "operation": change.op.as_str(),
        "fields": fields,
        "before": change.before.map(|row| document(app, &change.entity, row)),
        "after": change.after.map(|row| document(app, &change.entity, row)),
    })
}

/// A row as clients see it, without its secrets.
fn document(app: &App, entity: &str, mut row: Row) -> Value {
    if entity == ADMIN_TOKENS {
        // What is kept of them there is not secret.
        return row.into();
    }
    let Some(entity) = app.model.get(entity) else {
        // Of a plugin that this node does not have: nobody knows what of it is secret.
        return Value::Null;
    };
    let def = app.model.def_to_show(entity, &row);
    redact::row(&def.record, &mut row);
    let expires_at = row.remove("expires_at");
    let mut out = show(def, row);
    if def.ttl {
        out.remove("ttl");
        out.insert("expires_at".into(), expires_at.unwrap_or(Value::Null));
    }
    let transient = def.record.fields.iter().filter(|(_, f)| f.transient);
    transient.for_each(|(name, _)| drop(out.remove(*name)));
    out.into()
}

/// Numbers may be written in more than one way.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() < f64::EPSILON * a.abs().max(1.0),
        _ => a == b,
    }
}
