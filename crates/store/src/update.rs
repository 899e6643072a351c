//! Changing a row depending on what it is.

use serde_json::Value;
use silverback_schema::EntityDef;
use tokio_postgres::Row as PgRow;
use uuid::Uuid;

use crate::cell::{Cell, cells};
use crate::changes::{Changes, revision_of};
use crate::decode::{moment, raw};
use crate::error::is_conflict;
use crate::memory::read_only;
use crate::pool::{in_order, is_cut, plain, rows};
use crate::scope::Open;
use crate::sql::{LOG, quote};
use crate::table::Table;
use crate::write::{Refusal, Step};
use crate::{Key, Row, Store, StoreError, UpdateError, decode, document};

/// How often a transaction that met a deadlock or lost its connection is run again.
const AGAIN: usize = 3;

impl Store {
    /// Changes a row: locks it, lets `change` make the complete new row out of the one that is there, and writes that, so that of two
    /// changes at the same time neither is lost. Two round trips.
    ///
    /// Answers the row as it is then; `None` when there is no such row, or with `parent` (a foreign field and an id) when it hangs
    /// on another one. The id cannot be changed. A new row without `ttl` expires when the old one would have.
    ///
    /// # Errors
    /// What `change` refuses with, or the store's own.
    pub async fn update_with<E, F>(
        &self,
        def: &EntityDef,
        key: &Key<'_>,
        parent: Option<(&str, Uuid)>,
        change: F,
    ) -> Result<Option<Row>, UpdateError<E>>
    where
        F: FnOnce(&Row) -> Result<Row, E>,
    {
        let table = self.tables().of(def)?;
        if self.memory().is_some() {
            let Some(old) = self.get(def, key).await? else {
                return Ok(None);
            };
            // Whatever is wrong with the change is said first.
            change(&old).map_err(UpdateError::Rejected)?;
            let by = match key {
                Key::Id(_) => None,
                Key::Unique(field, _) => Some(*field),
            };
            return Err(read_only("update", table, by).into());
        }
        let (condition, value) = self.condition(table, key)?;
        let mut values = vec![value];
        let mut select = format!(
            "select {}{} from {} where {condition}",
            table.row,
            if table.def.ttl { ", expires_at" } else { "" },
            quote(table.name)
        );
        if let Some((field, id)) = parent {
            let column = table.column(field).ok_or_else(|| unknown(field))?;
            select.push_str(&format!(" and {} = $2", quote(&column.name)));
            values.push(Cell::Uuid(id));
        }
        // Leaves alone those who insert rows that point at this one.
        select.push_str(" for no key update");

        if let Some(open) = &self.scope.open {
            let found = self.query(&select, &values).await?;
            let Some(old) = found.first() else {
                return Ok(None);
            };
            let old = Old::read(table, old)?;
            let new = change(&old.row).map_err(UpdateError::Rejected)?;
            return Ok(self.update_inside(open, table, &old, new).await?);
        }

        let mut change = Some(change);
        let mut made: Option<(Old, Row)> = None;
        let mut left = AGAIN;
        loop {
            let lease = self.pool().get().await?;
            let before = self.pool().within(async {
                let select = lease.prepare_cached(&select).await?;
                let mut answers = in_order(vec![
                    plain(&lease, "begin"),
                    Box::pin(rows(&lease, &select, &values)),
                ])
                .await;
                let found = answers.pop().unwrap_or_else(|| Ok(Vec::new()));
                answers.into_iter().next().transpose()?;
                Ok::<_, tokio_postgres::Error>(found?.into_iter().next())
            });
            let old = match before.await? {
                Ok(Some(row)) => Old::read(table, &row)?,
                Ok(None) => {
                    lease
                        .batch_execute("rollback")
                        .await
                        .map_err(StoreError::from)?;
                    lease.keep();
                    return Ok(None);
                }
                Err(e) if left > 0 && (is_cut(&e) || is_conflict(&e)) => {
                    left -= 1;
                    continue;
                }
                Err(e) => return Err(StoreError::from(e).into()),
            };
            let new = match (change.take(), made.take()) {
                (Some(f), _) => match f(&old.row) {
                    Ok(new) => new,
                    Err(e) => {
                        if lease.batch_execute("rollback").await.is_ok() {
                            lease.keep();
                        }
                        return Err(UpdateError::Rejected(e));
                    }
                },
                // A second attempt: what was made is only right for the row it was made from.
                (None, Some((base, new))) if base == old => new,
                _ => {
                    return Err(StoreError::Unavailable(
                        "the row was changed by others at the same time".into(),
                    )
                    .into());
                }
            };
            let full = with_id(new.clone(), &old.row);
            self.check_foreigns(table, &full)?;
            let written = cells(table, &full, None)?;
            let mut changes = Changes::new(self.documents());
            let docs = documents(table, &old, &full, &written)?;
            let actor = self.scope.actor.as_deref();
            changes.push(0, actor, table.name, id_of(&full), "update", docs);
            let work = async {
                let update = lease.prepare_cached(&table.update).await?;
                let log = lease.prepare_cached(LOG).await?;
                let answers = in_order(vec![
                    Box::pin(rows(&lease, &update, &written)),
                    changes.log(&lease, &log),
                    plain(&lease, "commit"),
                ])
                .await;
                let mut all = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
                let revision = all.get(1).and_then(|rows| revision_of(rows));
                Ok::<_, tokio_postgres::Error>((all.swap_remove(0).into_iter().next(), revision))
            };
            match self.pool().within(work).await? {
                Ok((row, revision)) => {
                    lease.keep();
                    self.wrote(revision);
                    return Ok(row.map(|r| decode::json(table, &r)).transpose()?);
                }
                Err(e) if left > 0 && is_conflict(&e) => {
                    left -= 1;
                    made = Some((old, new));
                }
                Err(e) => {
                    // The failed transaction ended with its commit, which Postgres turned into a rollback.
                    if e.as_db_error().is_some() {
                        lease.keep();
                    }
                    return Err(self.refused(table, &e, &full).into());
                }
            }
        }
    }
}

impl Store {
    /// Replaces a row that is locked, in a transaction that is going on.
    async fn update_inside(
        &self,
        open: &Open,
        table: &Table,
        old: &Old,
        new: Row,
    ) -> Result<Option<Row>, StoreError> {
        let full = with_id(new, &old.row);
        self.check_foreigns(table, &full)?;
        let written = cells(table, &full, None)?;
        let docs = documents(table, old, &full, &written)?;
        let step = Step {
            sql: table.update.clone(),
            cells: written,
            logged: None,
            inserts: None,
            clears: false,
        };
        let found = self.carry_out(vec![step]).await.map_err(|e| match e {
            Refusal::Store(e) => e,
            Refusal::Driver(e) => self.refused(table, &e, &full),
        })?;
        let actor = self.scope.actor.as_deref();
        open.note(actor, table.name, id_of(&full), docs).await;
        found.first().map(|r| decode::json(table, r)).transpose()
    }
}

/// A row as it was, and when it was to expire: what is left of its time is not the same twice.
struct Old {
    row: Row,
    expires_at: Cell,
}

impl PartialEq for Old {
    fn eq(&self, other: &Self) -> bool {
        let same =
            |(field, v): (&String, &Value)| field == "ttl" || other.row.get(field) == Some(v);
        self.expires_at == other.expires_at
            && self.row.len() == other.row.len()
            && self.row.iter().all(same)
    }
}

impl Old {
    fn read(table: &Table, row: &PgRow) -> Result<Self, StoreError> {
        let expires_at = match table.def.ttl {
            true => moment(raw(row, table.row_len())?),
            false => Cell::Null,
        };
        Ok(Old {
            row: decode::json(table, row)?,
            expires_at,
        })
    }
}

/// A new row with the id of the one it replaces.
fn with_id(mut new: Row, old: &Row) -> Row {
    let id = old.get("id").cloned().unwrap_or(Value::Null);
    new.insert("id".into(), id);
    new
}

fn id_of(row: &Row) -> Uuid {
    let id = row.get("id").and_then(Value::as_str);
    id.and_then(|id| id.parse().ok()).unwrap_or_default()
}

/// What the log keeps of a row that was and the one in its place.
fn documents(
    table: &Table,
    old: &Old,
    new: &Row,
    written: &[Cell],
) -> Result<(Cell, Cell), StoreError> {
    let mut before = cells(table, &old.row, None)?;
    let mut after = written.to_vec();
    if table.def.ttl {
        before.pop();
        before.push(old.expires_at.clone());
        if after.last() == Some(&Cell::Kept) {
            after.pop();
            after.push(old.expires_at.clone());
        }
    }
    Ok((
        document::of_cells(table, &old.row, &before),
        document::of_cells(table, new, &after),
    ))
}

fn unknown(field: &str) -> StoreError {
    StoreError::Internal(format!("there is no field {field}"))
}
