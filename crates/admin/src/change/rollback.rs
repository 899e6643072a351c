//! `POST /revisions/{revision}/rollback`: undoes what was written under a revision, under a new one.
//!
//! Only that: what came after stays, and when it builds on what is to be undone, or took its place, the answer says so and nothing happens.

use std::collections::HashSet;

use http::StatusCode;
use serde_json::{Map, Value, json};
use silverback_schema::EntityDef;
use silverback_store::{Change, Key, Op, Row, StoreError, Transaction, Write};
use uuid::Uuid;

use super::{AGAIN, Dry, end, history};
use crate::app::App;
use crate::crud::{self, Call, accept, now};
use crate::errors::{Answer, ApiError};
use crate::respond;

/// How many rows were brought back.
struct Undone(usize);

impl Dry for Undone {
    fn dry(self) -> Self {
        self
    }
}

/// `POST /revisions/{revision}/rollback`
pub(crate) async fn roll_back(call: &Call<'_>) -> Answer {
    let app = call.app;
    let dry_run = call.args.dry_run()?;
    let (revision, changes) = history::read(call).await?;
    let mut left = AGAIN;
    loop {
        let transaction = app.store.begin().await?;
        let done = Box::pin(undo(app, &transaction, revision.revision, &changes)).await;
        let Some((undone, new)) = end(transaction, done, dry_run, &mut left).await? else {
            continue;
        };
        let body = json!({
            "rolled_back": revision.revision,
            "revision": new,
            "changes": undone.0,
        });
        let answer = respond::json(StatusCode::OK, &body);
        return Ok(if dry_run {
            respond::dry(answer)
        } else {
            respond::written(answer, new)
        });
    }
}

async fn undo(
    app: &App,
    transaction: &Transaction,
    n: i64,
    changes: &[Change],
) -> Result<Undone, ApiError> {
    let store = transaction.store();
    let inside = app.with_store(store.clone());
    let ids: Vec<Uuid> = changes.iter().map(|c| c.id).collect();
    // Before, to say it in plain words; and after, because only then others are kept from it.
    untouched_since(app, transaction, n, &ids).await?;
    for change in changes.iter().rev() {
        let no = |why: &str| refuse(n, &format!("{} {why}", name(change)));
        let Some(entity) = app.model.get(&change.entity) else {
            return Err(no("is of a kind that this node does not know"));
        };
        let def = &entity.def;
        let remove = async || {
            if let Some(by) = crud::trusting(&inside, def, change.id).await? {
                return Err(no(&format!("cannot go: {by} refer to it by now")));
            }
            let gone = store.delete(def, &Key::Id(change.id)).await;
            gone.map(drop).map_err(|e| blocked(n, change, e))
        };
        if change.op == Op::Insert {
            remove().await?;
            continue;
        }
        let Some(before) = change.before.clone() else {
            // What expired by itself has no document: it is not anybody's doing.
            if change.op == Op::Delete && def.ttl {
                continue;
            }
            return Err(no("cannot be brought back: what it was is not known"));
        };
        let Some(row) = alive(def, before) else {
            // It would be gone by now; what was made of it, which is to last longer, must not stay.
            if change.op == Op::Update {
                remove().await?;
            }
            continue;
        };
        if let Err(wrong) = accept(app, entity, &row) {
            return Err(no(&format!(
                "cannot be as it was any more: {}",
                wrong.message()
            )));
        }
        let back = match change.op {
            Op::Delete => Write::Insert(def, &row),
            _ => Write::Upsert(def, &row),
        };
        let back = store.write_all(&[back]).await;
        back.map_err(|e| blocked(n, change, e))?;
    }
    untouched_since(app, transaction, n, &ids).await?;
    let own: HashSet<Uuid> = ids.into_iter().collect();
    let done = transaction.changed().await;
    if let Some((entity, id, _)) = done.iter().find(|(_, id, gone)| *gone && !own.contains(id)) {
        return Err(refuse(
            n,
            &format!("{entity} {id}, which is newer, would go with it"),
        ));
    }
    Ok(Undone(done.len()))
}

async fn untouched_since(
    app: &App,
    transaction: &Transaction,
    n: i64,
    ids: &[Uuid],
) -> Result<(), ApiError> {
    match transaction.store().changed_after(n, ids).await? {
        None => Ok(()),
        Some((entity, id, by)) => {
            // Not by name: the name may have been what was changed.
            let known = app
                .model
                .get(&entity)
                .map_or(entity.as_str(), |e| e.def.name);
            let text = format!("{known} {id} was changed again by revision {by}");
            Err(refuse(n, &text))
        }
    }
}

/// A document as a row to be written; `None` when it would have expired by now.
fn alive(def: &EntityDef, mut document: Map<String, Value>) -> Option<Row> {
    let expires_at = document.remove("expires_at");
    if def.ttl
        && let Some(at) = expires_at.as_ref().and_then(Value::as_i64)
    {
        // The store counts the time from when the row was made.
        let made = document.get("created_at").and_then(Value::as_i64);
        if at <= now() {
            return None;
        }
        document.insert("ttl".into(), (at - made.unwrap_or_else(now)).into());
    }
    Some(document)
}

/// The store's reason why a row cannot be as it was, as a conflict.
fn blocked(n: i64, change: &Change, e: StoreError) -> ApiError {
    let what = name(change);
    let text = match &e {
        StoreError::Unique { fields } => {
            let fields: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
            let fields = fields.join(", ");
            format!("{what} cannot be as it was: another row has the same {fields} by now")
        }
        StoreError::ForeignMissing { field, id, .. } => {
            format!("{what} cannot be as it was: its {field} {id} is gone")
        }
        StoreError::Referenced { by_entity, .. } => {
            format!("{what} cannot go: {by_entity} refer to it by now")
        }
        _ => return e.into(),
    };
    refuse(n, &text)
}

fn name(change: &Change) -> String {
    format!("{} {}", change.entity, change.id)
}

fn refuse(n: i64, why: &str) -> ApiError {
    ApiError::conflict(&format!("revision {n} cannot be rolled back: {why}"))
}
