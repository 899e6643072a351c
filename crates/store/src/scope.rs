//! On whose behalf a [`Store`] acts, and whether in a transaction of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tokio::sync::Mutex;
use tokio_postgres::{Error, Row as PgRow};
use uuid::Uuid;

use crate::cell::Cell;
use crate::changes::{Changes, revision_of};
use crate::error::is_conflict;
use crate::pool::{Lease, Pool, in_order, is_cut, plain, rows};
use crate::sql::LOG;
use crate::write::{Refusal, Step};
use crate::{Store, StoreError};

/// What a clone of the store has to itself.
#[derive(Clone, Default)]
pub(crate) struct Scope {
    pub(crate) actor: Option<Arc<str>>,
    /// The revision of the last write; 0 when there was none.
    pub(crate) revision: Option<Arc<AtomicI64>>,
    pub(crate) open: Option<Arc<Open>>,
    /// Whether rows that are read alone are locked as well.
    locking: bool,
}

/// A transaction that is going on.
pub(crate) struct Open {
    state: Mutex<State>,
    /// Whether what failed may well succeed when all is done again.
    again: AtomicBool,
}

struct State {
    /// `None` when it is over.
    lease: Option<Lease>,
    changes: Changes,
}

/// Several reads and writes that happen together or not at all. When it is dropped without [`Transaction::commit`], nothing has happened.
///
/// After an error of the database within it, nothing but [`Transaction::rollback`] succeeds.
pub struct Transaction {
    store: Store,
    open: Arc<Open>,
}

impl Store {
    /// The same store, on behalf of somebody: the change log keeps this text with every write.
    #[must_use]
    pub fn acting_as(&self, actor: &str) -> Store {
        let mut store = self.clone();
        store.scope.actor = Some(actor.into());
        store.scope.revision = Some(Arc::default());
        store
    }

    /// The revision of the last write through this store, which is one [`Store::acting_as`] somebody; `None` when nothing was changed, or in
    /// a transaction that is not committed.
    pub fn last_revision(&self) -> Option<i64> {
        let last = self.scope.revision.as_ref()?.load(Ordering::Relaxed);
        (last > 0).then_some(last)
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        self.needs_database()?;
        let mut left = true;
        let lease = loop {
            let lease = self.pool().get().await?;
            match self.pool().within(lease.batch_execute("begin")).await? {
                Ok(()) => break lease,
                // It was cut while it lay in the pool.
                Err(e) if left && is_cut(&e) => left = false,
                Err(e) => return Err(e.into()),
            }
        };
        let open = Arc::new(Open {
            state: Mutex::new(State {
                lease: Some(lease),
                changes: Changes::new(self.documents()),
            }),
            again: AtomicBool::new(false),
        });
        let mut store = self.clone();
        store.scope.open = Some(open.clone());
        Ok(Transaction { store, open })
    }

    /// The rows of one statement: in the transaction that is going on, or else in none.
    pub(crate) async fn query(&self, sql: &str, cells: &[Cell]) -> Result<Vec<PgRow>, StoreError> {
        self.needs_database()?;
        match &self.scope.open {
            None => self.pool().query(sql, cells).await,
            Some(open) => {
                let work = open.query(self.pool(), sql, cells).await?;
                work.map_err(|e| open.failed(&e))
            }
        }
    }

    /// Carries a write out: in the transaction that is going on, or else in one that it may share with others. Answers the rows of its last
    /// statement.
    pub(crate) async fn carry_out(&self, steps: Vec<Step>) -> Result<Vec<PgRow>, Refusal> {
        let Some(open) = &self.scope.open else {
            let actor = self.scope.actor.clone();
            let written = self.writer().write(steps, actor).await?;
            self.wrote(written.revision);
            return Ok(written.rows);
        };
        let actor = self.scope.actor.as_deref();
        match open.write(self.pool(), actor, &steps).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(e)) => {
                open.failed(&e);
                Err(Refusal::Driver(e))
            }
            Err(e) => Err(Refusal::Store(e)),
        }
    }

    /// Remembers the revision of a write.
    pub(crate) fn wrote(&self, revision: Option<i64>) {
        if let (Some(last), Some(revision)) = (&self.scope.revision, revision) {
            last.store(revision, Ordering::Relaxed);
        }
    }

    /// What is added to the reading of single rows.
    pub(crate) fn lock_clause(&self) -> &'static str {
        if self.scope.locking && self.scope.open.is_some() {
            " for update"
        } else {
            ""
        }
    }
}

impl Transaction {
    /// The store, everything through which happens in this transaction.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// As [`Transaction::store`]; in addition the rows that are read one by one, or below others, stay as they are until the end.
    pub fn locking(&self) -> Store {
        let mut store = self.store.clone();
        store.scope.locking = true;
        store
    }

    /// The changes made so far: entity, id, and whether the row vanished. Rows that had expired and were cleared away on the way are not
    /// among them.
    pub async fn changed(&self) -> Vec<(String, Uuid, bool)> {
        let state = self.open.state.lock().await;
        let each = state.changes.iter();
        each.map(|(entity, id, op)| (entity.to_owned(), id, op == "delete"))
            .collect()
    }

    /// Whether what failed is likely to succeed if all of it is done again from the beginning: others were in the way.
    pub fn may_be_repeated(&self) -> bool {
        self.open.again.load(Ordering::Relaxed)
    }

    /// Ends it; what it did is there for all, under one revision. Answers that, or `None` when nothing was changed.
    ///
    /// # Errors
    /// `Unavailable`, `Internal`; when the connection is lost in the middle it is not known whether it happened.
    pub async fn commit(self) -> Result<Option<i64>, StoreError> {
        let mut state = self.open.state.lock().await;
        let lease = state.lease.take().ok_or_else(over)?;
        let pool = self.store.pool();
        if state.changes.is_empty() {
            pool.within(lease.batch_execute("commit")).await??;
            lease.keep();
            return Ok(None);
        }
        let work = async {
            let log = lease.prepare_cached(LOG).await?;
            let answers = in_order(vec![
                state.changes.log(&lease, &log),
                plain(&lease, "commit"),
            ])
            .await;
            answers.into_iter().collect::<Result<Vec<_>, Error>>()
        };
        let answers = pool.within(work).await?.map_err(|e| self.open.failed(&e))?;
        lease.keep();
        let revision = answers.first().and_then(|rows| revision_of(rows));
        self.store.wrote(revision);
        Ok(revision)
    }

    /// Ends it; nothing has happened.
    pub async fn rollback(self) {
        let lease = self.open.state.lock().await.lease.take();
        let Some(lease) = lease else { return };
        let work = lease.batch_execute("rollback");
        // A connection on which this fails is closed, which has the same effect.
        if matches!(self.store.pool().within(work).await, Ok(Ok(()))) {
            lease.keep();
        }
    }
}

impl Open {
    async fn query(
        &self,
        pool: &Pool,
        sql: &str,
        cells: &[Cell],
    ) -> Result<Result<Vec<PgRow>, Error>, StoreError> {
        let state = self.state.lock().await;
        let lease = state.lease.as_ref().ok_or_else(over)?;
        pool.within(async {
            let statement = lease.prepare_cached(sql).await?;
            rows(lease, &statement, cells).await
        })
        .await
    }

    async fn write(
        &self,
        pool: &Pool,
        actor: Option<&str>,
        steps: &[Step],
    ) -> Result<Result<Vec<PgRow>, Error>, StoreError> {
        let mut guard = self.state.lock().await;
        let State { lease, changes } = &mut *guard;
        let lease = lease.as_ref().ok_or_else(over)?;
        pool.within(async {
            let mut prepared = Vec::with_capacity(steps.len());
            for step in steps {
                prepared.push(lease.prepare_cached(&step.sql).await?);
            }
            let each = steps.iter().zip(&prepared);
            let statements = each
                .map(|(step, s)| Box::pin(rows(lease, s, &step.cells)) as _)
                .collect();
            let mut last = Vec::new();
            for (step, answer) in steps.iter().zip(in_order(statements).await) {
                last = answer?;
                changes.collect(0, actor, step, &last)?;
            }
            Ok(last)
        })
        .await
    }

    /// Notes whether it may be repeated.
    pub(crate) fn failed(&self, e: &Error) -> StoreError {
        if is_conflict(e) || is_cut(e) {
            self.again.store(true, Ordering::Relaxed);
            return StoreError::Unavailable(format!("others were in the way: {e}"));
        }
        StoreError::from_driver(e)
    }

    /// Adds a change that was made by other means than a [`Step`].
    pub(crate) async fn note(
        &self,
        actor: Option<&str>,
        entity: &str,
        id: Uuid,
        docs: (Cell, Cell),
    ) {
        let mut state = self.state.lock().await;
        state.changes.push(0, actor, entity, id, "update", docs);
    }
}

fn over() -> StoreError {
    StoreError::Internal("the transaction is over".into())
}
