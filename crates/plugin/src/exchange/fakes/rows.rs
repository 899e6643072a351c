//! A database for tests.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::Value;
use silverback_schema::{EntityDef, Op, complete, patch};
use uuid::Uuid;

use crate::env::{Row, Rows, RowsError};

/// Rows in memory, checked and filled as a database's are, which can be put out of reach. Its clock stands at 1700000000, seconds since 1970,
/// until it is set; rows whose `ttl` is over by then are not found. References are not followed.
pub struct FakeRows {
    defs: Vec<EntityDef>,
    rows: Mutex<Vec<(&'static str, Option<i64>, Row)>>,
    now: AtomicI64,
    away: AtomicBool,
    reads: AtomicU64,
}

impl FakeRows {
    /// A database of these entities, without rows.
    pub fn new(defs: Vec<EntityDef>) -> Self {
        FakeRows {
            defs,
            rows: Mutex::default(),
            now: AtomicI64::new(1_700_000_000),
            away: AtomicBool::new(false),
            reads: AtomicU64::new(0),
        }
    }

    /// Sets its clock, in seconds since 1970.
    pub fn set_now(&self, now: i64) {
        self.now.store(now, Ordering::SeqCst);
    }

    /// Whether the database is out of reach from now on.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// How often it was asked for a row.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    /// The rows of an entity that have not expired, oldest first, with the `ttl` that they were written with.
    pub fn all(&self, entity: &str) -> Vec<Row> {
        let now = self.now.load(Ordering::SeqCst);
        let rows = self.rows();
        let mine = rows
            .iter()
            .filter(|(e, end, _)| *e == entity && alive(*end, now));
        mine.map(|(_, _, row)| row.clone()).collect()
    }

    fn rows(&self) -> MutexGuard<'_, Vec<(&'static str, Option<i64>, Row)>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reached(&self) -> Result<i64, RowsError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(RowsError::Unavailable("connection refused".to_owned()));
        }
        Ok(self.now.load(Ordering::SeqCst))
    }

    fn def(&self, entity: &str) -> &EntityDef {
        let found = self.defs.iter().find(|d| d.name == entity);
        found.unwrap_or_else(|| panic!("there is no entity {entity}"))
    }
}

#[async_trait]
impl Rows for FakeRows {
    async fn find(
        &self,
        entity: &'static str,
        field: &'static str,
        value: &str,
    ) -> Result<Option<Row>, RowsError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.reached()?;
        let mut all = self.all(entity).into_iter();
        Ok(all.find(|row| row.get(field).is_some_and(|v| v == value)))
    }

    async fn insert(&self, entity: &'static str, row: Row) -> Result<Row, RowsError> {
        let now = self.reached()?;
        let refused = |e: silverback_schema::Violations| RowsError::Refused(e.message());
        let def = self.def(entity);
        let row = complete(def, row, Op::Insert, now).map_err(refused)?;
        let taken = |field: &str| {
            let value = row.get(field).filter(|v| !v.is_null());
            value.is_some() && self.all(entity).iter().any(|r| r.get(field) == value)
        };
        if let Some(field) = def.unique_fields().find(|f| taken(f)) {
            return Err(RowsError::Refused(format!("{field} is taken")));
        }
        self.rows().push((entity, end(&row, now), row.clone()));
        Ok(row)
    }

    async fn update(
        &self,
        entity: &'static str,
        id: Uuid,
        change: Row,
    ) -> Result<Option<Row>, RowsError> {
        let now = self.reached()?;
        let mut rows = self.rows();
        let Some((_, until, row)) = rows
            .iter_mut()
            .find(|(e, end, row)| *e == entity && alive(*end, now) && is(row, id))
        else {
            return Ok(None);
        };
        let new = patch(self.def(entity), row, change, now);
        *row = new.map_err(|e| RowsError::Refused(e.message()))?;
        if row.contains_key("ttl") {
            *until = end(row, now);
        }
        Ok(Some(row.clone()))
    }

    async fn delete(&self, entity: &'static str, id: Uuid) -> Result<bool, RowsError> {
        let now = self.reached()?;
        let mut rows = self.rows();
        let before = rows.len();
        rows.retain(|(e, end, row)| !(*e == entity && alive(*end, now) && is(row, id)));
        Ok(rows.len() < before)
    }
}

fn alive(end: Option<i64>, now: i64) -> bool {
    end.is_none_or(|end| end > now)
}

fn end(row: &Row, now: i64) -> Option<i64> {
    row.get("ttl").and_then(Value::as_i64).map(|ttl| now + ttl)
}

fn is(row: &Row, id: Uuid) -> bool {
    row.get("id").is_some_and(|v| *v == id.to_string())
}
