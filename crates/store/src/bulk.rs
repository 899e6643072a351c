//! Very many rows at once: in as one transaction, out as they were at one moment.

use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt;
use silverback_schema::EntityDef;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};

use crate::cell::{Cell, cells};
use crate::error::is_conflict;
use crate::load::BEGIN;
use crate::pool::Lease;
use crate::sql::{literal, quote};
use crate::table::Table;
use crate::{Row, Store, StoreError, decode, document};

/// How often a transaction that met a deadlock is run again.
const AGAIN: usize = 3;
/// After how many rows somebody is told how many there were.
const TELL: usize = 500;
/// The longest that is waited for somebody who writes at the same time.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an import did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Rows that were not there.
    pub inserted: u64,
    /// Rows that were, and are replaced.
    pub updated: u64,
}

impl Store {
    /// Writes all of these rows, each new or in place of the one with its id, in one transaction under one revision. Entities come after
    /// those they refer to. `progress` is told how many rows have been sent so far.
    ///
    /// # Errors
    /// As [`Store::insert`], for the first row that cannot be written; then none is.
    pub async fn import(
        &self,
        entities: &[(&EntityDef, &[Row])],
        mut progress: impl FnMut(usize) + Send,
    ) -> Result<Imported, StoreError> {
        let mut left = AGAIN;
        loop {
            match self.import_once(entities, &mut progress).await {
                Err(Failed::Driver(e, _)) if left > 0 && is_conflict(&e) => left -= 1,
                Ok(done) => return Ok(done),
                Err(Failed::Store(e)) => return Err(e),
                Err(Failed::Driver(e, None)) => return Err(e.into()),
                Err(Failed::Driver(e, Some(i))) => return Err(self.to_blame(entities[i], &e)),
            }
        }
    }

    /// Hands all rows to `sink`, entity by entity and each in the order of the ids, as they were at one moment. Unlike elsewhere `ttl` is the
    /// moment at which a row expires, in seconds since 1970, so that it means the same whenever it is read.
    ///
    /// # Errors
    /// `Unavailable`, `Internal`; or what `sink` stops with.
    pub async fn export<E: From<StoreError>>(
        &self,
        entities: &[&EntityDef],
        mut sink: impl FnMut(&EntityDef, Row) -> Result<(), E> + Send,
    ) -> Result<(), E> {
        if let Some(memory) = self.memory() {
            let content = memory.content();
            for def in entities {
                let table = self.tables().of(def)?;
                content.exported(table).try_for_each(|row| sink(def, row))?;
            }
            return Ok(());
        }
        let lease = self.pool().get().await?;
        lease.batch_execute(BEGIN).await.map_err(StoreError::from)?;
        for def in entities {
            let table = self.tables().of(def)?;
            let sql = format!(
                "select {} from {} where {} order by id",
                table.row_until,
                quote(table.name),
                table.alive
            );
            let rows = lease.query_raw(&sql, std::iter::empty::<Cell>()).await;
            let mut rows = pin!(rows.map_err(StoreError::from)?);
            while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
                sink(def, decode::json(table, &row)?)?;
            }
        }
        lease
            .batch_execute("commit")
            .await
            .map_err(StoreError::from)?;
        lease.keep();
        Ok(())
    }

    async fn import_once(
        &self,
        entities: &[(&EntityDef, &[Row])],
        progress: &mut (impl FnMut(usize) + Send),
    ) -> Result<Imported, Failed> {
        let lease = self.pool().get().await?;
        let total = entities.iter().map(|(_, rows)| rows.len()).sum::<usize>();
        // More than the history keeps would be forgotten at once.
        let kept = self.documents() && i64::try_from(total).is_ok_and(|n| n <= self.history());
        lease
            .batch_execute(&format!(
                "begin; set local statement_timeout = 0; set local lock_timeout = {}; \
                 create temp table import_changes (entity text, id uuid, op text, before jsonb, after jsonb) on commit drop",
                PATIENCE.as_millis()
            ))
            .await?;
        let mut sent = 0;
        for (i, (def, rows)) in entities.iter().enumerate() {
            let table = self.tables().of(def)?;
            let told = &mut |n| progress(sent + n);
            match self.import_table(&lease, table, rows, kept, told).await {
                Err(Failed::Driver(e, _)) => return Err(Failed::Driver(e, Some(i))),
                other => other?,
            }
            sent += rows.len();
        }
        let done = lease
            .query_one(
                "select count(*) filter (where op = 'insert'), count(*) filter (where op = 'update') from import_changes",
                &[],
            )
            .await?;
        let count = |i| {
            done.try_get::<_, i64>(i)
                .map(|n| u64::try_from(n).unwrap_or_default())
        };
        let done = Imported {
            inserted: count(0)?,
            updated: count(1)?,
        };
        if done == Imported::default() {
            lease.batch_execute("rollback").await?;
        } else {
            let actor = self.scope.actor.as_deref();
            let logged = lease.query_one(LOG_ALL, &[&actor]).await?;
            let revision = logged.try_get(0)?;
            lease.batch_execute("commit").await?;
            self.wrote(Some(revision));
        }
        lease.keep();
        Ok(done)
    }

    async fn import_table(
        &self,
        lease: &Lease,
        table: &Table,
        rows: &[Row],
        documents: bool,
        progress: &mut (dyn FnMut(usize) + Send),
    ) -> Result<(), Failed> {
        let target = quote(table.name);
        let staged = quote(&format!("import_{}", table.name));
        let mut names: Vec<String> = table.columns.iter().map(|c| quote(&c.name)).collect();
        if table.def.ttl {
            names.push("expires_at".into());
        }
        let columns = names.join(", ");
        lease
            .batch_execute(&format!(
                "create temp table {staged} (like {target}) on commit drop"
            ))
            .await?;
        let shape = lease
            .prepare(&format!("select {columns} from {staged}"))
            .await?;
        let types: Vec<Type> = shape.columns().iter().map(|c| c.type_().clone()).collect();
        let copy = format!("copy {staged} ({columns}) from stdin (format binary)");
        let mut writer = pin!(BinaryCopyInWriter::new(lease.copy_in(&copy).await?, &types));
        for (n, row) in rows.iter().enumerate() {
            self.check_foreigns(table, row)?;
            let cells = cells(table, row, Some("created_at"))?;
            let values = cells.iter().map(|c| c as &(dyn ToSql + Sync));
            writer.as_mut().write_raw(values).await?;
            if n % TELL == 0 {
                progress(n);
            }
        }
        writer.as_mut().finish().await?;
        progress(rows.len());
        let changed = |sql: &str| {
            format!(
                "with changed (entity, id, op, before, after) as ({sql}) insert into import_changes select * from changed"
            )
        };
        let (columns_of, ttl) = (&table.columns, table.def.ttl);
        if ttl {
            // What has expired but is still there must not be in the way.
            let document = match documents {
                true => document::of_row(table.name, columns_of, ttl),
                false => "null::jsonb".to_owned(),
            };
            let expired = format!(
                "delete from {target} where expires_at <= now() returning {}, id, 'delete', {document}, null::jsonb",
                literal(table.name)
            );
            lease.batch_execute(&changed(&expired)).await?;
        }
        let excluded = names
            .iter()
            .skip(1)
            .map(|n| format!("{n} = excluded.{n}"))
            .collect::<Vec<_>>()
            .join(", ");
        // `xmax` is 0 in a row that was inserted and this transaction's number in one that was there.
        let change = match documents {
            true => document::upserted(table.name, columns_of, ttl),
            false => format!(
                "{}, id, case when xmax = 0 then 'insert' else 'update' end, null::jsonb, null::jsonb",
                literal(table.name)
            ),
        };
        // All rows are locked in one order, so that two imports at the same time wait for one another.
        let upsert = format!(
            "insert into {target} ({columns}) select {columns} from {staged} order by id \
             on conflict (id) do update set {excluded} returning {change}"
        );
        lease.batch_execute(&changed(&upsert)).await?;
        Ok(())
    }

    /// The driver says which constraint; of the rows, the one whose values it quotes is to blame.
    fn to_blame(&self, (def, rows): (&EntityDef, &[Row]), e: &tokio_postgres::Error) -> StoreError {
        let detail = e
            .as_db_error()
            .and_then(|db| db.detail())
            .unwrap_or_default();
        let quotes = |row: &Row| {
            let unique = def.unique_fields().filter_map(|f| row.get(f)?.as_str());
            let foreign = def
                .foreign_keys()
                .filter_map(|(f, ..)| row.get(f)?.get("id")?.as_str());
            unique
                .chain(foreign)
                .any(|v| detail.contains(&format!("({v})")) || detail.contains(&format!(", {v})")))
        };
        let row = rows.iter().find(|row| quotes(row)).or_else(|| rows.first());
        match (self.tables().of(def), row) {
            (Ok(table), Some(row)) => self.refused(table, e, row),
            _ => StoreError::from_driver(e),
        }
    }
}

/// As [`crate::sql::LOG`], for what `import_changes` has.
const LOG_ALL: &str = "with bumped as (update config_revision set revision = revision + 1 returning revision), \
     logged as (insert into config_changes (revision, entity, entity_id, op, actor, before, after) \
       select bumped.revision, c.entity, c.id, c.op, $1::text, c.before, c.after from bumped, import_changes as c) \
     select revision, pg_notify('silverback_config', revision::text)::text from bumped";

enum Failed {
    /// The driver; while the rows of the entity at this place were written.
    Driver(tokio_postgres::Error, Option<usize>),
    Store(StoreError),
}

impl From<tokio_postgres::Error> for Failed {
    fn from(e: tokio_postgres::Error) -> Self {
        Failed::Driver(e, None)
    }
}

impl From<StoreError> for Failed {
    fn from(e: StoreError) -> Self {
        Failed::Store(e)
    }
}
