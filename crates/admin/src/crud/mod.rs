//! Rows over HTTP: one set of handlers for all entities (`kong/api/endpoints.lua`).

mod certificates;
mod health;
mod plugins;
mod read;
mod references;
mod targets;
mod write;

use std::time::{SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};
use serde_json::{Map, Value};
use silverback_store::{Key, Row};
use uuid::Uuid;

use crate::app::App;
use crate::body::Payload;
use crate::errors::{Answer, ApiError};
use crate::model::{Entity, uuid};
use crate::paging::Args;
use crate::table::Target;
use crate::{respond, texts};

pub(crate) use certificates::{CERTIFICATES, SNIS, trusting};
pub(crate) use plugins::NoServices;
pub(crate) use plugins::accept;
pub use plugins::plugin_compiles;
pub(crate) use read::listed;

/// A request, taken apart.
pub(crate) struct Call<'a> {
    pub(crate) app: &'a App,
    pub(crate) method: &'a Method,
    /// The path without slashes at its ends.
    pub(crate) path: &'a str,
    pub(crate) args: Args<'a>,
    /// The body of a request that writes.
    pub(crate) payload: Payload,
}

impl Call<'_> {
    /// A segment of the path as it was sent.
    pub(crate) fn raw(&self, n: usize) -> &str {
        self.path.split('/').nth(n).unwrap_or_default()
    }

    /// A segment of the path, decoded.
    pub(crate) fn segment(&self, n: usize) -> Result<String, ApiError> {
        let decoded = percent_encoding::percent_decode_str(self.raw(n)).decode_utf8();
        decoded
            .map(|s| s.into_owned())
            .map_err(|_| ApiError::bad(texts::BAD_PATH))
    }
}

/// Which row a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RowKey {
    Id(Uuid),
    /// The endpoint key and its value.
    Named(&'static str, String),
}

impl RowKey {
    fn parse(entity: &Entity, text: String) -> Result<Self, ApiError> {
        if let Some(id) = uuid(&text) {
            return Ok(RowKey::Id(id));
        }
        let Some(field) = entity.def.endpoint_key.filter(|f| *f != "id") else {
            return Err(ApiError::invalid_primary_key());
        };
        let value = Value::from(text);
        entity
            .check_unique(field, &value)
            .map_err(|why| ApiError::invalid_unique(field, &why))?;
        match value {
            Value::String(text) => Ok(RowKey::Named(field, text)),
            _ => Err(ApiError::not_found()),
        }
    }

    fn store(&self) -> Key<'_> {
        match self {
            RowKey::Id(id) => Key::Id(*id),
            RowKey::Named(field, value) => Key::Unique(field, value),
        }
    }

    fn not_found(&self) -> ApiError {
        match self {
            RowKey::Id(id) => ApiError::no_such_row("id", &id.to_string()),
            RowKey::Named(field, value) => ApiError::no_such_row(field, value),
        }
    }
}

/// A reference that the path says: the field and the row it points at.
type Parent = (&'static str, Uuid);

/// Answers a request for rows.
pub(crate) async fn serve(mut call: Call<'_>, target: Target) -> Answer {
    let payload = std::mem::take(&mut call.payload);
    let app = call.app;
    match target {
        Target::Collection { entity } => collection(&call, app.model.of(entity)?, payload).await,
        Target::Row { entity } => row(&call, app.model.of(entity)?, payload).await,
        Target::Below {
            parent,
            field,
            entity,
        } => {
            let above = app.model.of(parent)?;
            let id = find(app, above, call.segment(1)?).await?;
            let entity = app.model.of(entity)?;
            below(&call, entity, (field, id), payload).await
        }
        Target::RowBelow {
            parent,
            field,
            entity,
        } => {
            let above = app.model.of(parent)?;
            let id = find(app, above, call.segment(1)?).await?;
            let entity = app.model.of(entity)?;
            if entity.def.name == targets::TARGETS {
                return targets::row(&call, entity, (field, id), payload).await;
            }
            row_below(&call, entity, (field, id), payload).await
        }
        Target::Hop { entity, field, to } => {
            hop(
                &call,
                app.model.of(entity)?,
                field,
                app.model.of(to)?,
                payload,
            )
            .await
        }
        Target::AllTargets => targets::every(&call).await,
        Target::UpstreamHealth => health::upstream(&call).await,
        Target::Report { healthy } => health::report(&call, healthy).await,
        _ => Err(ApiError::not_found()),
    }
}

/// The row that a path names, as it is shown; `None` when it is not there.
pub(crate) async fn current(
    call: &Call<'_>,
    target: Target,
) -> Result<Option<Map<String, Value>>, ApiError> {
    let app = call.app;
    let (entity, row) = match target {
        Target::Row { entity } => {
            let entity = app.model.of(entity)?;
            let key = key(app, entity, call.segment(1)?, true).await?;
            (entity, app.store.get(&entity.def, &key.store()).await?)
        }
        Target::RowBelow {
            parent,
            field,
            entity,
        } => {
            let (above, entity) = (app.model.of(parent)?, app.model.of(entity)?);
            let parent = (field, find(app, above, call.segment(1)?).await?);
            let text = call.segment(3)?;
            let key = if entity.def.name == targets::TARGETS {
                Some(RowKey::Id(
                    targets::one(app, entity, parent.1, &text).await?.0,
                ))
            } else {
                key_below(app, entity, parent, &text).await?
            };
            let row = match key {
                Some(key) => app.store.get(&entity.def, &key.store()).await?,
                None => None,
            };
            let here = |row: &Row| reference(row, parent.0) == Some(parent.1);
            (entity, row.filter(here))
        }
        Target::Hop { entity, field, to } => {
            let (entity, to) = (app.model.of(entity)?, app.model.of(to)?);
            let key = key(app, entity, call.segment(1)?, false).await?;
            let from = app.store.get(&entity.def, &key.store()).await?;
            match reference(&from.ok_or_else(ApiError::not_found)?, field) {
                Some(id) => (to, app.store.get(&to.def, &Key::Id(id)).await?),
                None => (to, None),
            }
        }
        _ => return Ok(None),
    };
    match row {
        Some(row) => Ok(Some(read::shown(app, entity, row).await?)),
        None => Ok(None),
    }
}

async fn collection(call: &Call<'_>, entity: &Entity, payload: Payload) -> Answer {
    match *call.method {
        Method::GET | Method::HEAD => read::collection(call.app, entity, &call.args).await,
        Method::POST => write::insert(call.app, entity, payload, None).await,
        _ => Err(ApiError::MethodNotAllowed),
    }
}

async fn row(call: &Call<'_>, entity: &Entity, mut payload: Payload) -> Answer {
    let text = call.segment(1)?;
    if entity.def.name == certificates::CERTIFICATES {
        certificates::prepare(&mut payload, &text, call.method);
    }
    let key = key(call.app, entity, text, call.method == Method::PUT).await?;
    match *call.method {
        Method::GET | Method::HEAD => read::one(call.app, entity, &key).await,
        Method::PUT => write::upsert(call.app, entity, key, payload, None).await,
        Method::PATCH => write::update(call.app, entity, &key, payload, None).await,
        Method::DELETE => write::delete(call.app, entity, &key).await,
        _ => Err(ApiError::MethodNotAllowed),
    }
}

async fn below(call: &Call<'_>, entity: &Entity, parent: Parent, payload: Payload) -> Answer {
    match *call.method {
        Method::GET | Method::HEAD if entity.def.name == targets::TARGETS => {
            targets::page(call, entity, parent).await
        }
        Method::GET | Method::HEAD => {
            read::page(call.app, entity, &call.args, Some(parent), call.path).await
        }
        Method::POST => write::insert(call.app, entity, payload, Some(parent)).await,
        _ => Err(ApiError::MethodNotAllowed),
    }
}

async fn row_below(
    call: &Call<'_>,
    entity: &Entity,
    parent: Parent,
    mut payload: Payload,
) -> Answer {
    let app = call.app;
    let text = call.segment(3)?;
    let put = *call.method == Method::PUT;
    let key = match key_below(app, entity, parent, &text).await? {
        Some(key) => key,
        None if put => RowKey::Id(Uuid::new_v4()),
        None => return Err(ApiError::not_found_with_id()),
    };
    if let Some(field) = entity
        .def
        .nested_key
        .filter(|_| put && uuid(&text).is_none())
    {
        let given = payload.fields.entry(field);
        given.or_insert_with(|| text.into());
    }
    match *call.method {
        Method::GET | Method::HEAD => {
            let row = read::below(app, entity, &key, parent).await?;
            Ok(respond::row(
                StatusCode::OK,
                &read::shown(app, entity, row).await?,
            ))
        }
        Method::PUT => write::upsert(app, entity, key, payload, Some(parent)).await,
        Method::PATCH => write::update(app, entity, &key, payload, Some(parent)).await,
        Method::DELETE => {
            let row = read::below(app, entity, &key, parent).await?;
            let id = row
                .get("id")
                .and_then(Value::as_str)
                .and_then(uuid)
                .ok_or_else(ApiError::not_found)?;
            write::delete(app, entity, &RowKey::Id(id)).await
        }
        _ => Err(ApiError::MethodNotAllowed),
    }
}

/// Which row a path names below another one. `None`: by a name that is only looked for there (`kong/plugins/acl/api.lua`) and is not.
async fn key_below(
    app: &App,
    entity: &Entity,
    parent: Parent,
    text: &str,
) -> Result<Option<RowKey>, ApiError> {
    let Some(field) = entity.def.nested_key.filter(|_| uuid(text).is_none()) else {
        return RowKey::parse(entity, text.to_owned()).map(Some);
    };
    let row = app.store.get_below(&entity.def, parent, (field, text));
    let Some(row) = row.await? else {
        return Ok(None);
    };
    let id = row.get("id").and_then(Value::as_str).and_then(uuid);
    id.map(|id| Some(RowKey::Id(id)))
        .ok_or_else(ApiError::not_found)
}

/// The row that a row points at.
async fn hop(
    call: &Call<'_>,
    entity: &Entity,
    field: &'static str,
    to: &Entity,
    payload: Payload,
) -> Answer {
    let app = call.app;
    let key = key(app, entity, call.segment(1)?, false).await?;
    let row = app
        .store
        .get(&entity.def, &key.store())
        .await?
        .ok_or_else(ApiError::not_found)?;
    let pointed = reference(&row, field);
    if *call.method == Method::PUT {
        let id = pointed.unwrap_or_else(Uuid::new_v4);
        let answer = write::upsert(app, to, RowKey::Id(id), payload, None).await?;
        if pointed.is_none() {
            write::point(app, entity, &key, (field, id)).await?;
        }
        return Ok(answer);
    }
    let id = RowKey::Id(pointed.ok_or_else(ApiError::not_found)?);
    match *call.method {
        Method::GET | Method::HEAD => read::one(app, to, &id).await,
        Method::PATCH => write::update(app, to, &id, payload, None).await,
        _ => Err(ApiError::MethodNotAllowed),
    }
}

/// Which row a path names. A certificate is also named by its server names; `or_new`: by one that is not there yet as well.
async fn key(app: &App, entity: &Entity, text: String, or_new: bool) -> Result<RowKey, ApiError> {
    if entity.def.name == certificates::CERTIFICATES && uuid(&text).is_none() {
        return certificates::named(app, text, or_new).await;
    }
    RowKey::parse(entity, text)
}

/// The id of the row that a path names, without reading it.
async fn find(app: &App, entity: &Entity, text: String) -> Result<Uuid, ApiError> {
    let found = match key(app, entity, text, false).await? {
        RowKey::Id(id) => app
            .store
            .exists_many(&entity.def, &[id])
            .await?
            .into_iter()
            .next(),
        RowKey::Named(_, name) => app.store.resolve(&entity.def, &name).await?,
    };
    found.ok_or_else(ApiError::not_found)
}

/// The id in a reference of a row.
fn reference(row: &Row, field: &str) -> Option<Uuid> {
    row.get(field)?.get("id")?.as_str().and_then(uuid)
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use silverback_entities::CORE;
    use silverback_schema::EntityDef;
    use silverback_schema::field::id;

    use super::*;
    use crate::model::Model;

    #[test]
    fn keys_are_ids_or_names() {
        let model = Model::new(CORE.clone(), Vec::new());
        let services = model.get("services").unwrap();
        let parse = |s: &str| RowKey::parse(services, s.into());
        assert!(matches!(
            parse("00000001-0000-4000-8000-000000000001"),
            Ok(RowKey::Id(_))
        ));
        assert_eq!(parse("svc1").unwrap(), RowKey::Named("name", "svc1".into()));
        let ApiError::Json(status, body) = parse("../routes").unwrap_err() else {
            panic!()
        };
        assert_eq!(
            (status.as_u16(), &body["name"]),
            (400, &Value::from("invalid unique name"))
        );
    }

    #[test]
    fn entities_without_names_take_ids_only() {
        let model = Model::new(vec![EntityDef::new("x", vec![("id", id())])], Vec::new());
        let ApiError::Json(status, body) =
            RowKey::parse(model.get("x").unwrap(), "a".into()).unwrap_err()
        else {
            panic!()
        };
        assert_eq!(status.as_u16(), 400);
        assert_eq!(
            body["message"],
            "invalid primary key: '{id=\"expected a valid UUID\"}'"
        );
    }
}
