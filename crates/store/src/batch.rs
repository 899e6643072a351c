//! Several writes that happen together or not at all.

use silverback_schema::EntityDef;
use uuid::Uuid;

use crate::cell::Cell;
use crate::decode;
use crate::document;
use crate::sql::{literal, quote};
use crate::table::Table;
use crate::write::{Refusal, Step};
use crate::{Key, Row, Store, StoreError};

/// One write of several.
#[derive(Debug, Clone, Copy)]
pub enum Write<'a> {
    /// A new row.
    Insert(&'a EntityDef, &'a Row),
    /// A new row, or in place of the one with its id.
    Upsert(&'a EntityDef, &'a Row),
    /// A row goes, with what hangs on it.
    Delete(&'a EntityDef, Key<'a>),
    /// All rows go whose foreign field of that name points at a row; nothing may hang on them.
    DeleteBelow(&'a EntityDef, &'static str, Uuid),
    /// The row with that id goes, if its foreign field still points at that other one; nothing may hang on it.
    DeleteOneBelow(&'a EntityDef, Uuid, &'static str, Uuid),
}

impl<'a> Write<'a> {
    fn def(&self) -> &'a EntityDef {
        match *self {
            Write::Insert(def, _)
            | Write::Upsert(def, _)
            | Write::Delete(def, _)
            | Write::DeleteBelow(def, ..)
            | Write::DeleteOneBelow(def, ..) => def,
        }
    }

    fn row(&self) -> Option<&'a Row> {
        match *self {
            Write::Insert(_, row) | Write::Upsert(_, row) => Some(row),
            Write::Delete(..) | Write::DeleteBelow(..) | Write::DeleteOneBelow(..) => None,
        }
    }
}

impl Store {
    /// Carries all of these out in one transaction, in their order, under one revision.
    ///
    /// # Errors
    /// As [`Store::insert`] and [`Store::delete`], of the first that cannot be; then none of them has happened.
    pub async fn write_all(&self, writes: &[Write<'_>]) -> Result<(), StoreError> {
        if let Some(first) = writes.first() {
            let verb = match first {
                Write::Insert(..) => "create",
                Write::Upsert(..) => "create or update",
                Write::Delete(..) | Write::DeleteBelow(..) | Write::DeleteOneBelow(..) => "remove",
            };
            self.writable(verb, self.tables().of(first.def())?, None)?;
        }
        let mut steps = Vec::new();
        for write in writes {
            self.steps(write, &mut steps)?;
        }
        match self.carry_out(steps).await {
            Ok(_) => Ok(()),
            Err(Refusal::Store(e)) => Err(e),
            Err(Refusal::Driver(e)) => Err(self.blame(writes, &e)),
        }
    }

    /// All rows whose foreign field points at one of these, in the order of their ids.
    ///
    /// # Errors
    /// `Unavailable`, `Internal`.
    pub async fn below(
        &self,
        def: &EntityDef,
        field: &str,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, StoreError> {
        let table = self.tables().of(def)?;
        if let Some(memory) = self.memory() {
            let points = |row: &Row| {
                let id = row
                    .get(field)
                    .and_then(|v| v.get("id")?.as_str()?.parse().ok());
                id.is_some_and(|id: Uuid| ids.contains(&id))
            };
            return Ok(memory.content().all(table, None).filter(points).collect());
        }
        let column = column(table, field)?;
        let sql = format!(
            "select {} from {} where {column} = any($1::text[]::uuid[]) and {} order by id{}",
            table.row,
            quote(table.name),
            table.alive,
            self.lock_clause()
        );
        let ids = Cell::Texts(ids.iter().map(Uuid::to_string).collect());
        let rows = self.query(&sql, &[ids]).await?;
        rows.iter().map(|r| decode::json(table, r)).collect()
    }

    /// The id of a row whose list `field` contains that text.
    ///
    /// # Errors
    /// `Unavailable`, `Internal`.
    pub async fn any_with(
        &self,
        def: &EntityDef,
        field: &str,
        element: &str,
    ) -> Result<Option<Uuid>, StoreError> {
        let table = self.tables().of(def)?;
        if let Some(memory) = self.memory() {
            let content = memory.content();
            let mut rows = content.all(table, None);
            let has = |row: &Row| {
                let list = row.get(field).and_then(serde_json::Value::as_array);
                list.is_some_and(|list| list.iter().any(|v| v == element))
            };
            let found = rows.find(has);
            return Ok(found.as_ref().and_then(crate::memory::id_of));
        }
        let column = column(table, field)?;
        let sql = format!(
            "select id from {} where {column} is not null and {column} @> $1 and {} limit 1",
            quote(table.name),
            table.alive
        );
        let list = Cell::Json(serde_json::Value::from(vec![element]).to_string());
        let rows = self.query(&sql, &[list]).await?;
        Ok(rows.first().map(|r| r.try_get(0)).transpose()?)
    }

    fn steps(&self, write: &Write<'_>, out: &mut Vec<Step>) -> Result<(), StoreError> {
        let table = self.tables().of(write.def())?;
        match *write {
            Write::Insert(_, row) | Write::Upsert(_, row) => {
                let (sql, lock) = match write {
                    Write::Insert(..) => (&table.insert, None),
                    _ => (&table.upsert, Some("id")),
                };
                out.extend(self.put_steps(table, sql.clone(), row, Some("created_at"), lock)?);
            }
            Write::Delete(_, key) => out.extend(self.delete_steps(table, &key)?),
            Write::DeleteBelow(_, field, id) => {
                let condition = format!("{} = $1", column(table, field)?);
                out.push(delete_step(table, &condition, vec![Cell::Uuid(id)]));
            }
            Write::DeleteOneBelow(_, id, field, parent) => {
                let condition = format!("{} = $1 and id = $2", column(table, field)?);
                let cells = vec![Cell::Uuid(parent), Cell::Uuid(id)];
                out.push(delete_step(table, &condition, cells));
            }
        }
        Ok(())
    }

    /// The driver says which table and which constraint; of several rows of that table, the one whose values it quotes is to blame.
    fn blame(&self, writes: &[Write<'_>], e: &tokio_postgres::Error) -> StoreError {
        let db = e.as_db_error();
        let table = db.and_then(|db| db.table()).unwrap_or_default();
        let detail = db.and_then(|db| db.detail()).unwrap_or_default();
        let quoted = |row: &Row| {
            let unique = self.tables().get(table).map(|t| t.def.unique_fields());
            let mut values = unique
                .into_iter()
                .flatten()
                .filter_map(|f| row.get(f)?.as_str());
            values.any(|v| detail.contains(&format!("=({v})")))
        };
        let of_table = || writes.iter().filter(|w| w.def().name == table);
        let found = of_table()
            .find(|w| w.row().is_some_and(quoted))
            .or_else(|| of_table().next())
            .or_else(|| writes.last());
        let Some(write) = found else {
            return StoreError::from_driver(e);
        };
        // A row that cannot go because of another table's is to blame itself.
        let write = match write.row() {
            Some(_) => write,
            None => writes
                .iter()
                .rfind(|w| matches!(w, Write::Delete(..)))
                .unwrap_or(write),
        };
        match self.tables().of(write.def()) {
            Ok(table) => self.refused(table, e, write.row().unwrap_or(&Row::new())),
            Err(e) => e,
        }
    }
}

/// Deletes rows that nothing hangs on.
fn delete_step(table: &Table, condition: &str, cells: Vec<Cell>) -> Step {
    let sql = format!(
        "delete from {} where {condition} returning {}, id, 'delete', {}, null::jsonb",
        quote(table.name),
        literal(table.name),
        document::of_row(table.name, &table.columns, table.def.ttl)
    );
    Step {
        sql: sql.into(),
        cells,
        logged: Some(0),
        inserts: None,
        clears: false,
    }
}

fn column(table: &Table, field: &str) -> Result<String, StoreError> {
    let column = table
        .column(field)
        .ok_or_else(|| StoreError::Internal(format!("{} has no {field}", table.name)))?;
    Ok(quote(&column.name))
}
