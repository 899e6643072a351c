//! Writes, committed in groups.
//!
//! The row lock of `config_revision` lets one transaction commit at a time, and a durable commit costs a flush of the disk: one
//! transaction per write would be bound by that. So writes that are asked for at the same time are carried out by one task in ONE
//! transaction, in two round trips: all statements; then the log of what they changed, the new revision and the commit (one round trip
//! when what they change is known beforehand). When a statement fails, its write is refused and the others are carried out again
//! without it, so no write ever sees another's error. A write of a row that others hold does not keep the others waiting for long either: it
//! goes on alone. Each write has a revision of its own, whoever it shares the transaction with, so that it
//! can be looked at and undone alone.
//!
//! A write that comes alone and inserts one row is a single statement, log and commit included: every further one would be another
//! answer that wakes the gateway up, which takes longer than the work itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio_postgres::{Error, Row as PgRow, Statement};
use uuid::Uuid;

use crate::StoreError;
use crate::cell::Cell;
use crate::changes::{Changes, revision_of};
use crate::error::{is_conflict, is_locked};
use crate::pool::{Lease, Pool, in_order, is_cut, plain, rows};
use crate::sql::LOG;
use crate::turns::{Job, Queue, Reply, Turns, lock};

/// How long a group waits for a row that others hold; half as long each time it happens again to the same group.
const LOCKED: Duration = Duration::from_millis(200);
/// But not less.
const LOCKED_LEAST: Duration = Duration::from_millis(10);
/// How often a transaction that met a deadlock or lost its connection is run again.
const AGAIN: usize = 3;

/// Before the log: everybody waits there for the one who commits.
const WAIT: &str = "set local lock_timeout to default";

/// One statement of a write.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) sql: Arc<str>,
    pub(crate) cells: Vec<Cell>,
    /// How many columns come before the change (entity, id, operation, documents before and after); `None` when the rows say nothing
    /// about changes.
    pub(crate) logged: Option<usize>,
    /// The only change this makes when it succeeds, if that is known beforehand: it inserts a row.
    pub(crate) inserts: Option<Inserts>,
    /// Whether all it does is to clear away what has expired, which is not what the write is about.
    pub(crate) clears: bool,
}

/// A row that a statement inserts.
#[derive(Debug, Clone)]
pub(crate) struct Inserts {
    pub(crate) entity: &'static str,
    pub(crate) id: Uuid,
    /// What the log keeps of it.
    pub(crate) document: Cell,
    /// The statement that inserts and logs it at once. It takes the cells, then on whose behalf, then the document.
    pub(crate) alone: Arc<str>,
}

/// Why a write was not carried out.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// By one of its own statements.
    Driver(Error),
    /// Together with all others.
    Store(StoreError),
}

/// What a write answered.
#[derive(Debug)]
pub(crate) struct Written {
    /// The rows of its last statement.
    pub(crate) rows: Vec<PgRow>,
    /// Its revision, when it changed anything.
    pub(crate) revision: Option<i64>,
}

/// Carries writes out. Its task lives only while there are any.
#[derive(Clone)]
pub(crate) struct Writer {
    pool: Pool,
    pub(crate) queue: Arc<Mutex<Queue>>,
    /// Wakes whoever waits for more writes.
    pub(crate) gathered: Arc<Notify>,
    /// For writes that wait alone for rows that others hold: they must not use up the connections.
    alone: Arc<Semaphore>,
    /// Whether the log keeps documents.
    documents: Arc<AtomicBool>,
}

impl Writer {
    pub(crate) fn new(pool: Pool, documents: Arc<AtomicBool>) -> Self {
        Writer {
            alone: Arc::new(Semaphore::new((pool.max_size() / 4).max(1))),
            pool,
            documents,
            queue: Arc::default(),
            gathered: Arc::default(),
        }
    }

    /// Carries a write out. It is carried out even when the caller stops waiting.
    pub(crate) async fn write(&self, steps: Vec<Step>, actor: Option<Arc<str>>) -> Reply {
        let (reply, answer) = oneshot::channel();
        let start = {
            let mut q = lock(&self.queue);
            q.jobs.push_back(Job {
                steps,
                actor,
                reply,
            });
            if q.jobs.len() == q.wanted {
                self.gathered.notify_one();
            }
            !std::mem::replace(&mut q.busy, true)
        };
        if start {
            tokio::spawn(Turns::new(self.clone()).run());
        }
        answer.await.unwrap_or_else(|_| {
            Err(Refusal::Store(StoreError::Unavailable(
                "shutting down".into(),
            )))
        })
    }

    /// Carries a group out, but for writes that wait for what others hold: those go on by themselves.
    pub(crate) async fn carry_out(&self, group: Vec<Job>) {
        let lone = group.len() == 1;
        let permit = lone.then(|| self.alone.clone().try_acquire_owned().ok());
        if let Some(permit) = permit.flatten() {
            let me = self.clone();
            let mut work = Box::pin(async move {
                let _permit = permit;
                drop(me.group(group, None).await);
            });
            if tokio::time::timeout(LOCKED, &mut work).await.is_err() {
                tokio::spawn(work);
            }
            return;
        }
        for job in self.group(group, Some(LOCKED)).await {
            let me = self.clone();
            tokio::spawn(async move { me.alone(job).await });
        }
    }

    /// Carries out a write that waits for what others hold, as long as any statement may take.
    async fn alone(self, job: Job) {
        match tokio::time::timeout(self.pool.limit, self.alone.acquire()).await {
            Ok(_permit) => drop(self.group(vec![job], None).await),
            Err(_) => {
                let why = "too many writes wait for rows that others hold";
                let refusal = Refusal::Store(StoreError::Unavailable(why.into()));
                drop(job.reply.send(Err(refusal)));
            }
        }
    }

    /// Carries a group out and replies to each. With `patience`, how long to wait for what others hold, writes that would have to wait longer
    /// are handed back.
    async fn group(&self, mut jobs: Vec<Job>, mut patience: Option<Duration>) -> Vec<Job> {
        let mut refused = Vec::new();
        let mut locked = Vec::new();
        let mut left = AGAIN;
        let done = loop {
            if jobs.is_empty() {
                break Ok(Vec::new());
            }
            match self
                .pool
                .within(self.transaction(&jobs, patience))
                .await
                .unwrap_or_else(|e| Err(Fail::All(e)))
            {
                Ok(answers) => break Ok(answers),
                Err(Fail::One(i, e)) if is_locked(&e) && patience.is_some() => {
                    locked.push(jobs.remove(i));
                    patience = patience.map(|p| (p / 2).max(LOCKED_LEAST));
                }
                Err(Fail::One(i, e)) => refused.push((jobs.remove(i), e)),
                Err(Fail::Again(e)) => {
                    if left == 0 {
                        break Err(e);
                    }
                    left -= 1;
                }
                Err(Fail::All(e)) => break Err(e),
            }
        };
        // Refusals wait for the others' commit: a name may be taken by a write of the same group.
        match done {
            Ok(answers) => jobs
                .into_iter()
                .zip(answers)
                .for_each(|(job, written)| drop(job.reply.send(Ok(written)))),
            Err(e) => jobs
                .into_iter()
                .for_each(|job| drop(job.reply.send(Err(Refusal::Store(e.clone()))))),
        }
        refused
            .into_iter()
            .for_each(|(job, e)| drop(job.reply.send(Err(Refusal::Driver(e)))));
        locked
    }

    async fn transaction(
        &self,
        jobs: &[Job],
        patience: Option<Duration>,
    ) -> Result<Vec<Written>, Fail> {
        let lease = self.pool.get().await.map_err(Fail::All)?;
        if let ([job], None) = (jobs, patience)
            && let [step] = &*job.steps
            && let Some(row) = &step.inserts
        {
            let written = self.insert(lease, job, step, row).await?;
            return Ok(vec![written]);
        }
        let mut prepared = Vec::with_capacity(jobs.len());
        for (i, job) in jobs.iter().enumerate() {
            for step in &job.steps {
                prepared.push((i, step, prepare(&lease, &step.sql).await?));
            }
        }
        let log = prepare(&lease, LOG).await?;

        let documents = self.documents.load(Ordering::Relaxed);
        let ahead = Changes::known(jobs, documents);
        let begin = match patience {
            Some(p) => format!("begin; set local lock_timeout = {}", p.as_millis()),
            None => "begin".to_owned(),
        };
        let mut statements: Vec<BoxFuture<'_, _>> = vec![plain(&lease, &begin)];
        for (_, step, statement) in &prepared {
            statements.push(Box::pin(rows(&lease, statement, &step.cells)));
        }
        if let Some(changes) = &ahead {
            statements.extend(patience.map(|_| plain(&lease, WAIT)));
            statements.push(changes.log(&lease, &log));
            statements.push(plain(&lease, "commit"));
        }
        let mut changes = Changes::new(documents);
        let mut answers: Vec<Vec<PgRow>> = jobs.iter().map(|_| Vec::new()).collect();
        let mut last = None;
        for (n, answer) in in_order(statements).await.into_iter().enumerate() {
            let at = n.checked_sub(1).and_then(|n| prepared.get(n));
            match (answer, at) {
                (Ok(rows), Some((i, step, _))) => {
                    if ahead.is_none() {
                        changes
                            .collect(*i, jobs[*i].actor.as_deref(), step, &rows)
                            .map_err(|e| Fail::All(e.into()))?;
                    }
                    answers[*i] = rows;
                }
                // The log's; of `begin` and `commit` there are none.
                (Ok(rows), None) => last = revision_of(&rows).or(last),
                // The commit was on its way: whether it happened is not known, so it must not be done again.
                (Err(e), _) if ahead.is_some() && is_cut(&e) => return Err(Fail::All(e.into())),
                (Err(e), at) => return Err(self.failed(lease, e, at.map(|(i, ..)| *i)).await),
            }
        }
        if ahead.is_none() {
            let mut end = Vec::new();
            if !changes.is_empty() {
                end.extend(patience.map(|_| plain(&lease, WAIT)));
                end.push(changes.log(&lease, &log));
            }
            end.push(plain(&lease, "commit"));
            for answer in in_order(end).await {
                // As above.
                let rows = answer.map_err(|e| {
                    if is_conflict(&e) {
                        Fail::Again(e.into())
                    } else {
                        Fail::All(e.into())
                    }
                })?;
                last = revision_of(&rows).or(last);
            }
        }
        lease.keep();
        let changes = ahead.unwrap_or(changes);
        let written = |(i, rows)| Written {
            rows,
            revision: last.and_then(|last| changes.revision(i, last)),
        };
        Ok(answers.into_iter().enumerate().map(written).collect())
    }

    /// Inserts a row, logs it and commits, in one statement.
    async fn insert(
        &self,
        lease: Lease,
        job: &Job,
        step: &Step,
        row: &Inserts,
    ) -> Result<Written, Fail> {
        let statement = prepare(&lease, &row.alone).await?;
        let actor = job.actor.as_deref();
        let actor = actor.map_or(Cell::Null, |text| Cell::Text(text.to_owned()));
        let document = match self.documents.load(Ordering::Relaxed) {
            true => &row.document,
            false => &Cell::Null,
        };
        let cells: Vec<&Cell> = step.cells.iter().chain([&actor, document]).collect();
        match rows(&lease, &statement, cells).await {
            Ok(rows) => {
                lease.keep();
                let logged = rows.first().zip(step.logged);
                let revision = logged.and_then(|(row, at)| row.try_get(at).ok());
                Ok(Written { rows, revision })
            }
            // Whether it was committed is not known.
            Err(e) if is_cut(&e) => Err(Fail::All(e.into())),
            Err(e) => Err(self.failed(lease, e, Some(0)).await),
        }
    }

    /// What the failure of a statement before the commit means for the group.
    async fn failed(&self, lease: Lease, e: Error, job: Option<usize>) -> Fail {
        if is_cut(&e) {
            return Fail::Again(e.into());
        }
        if lease.batch_execute("rollback").await.is_ok() {
            lease.keep();
        }
        match job {
            _ if is_conflict(&e) => Fail::Again(e.into()),
            Some(i) => Fail::One(i, e),
            None => Fail::All(e.into()),
        }
    }
}

async fn prepare(lease: &Lease, sql: &str) -> Result<Statement, Fail> {
    let prepared = lease.prepare_cached(sql).await;
    prepared.map_err(|e| {
        if is_cut(&e) {
            Fail::Again(e.into())
        } else {
            Fail::All(e.into())
        }
    })
}

enum Fail {
    /// The write at this place is to blame.
    One(usize, Error),
    /// Nobody is; it may work now.
    Again(StoreError),
    /// It will not work.
    All(StoreError),
}
