//! Rows of plugins' own entities, for what requests make, over the store.

use std::collections::HashMap;
use std::future::Future;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use silverback_plugin::schema::{EntityDef, Op, Violations, complete, patch};
use silverback_plugin::{Row, Rows, RowsError};
use silverback_store::{Key, Store, StoreError, UpdateError};
use tokio::runtime::Handle;
use uuid::Uuid;

/// What the change log says of who wrote.
const ACTOR: &str = "proxy";

/// The store's rows in the form in which plugins know them.
pub(crate) struct PluginRows {
    store: Store,
    entities: HashMap<&'static str, EntityDef>,
    background: Handle,
}

impl PluginRows {
    /// Rows of these entities and of no others. The database is talked to on `background`: the threads that serve requests only wait.
    pub(crate) fn new(
        store: &Store,
        entities: impl IntoIterator<Item = EntityDef>,
        background: Handle,
    ) -> Self {
        PluginRows {
            store: store.acting_as(ACTOR),
            entities: entities.into_iter().map(|d| (d.name, d)).collect(),
            background,
        }
    }

    fn def(&self, entity: &str) -> Result<EntityDef, RowsError> {
        let def = self.entities.get(entity).cloned();
        def.ok_or_else(|| RowsError::Refused(format!("{entity} is no entity of a plugin")))
    }

    async fn apart<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, RowsError>> + Send + 'static,
    ) -> Result<T, RowsError> {
        // A task that is gone was stopped with its runtime, or panicked, which is in the log.
        let gone = |_| Err(RowsError::Unavailable("the node is stopping".to_owned()));
        self.background.spawn(work).await.unwrap_or_else(gone)
    }
}

#[async_trait]
impl Rows for PluginRows {
    async fn find(
        &self,
        entity: &'static str,
        field: &'static str,
        value: &str,
    ) -> Result<Option<Row>, RowsError> {
        let (def, store, value) = (self.def(entity)?, self.store.clone(), value.to_owned());
        self.apart(async move {
            let key = match (field, Uuid::parse_str(&value)) {
                ("id", Ok(id)) => Key::Id(id),
                ("id", Err(_)) => return Ok(None),
                _ => Key::Unique(field, &value),
            };
            match store.get(&def, &key).await {
                // Such as text that Postgres cannot hold.
                Err(StoreError::Invalid(_)) => Ok(None),
                found => found.map_err(error),
            }
        })
        .await
    }

    async fn insert(&self, entity: &'static str, row: Row) -> Result<Row, RowsError> {
        let (def, store) = (self.def(entity)?, self.store.clone());
        self.apart(async move {
            let row = complete(&def, row, Op::Insert, now()).map_err(refused)?;
            store.insert(&def, row).await.map_err(error)
        })
        .await
    }

    async fn update(
        &self,
        entity: &'static str,
        id: Uuid,
        change: Row,
    ) -> Result<Option<Row>, RowsError> {
        let (def, store) = (self.def(entity)?, self.store.clone());
        self.apart(async move {
            let merge = |old: &Row| patch(&def, old, change, now());
            match store.update_with(&def, &Key::Id(id), None, merge).await {
                Ok(row) => Ok(row),
                Err(UpdateError::Rejected(violations)) => Err(refused(violations)),
                Err(UpdateError::Store(e)) => Err(error(e)),
            }
        })
        .await
    }

    async fn delete(&self, entity: &'static str, id: Uuid) -> Result<bool, RowsError> {
        let (def, store) = (self.def(entity)?, self.store.clone());
        self.apart(async move { store.delete(&def, &Key::Id(id)).await.map_err(error) })
            .await
    }
}

fn refused(violations: Violations) -> RowsError {
    RowsError::Refused(violations.message())
}

fn error(e: StoreError) -> RowsError {
    match e {
        StoreError::Unavailable(why) | StoreError::Internal(why) => RowsError::Unavailable(why),
        other => RowsError::Refused(other.to_string()),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}
