//! A node for tests.

mod rows;

pub use rows::FakeRows;

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::watch;
use uuid::Uuid;

use crate::context::BodySource;
use crate::env::{Increment, Task};
use crate::{
    CaptureSource, Captures, ClusterCounters, Consumer, CounterError, Credential, Directory,
    Issued, PluginError, Prepared, Rows, Services, TracingTerms,
};

/// A consumer of that name; its id is made from `id`.
pub fn consumer(id: u128, username: &str) -> Arc<Consumer> {
    Arc::new(Consumer {
        id: Uuid::from_u128(id),
        username: Some(username.into()),
        custom_id: None,
    })
}

/// Consumers and credentials by hand. Credentials expire by a clock that stands at 1700000000, seconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct FakeDirectory {
    consumers: Vec<Arc<Consumer>>,
    credentials: Vec<(&'static str, Arc<Credential>)>,
    values: Vec<(&'static str, Uuid, Vec<Box<str>>)>,
    issued: Vec<(&'static str, Arc<Issued>)>,
}

impl FakeDirectory {
    /// A consumer that exists.
    pub fn add_consumer(&mut self, c: &Arc<Consumer>) {
        if !self.consumers.iter().any(|known| known.id == c.id) {
            self.consumers.push(c.clone());
        }
    }

    /// A credential that exists. The first has the id 100, the second 101, and so on.
    pub fn add_credential(
        &mut self,
        entity: &'static str,
        key: &str,
        owner: &Arc<Consumer>,
        expires_at: Option<i64>,
    ) {
        self.push(entity, key, owner, expires_at, Map::new());
    }

    /// A credential with more fields than its key, which does not expire.
    pub fn add_credential_with(
        &mut self,
        entity: &'static str,
        key: &str,
        owner: &Arc<Consumer>,
        extra: Map<String, Value>,
    ) {
        self.push(entity, key, owner, None, extra);
    }

    /// What an entity whose lookup field is not unique says of a consumer.
    pub fn add_values(&mut self, entity: &'static str, owner: &Arc<Consumer>, values: &[&str]) {
        self.add_consumer(owner);
        let values = values.iter().map(|v| (*v).into()).collect();
        self.values.push((entity, owner.id, values));
    }

    /// Something that was given out, with its fields; to the credential with that key, when one is named.
    ///
    /// # Panics
    /// When there is no such credential.
    pub fn add_issued(
        &mut self,
        entity: &'static str,
        key: &str,
        to: Option<(&'static str, &str)>,
        fields: Map<String, Value>,
    ) {
        let credential = to.map(|(entity, key)| {
            let found = self.credential(entity, key).cloned();
            found.unwrap_or_else(|| panic!("there is no {key} in {entity}"))
        });
        let row = Issued {
            lookup: key.as_bytes().into(),
            expires_at: None,
            id: Uuid::from_u128(500 + self.issued.len() as u128),
            fields,
            credential,
        };
        self.issued.push((entity, Arc::new(row)));
    }

    fn push(
        &mut self,
        entity: &'static str,
        key: &str,
        owner: &Arc<Consumer>,
        expires_at: Option<i64>,
        extra: Map<String, Value>,
    ) {
        self.add_consumer(owner);
        let id = Uuid::from_u128(100 + self.credentials.len() as u128);
        let credential = Credential {
            id,
            lookup: key.as_bytes().into(),
            consumer: owner.clone(),
            expires_at,
            extra,
            prepared: Prepared::default(),
        };
        self.credentials.push((entity, Arc::new(credential)));
    }
}

impl Directory for FakeDirectory {
    fn credential(&self, entity: &'static str, key: &str) -> Option<&Arc<Credential>> {
        let found = self
            .credentials
            .iter()
            .find(|(e, c)| *e == entity && *c.lookup == *key.as_bytes());
        found
            .map(|(_, c)| c)
            .filter(|c| c.expires_at.is_none_or(|t| t > 1_700_000_000))
    }

    fn issued(&self, entity: &'static str, key: &str) -> Option<&Arc<Issued>> {
        let mut all = self.issued.iter();
        let found = all.find(|(e, row)| *e == entity && *row.lookup == *key.as_bytes());
        found.map(|(_, row)| row)
    }

    fn values_of(&self, entity: &'static str, consumer: Uuid) -> &[Box<str>] {
        let mut all = self.values.iter();
        let found = all.find(|(e, id, _)| *e == entity && *id == consumer);
        found.map_or(&[], |(_, _, values)| values)
    }

    fn consumer(&self, id_or_username: &str) -> Option<&Arc<Consumer>> {
        let id = Uuid::parse_str(id_or_username).ok();
        self.consumers
            .iter()
            .find(|c| Some(c.id) == id)
            .or_else(|| {
                self.consumers
                    .iter()
                    .find(|c| c.username.as_deref() == Some(id_or_username))
            })
    }
}

/// A node's services: shared state, tasks on the test's runtime, counters where given.
#[derive(Default)]
pub struct FakeServices {
    shared: Mutex<HashMap<String, Weak<dyn Any + Send + Sync>>>,
    counters: Option<Arc<dyn ClusterCounters>>,
    rows: Option<Arc<dyn Rows>>,
    tracing: TracingTerms,
    stopping: watch::Sender<bool>,
}

impl FakeServices {
    /// A node with a database that counts.
    pub fn with_counters(counters: Arc<dyn ClusterCounters>) -> Self {
        FakeServices {
            counters: Some(counters),
            ..Self::default()
        }
    }

    /// A node with a database that keeps rows.
    pub fn with_rows(rows: Arc<dyn Rows>) -> Self {
        FakeServices {
            rows: Some(rows),
            ..Self::default()
        }
    }

    /// A node that measures for traces.
    pub fn with_tracing(tracing: TracingTerms) -> Self {
        FakeServices {
            tracing,
            ..Self::default()
        }
    }

    /// Tells tasks that the node stops.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }
}

impl Services for FakeServices {
    fn shared(
        &self,
        key: &str,
        make: &mut dyn FnMut() -> Arc<dyn Any + Send + Sync>,
    ) -> Arc<dyn Any + Send + Sync> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shared.get(key).and_then(Weak::upgrade) {
            return known;
        }
        let made = make();
        shared.insert(key.to_owned(), Arc::downgrade(&made));
        made
    }

    /// Outside a runtime tasks are dropped.
    fn spawn(&self, task: Task) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(task);
        }
    }

    fn stopping(&self) -> Task {
        let mut stopping = self.stopping.subscribe();
        Box::pin(async move {
            // An error means that the node is gone without having been stopped.
            if stopping.wait_for(|s| *s).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }

    fn tracing(&self) -> TracingTerms {
        self.tracing
    }

    fn counters(&self) -> Option<Arc<dyn ClusterCounters>> {
        self.counters.clone()
    }

    fn rows(&self) -> Option<Arc<dyn Rows>> {
        self.rows.clone()
    }
}

/// Cluster counters in memory, which can be put out of reach.
#[derive(Debug, Default)]
pub struct FakeCounters {
    totals: Mutex<HashMap<(String, i64), u64>>,
    away: AtomicBool,
    calls: AtomicU64,
}

impl FakeCounters {
    /// Whether the database is out of reach from now on.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// How often it was asked.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// The sum of all counters.
    pub fn total(&self) -> u64 {
        self.totals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .sum()
    }

    /// The names of all counters.
    pub fn keys(&self) -> Vec<String> {
        self.totals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .map(|(k, _)| k.clone())
            .collect()
    }
}

#[async_trait]
impl ClusterCounters for FakeCounters {
    async fn add(&self, increments: &[Increment]) -> Result<Vec<u64>, CounterError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err(CounterError("connection refused".to_owned()));
        }
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let add = |i: &Increment| {
            let counter = (i.key.clone(), i.window);
            if i.amount == 0 {
                return totals.get(&counter).copied().unwrap_or_default();
            }
            let total = totals.entry(counter).or_default();
            *total += i.amount;
            *total
        };
        Ok(increments.iter().map(add).collect())
    }
}

/// What the route's regular expression is said to have matched.
pub(super) struct GivenCaptures(pub(super) Option<Captures>);

impl CaptureSource for GivenCaptures {
    fn captures(&self) -> Option<Captures> {
        self.0.clone()
    }
}

/// The request's body, which is there already.
pub(super) struct WholeBody(pub(super) Bytes);

#[async_trait]
impl BodySource for WholeBody {
    async fn read(&mut self, max: usize) -> Result<Bytes, PluginError> {
        if self.0.len() > max {
            return Err(PluginError::body_too_long());
        }
        Ok(self.0.clone())
    }
}
