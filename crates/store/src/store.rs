//! [`Store`]: rows in and out.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use serde_json::Value;
use silverback_schema::EntityDef;
use uuid::Uuid;

use crate::cell::{Cell, cell, cells};
use crate::memory::{Memory, read_only};
use crate::pool::Pool;
use crate::scope::Scope;
use crate::sql::quote;
use crate::table::{ColumnType, Table, Tables};
use crate::write::{Inserts, Refusal, Step, Writer};
use crate::{
    Key, ListQuery, Page, PgConfig, PgCounters, Row, StoreError, TagFilter, decode, document, page,
};

/// Changes that the log keeps unless it is told otherwise.
const HISTORY: i64 = 100_000;

/// The configuration in Postgres. Clones share the connections.
#[derive(Clone)]
pub struct Store {
    core: Arc<Core>,
    pub(crate) scope: Scope,
}

struct Core {
    cfg: PgConfig,
    pool: Pool,
    tables: Tables,
    writer: Writer,
    counters: PgCounters,
    /// Changes that the log keeps.
    history: AtomicI64,
    /// Whether it keeps what rows were and are.
    documents: Arc<AtomicBool>,
    /// Where the rows are instead when there is no database.
    memory: Option<Memory>,
}

/// What Postgres says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// `server_version`, such as `15.6`.
    pub version: String,
}

impl Store {
    /// A store of these entities, each of which has a table made by the migrations. Makes no connection.
    ///
    /// # Errors
    /// When an entity cannot be a table or the TLS settings cannot be used.
    pub fn new(cfg: PgConfig, defs: Vec<EntityDef>) -> Result<Store, StoreError> {
        Self::with(cfg, defs, None)
    }

    pub(crate) fn with(
        cfg: PgConfig,
        defs: Vec<EntityDef>,
        memory: Option<Memory>,
    ) -> Result<Store, StoreError> {
        let pool = Pool::new(&cfg)?;
        let tables = Tables::new(defs)?;
        let documents = Arc::new(AtomicBool::new(true));
        let writer = Writer::new(pool.clone(), documents.clone());
        let counters = PgCounters::new(pool.clone());
        Ok(Store {
            core: Arc::new(Core {
                cfg,
                pool,
                tables,
                writer,
                counters,
                history: AtomicI64::new(HISTORY),
                documents,
                memory,
            }),
            scope: Scope::default(),
        })
    }

    /// How many changes of rows are remembered (100,000 when this is not said), oldest revisions forgotten first. With 0 it is not kept what
    /// rows were and are; the log then only tells nodes what to read.
    pub fn keep_history(&self, changes: u64) {
        let documents = changes > 0;
        let most = i64::try_from(changes).unwrap_or(i64::MAX);
        self.core.history.store(most, Ordering::Relaxed);
        self.core.documents.store(documents, Ordering::Relaxed);
    }

    pub(crate) fn history(&self) -> i64 {
        self.core.history.load(Ordering::Relaxed)
    }

    pub(crate) fn documents(&self) -> bool {
        self.core.documents.load(Ordering::Relaxed)
    }

    /// Asks Postgres for its version.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn ping(&self) -> Result<ServerInfo, StoreError> {
        if self.memory().is_some() {
            let version = String::new();
            return Ok(ServerInfo { version });
        }
        let rows = self.query("show server_version", &[]).await?;
        let version = rows
            .first()
            .map(|r| r.try_get::<_, String>(0))
            .transpose()?
            .unwrap_or_default();
        Ok(ServerInfo { version })
    }

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

    /// The counters that nodes share.
    pub fn counters(&self) -> PgCounters {
        self.core.counters.clone()
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

    /// The rows when there is no database.
    pub(crate) fn memory(&self) -> Option<&Memory> {
        self.core.memory.as_ref()
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.core.writer
    }

    pub(crate) fn cfg(&self) -> &PgConfig {
        &self.core.cfg
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.core.pool
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.core.tables
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

    fn key<'k>(&self, table: &Table, key: &Key<'k>) -> Result<(&'k str, Cell), StoreError> {
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
