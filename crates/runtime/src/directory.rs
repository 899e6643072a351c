//! Consumers and credentials of a snapshot, in compact hash indexes.
//!
//! Each index is cut into shards that are shared between snapshots: adding one credential copies one shard, not the index.
//!
//! With many credentials a request finds each thing it touches outside the processor's caches, and each costs it some hundred
//! nanoseconds. So an index holds nothing but pointers, and what it is searched by lies within what they point to.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hashbrown::HashTable;
use serde_json::value::RawValue;
use silverback_entities::Consumer as ConsumerRow;
use silverback_plugin::facts::{Consumer, Credential, Directory};
use uuid::Uuid;

use crate::shown;

const SHARDS: usize = 1024;

/// What an index holds: it knows what it is found by.
trait Entry: Clone {
    type Key: ?Sized + Hash + Eq;

    fn key(&self) -> &Self::Key;
}

/// An index that shares its unchanged parts with its clones.
struct Sharded<E> {
    hasher: foldhash::fast::FixedState,
    shards: Box<[Arc<HashTable<E>>]>,
}

impl<E> Clone for Sharded<E> {
    fn clone(&self) -> Self {
        Sharded {
            hasher: self.hasher.clone(),
            shards: self.shards.clone(),
        }
    }
}

impl<E> Default for Sharded<E> {
    fn default() -> Self {
        let empty = Arc::new(HashTable::new());
        Sharded {
            // The keys looked for are the callers' choice, those that are kept are not.
            hasher: foldhash::fast::FixedState::with_seed(1),
            shards: (0..SHARDS).map(|_| empty.clone()).collect(),
        }
    }
}

/// The table looks at the lowest and the highest bits of a hash.
fn shard(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

impl<E: Entry> Sharded<E> {
    fn get(&self, key: &E::Key) -> Option<&E> {
        let hash = self.hasher.hash_one(key);
        self.shards[shard(hash)].find(hash, |e| e.key() == key)
    }

    fn insert(&mut self, entry: E) {
        let hash = self.hasher.hash_one(entry.key());
        let table = Arc::make_mut(&mut self.shards[shard(hash)]);
        match table.find_mut(hash, |e| e.key() == entry.key()) {
            Some(old) => *old = entry,
            None => {
                let hasher = &self.hasher;
                table.insert_unique(hash, entry, |e| hasher.hash_one(e.key()));
            }
        }
    }

    fn remove(&mut self, key: &E::Key) {
        let hash = self.hasher.hash_one(key);
        let shard = &mut self.shards[shard(hash)];
        if shard.find(hash, |e| e.key() == key).is_some()
            && let Ok(found) = Arc::make_mut(shard).find_entry(hash, |e| e.key() == key)
        {
            found.remove();
        }
    }
}

/// A consumer with its row, which only logs look at.
#[derive(Clone)]
struct ById(Arc<Consumer>, Arc<ConsumerRow>);

impl Entry for ById {
    type Key = Uuid;

    fn key(&self) -> &Uuid {
        &self.0.id
    }
}

/// Of a consumer that has a name.
#[derive(Clone)]
struct ByName(Arc<Consumer>);

impl Entry for ByName {
    type Key = str;

    fn key(&self) -> &str {
        self.0.username.as_deref().unwrap_or_default()
    }
}

impl Entry for Arc<Credential> {
    type Key = [u8];

    fn key(&self) -> &[u8] {
        &self.lookup
    }
}

/// What an entity says of a consumer.
#[derive(Clone)]
struct Values {
    consumer: Uuid,
    values: Arc<[Box<str>]>,
}

impl Entry for Values {
    type Key = Uuid;

    fn key(&self) -> &Uuid {
        &self.consumer
    }
}

/// Consumers and credentials of one snapshot.
#[derive(Clone, Default)]
pub struct DirectoryIndex {
    by_id: Sharded<ById>,
    by_name: Sharded<ByName>,
    credentials: Vec<(&'static str, Sharded<Arc<Credential>>)>,
    values: Vec<(&'static str, Sharded<Values>)>,
}

impl DirectoryIndex {
    /// A consumer by primary key.
    pub fn by_id(&self, id: Uuid) -> Option<&Arc<Consumer>> {
        self.by_id.get(&id).map(|e| &e.0)
    }

    /// The row of a consumer as logs show it.
    pub fn consumer_text(&self, id: Uuid) -> Option<Box<RawValue>> {
        // Kong's consumers come out of its cache without their workspace.
        shown::text(&*self.by_id.get(&id)?.1, false)
    }

    fn by_name(&self, name: &str) -> Option<&Arc<Consumer>> {
        self.by_name.get(name).map(|e| &e.0)
    }

    pub(crate) fn put_consumer(&mut self, c: Arc<Consumer>, row: Arc<ConsumerRow>) {
        if c.username.is_some() {
            self.by_name.insert(ByName(c.clone()));
        }
        self.by_id.insert(ById(c, row));
    }

    pub(crate) fn remove_consumer(&mut self, id: Uuid) {
        let Some(old) = self.by_id(id).cloned() else {
            return;
        };
        // The name may belong to another consumer by now.
        if let Some(name) = &old.username
            && self.by_name(name).is_some_and(|c| c.id == id)
        {
            self.by_name.remove(name);
        }
        self.by_id.remove(&id);
    }

    pub(crate) fn put_credential(&mut self, entity: &'static str, c: Arc<Credential>) {
        of_mut(&mut self.credentials, entity).insert(c);
    }

    pub(crate) fn remove_credential(&mut self, entity: &'static str, key: &str, id: Uuid) {
        let index = of_mut(&mut self.credentials, entity);
        if index.get(key.as_bytes()).is_some_and(|c| c.id == id) {
            index.remove(key.as_bytes());
        }
    }

    /// Says anew what an entity says of a consumer.
    pub(crate) fn put_values(
        &mut self,
        entity: &'static str,
        consumer: Uuid,
        values: Vec<Box<str>>,
    ) {
        let index = of_mut(&mut self.values, entity);
        if values.is_empty() {
            index.remove(&consumer);
        } else {
            let values = values.into();
            index.insert(Values { consumer, values });
        }
    }
}

fn of<'a, E>(
    indexes: &'a [(&'static str, Sharded<E>)],
    entity: &'static str,
) -> Option<&'a Sharded<E>> {
    let (_, index) = indexes.iter().find(|(e, _)| *e == entity)?;
    Some(index)
}

fn of_mut<'a, E>(
    indexes: &'a mut Vec<(&'static str, Sharded<E>)>,
    entity: &'static str,
) -> &'a mut Sharded<E> {
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
        let found = of(&self.credentials, entity)?.get(key.as_bytes())?;
        match found.expires_at {
            Some(t) if t <= now() => None,
            _ => Some(found),
        }
    }

    fn values_of(&self, entity: &'static str, consumer: Uuid) -> &[Box<str>] {
        let found = of(&self.values, entity).and_then(|index| index.get(&consumer));
        found.map_or(&[], |found| &found.values)
    }

    fn consumer(&self, id_or_username: &str) -> Option<&Arc<Consumer>> {
        let id = Uuid::try_parse(id_or_username).ok();
        id.and_then(|id| self.by_id(id))
            .or_else(|| self.by_name(id_or_username))
    }
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}
