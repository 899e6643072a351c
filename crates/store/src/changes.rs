//! What a transaction changed, and the statement that writes it into the log.

use std::collections::HashSet;

use futures::future::BoxFuture;
use tokio_postgres::{Error, Row as PgRow, Statement};
use uuid::Uuid;

use crate::cell::Cell;
use crate::decode::Raw;
use crate::pool::Lease;
use crate::turns::Job;
use crate::write::Step;

/// The revision that the log statement answered.
pub(crate) fn revision_of(rows: &[PgRow]) -> Option<i64> {
    rows.first()?.try_get(0).ok()
}

/// What a transaction changed, for the log.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Whether documents are kept.
    documents: bool,
    /// The writes that changed something, in the order of their revisions.
    jobs: Vec<usize>,
    nth: Vec<i64>,
    entities: Vec<String>,
    ids: Vec<Uuid>,
    ops: Vec<String>,
    /// Which of them only cleared away what had expired.
    cleared: HashSet<usize>,
    actors: Vec<Option<String>>,
    before: Vec<Cell>,
    after: Vec<Cell>,
}

impl Changes {
    pub(crate) fn new(documents: bool) -> Self {
        Changes {
            documents,
            ..Changes::default()
        }
    }

    /// The changes of these writes when all of them are known before they are carried out.
    pub(crate) fn known(jobs: &[Job], documents: bool) -> Option<Self> {
        let mut out = Changes::new(documents);
        for (i, job) in jobs.iter().enumerate() {
            for step in &job.steps {
                let it = step.inserts.as_ref()?;
                let docs = (Cell::Null, it.document.clone());
                out.push(i, job.actor.as_deref(), it.entity, it.id, "insert", docs);
            }
        }
        Some(out)
    }

    /// Adds a change that the write `job` made; `docs` are those before and after. All changes of a write come one after the other.
    pub(crate) fn push(
        &mut self,
        job: usize,
        actor: Option<&str>,
        entity: &str,
        id: Uuid,
        op: &str,
        docs: (Cell, Cell),
    ) {
        if self.jobs.last() != Some(&job) {
            self.jobs.push(job);
        }
        self.nth.push(self.jobs.len() as i64);
        self.entities.push(entity.to_owned());
        self.ids.push(id);
        self.ops.push(op.to_owned());
        self.actors.push(actor.map(str::to_owned));
        let (before, after) = if self.documents {
            docs
        } else {
            (Cell::Null, Cell::Null)
        };
        self.before.push(before);
        self.after.push(after);
    }

    /// Adds the changes that a statement of the write `job` made.
    pub(crate) fn collect(
        &mut self,
        job: usize,
        actor: Option<&str>,
        step: &Step,
        rows: &[PgRow],
    ) -> Result<(), Error> {
        if let Some(it) = &step.inserts {
            for _ in rows {
                let docs = (Cell::Null, it.document.clone());
                self.push(job, actor, it.entity, it.id, "insert", docs);
            }
            return Ok(());
        }
        let Some(at) = step.logged else { return Ok(()) };
        for row in rows {
            let docs = (document(row, at + 3)?, document(row, at + 4)?);
            let (entity, op): (&str, &str) = (row.try_get(at)?, row.try_get(at + 2)?);
            if step.clears {
                self.cleared.insert(self.ids.len());
            }
            self.push(job, actor, entity, row.try_get(at + 1)?, op, docs);
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Entity, id and operation of each change so far, without rows that had expired and were cleared away.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Uuid, &str)> {
        let what = self.entities.iter().zip(&self.ids).zip(&self.ops);
        let meant = what.enumerate().filter(|(i, _)| !self.cleared.contains(i));
        meant.map(|(_, ((entity, id), op))| (entity.as_str(), *id, op.as_str()))
    }

    /// The revision of the write `job`, when the last one is `last`.
    pub(crate) fn revision(&self, job: usize, last: i64) -> Option<i64> {
        let nth = self.jobs.iter().position(|j| *j == job)?;
        Some(last - (self.jobs.len() - 1 - nth) as i64)
    }

    /// The statement that logs them.
    pub(crate) fn log<'a>(
        &'a self,
        lease: &'a Lease,
        log: &'a Statement,
    ) -> BoxFuture<'a, Result<Vec<PgRow>, Error>> {
        Box::pin(async move {
            let jobs = self.jobs.len() as i64;
            lease
                .query(
                    log,
                    &[
                        &jobs,
                        &self.nth,
                        &self.entities,
                        &self.ids,
                        &self.ops,
                        &self.actors,
                        &self.before,
                        &self.after,
                    ],
                )
                .await
        })
    }
}

/// A column of `jsonb`, as it is to be written again.
fn document(row: &PgRow, at: usize) -> Result<Cell, Error> {
    let raw = row.try_get::<_, Raw<'_>>(at)?.0;
    // The first byte is the version of jsonb's binary form.
    let text = raw.and_then(|raw| std::str::from_utf8(raw.get(1..)?).ok());
    Ok(text.map_or(Cell::Null, |text| Cell::Json(text.to_owned())))
}
