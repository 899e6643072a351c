//! Consumers, credentials and what was given out of a snapshot, in compact hash indexes.

use std::slice::from_ref;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prefetch_index::prefetch_index;
use serde_json::value::RawValue;
use silverback_entities::Consumer as ConsumerRow;
use silverback_plugin::facts::{Consumer, Credential, Directory, Issued};
use uuid::Uuid;

use crate::sharded::{Entry, Sharded};
use crate::shown;

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

/// A credential, and its owner at hand, so that both can be fetched at once.
#[derive(Clone)]
struct Held {
    credential: Arc<Credential>,
    consumer: Arc<Consumer>,
}

impl Entry for Held {
    type Key = [u8];

    fn key(&self) -> &[u8] {
        &self.credential.lookup
    }

    fn prefetch(&self) {
        // Each is longer than a line.
        prefetch_index(from_ref(&self.credential.lookup), 0);
        prefetch_index(from_ref(&self.credential.consumer), 0);
        prefetch_index(from_ref(&self.consumer.id), 0);
        prefetch_index(from_ref(&self.consumer.custom_id), 0);
    }
}

impl Entry for Arc<Issued> {
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
    credentials: Vec<(&'static str, Sharded<Held>)>,
    values: Vec<(&'static str, Sharded<Values>)>,
    issued: Vec<(&'static str, Sharded<Arc<Issued>>)>,
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
        let consumer = c.consumer.clone();
        of_mut(&mut self.credentials, entity).insert(Held {
            credential: c,
            consumer,
        });
    }

    pub(crate) fn remove_credential(&mut self, entity: &'static str, key: &str, id: Uuid) {
        let index = of_mut(&mut self.credentials, entity);
        if index
            .get(key.as_bytes())
            .is_some_and(|h| h.credential.id == id)
        {
            index.remove(key.as_bytes());
        }
    }

    /// A credential by its lookup field, even when it has expired.
    pub(crate) fn known(&self, entity: &'static str, key: &str) -> Option<&Arc<Credential>> {
        Some(
            &of(&self.credentials, entity)?
                .get(key.as_bytes())?
                .credential,
        )
    }

    pub(crate) fn put_issued(&mut self, entity: &'static str, row: Arc<Issued>) {
        of_mut(&mut self.issued, entity).insert(row);
    }

    pub(crate) fn remove_issued(&mut self, entity: &'static str, key: &str, id: Uuid) {
        let index = of_mut(&mut self.issued, entity);
        if index.get(key.as_bytes()).is_some_and(|row| row.id == id) {
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

fn of<'a, E: Entry>(
    indexes: &'a [(&'static str, Sharded<E>)],
    entity: &'static str,
) -> Option<&'a Sharded<E>> {
    let (_, index) = indexes.iter().find(|(e, _)| *e == entity)?;
    Some(index)
}

fn of_mut<'a, E: Entry>(
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
        self.known(entity, key)
            .filter(|found| !is_over(found.expires_at))
    }

    fn issued(&self, entity: &'static str, key: &str) -> Option<&Arc<Issued>> {
        let found = of(&self.issued, entity)?.get(key.as_bytes())?;
        (!is_over(found.expires_at)).then_some(found)
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

fn is_over(end: Option<i64>) -> bool {
    end.is_some_and(|end| end <= now())
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}
