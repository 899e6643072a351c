//! Consumers and credentials of a snapshot, in compact hash indexes.
//!
//! Each index is cut into shards that are shared between snapshots: adding one credential copies one shard, not the index.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use silverback_plugin::facts::{Consumer, Credential, Directory};
use uuid::Uuid;

const SHARDS: usize = 1024;

type Shard<V> = std::collections::HashMap<Box<str>, Arc<V>, foldhash::fast::RandomState>;

/// A map from text to values that shares its unchanged parts with its clones.
pub struct Sharded<V> {
    hasher: foldhash::fast::FixedState,
    shards: Vec<Arc<Shard<V>>>,
}

impl<V> Clone for Sharded<V> {
    fn clone(&self) -> Self {
        Sharded {
            hasher: self.hasher.clone(),
            shards: self.shards.clone(),
        }
    }
}

impl<V> Default for Sharded<V> {
    fn default() -> Self {
        let empty = Arc::new(Shard::default());
        Sharded {
            hasher: foldhash::fast::FixedState::with_seed(1),
            shards: vec![empty; SHARDS],
        }
    }
}

impl<V> Sharded<V> {
    fn shard(&self, key: &str) -> usize {
        (self.hasher.hash_one(key) >> 32) as usize % SHARDS
    }

    /// The value at that key.
    pub fn get(&self, key: &str) -> Option<&Arc<V>> {
        self.shards[self.shard(key)].get(key)
    }

    /// Puts a value in.
    pub fn insert(&mut self, key: &str, value: Arc<V>) {
        let n = self.shard(key);
        Arc::make_mut(&mut self.shards[n]).insert(key.into(), value);
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &str) {
        let n = self.shard(key);
        if self.shards[n].contains_key(key) {
            Arc::make_mut(&mut self.shards[n]).remove(key);
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|s| s.is_empty())
    }
}

/// Consumers and credentials of one snapshot.
#[derive(Clone, Default)]
pub struct DirectoryIndex {
    /// By id and, apart, by username.
    by_id: Sharded<Consumer>,
    by_name: Sharded<Consumer>,
    credentials: Vec<(&'static str, Sharded<Credential>)>,
    /// What entities say of consumers, by the consumers' ids.
    values: Vec<(&'static str, Sharded<Vec<Box<str>>>)>,
}

impl DirectoryIndex {
    /// A consumer by primary key.
    pub fn by_id(&self, id: Uuid) -> Option<&Arc<Consumer>> {
        let mut buf = [0u8; 36];
        self.by_id.get(id.as_hyphenated().encode_lower(&mut buf))
    }

    pub(crate) fn put_consumer(&mut self, c: Arc<Consumer>) {
        if let Some(name) = &c.username {
            self.by_name.insert(name, c.clone());
        }
        let mut buf = [0u8; 36];
        self.by_id
            .insert(c.id.as_hyphenated().encode_lower(&mut buf), c);
    }

    pub(crate) fn remove_consumer(&mut self, id: Uuid) {
        let Some(old) = self.by_id(id).cloned() else {
            return;
        };
        // The name may belong to another consumer by now.
        if let Some(name) = &old.username
            && self.by_name.get(name).is_some_and(|c| c.id == id)
        {
            self.by_name.remove(name);
        }
        let mut buf = [0u8; 36];
        self.by_id.remove(id.as_hyphenated().encode_lower(&mut buf));
    }

    pub(crate) fn put_credential(&mut self, entity: &'static str, key: &str, c: Arc<Credential>) {
        self.of_mut(entity).insert(key, c);
    }

    pub(crate) fn remove_credential(&mut self, entity: &'static str, key: &str, id: Uuid) {
        let index = self.of_mut(entity);
        if index.get(key).is_some_and(|c| c.id == id) {
            index.remove(key);
        }
    }

    /// Says anew what an entity says of a consumer.
    pub(crate) fn put_values(
        &mut self,
        entity: &'static str,
        consumer: Uuid,
        values: Vec<Box<str>>,
    ) {
        let mut buf = [0u8; 36];
        let key: &str = consumer.as_hyphenated().encode_lower(&mut buf);
        let index = of_mut(&mut self.values, entity);
        if values.is_empty() {
            index.remove(key);
        } else {
            index.insert(key, Arc::new(values));
        }
    }

    fn of_mut(&mut self, entity: &'static str) -> &mut Sharded<Credential> {
        of_mut(&mut self.credentials, entity)
    }
}

fn of_mut<'a, V>(
    indexes: &'a mut Vec<(&'static str, Sharded<V>)>,
    entity: &'static str,
) -> &'a mut Sharded<V> {
    let n = match indexes.iter().position(|(e, _)| *e == entity) {
        Some(n) => n,
        None => {
            indexes.push((entity, Sharded::default()));
            indexes.len() - 1
        }
    };
    &mut indexes[n].1
}

impl Directory for DirectoryIndex {
    fn credential(&self, entity: &'static str, key: &str) -> Option<&Arc<Credential>> {
        let (_, index) = self.credentials.iter().find(|(e, _)| *e == entity)?;
        let found = index.get(key)?;
        match found.expires_at {
            Some(t) if t <= now() => None,
            _ => Some(found),
        }
    }

    fn values_of(&self, entity: &'static str, consumer: Uuid) -> &[Box<str>] {
        let mut buf = [0u8; 36];
        let key: &str = consumer.as_hyphenated().encode_lower(&mut buf);
        let index = self.values.iter().find(|(e, _)| *e == entity);
        index
            .and_then(|(_, index)| index.get(key))
            .map_or(&[], |values| values)
    }

    fn consumer(&self, id_or_username: &str) -> Option<&Arc<Consumer>> {
        self.by_id
            .get(id_or_username)
            .or_else(|| self.by_name.get(id_or_username))
    }
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}
