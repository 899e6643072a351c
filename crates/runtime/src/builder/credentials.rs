//! Keeps the indexes of consumers and credentials in step with the rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use silverback_entities::{Consumer as ConsumerRow, CredentialRow, Tables};
use silverback_plugin::Prepared;
use silverback_plugin::facts::{Consumer, Credential};
use silverback_plugin::schema::EntityDef;
use uuid::Uuid;

use crate::directory::DirectoryIndex;

/// A consumer as plugins see it.
pub(super) fn consumer(row: &ConsumerRow) -> Arc<Consumer> {
    Arc::new(Consumer {
        id: row.id,
        username: row.username.as_deref().map(Into::into),
        custom_id: row.custom_id.as_deref().map(Into::into),
    })
}

/// Which credentials belong to whom: a consumer that changes is told to each of them.
#[derive(Default)]
pub(super) struct Credentials {
    of: HashMap<Uuid, Vec<(&'static str, Uuid)>, foldhash::fast::RandomState>,
    /// Of entities that are listed: the values of each consumer's rows, by the rows' ids.
    listed: HashMap<(&'static str, Uuid), BTreeMap<Uuid, Box<str>>, foldhash::fast::RandomState>,
}

impl Credentials {
    /// Takes a row in. One whose consumer is not there waits for it.
    pub(super) fn put(
        &mut self,
        directory: &mut DirectoryIndex,
        def: &EntityDef,
        row: &CredentialRow,
    ) {
        if def.is_listed() {
            let values = self.listed.entry((def.name, row.consumer)).or_default();
            values.insert(row.id, row.lookup.clone());
            directory.put_values(def.name, row.consumer, values.values().cloned().collect());
        } else {
            self.put_credential(directory, def.name, row);
        }
    }

    fn put_credential(
        &mut self,
        directory: &mut DirectoryIndex,
        entity: &'static str,
        row: &CredentialRow,
    ) {
        let mine = self.of.entry(row.consumer).or_default();
        if !mine.contains(&(entity, row.id)) {
            mine.push((entity, row.id));
        }
        let Some(consumer) = directory.by_id(row.consumer).cloned() else {
            return;
        };
        let made = Credential {
            id: row.id,
            lookup: row.lookup.as_bytes().into(),
            consumer,
            expires_at: row.expires_at,
            extra: row.extra.clone(),
            prepared: Prepared::default(),
        };
        directory.put_credential(entity, Arc::new(made));
    }

    /// Takes a row out.
    pub(super) fn remove(
        &mut self,
        directory: &mut DirectoryIndex,
        def: &EntityDef,
        row: &CredentialRow,
    ) {
        let entity = def.name;
        if def.is_listed() {
            if let Some(values) = self.listed.get_mut(&(entity, row.consumer)) {
                values.remove(&row.id);
                directory.put_values(entity, row.consumer, values.values().cloned().collect());
                if values.is_empty() {
                    self.listed.remove(&(entity, row.consumer));
                }
            }
            return;
        }
        directory.remove_credential(entity, &row.lookup, row.id);
        if let Some(mine) = self.of.get_mut(&row.consumer) {
            mine.retain(|c| *c != (entity, row.id));
            if mine.is_empty() {
                self.of.remove(&row.consumer);
            }
        }
    }

    /// Gives a consumer's credentials its new form. Answers which they are.
    pub(super) fn consumer_changed(
        &mut self,
        directory: &mut DirectoryIndex,
        tables: &Tables,
        id: Uuid,
    ) -> Vec<Uuid> {
        let mine = self.of.get(&id).cloned().unwrap_or_default();
        for &(entity, credential) in &mine {
            if let Some(row) = tables
                .credentials
                .get(entity)
                .and_then(|rows| rows.get(&credential))
            {
                self.put_credential(directory, entity, row);
            }
        }
        mine.into_iter().map(|(_, id)| id).collect()
    }
}
