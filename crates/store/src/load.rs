//! Everything a node serves from, read at one moment.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;
use futures::future::BoxFuture;
use serde_json::{Map, Value};
use silverback_entities as entities;
use silverback_entities::{CredentialRow, IssuedRow};
use tokio_postgres::{Client, Error, Row as PgRow, Statement};
use uuid::Uuid;

use crate::cell::Cell;
use crate::decode::{raw, typed, value};
use crate::pool::{in_order, plain, rows};
use crate::sql::quote;
use crate::table::{ColumnType, Table, Tables};
use crate::{Store, StoreError};

/// Reads in which nothing moves.
pub(crate) const BEGIN: &str =
    "begin isolation level repeatable read read only; set local statement_timeout = 0";

/// Where the change log is.
pub(crate) const HEAD: &str = "select revision, pruned, epoch from config_revision";

/// The longest a full load may take.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(120);

impl Store {
    /// Reads all rows that a node serves from, as they were at one moment. Rows that cannot be read are reported in the log and left out.
    ///
    /// # Errors
    /// `Unavailable`, `Internal`.
    pub async fn load(&self) -> Result<entities::Tables, StoreError> {
        if let Some(memory) = self.memory() {
            // It may take a while, and reads nothing: not on the threads that wait for others.
            let (content, store) = (memory.content(), self.clone());
            let served = tokio::task::spawn_blocking(move || content.served(store.tables()));
            return served
                .await
                .map_err(|e| StoreError::Internal(format!("loading stopped: {e}")));
        }
        let lease = self.pool().get().await?;
        let work = async {
            let head = lease.prepare_cached(HEAD).await?;
            let answers = in_order(vec![
                plain(&lease, BEGIN),
                Box::pin(rows(&lease, &head, &[])),
            ])
            .await;
            let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
            let revision = answers[1]
                .first()
                .map(|r| r.try_get(0))
                .transpose()?
                .unwrap_or_default();
            let tables = all(&lease, self.tables(), revision).await?;
            lease.batch_execute("commit").await?;
            Ok::<_, StoreError>(tables)
        };
        let tables = tokio::time::timeout(LIMIT, work)
            .await
            .map_err(|_| StoreError::Unavailable("loading took too long".into()))??;
        lease.keep();
        Ok(tables)
    }
}

/// What a node does with the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    Service,
    Route,
    Consumer,
    Plugin,
    Certificate,
    Vault,
    Upstream,
    Target,
    /// Looked up while serving, and a consumer's.
    Credential,
    /// Looked up while serving, and no consumer's.
    Issued,
}

fn served(table: &Table) -> Option<Served> {
    match table.name {
        "services" => Some(Served::Service),
        "routes" => Some(Served::Route),
        "consumers" => Some(Served::Consumer),
        "plugins" => Some(Served::Plugin),
        "certificates" => Some(Served::Certificate),
        "vaults" => Some(Served::Vault),
        "upstreams" => Some(Served::Upstream),
        "targets" => Some(Served::Target),
        _ if table.def.lookup.is_some() && table.column("consumer").is_some() => {
            Some(Served::Credential)
        }
        _ if table.def.lookup.is_some() => Some(Served::Issued),
        _ => None,
    }
}

/// Fields of a credential that no node needs; those with a place of their own are left out too.
fn is_extra(table: &Table, field: &str) -> bool {
    !["id", "consumer", "created_at", "updated_at", "tags"].contains(&field)
        && table.def.lookup != Some(field)
}

/// The fields of what was given out that have no place of their own.
fn is_issued(table: &Table, field: &str) -> bool {
    field != "id" && table.def.lookup != Some(field)
}

/// The columns a node needs.
fn select(table: &Table, served: Served) -> String {
    let lookup = quote(table.def.lookup.unwrap_or("id"));
    let end = if table.def.ttl {
        "expires_at"
    } else {
        "null::timestamptz"
    };
    let others = |wanted: fn(&Table, &str) -> bool| {
        let columns = table.columns.iter().filter(|c| wanted(table, c.field));
        columns.map(|c| quote(&c.name)).collect::<Vec<_>>()
    };
    let columns = match served {
        Served::Credential => {
            let mut list = vec!["id".to_owned(), "consumer_id".to_owned(), lookup];
            list.push(end.to_owned());
            list.extend(others(is_extra));
            list.join(", ")
        }
        Served::Issued => {
            let mut list = vec!["id".to_owned(), lookup, end.to_owned()];
            list.extend(others(is_issued));
            list.join(", ")
        }
        _ => table.row.clone(),
    };
    format!(
        "select {columns} from {} where {}",
        quote(table.name),
        table.alive
    )
}

fn read(table: &Table, served: Served, row: &PgRow) -> Result<(Uuid, entities::Row), StoreError> {
    let id: Uuid = row.try_get(0)?;
    let row = match served {
        Served::Service => entities::Row::Service(typed(table, row)?),
        Served::Route => entities::Row::Route(typed(table, row)?),
        Served::Consumer => entities::Row::Consumer(typed(table, row)?),
        Served::Plugin => entities::Row::Plugin(typed(table, row)?),
        Served::Certificate => entities::Row::Certificate(typed(table, row)?),
        Served::Vault => entities::Row::Vault(typed(table, row)?),
        Served::Upstream => entities::Row::Upstream(Box::new(typed(table, row)?)),
        Served::Target => entities::Row::Target(typed(table, row)?),
        Served::Credential => entities::Row::Credential(credential(table, id, row)?),
        Served::Issued => entities::Row::Issued(issued(table, id, row)?),
    };
    Ok((id, row))
}

/// A row in JSON as a node serves from it; `None` of an entity that no node serves from.
pub(crate) fn from_json(
    table: &Table,
    row: &crate::Row,
    expires_at: Option<i64>,
) -> Result<Option<entities::Row>, StoreError> {
    fn typed<T: serde::de::DeserializeOwned>(
        table: &Table,
        row: &crate::Row,
    ) -> Result<T, StoreError> {
        serde_json::from_value(serde_json::Value::Object(row.clone())).map_err(|e| {
            StoreError::Internal(format!("a row of {} cannot be read: {e}", table.name))
        })
    }
    let Some(served) = served(table) else {
        return Ok(None);
    };
    Ok(Some(match served {
        Served::Service => entities::Row::Service(typed(table, row)?),
        Served::Route => entities::Row::Route(typed(table, row)?),
        Served::Consumer => entities::Row::Consumer(typed(table, row)?),
        Served::Plugin => entities::Row::Plugin(typed(table, row)?),
        Served::Certificate => entities::Row::Certificate(typed(table, row)?),
        Served::Vault => entities::Row::Vault(typed(table, row)?),
        Served::Upstream => entities::Row::Upstream(Box::new(typed(table, row)?)),
        Served::Target => entities::Row::Target(typed(table, row)?),
        Served::Credential => {
            let row = CredentialRow::from_row(&table.def, row.clone(), expires_at);
            entities::Row::Credential(row.ok_or_else(|| {
                StoreError::Internal(format!(
                    "a row of {} lacks its consumer or its {}",
                    table.name,
                    table.def.lookup.unwrap_or("id")
                ))
            })?)
        }
        Served::Issued => {
            let row = IssuedRow::from_row(&table.def, row.clone(), expires_at);
            entities::Row::Issued(row.ok_or_else(|| {
                StoreError::Internal(format!(
                    "a row of {} lacks its {}",
                    table.name,
                    table.def.lookup.unwrap_or("id")
                ))
            })?)
        }
    }))
}

fn credential(table: &Table, id: Uuid, row: &PgRow) -> Result<CredentialRow, StoreError> {
    let (expires_at, extra) = end_and_others(table, id, row, 3, is_extra)?;
    Ok(CredentialRow {
        id,
        consumer: row.try_get(1)?,
        lookup: row.try_get::<_, &str>(2)?.into(),
        expires_at,
        extra,
    })
}

fn issued(table: &Table, id: Uuid, row: &PgRow) -> Result<IssuedRow, StoreError> {
    let (expires_at, fields) = end_and_others(table, id, row, 2, is_issued)?;
    Ok(IssuedRow {
        id,
        lookup: row.try_get::<_, &str>(1)?.into(),
        expires_at,
        fields,
    })
}

/// The column `at`, which says when the row expires, and those after it that are not null.
fn end_and_others(
    table: &Table,
    id: Uuid,
    row: &PgRow,
    at: usize,
    wanted: fn(&Table, &str) -> bool,
) -> Result<(Option<i64>, Map<String, Value>), StoreError> {
    let bad = |e: serde_json::Error| {
        StoreError::Internal(format!("{} {id} cannot be read: {e}", table.name))
    };
    let end = value(ColumnType::Seconds, raw(row, at)?).map_err(bad)?;
    let mut others = Map::new();
    let columns = table.columns.iter().filter(|c| wanted(table, c.field));
    for (i, c) in columns.enumerate() {
        if let Some(bytes) = raw(row, at + 1 + i)? {
            others.insert(c.field.to_owned(), value(c.ty, Some(bytes)).map_err(bad)?);
        }
    }
    Ok((end.as_i64(), others))
}

/// All rows, within a transaction that is already begun.
pub(crate) async fn all(
    client: &Client,
    tables: &Tables,
    revision: i64,
) -> Result<entities::Tables, StoreError> {
    let mut statements: Vec<(&Table, Served, Statement)> = Vec::new();
    for table in &tables.list {
        if let Some(served) = served(table) {
            statements.push((table, served, client.prepare(&select(table, served)).await?));
        }
    }
    // All are asked for at once; Postgres works on the next while this side still reads the last.
    let parts = statements.iter().map(|(t, served, s)| {
        Box::pin(part(client, t, *served, s)) as BoxFuture<'_, Result<entities::Tables, StoreError>>
    });
    let mut out = entities::Tables {
        revision,
        ..entities::Tables::default()
    };
    for ((_, served, _), part) in statements.iter().zip(in_order(parts.collect()).await) {
        let part: entities::Tables = part?;
        match served {
            Served::Service => out.services = part.services,
            Served::Route => out.routes = part.routes,
            Served::Consumer => out.consumers = part.consumers,
            Served::Plugin => out.plugins = part.plugins,
            Served::Certificate => out.certificates = part.certificates,
            Served::Vault => out.vaults = part.vaults,
            Served::Upstream => out.upstreams = part.upstreams,
            Served::Target => out.targets = part.targets,
            Served::Credential => out.credentials.extend(part.credentials),
            Served::Issued => out.issued.extend(part.issued),
        }
    }
    Ok(out)
}

/// The rows of one table.
async fn part(
    client: &Client,
    table: &Table,
    served: Served,
    statement: &Statement,
) -> Result<entities::Tables, StoreError> {
    let mut stream = std::pin::pin!(
        client
            .query_raw(statement, std::iter::empty::<Cell>())
            .await?
    );
    let mut out = entities::Tables::default();
    let mut credentials = HashMap::new();
    let mut issued = HashMap::new();
    while let Some(row) = stream.try_next().await? {
        match read(table, served, &row) {
            Ok((id, entities::Row::Credential(r))) => drop(credentials.insert(id, Arc::new(r))),
            Ok((id, entities::Row::Issued(r))) => drop(issued.insert(id, Arc::new(r))),
            Ok((id, entities::Row::Service(r))) => drop(out.services.insert(id, Arc::new(r))),
            Ok((id, entities::Row::Route(r))) => drop(out.routes.insert(id, Arc::new(r))),
            Ok((id, entities::Row::Consumer(r))) => drop(out.consumers.insert(id, Arc::new(r))),
            Ok((id, entities::Row::Plugin(r))) => drop(out.plugins.insert(id, Arc::new(r))),
            Ok((id, entities::Row::Certificate(r))) => {
                drop(out.certificates.insert(id, Arc::new(r)));
            }
            Ok((id, entities::Row::Vault(r))) => drop(out.vaults.insert(id, Arc::new(r))),
            Ok((id, entities::Row::Upstream(r))) => drop(out.upstreams.insert(id, Arc::from(r))),
            Ok((id, entities::Row::Target(r))) => drop(out.targets.insert(id, Arc::new(r))),
            Err(e) => tracing::error!("left out: {e}"),
        }
    }
    if served == Served::Credential {
        out.credentials.insert(table.name.to_owned(), credentials);
    }
    if served == Served::Issued {
        out.issued.insert(table.name.to_owned(), issued);
    }
    Ok(out)
}

/// These rows as they are now, within a transaction that is already begun: one change per id, those of entities that no node serves
/// from left out. A row that cannot be read is reported and left out, so that whoever has an older one keeps it.
pub(crate) async fn some(
    client: &Client,
    tables: &Tables,
    wanted: &[(String, Vec<Uuid>)],
) -> Result<Vec<entities::Change>, StoreError> {
    let mut statements = Vec::new();
    for (entity, ids) in wanted {
        let Some((table, served)) = tables.get(entity).and_then(|t| served(t).map(|s| (t, s)))
        else {
            continue;
        };
        let sql = format!("{} and id = any($1)", select(table, served));
        statements.push((table, served, ids, client.prepare(&sql).await?));
    }
    let answers = in_order(
        statements
            .iter()
            .map(|(_, _, ids, s)| {
                Box::pin(async move { client.query(s, &[ids]).await })
                    as BoxFuture<'_, Result<Vec<PgRow>, Error>>
            })
            .collect(),
    )
    .await;
    let mut out = Vec::new();
    for ((table, served, ids, _), answer) in statements.iter().zip(answers) {
        let mut gone: HashSet<Uuid> = ids.iter().copied().collect();
        for row in answer? {
            gone.remove(&row.try_get(0)?);
            match read(table, *served, &row) {
                Ok((id, row)) => {
                    out.push(entities::Change {
                        entity: table.name.to_owned(),
                        id,
                        row: Some(row),
                    });
                }
                Err(e) => tracing::error!("kept as it was: {e}"),
            }
        }
        out.extend(gone.into_iter().map(|id| entities::Change {
            entity: table.name.to_owned(),
            id,
            row: None,
        }));
    }
    Ok(out)
}
