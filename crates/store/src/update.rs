//! Changing a row depending on what it is.

use serde_json::Value;
use silverback_schema::EntityDef;
use uuid::Uuid;

use crate::cell::{Cell, cells};
use crate::error::is_conflict;
use crate::pool::{in_order, is_cut, plain, rows};
use crate::sql::{LOG, quote};
use crate::write::Changes;
use crate::{Key, Row, Store, StoreError, UpdateError, decode};

/// How often a transaction that met a deadlock or lost its connection is run again.
const AGAIN: usize = 3;

impl Store {
    /// Changes a row: locks it, lets `change` make the complete new row out of the one that is there, and writes that, so that of two
    /// changes at the same time neither is lost. Two round trips.
    ///
    /// Answers the row as it is then; `None` when there is no such row, or with `parent` (a foreign field and an id) when it hangs
    /// on another one. The id cannot be changed.
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
        let (condition, value) = self.condition(table, key)?;
        let mut values = vec![value];
        let mut select = format!(
            "select {} from {} where {condition}",
            table.row,
            quote(table.name)
        );
        if let Some((field, id)) = parent {
            let column = table.column(field).ok_or_else(|| unknown(field))?;
            select.push_str(&format!(" and {} = $2", quote(&column.name)));
            values.push(Cell::Uuid(id));
        }
        // Leaves alone those who insert rows that point at this one.
        select.push_str(" for no key update");

        let mut change = Some(change);
        let mut made: Option<(Row, Row)> = None;
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
                Ok(Some(row)) => decode::json(table, &row)?,
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
                (Some(f), _) => match f(&old) {
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
            let id = old.get("id").cloned().unwrap_or(Value::Null);
            let mut full = new.clone();
            full.insert("id".into(), id.clone());
            self.check_foreigns(table, &full)?;
            let written = cells(table, &full, None)?;
            let mut changes = Changes::default();
            changes.push(
                table.name,
                id.as_str().and_then(|s| s.parse().ok()).unwrap_or_default(),
                "update",
            );
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
                Ok::<_, tokio_postgres::Error>(all.swap_remove(0).into_iter().next())
            };
            match self.pool().within(work).await? {
                Ok(row) => {
                    lease.keep();
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

fn unknown(field: &str) -> StoreError {
    StoreError::Internal(format!("there is no field {field}"))
}
