//! Rows in, one at a time, and rows gone; and the statements that do it.

use std::sync::Arc;

use serde_json::Value;
use silverback_schema::EntityDef;
use uuid::Uuid;

use crate::cell::{Cell, cells};
use crate::memory::read_only;
use crate::table::Table;
use crate::write::{Inserts, Refusal, Step};
use crate::{Key, Row, Store, StoreError, decode, document};

impl Store {
    /// Writes a new row and answers it as it is stored. Null in a field the server fills (id, times) is filled.
    ///
    /// # Errors
    /// `Unique`, `ForeignMissing`, `Invalid`, `Unavailable`, `Internal`.
    pub async fn insert(&self, def: &EntityDef, row: Row) -> Result<Row, StoreError> {
        let table = self.tables().of(def)?;
        self.writable("create", table, None)?;
        self.put(table, table.insert.clone(), row, Some("created_at"), None)
            .await?
            .ok_or_else(nothing)
    }

    /// Replaces a row by a complete new one, whose id is taken to be `id`; without `ttl` it expires when the old one would have. `None` when
    /// there is no such row.
    ///
    /// For a change that depends on what is there, see [`Store::update_with`].
    ///
    /// # Errors
    /// As [`Store::insert`].
    pub async fn update(
        &self,
        def: &EntityDef,
        id: Uuid,
        mut row: Row,
    ) -> Result<Option<Row>, StoreError> {
        let table = self.tables().of(def)?;
        self.writable("update", table, None)?;
        row.insert("id".into(), Value::from(id.to_string()));
        self.put(table, table.update.clone(), row, None, None).await
    }

    /// Writes a row: a new one, or in place of the one with its id.
    ///
    /// # Errors
    /// As [`Store::insert`].
    pub async fn upsert(&self, def: &EntityDef, row: Row) -> Result<Row, StoreError> {
        let table = self.tables().of(def)?;
        self.writable("create or update", table, None)?;
        let sql = table.upsert.clone();
        self.put(table, sql, row, Some("updated_at"), Some("id"))
            .await?
            .ok_or_else(nothing)
    }

    /// Writes a row: a new one, or in place of the one with the same value of the unique field `field`, which keeps its id.
    ///
    /// # Errors
    /// As [`Store::insert`]; `Internal` when the field is not unique.
    pub async fn upsert_by(
        &self,
        def: &EntityDef,
        field: &str,
        row: Row,
    ) -> Result<Row, StoreError> {
        let table = self.tables().of(def)?;
        self.writable("create or update", table, Some(field))?;
        let sql = table.upsert_by(field).ok_or_else(|| {
            StoreError::Internal(format!("{field} of {} is not unique", table.name))
        })?;
        self.put(table, sql.into(), row, Some("updated_at"), Some(field))
            .await?
            .ok_or_else(nothing)
    }

    /// Deletes a row and what hangs on it. False when there is no such row.
    ///
    /// # Errors
    /// `Referenced` when a row that does not go with it points at it; `Unavailable`, `Internal`.
    pub async fn delete(&self, def: &EntityDef, key: &Key<'_>) -> Result<bool, StoreError> {
        let table = self.tables().of(def)?;
        if self.memory().is_some() {
            let there = self.get(def, key).await?.is_some();
            return match key {
                _ if !there => Ok(false),
                Key::Id(_) => Err(read_only("remove", table, None)),
                Key::Unique(field, _) => Err(read_only("remove", table, Some(field))),
            };
        }
        let steps = self.delete_steps(table, key)?;
        match self.carry_out(steps).await {
            Ok(rows) => Ok(!rows.is_empty()),
            Err(Refusal::Store(e)) => Err(e),
            Err(Refusal::Driver(e)) => Err(self.refused(table, &e, &Row::new())),
        }
    }

    /// Deletes rows whose `ttl` is over, of all entities; logged like any other change. Answers how many went.
    ///
    /// # Errors
    /// `Unavailable`, `Internal`.
    pub async fn purge_expired(&self) -> Result<usize, StoreError> {
        if self.memory().is_some() {
            return Ok(0);
        }
        let mut gone = 0;
        for sql in self.tables().list.iter().filter_map(|t| t.purge.clone()) {
            loop {
                let step = Step {
                    sql: sql.clone(),
                    cells: Vec::new(),
                    logged: Some(0),
                    inserts: None,
                    clears: true,
                };
                let n = match self.carry_out(vec![step]).await {
                    Ok(rows) => rows.len(),
                    Err(Refusal::Store(e)) => return Err(e),
                    Err(Refusal::Driver(e)) => return Err(e.into()),
                };
                gone += n;
                if n == 0 {
                    break;
                }
            }
        }
        Ok(gone)
    }

    /// The statements that delete a row; the last answers what went.
    pub(crate) fn delete_steps(
        &self,
        table: &Table,
        key: &Key<'_>,
    ) -> Result<Vec<Step>, StoreError> {
        let (field, value) = self.key(table, key)?;
        let plan = table
            .deletes
            .iter()
            .find(|(f, _)| *f == field)
            .map(|(_, p)| p)
            .ok_or_else(|| {
                StoreError::Internal(format!("{field} of {} is not unique", table.name))
            })?;
        let mut steps: Vec<Step> = plan
            .locks
            .iter()
            .map(|sql| Step {
                sql: sql.clone(),
                cells: vec![value.clone()],
                logged: None,
                inserts: None,
                clears: false,
            })
            .collect();
        steps.push(Step {
            sql: plan.delete.clone(),
            cells: vec![value],
            logged: Some(0),
            inserts: None,
            clears: false,
        });
        Ok(steps)
    }

    /// The statements that write `row`; the last is `sql`. `lock`: the field by which a row is found that may be there already.
    pub(crate) fn put_steps(
        &self,
        table: &Table,
        sql: Arc<str>,
        row: &Row,
        base: Option<&str>,
        lock: Option<&str>,
    ) -> Result<Vec<Step>, StoreError> {
        self.check_foreigns(table, row)?;
        let cells = cells(table, row, base)?;
        let inserts = match cells.first() {
            Some(Cell::Uuid(id)) if Arc::ptr_eq(&sql, &table.insert) => Some(Inserts {
                entity: table.name,
                id: *id,
                alone: table.insert_alone.clone(),
                document: if self.documents() {
                    document::of_cells(table, row, &cells)
                } else {
                    Cell::Null
                },
            }),
            _ => None,
        };
        let lock = lock.and_then(|field| {
            let at = table.columns.iter().position(|c| c.field == field)?;
            Some(Step {
                sql: table.lock_by(field)?.into(),
                cells: vec![cells.get(at)?.clone()],
                logged: None,
                inserts: None,
                clears: false,
            })
        });
        let write = Step {
            sql,
            cells,
            logged: Some(table.row_len()),
            inserts,
            clears: false,
        };
        // What has expired but is still there must not be in the way of a new row with the same values.
        let purge = table.purge.as_ref().map(|purge| Step {
            sql: purge.clone(),
            cells: Vec::new(),
            logged: Some(0),
            inserts: None,
            clears: true,
        });
        Ok(purge.into_iter().chain(lock).chain([write]).collect())
    }

    /// Writes `row` with a statement that takes its cells.
    async fn put(
        &self,
        table: &Table,
        sql: Arc<str>,
        row: Row,
        base: Option<&str>,
        lock: Option<&str>,
    ) -> Result<Option<Row>, StoreError> {
        let steps = self.put_steps(table, sql, &row, base, lock)?;
        match self.carry_out(steps).await {
            Ok(rows) => rows.first().map(|r| decode::json(table, r)).transpose(),
            Err(Refusal::Store(e)) => Err(e),
            Err(Refusal::Driver(e)) => Err(self.refused(table, &e, &row)),
        }
    }

    /// References to entities that have no table (yet) point at nothing.
    pub(crate) fn check_foreigns(&self, table: &Table, row: &Row) -> Result<(), StoreError> {
        for f in table.foreigns.iter().filter(|f| !f.known) {
            if let Some(id) = row.get(f.field).and_then(|v| v.get("id")) {
                return Err(StoreError::ForeignMissing {
                    field: f.field,
                    entity: f.to,
                    id: id.clone(),
                });
            }
        }
        Ok(())
    }

    pub(crate) fn refused(
        &self,
        table: &Table,
        e: &tokio_postgres::Error,
        row: &Row,
    ) -> StoreError {
        StoreError::of_write(e, table, self.tables(), |f| {
            row.get(f).cloned().unwrap_or(Value::Null)
        })
    }
}

fn nothing() -> StoreError {
    StoreError::Internal("an insert answered no row".into())
}
