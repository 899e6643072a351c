//! Rows out: one, a page, or only whether they are there.

use std::collections::HashSet;

use serde_json::Value;
use silverback_schema::EntityDef;
use uuid::Uuid;

use crate::cell::{Cell, cell};
use crate::sql::quote;
use crate::table::{ColumnType, Table};
use crate::{Key, ListQuery, Page, Row, Store, StoreError, TagFilter, decode, page};

impl Store {
    /// One row.
    ///
    /// # Errors
    /// `Unavailable`, `Internal`; `Invalid` for a key no row can have.
    pub async fn get(&self, def: &EntityDef, key: &Key<'_>) -> Result<Option<Row>, StoreError> {
        let table = self.tables().of(def)?;
        if let Some(memory) = self.memory() {
            return Ok(memory.content().get(table, key));
        }
        let (condition, value) = self.condition(table, key)?;
        let sql = format!(
            "select {} from {} where {condition}{}",
            table.row,
            quote(table.name),
            self.lock_clause()
        );
        let rows = self.query(&sql, &[value]).await?;
        rows.first().map(|r| decode::json(table, r)).transpose()
    }

    /// The row below another one, by a field whose values are unique there: the foreign field and the id it points at, the field and its
    /// value.
    ///
    /// # Errors
    /// `Unavailable`, `Internal`; `Invalid` for a value no row can have.
    pub async fn get_below(
        &self,
        def: &EntityDef,
        parent: (&str, Uuid),
        key: (&str, &str),
    ) -> Result<Option<Row>, StoreError> {
        let table = self.tables().of(def)?;
        if let Some(memory) = self.memory() {
            return Ok(memory.content().get_below(table, parent, key));
        }
        let column = table
            .column(parent.0)
            .ok_or_else(|| StoreError::Internal(format!("{} has no {}", table.name, parent.0)))?;
        let (condition, value) = self.condition(table, &Key::Unique(key.0, key.1))?;
        let sql = format!(
            "select {} from {} where {condition} and {} = $2{}",
            table.row,
            quote(table.name),
            quote(&column.name),
            self.lock_clause()
        );
        let rows = self.query(&sql, &[value, Cell::Uuid(parent.1)]).await?;
        rows.first().map(|r| decode::json(table, r)).transpose()
    }

    /// A page of a collection in the order of the ids.
    ///
    /// # Errors
    /// `BadOffset`, `Unavailable`, `Internal`.
    pub async fn list(&self, def: &EntityDef, q: &ListQuery) -> Result<Page, StoreError> {
        let table = self.tables().of(def)?;
        if let Some(memory) = self.memory() {
            return memory.content().list(table, q);
        }
        let mut values = Vec::new();
        let mut sql = format!(
            "select {} from {} where {}",
            table.row,
            quote(table.name),
            table.alive
        );
        let mut and = |condition: &str, value: Cell| {
            values.push(value);
            sql.push_str(&format!(" and {condition} ${}", values.len()));
        };
        if let Some((field, id)) = q.parent {
            let column = table
                .column(field)
                .ok_or_else(|| StoreError::Internal(format!("{} has no {field}", table.name)))?;
            and(&format!("{} =", quote(&column.name)), Cell::Uuid(id));
        }
        match &q.tags {
            Some(TagFilter::All(tags)) => and("tags @>", Cell::Texts(tags.clone())),
            Some(TagFilter::Any(tags)) => and("tags &&", Cell::Texts(tags.clone())),
            None => {}
        }
        if let Some(offset) = &q.offset {
            and("id >", Cell::Uuid(page::token_id(offset)?));
        }
        let size = q.size.max(1) as usize;
        sql.push_str(&format!(" order by id limit ${}", values.len() + 1));
        values.push(Cell::Int(size as i64 + 1));
        let found = self.query(&sql, &values).await?;
        let rows = found
            .iter()
            .take(size)
            .map(|r| decode::json(table, r))
            .collect::<Result<Vec<_>, _>>()?;
        let last = if found.len() > size {
            rows.last().and_then(|r| r.get("id"))
        } else {
            None
        };
        let next = last.map(|id| page::token(std::slice::from_ref(id)));
        Ok(Page { rows, next })
    }

    /// The id of the row whose endpoint key (its name) is `value`.
    ///
    /// # Errors
    /// `Unavailable`, `Internal`; `Invalid` for a name no row can have.
    pub async fn resolve(&self, def: &EntityDef, value: &str) -> Result<Option<Uuid>, StoreError> {
        let table = self.tables().of(def)?;
        let Some(field) = def.endpoint_key else {
            return Ok(None);
        };
        if let Some(memory) = self.memory() {
            let row = memory.content().get(table, &Key::Unique(field, value));
            return Ok(row.as_ref().and_then(crate::memory::id_of));
        }
        let (condition, value) = self.condition(table, &Key::Unique(field, value))?;
        let rows = self
            .query(
                &format!("select id from {} where {condition}", quote(table.name)),
                &[value],
            )
            .await?;
        Ok(rows.first().map(|r| r.try_get(0)).transpose()?)
    }

    /// Which of these ids are there.
    ///
    /// # Errors
    /// `Unavailable`, `Internal`.
    pub async fn exists_many(
        &self,
        def: &EntityDef,
        ids: &[Uuid],
    ) -> Result<HashSet<Uuid>, StoreError> {
        let table = self.tables().of(def)?;
        if let Some(memory) = self.memory() {
            let content = memory.content();
            let there = |id: &&Uuid| content.get(table, &Key::Id(**id)).is_some();
            return Ok(ids.iter().filter(there).copied().collect());
        }
        let sql = format!(
            "select id from {} where id = any($1::text[]::uuid[]) and {}",
            quote(table.name),
            table.alive
        );
        let rows = self
            .query(
                &sql,
                &[Cell::Texts(ids.iter().map(Uuid::to_string).collect())],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|r| r.try_get(0))
            .collect::<Result<_, _>>()?)
    }

    /// The condition that finds the row, with `$1` for the value.
    pub(crate) fn condition(
        &self,
        table: &Table,
        key: &Key<'_>,
    ) -> Result<(String, Cell), StoreError> {
        let (field, value) = self.key(table, key)?;
        let column = table.column(field).map_or(field, |c| c.name.as_str());
        Ok((format!("{} = $1 and {}", quote(column), table.alive), value))
    }

    pub(crate) fn key<'k>(
        &self,
        table: &Table,
        key: &Key<'k>,
    ) -> Result<(&'k str, Cell), StoreError> {
        match *key {
            Key::Id(id) => Ok(("id", Cell::Uuid(id))),
            Key::Unique(field, value) => {
                let column = table.column(field).ok_or_else(|| {
                    StoreError::Internal(format!("{} has no {field}", table.name))
                })?;
                let ty = if column.ty == ColumnType::Ref {
                    ColumnType::Uuid
                } else {
                    column.ty
                };
                let value = cell(ty, &Value::from(value)).ok_or_else(|| {
                    StoreError::Invalid(format!("{field}: no row has such a value"))
                })?;
                Ok((field, value))
            }
        }
    }
}
