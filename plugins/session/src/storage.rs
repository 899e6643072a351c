//! Sessions in the database (`kong/plugins/session/storage/kong.lua`).

use std::sync::Arc;

use futures::future::join_all;
use serde_json::{Map, Value, json};
use silverback_plugin::env::Task;
use silverback_plugin::{Directory, PluginEnv, Row, Rows, RowsError};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use uuid::Uuid;

use crate::entity::SESSIONS;
use crate::parts::payload_of;
use crate::session::Deed;

/// Sessions that wait for being written, at most.
const WAITING: usize = 4096;
/// Written at a time.
const TOGETHER: usize = 64;

/// The database's sessions.
pub(crate) struct Storage {
    rows: Arc<dyn Rows>,
    later: Sender<Vec<Deed>>,
}

impl Storage {
    /// The one of this node; `None` when it has no database.
    pub(crate) fn shared(env: &PluginEnv<'_>) -> Option<Arc<Self>> {
        let rows = env.services.rows()?;
        Some(env.shared("storage", || {
            let (later, inbox) = channel(WAITING);
            let task = write_all(rows.clone(), inbox, env.services.stopping());
            env.services.spawn_to_finish(Box::pin(task));
            Storage { rows, later }
        }))
    }

    /// The payload of a session: from memory, or from the database when another request has just made it.
    pub(crate) async fn payload(
        &self,
        directory: &dyn Directory,
        key: &str,
    ) -> Result<Option<String>, RowsError> {
        if let Some(known) = directory.issued(SESSIONS, key) {
            return Ok(payload(&known.fields));
        }
        let row = self.rows.find(SESSIONS, "session_id", key).await?;
        Ok(row.and_then(|row| payload(&row)))
    }

    /// Does all of this now.
    pub(crate) async fn carry_out(&self, deeds: Vec<Deed>) -> Result<(), RowsError> {
        carry_out(&*self.rows, deeds).await
    }

    /// Does all of this soon. False when too much waits already.
    pub(crate) fn carry_out_later(&self, deeds: Vec<Deed>) -> bool {
        self.later.try_send(deeds).is_ok()
    }
}

/// Ends with the storage or the node, when all is written.
pub(crate) async fn write_all(
    rows: Arc<dyn Rows>,
    mut inbox: Receiver<Vec<Deed>>,
    mut stopping: Task,
) {
    let mut batch = Vec::new();
    loop {
        let received = tokio::select! {
            n = inbox.recv_many(&mut batch, TOGETHER) => n,
            () = &mut stopping, if !inbox.is_closed() => {
                // What was put in before is still received.
                inbox.close();
                continue;
            }
        };
        if received == 0 {
            return;
        }
        let each = batch.drain(..).map(|deeds| carry_out(&*rows, deeds));
        for failed in join_all(each).await.into_iter().filter_map(Result::err) {
            tracing::error!("a session was not kept: {failed}");
        }
    }
}

async fn carry_out(rows: &dyn Rows, deeds: Vec<Deed>) -> Result<(), RowsError> {
    for deed in deeds {
        match deed {
            Deed::Remove { key } => {
                if let Some(id) = id_of(rows, &key).await? {
                    rows.delete(SESSIONS, id).await?;
                }
            }
            Deed::Put {
                key,
                data,
                ttl,
                now,
                replaces,
            } => {
                let expires = now.saturating_add_signed(ttl);
                let row =
                    json!({ "session_id": key, "data": data, "expires": expires, "ttl": ttl });
                rows.insert(SESSIONS, object(row)).await?;
                if let Some((old, stale)) = replaces {
                    // The new one is there, whatever becomes of the old one.
                    if let Err(e) = retire(rows, &old, stale, now).await {
                        tracing::warn!("a session that was replaced stays: {e}");
                    }
                }
            }
        }
    }
    Ok(())
}

async fn retire(rows: &dyn Rows, key: &str, stale: Option<i64>, now: u64) -> Result<(), RowsError> {
    let Some(id) = id_of(rows, key).await? else {
        return Ok(());
    };
    match stale {
        None => _ = rows.delete(SESSIONS, id).await?,
        Some(ttl) => {
            let change = json!({ "expires": now.saturating_add_signed(ttl), "ttl": ttl });
            rows.update(SESSIONS, id, object(change)).await?;
        }
    }
    Ok(())
}

async fn id_of(rows: &dyn Rows, key: &str) -> Result<Option<Uuid>, RowsError> {
    let row = rows.find(SESSIONS, "session_id", key).await?;
    Ok(row.and_then(|row| row.get("id")?.as_str()?.parse().ok()))
}

fn payload(fields: &Map<String, Value>) -> Option<String> {
    payload_of(fields.get("data")?.as_str()?)
}

fn object(value: Value) -> Row {
    match value {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}
