//! Targets: newest first, by name or id, and pages that are counted (`kong/db/dao/targets.lua`, `kong/api/routes/upstreams.lua`).

use http::{Method, StatusCode};
use serde_json::{Map, Value};
use silverback_store::Row;
use uuid::Uuid;

use super::{Call, Parent, RowKey, find, read, write};
use crate::app::App;
use crate::body::Payload;
use crate::errors::{Answer, ApiError};
use crate::model::{Entity, uuid};
use crate::respond;

pub(super) const TARGETS: &str = "targets";

/// `GET /upstreams/{upstreams}/targets`
pub(super) async fn page(call: &Call<'_>, entity: &Entity, parent: Parent) -> Answer {
    let (rows, next) = window(call, entity, parent.1).await?;
    Ok(respond::ok(&read::listed(rows, next, |offset| {
        call.args.next(&format!("/{}", call.path), offset, true)
    })))
}

/// `GET /upstreams/{upstreams}/targets/all`: in the order of the ids.
pub(super) async fn every(call: &Call<'_>) -> Answer {
    let app = call.app;
    let (upstreams, targets) = (app.model.of("upstreams")?, app.model.of(TARGETS)?);
    let id = find(app, upstreams, call.segment(1)?).await?;
    read::page(app, targets, &call.args, Some(("upstream", id)), call.path).await
}

/// `/upstreams/{upstreams}/targets/{targets}`. As in Kong `PUT` changes and does not make.
pub(super) async fn row(
    call: &Call<'_>,
    entity: &Entity,
    parent: Parent,
    payload: Payload,
) -> Answer {
    let app = call.app;
    let (id, row) = one(app, entity, parent.1, &call.segment(3)?).await?;
    let key = RowKey::Id(id);
    match *call.method {
        Method::GET | Method::HEAD => Ok(respond::row(
            StatusCode::OK,
            &read::shown(app, entity, row).await?,
        )),
        Method::PATCH | Method::PUT => {
            write::update(app, entity, &key, payload, Some(parent)).await
        }
        Method::DELETE => write::delete(app, entity, &key).await,
        _ => Err(ApiError::MethodNotAllowed),
    }
}

/// The target of that name or id.
pub(super) async fn one(
    app: &App,
    entity: &Entity,
    upstream: Uuid,
    text: &str,
) -> Result<(Uuid, Row), ApiError> {
    let wanted = uuid(text).map(|id| id.to_string());
    let is = |row: &Row| match &wanted {
        Some(id) => row.get("id").and_then(Value::as_str) == Some(id.as_str()),
        None => row.get("target").and_then(Value::as_str) == Some(text),
    };
    let found = newest_first(app, entity, upstream)
        .await?
        .into_iter()
        .find(is);
    let row = found.ok_or_else(ApiError::not_found)?;
    let id = row.get("id").and_then(Value::as_str).and_then(uuid);
    Ok((id.ok_or_else(ApiError::not_found)?, row))
}

/// The targets of the page asked for, and the offset of the next.
pub(super) async fn window(
    call: &Call<'_>,
    entity: &Entity,
    upstream: Uuid,
) -> Result<(Vec<Map<String, Value>>, Option<String>), ApiError> {
    let query = call.args.page(&entity.def, Some(("upstream", upstream)))?;
    let offset = match query.offset.as_deref() {
        None => 0,
        Some(text) => text
            .parse::<usize>()
            .map_err(|_| ApiError::bad_offset(text))?,
    };
    let size = query.size as usize;
    let all = newest_first(call.app, entity, upstream).await?;
    let end = offset.saturating_add(size);
    let next = (all.len() > end).then(|| end.to_string());
    let rows = all.into_iter().skip(offset).take(size).collect();
    Ok((read::all_shown(call.app, entity, rows).await?, next))
}

async fn newest_first(app: &App, entity: &Entity, upstream: Uuid) -> Result<Vec<Row>, ApiError> {
    let mut rows = app
        .store
        .below(&entity.def, "upstream", &[upstream])
        .await?;
    let made = |row: &Row| {
        row.get("created_at")
            .and_then(Value::as_f64)
            .unwrap_or_default()
    };
    // They come in the order of their ids, which decides between equals: the larger one first.
    rows.reverse();
    rows.sort_by(|a, b| made(b).total_cmp(&made(a)));
    Ok(rows)
}
