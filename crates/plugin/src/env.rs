//! What a plugin may ask of the node while it is compiled.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};
use uuid::Uuid;

/// Which configuration is being compiled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstanceInfo {
    /// Primary key of the row in `plugins`.
    pub id: Uuid,
    /// The route it is on.
    pub route: Option<Uuid>,
    /// The service it is on.
    pub service: Option<Uuid>,
    /// The consumer it is on.
    pub consumer: Option<Uuid>,
}

/// The node, as plugins see it.
pub struct PluginEnv<'a> {
    /// Which configuration is being compiled.
    pub instance: &'a InstanceInfo,
    /// What the node offers.
    pub services: &'a dyn Services,
}

/// The name of the machine; empty where it does not say.
pub fn hostname() -> String {
    let name = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .into_iter()
        .find_map(|f| std::fs::read_to_string(f).ok());
    name.unwrap_or_default().trim().to_owned()
}

/// A task for the node's background runtime.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the node offers to plugins.
pub trait Services: Send + Sync {
    /// State that outlives a change of configuration: the same value for the same key as long as someone holds it.
    /// Use [`PluginEnv::shared`] or [`shared`].
    fn shared(
        &self,
        key: &str,
        make: &mut dyn FnMut() -> Arc<dyn Any + Send + Sync>,
    ) -> Arc<dyn Any + Send + Sync>;

    /// Runs a task on the node's background runtime.
    fn spawn(&self, task: Task);

    /// As [`Services::spawn`], for a task that may have something to finish: when the node stops it waits a few seconds for such tasks. They
    /// learn of it from [`Services::stopping`].
    fn spawn_to_finish(&self, task: Task) {
        self.spawn(task);
    }

    /// Is over when the node stops, as soon as no request is left. Never where nobody says so.
    fn stopping(&self) -> Task {
        Box::pin(std::future::pending())
    }

    /// Counters shared by all nodes; `None` when the node has no database.
    fn counters(&self) -> Option<Arc<dyn ClusterCounters>>;

    /// Rows of plugins' own entities, for what requests make: tokens, sessions. `None` when the node has no database.
    fn rows(&self) -> Option<Arc<dyn Rows>> {
        None
    }

    /// The node's own id, where it has one.
    fn node_id(&self) -> Option<Uuid> {
        None
    }

    /// What is measured of requests for traces.
    fn tracing(&self) -> TracingTerms {
        TracingTerms::default()
    }
}

/// What is measured of requests for traces: the settings `tracing_instrumentations` and `tracing_sampling_rate`. Nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TracingTerms {
    /// Requests.
    pub requests: bool,
    /// Their attempts at upstreams.
    pub attempts: bool,
    /// The share of traces that are recorded, from 0 to 1.
    pub sampling_rate: f64,
}

impl PluginEnv<'_> {
    /// State that outlives a change of configuration, keyed by its type and `key`.
    pub fn shared<T: Any + Send + Sync>(&self, key: &str, make: impl FnOnce() -> T) -> Arc<T> {
        shared(self.services, key, make)
    }
}

/// The same for those who have no configuration: endpoints of the Admin API.
pub fn shared<T: Any + Send + Sync>(
    services: &dyn Services,
    key: &str,
    make: impl FnOnce() -> T,
) -> Arc<T> {
    let mut make = Some(make);
    let full = format!("{}:{key}", std::any::type_name::<T>());
    let any = services.shared(&full, &mut || {
        let make = make
            .take()
            .expect("a registry makes a value at most once per call");
        Arc::new(make())
    });
    any.downcast::<T>()
        .unwrap_or_else(|_| unreachable!("the key holds the name of the type"))
}

/// Counters that all nodes of a cluster share, in the database. Slow: never on the path of a request.
#[async_trait]
pub trait ClusterCounters: Send + Sync {
    /// Adds to several counters in one round trip and answers each one's new total.
    /// `key` names what is counted within the window that begins at `window` (seconds since 1970) and is forgotten at `expires`.
    async fn add(&self, increments: &[Increment]) -> Result<Vec<u64>, CounterError>;
}

/// One addition to a cluster counter.
#[derive(Clone, Debug, PartialEq)]
pub struct Increment {
    /// What is counted.
    pub key: String,
    /// When its window began, seconds since 1970.
    pub window: i64,
    /// When the counter may be forgotten, seconds since 1970.
    pub expires: i64,
    /// By how much; 0 only reads.
    pub amount: u64,
}

/// The database did not answer.
#[derive(Debug, thiserror::Error)]
#[error("cluster counters are out of reach: {0}")]
pub struct CounterError(pub String);

/// A row in the Admin API's form: every field of the entity, `ttl` with those that expire.
pub type Row = Map<String, Value>;

/// Rows of plugins' own entities ([`Plugin::entities`](crate::Plugin::entities)), in the database: for what comes into being while requests
/// are served. A write is one like any other: checked against the entity, logged with a revision of its own, and told to all nodes.
///
/// A request waits for the database here. What is read for every request is therefore asked of the [`Directory`](crate::Directory) first,
/// which has every node's writes a moment later, and here only when it is not there: a token may have been made on another node just now.
#[async_trait]
pub trait Rows: Send + Sync {
    /// The row with that value of a unique field, unless it has expired.
    async fn find(
        &self,
        entity: &'static str,
        field: &'static str,
        value: &str,
    ) -> Result<Option<Row>, RowsError>;

    /// Makes a row and answers it whole, with what the entity fills in: ids, times, random keys, defaults.
    async fn insert(&self, entity: &'static str, row: Row) -> Result<Row, RowsError>;

    /// Changes these fields of a row and answers it whole; `None` when there is no such row (any more).
    async fn update(
        &self,
        entity: &'static str,
        id: Uuid,
        change: Row,
    ) -> Result<Option<Row>, RowsError>;

    /// Deletes a row. Of several that do so at the same time, over all nodes, one is told that it was there.
    async fn delete(&self, entity: &'static str, id: Uuid) -> Result<bool, RowsError>;
}

/// Why a row was not read or written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RowsError {
    /// The database does not answer; the same may succeed later.
    #[error("the database is out of reach: {0}")]
    Unavailable(String),
    /// There may be no such row: its values are not allowed, taken, or refer to nothing.
    #[error("the row is refused: {0}")]
    Refused(String),
}
