//! Rows out.

use http::StatusCode;
use serde_json::{Map, Value};
use silverback_schema::output::show;
use silverback_store::{Key, Page, Row};

use super::certificates::{self, CERTIFICATES};
use super::{Parent, RowKey, reference};
use crate::app::App;
use crate::errors::{Answer, ApiError};
use crate::model::Entity;
use crate::paging::Args;
use crate::{respond, texts};

/// A page of all rows of an entity.
pub(super) async fn collection(app: &App, entity: &Entity, args: &Args<'_>) -> Answer {
    if let Some(custom_id) = args
        .get("custom_id")
        .filter(|_| entity.def.name == "consumers")
    {
        return by_custom_id(app, entity, custom_id).await;
    }
    page(app, entity, args, None, entity.def.collection).await
}

/// A page of all rows, or of those below another; `path` is that of the collection, for the link to the next page.
pub(super) async fn page(
    app: &App,
    entity: &Entity,
    args: &Args<'_>,
    parent: Option<Parent>,
    path: &str,
) -> Answer {
    let query = args.page(&entity.def, parent)?;
    let Page { rows, next } = app.store.list(&entity.def, &query).await?;
    let rows = all_shown(app, entity, rows).await?;
    Ok(respond::ok(&listed(rows, next, |offset| {
        args.next(&format!("/{path}"), offset, parent.is_some())
    })))
}

/// One row.
pub(super) async fn one(app: &App, entity: &Entity, key: &RowKey) -> Answer {
    let row = app
        .store
        .get(&entity.def, &key.store())
        .await?
        .ok_or_else(ApiError::not_found)?;
    Ok(respond::row(
        StatusCode::OK,
        &shown(app, entity, row).await?,
    ))
}

/// One row, as it is stored, if it hangs on that parent.
pub(super) async fn below(
    app: &App,
    entity: &Entity,
    key: &RowKey,
    parent: Parent,
) -> Result<Row, ApiError> {
    let row = app.store.get(&entity.def, &key.store()).await?;
    row.filter(|row| reference(row, parent.0) == Some(parent.1))
        .ok_or_else(ApiError::not_found)
}

/// A stored row as clients see it.
pub(super) async fn shown(
    app: &App,
    entity: &Entity,
    row: Row,
) -> Result<Map<String, Value>, ApiError> {
    let rows = all_shown(app, entity, vec![row]).await?;
    // One went in.
    rows.into_iter().next().ok_or_else(ApiError::not_found)
}

/// Stored rows as clients see them.
pub(super) async fn all_shown(
    app: &App,
    entity: &Entity,
    rows: Vec<Row>,
) -> Result<Vec<Map<String, Value>>, ApiError> {
    let show = |row: Row| show(app.model.def_to_show(entity, &row), row);
    let mut rows: Vec<_> = rows.into_iter().map(show).collect();
    if entity.def.name == CERTIFICATES {
        certificates::add_names(app, &mut rows).await?;
    }
    Ok(rows)
}

/// The body of a page: `offset` only when there is a next one.
pub(crate) fn listed(
    rows: Vec<Map<String, Value>>,
    next: Option<String>,
    link: impl Fn(&str) -> String,
) -> Value {
    let mut body = Map::new();
    body.insert("data".into(), rows.into_iter().map(Value::Object).collect());
    let link = next
        .as_deref()
        .map_or(Value::Null, |offset| link(offset).into());
    if let Some(offset) = next {
        body.insert("offset".into(), offset.into());
    }
    body.insert("next".into(), link);
    Value::Object(body)
}

/// `GET /consumers?custom_id=` (`kong/api/routes/consumers.lua`).
async fn by_custom_id(app: &App, entity: &Entity, custom_id: &str) -> Answer {
    if custom_id.is_empty() {
        return Err(ApiError::bad(texts::CUSTOM_ID));
    }
    let row = app
        .store
        .get(&entity.def, &Key::Unique("custom_id", custom_id))
        .await?;
    let rows = all_shown(app, entity, row.into_iter().collect()).await?;
    Ok(respond::ok(&listed(rows, None, |_| String::new())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pages_say_where_the_next_one_is() {
        assert_eq!(
            listed(vec![], None, |_| String::new()),
            json!({ "data": [], "next": null })
        );
        let row = Map::from_iter([("id".to_owned(), json!(1))]);
        assert_eq!(
            listed(vec![row], Some("W".into()), |o| format!("/x?offset={o}")),
            json!({ "data": [{ "id": 1 }], "offset": "W", "next": "/x?offset=W" })
        );
    }
}
