//! Certificates carry their server names as `snis`, although those are rows of their own, and are also named by them in paths
//! (`kong/db/dao/certificates.lua`, `kong/db/dao/snis.lua`, `kong/api/routes/certificates.lua`).
//!
//! Kong writes a certificate and its names one after the other; here they are one transaction wherever a row is made or deleted.

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use silverback_schema::{EntityDef, Op, Violations, complete};
use silverback_store::{Key, Row, Write};
use uuid::Uuid;

use super::{RowKey, now, reference};
use crate::app::App;
use crate::body::Payload;
use crate::errors::ApiError;
use crate::model::{Entity, uuid};
use crate::texts;

pub(crate) const CERTIFICATES: &str = "certificates";
pub(super) const CA_CERTIFICATES: &str = "ca_certificates";
pub(crate) const SNIS: &str = "snis";
/// The field of a name that says whose it is.
const CERTIFICATE: &str = "certificate";

/// The certificate shown for a server name; a new one when there is none and `or_new`.
pub(super) async fn named(app: &App, name: String, or_new: bool) -> Result<RowKey, ApiError> {
    match owner(app, &name).await? {
        Some(id) => Ok(RowKey::Id(id)),
        None if or_new => Ok(RowKey::Id(Uuid::new_v4())),
        None => Err(ApiError::message(StatusCode::NOT_FOUND, texts::NO_SNI)),
    }
}

/// What the path says about the names of a certificate: with `PUT` its own is among those in the body, and a body without any means none.
pub(super) fn prepare(payload: &mut Payload, path: &str, method: &Method) {
    let put = *method == Method::PUT;
    if !put && *method != Method::PATCH {
        return;
    }
    match payload.fields.get_mut(SNIS) {
        Some(Value::String(one)) => {
            let one = one.clone();
            payload.fields.insert(SNIS.into(), json!([one]));
        }
        Some(_) => {}
        None if put => drop(payload.fields.insert(SNIS.into(), Value::Null)),
        None => {}
    }
    if put
        && uuid(path).is_none()
        && let Some(Value::Array(names)) = payload.fields.get_mut(SNIS)
        && !names.iter().any(|n| n == path)
    {
        names.push(path.into());
    }
}

/// The names that a client gives a certificate, in order; `None` when it says nothing, or nothing that could be meant.
pub(super) fn names(entity: &Entity, fields: &Map<String, Value>) -> Option<Vec<String>> {
    if entity.def.name != CERTIFICATES {
        return None;
    }
    let mut names: Vec<String> = match fields.get(SNIS)? {
        Value::Null => Vec::new(),
        Value::Array(all) => all
            .iter()
            .map(|v| v.as_str().map(str::to_owned))
            .collect::<Option<_>>()?,
        _ => return None,
    };
    names.sort_unstable();
    Some(names)
}

/// Whether a certificate may have these names: each once, and none that is another's.
pub(super) async fn check_names(
    app: &App,
    names: &[String],
    own: Option<Uuid>,
) -> Result<(), ApiError> {
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let text = format!("{} is duplicated", twice[0]);
        return Err(Violations::field(SNIS, text).into());
    }
    for name in names {
        if let Some(other) = owner(app, name).await?.filter(|id| Some(*id) != own) {
            let text = format!("{name} already associated with existing certificate '{other}'");
            return Err(Violations::field(SNIS, text).into());
        }
    }
    Ok(())
}

/// Writes a certificate with its names. A row without `snis` leaves the names as they are.
pub(super) async fn put(app: &App, entity: &Entity, mut row: Row, op: Op) -> Result<Row, ApiError> {
    let names = names(entity, &row);
    row.remove(SNIS);
    let id = row
        .get("id")
        .and_then(Value::as_str)
        .and_then(uuid)
        .ok_or_else(ApiError::invalid_primary_key)?;
    let change = match &names {
        Some(names) => Change::to(app, id, names).await?,
        None => Change::default(),
    };
    let own = match op {
        Op::Insert => Write::Insert(&entity.def, &row),
        _ => Write::Upsert(&entity.def, &row),
    };
    let mut writes = vec![own];
    change.write(app, &mut writes)?;
    app.store.write_all(&writes).await?;
    let stored = app.store.get(&entity.def, &Key::Id(id)).await?;
    stored.ok_or_else(ApiError::not_found)
}

/// Gives a certificate these names and no others.
pub(super) async fn replace_names(app: &App, id: Uuid, names: &[String]) -> Result<(), ApiError> {
    let change = Change::to(app, id, names).await?;
    let mut writes = Vec::new();
    change.write(app, &mut writes)?;
    if !writes.is_empty() {
        app.store.write_all(&writes).await?;
    }
    Ok(())
}

/// Deletes a certificate with its names.
pub(super) async fn delete(app: &App, entity: &Entity, id: Uuid) -> Result<(), ApiError> {
    let snis = app.model.of(SNIS)?;
    let writes = [
        Write::DeleteBelow(&snis.def, CERTIFICATE, id),
        Write::Delete(&entity.def, Key::Id(id)),
    ];
    Ok(app.store.write_all(&writes).await?)
}

/// Puts the names into certificates that are to be shown.
pub(super) async fn add_names(
    app: &App,
    certificates: &mut [Map<String, Value>],
) -> Result<(), ApiError> {
    let id_of = |row: &Map<String, Value>| row.get("id").and_then(Value::as_str).and_then(uuid);
    let ids: Vec<Uuid> = certificates.iter().filter_map(id_of).collect();
    let mut names: BTreeMap<Uuid, BTreeSet<String>> = BTreeMap::new();
    for sni in below(app, &ids).await? {
        if let (Some(certificate), Some(name)) = (reference(&sni, "certificate"), name_of(&sni)) {
            names
                .entry(certificate)
                .or_default()
                .insert(name.to_owned());
        }
    }
    for row in certificates {
        let own = id_of(row).and_then(|id| names.remove(&id));
        row.insert(SNIS.into(), json!(own.unwrap_or_default()));
    }
    Ok(())
}

/// An entity with a row that trusts an authority: its name and the row's id. `None` of entities that are none.
async fn trusted_by(
    app: &App,
    def: &EntityDef,
    id: Uuid,
) -> Result<Option<(&'static str, Uuid)>, ApiError> {
    if def.name != CA_CERTIFICATES {
        return Ok(None);
    }
    let services = app.model.of("services")?;
    let found = app
        .store
        .any_with(&services.def, CA_CERTIFICATES, &id.to_string())
        .await?;
    Ok(found.map(|service| (services.def.name, service)))
}

/// The entity whose rows refer to a row in another way than by a reference that the database knows.
pub(crate) async fn trusting(
    app: &App,
    def: &EntityDef,
    id: Uuid,
) -> Result<Option<&'static str>, ApiError> {
    Ok(trusted_by(app, def, id).await?.map(|(entity, _)| entity))
}

/// Refuses when a service still trusts the authority (`kong/db/dao/ca_certificates.lua`).
pub(super) async fn authority_is_free(
    app: &App,
    entity: &Entity,
    id: Uuid,
) -> Result<(), ApiError> {
    match trusted_by(app, &entity.def, id).await? {
        Some((_, service)) => Err(ApiError::referenced(&format!(
            "ca certificate {id} is still referenced by services (id = {service})"
        ))),
        None => Ok(()),
    }
}

/// The certificate shown for a server name.
async fn owner(app: &App, name: &str) -> Result<Option<Uuid>, ApiError> {
    let snis = app.model.of(SNIS)?;
    snis.check_unique("name", &name.into())
        .map_err(|why| ApiError::invalid_unique("name", &why))?;
    let found = app.store.get(&snis.def, &Key::Unique("name", name)).await?;
    Ok(found.and_then(|sni| reference(&sni, "certificate")))
}

async fn below(app: &App, certificates: &[Uuid]) -> Result<Vec<Row>, ApiError> {
    let snis = app.model.of(SNIS)?;
    Ok(app
        .store
        .below(&snis.def, CERTIFICATE, certificates)
        .await?)
}

fn name_of(sni: &Row) -> Option<&str> {
    sni.get("name").and_then(Value::as_str)
}

/// From the names that a certificate has to those that it is to have.
#[derive(Default)]
struct Change {
    new: Vec<Row>,
    /// Names, and the certificate that loses them.
    gone: Vec<(Uuid, Uuid)>,
}

impl Change {
    async fn to(app: &App, certificate: Uuid, names: &[String]) -> Result<Self, ApiError> {
        let snis = app.model.of(SNIS)?;
        let mut missing: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let mut gone = Vec::new();
        for sni in below(app, &[certificate]).await? {
            if !name_of(&sni).is_some_and(|name| missing.remove(name)) {
                let id = sni.get("id").and_then(Value::as_str).and_then(uuid);
                gone.extend(id.map(|id| (id, certificate)));
            }
        }
        let made = |name: &str| {
            let row = json!({ "name": name, "certificate": { "id": certificate.to_string() } });
            let Value::Object(row) = row else {
                return Ok(Row::new());
            };
            complete(&snis.def, row, Op::Insert, now())
        };
        let new = missing
            .into_iter()
            .map(made)
            .collect::<Result<_, Violations>>()?;
        Ok(Change { new, gone })
    }

    fn write<'a>(&'a self, app: &'a App, out: &mut Vec<Write<'a>>) -> Result<(), ApiError> {
        let snis = app.model.of(SNIS)?;
        // Not those that were given to another certificate meanwhile.
        out.extend(
            self.gone
                .iter()
                .map(|(id, from)| Write::DeleteOneBelow(&snis.def, *id, CERTIFICATE, *from)),
        );
        out.extend(self.new.iter().map(|row| Write::Insert(&snis.def, row)));
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn prepared(body: Value, path: &str, method: Method) -> Value {
        let mut payload = Payload {
            fields: body.as_object().unwrap().clone(),
            is_form: false,
        };
        prepare(&mut payload, path, &method);
        Value::Object(payload.fields)
    }

    #[test]
    fn a_put_says_all_names_and_its_own_is_among_them() {
        let put = |body, path| prepared(body, path, Method::PUT);
        assert_eq!(put(json!({}), "a.test"), json!({ "snis": null }));
        assert_eq!(
            put(json!({ "snis": ["b.test"] }), "a.test"),
            json!({ "snis": ["b.test", "a.test"] })
        );
        assert_eq!(
            put(json!({ "snis": "a.test" }), "a.test"),
            json!({ "snis": ["a.test"] })
        );
        let id = "00000008-0000-4000-8000-000000000001";
        assert_eq!(
            put(json!({ "snis": ["b.test"] }), id),
            json!({ "snis": ["b.test"] })
        );
    }

    #[test]
    fn a_patch_leaves_names_alone_that_it_does_not_name() {
        assert_eq!(prepared(json!({}), "a.test", Method::PATCH), json!({}));
        assert_eq!(
            prepared(json!({ "snis": "b.test" }), "a.test", Method::PATCH),
            json!({ "snis": ["b.test"] })
        );
    }
}
