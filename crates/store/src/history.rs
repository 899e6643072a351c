//! The change log as a history: what happened under which revision, by whom.

use serde_json::Value;
use tokio_postgres::Row as PgRow;
use uuid::Uuid;

use crate::cell::Cell;
use crate::decode::{raw, value};
use crate::page::{parse_token, token};
use crate::table::ColumnType;
use crate::{Page, Row, Store, StoreError};

/// What was written under one revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// Its number.
    pub revision: i64,
    /// When, in seconds since 1970, to the millisecond.
    pub at: f64,
    /// Who: what [`Store::acting_as`] was told; `None` when the gateway did it by itself.
    pub actor: Option<String>,
    /// How many rows were inserted.
    pub inserted: i64,
    /// How many were changed.
    pub updated: i64,
    /// How many were deleted.
    pub deleted: i64,
    /// The entities of these rows.
    pub entities: Vec<String>,
}

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// It is new.
    Insert,
    /// It was changed.
    Update,
    /// It is gone.
    Delete,
}

impl Op {
    /// `insert`, `update`, `delete`.
    pub fn as_str(self) -> &'static str {
        match self {
            Op::Insert => "insert",
            Op::Update => "update",
            Op::Delete => "delete",
        }
    }
}

/// One row's part in a revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The row's entity.
    pub entity: String,
    /// The row's id.
    pub id: Uuid,
    /// What happened to it.
    pub op: Op,
    /// The row before; `None` of a new one, and when it was not kept. In the form of [`Row`], but with `expires_at` (seconds since 1970) in
    /// place of `ttl`.
    pub before: Option<Row>,
    /// The row after.
    pub after: Option<Row>,
}

const REVISIONS: &str = "select revision, min(at), min(actor), count(*) filter (where op = 'insert'), \
     count(*) filter (where op = 'update'), count(*) filter (where op = 'delete'), array_agg(distinct entity order by entity) \
     from config_changes";

impl Store {
    /// The revisions that are remembered, newest first.
    ///
    /// # Errors
    /// `BadOffset`, `Unavailable`, `Internal`.
    pub async fn revisions(
        &self,
        size: u32,
        offset: Option<&str>,
    ) -> Result<Page<Revision>, StoreError> {
        let below = match offset {
            None => i64::MAX,
            Some(offset) => {
                let list = parse_token(offset)?;
                let number = list.first().and_then(Value::as_i64);
                number.ok_or_else(|| StoreError::BadOffset {
                    offset: offset.to_owned(),
                    reason: "bad json encoding",
                })?
            }
        };
        let size = size.max(1) as usize;
        let sql = format!(
            "{REVISIONS} where revision < $1 group by revision order by revision desc limit $2"
        );
        let found = self
            .query(&sql, &[Cell::Int(below), Cell::Int(size as i64 + 1)])
            .await?;
        let rows = found
            .iter()
            .take(size)
            .map(revision)
            .collect::<Result<Vec<_>, _>>()?;
        let last = rows.last().filter(|_| found.len() > size);
        let next = last.map(|r| token(&[Value::from(r.revision)]));
        Ok(Page { rows, next })
    }

    /// One revision with its changes, in their order; `None` when it is not remembered.
    ///
    /// # Errors
    /// `Unavailable`, `Internal`.
    pub async fn revision(&self, n: i64) -> Result<Option<(Revision, Vec<Change>)>, StoreError> {
        let sql = format!("{REVISIONS} where revision = $1 group by revision");
        let found = self.query(&sql, &[Cell::Int(n)]).await?;
        let Some(head) = found.first() else {
            return Ok(None);
        };
        let sql = "select entity, entity_id, op, before, after from config_changes where revision = $1 order by id";
        let rows = self.query(sql, &[Cell::Int(n)]).await?;
        let changes = rows.iter().map(change).collect::<Result<_, _>>()?;
        Ok(Some((revision(head)?, changes)))
    }

    /// Of these rows, one that was changed after revision `n`, and the revision that did it.
    ///
    /// # Errors
    /// `Unavailable`, `Internal`.
    pub async fn changed_after(
        &self,
        n: i64,
        ids: &[Uuid],
    ) -> Result<Option<(String, Uuid, i64)>, StoreError> {
        let sql = "select entity, entity_id, revision from config_changes \
             where revision > $1 and entity_id = any($2::text[]::uuid[]) order by id limit 1";
        let ids = Cell::Texts(ids.iter().map(Uuid::to_string).collect());
        let rows = self.query(sql, &[Cell::Int(n), ids]).await?;
        let found = rows
            .first()
            .map(|r| Ok::<_, StoreError>((r.try_get(0)?, r.try_get(1)?, r.try_get(2)?)));
        found.transpose()
    }
}

fn revision(row: &PgRow) -> Result<Revision, StoreError> {
    let bad = |e: serde_json::Error| StoreError::Internal(format!("the change log: {e}"));
    Ok(Revision {
        revision: row.try_get(0)?,
        at: value(ColumnType::Fraction, raw(row, 1)?)
            .map_err(bad)?
            .as_f64()
            .unwrap_or_default(),
        actor: row.try_get(2)?,
        inserted: row.try_get(3)?,
        updated: row.try_get(4)?,
        deleted: row.try_get(5)?,
        entities: row.try_get(6)?,
    })
}

fn change(row: &PgRow) -> Result<Change, StoreError> {
    let document = |at: usize| match value(ColumnType::Json, raw(row, at)?) {
        Ok(Value::Object(document)) => Ok(Some(document)),
        Ok(_) => Ok(None),
        Err(e) => Err(StoreError::Internal(format!("the change log: {e}"))),
    };
    Ok(Change {
        entity: row.try_get(0)?,
        id: row.try_get(1)?,
        op: match row.try_get(2)? {
            "insert" => Op::Insert,
            "update" => Op::Update,
            _ => Op::Delete,
        },
        before: document(3)?,
        after: document(4)?,
    })
}
