//! Keeps the index of what plugins gave out, such as tokens and sessions, in step with the rows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use silverback_entities::{IssuedRow, Tables};
use silverback_plugin::PluginDef;
use silverback_plugin::facts::{Credential, Issued};
use silverback_plugin::schema::EntityDef;
use uuid::Uuid;

use crate::directory::DirectoryIndex;

/// What was given out to which credential: one that changes is told to each of them.
#[derive(Default)]
pub(super) struct IssuedRows {
    of: HashMap<Uuid, HashSet<(&'static str, Uuid)>, foldhash::fast::RandomState>,
}

impl IssuedRows {
    /// Takes a row in. One whose credential is not there waits for it.
    pub(super) fn put(
        &mut self,
        directory: &mut DirectoryIndex,
        plugins: &[PluginDef],
        tables: &Tables,
        def: &EntityDef,
        row: &IssuedRow,
    ) {
        let mut credential = None;
        if let Some((field, entity)) = owner(plugins, def) {
            let Some(id) = row.reference(field) else {
                return;
            };
            self.of.entry(id).or_default().insert((def.name, row.id));
            credential = find(directory, tables, entity, id);
            if credential.is_none() {
                directory.remove_issued(def.name, &row.lookup, row.id);
                return;
            }
        }
        let made = Issued {
            lookup: row.lookup.as_bytes().into(),
            expires_at: row.expires_at,
            id: row.id,
            fields: row.fields.clone(),
            credential,
        };
        directory.put_issued(def.name, Arc::new(made));
    }

    /// Takes a row out.
    pub(super) fn remove(
        &mut self,
        directory: &mut DirectoryIndex,
        plugins: &[PluginDef],
        def: &EntityDef,
        row: &IssuedRow,
    ) {
        directory.remove_issued(def.name, &row.lookup, row.id);
        let owner = owner(plugins, def).and_then(|(field, _)| row.reference(field));
        if let Some(id) = owner
            && let Some(mine) = self.of.get_mut(&id)
        {
            mine.remove(&(def.name, row.id));
            if mine.is_empty() {
                self.of.remove(&id);
            }
        }
    }

    /// Gives what was given out to a credential its new form, or takes it away when the credential is gone.
    pub(super) fn credential_changed(
        &mut self,
        directory: &mut DirectoryIndex,
        plugins: &[PluginDef],
        tables: &Tables,
        id: Uuid,
    ) {
        for (entity, issued) in self.of.get(&id).cloned().unwrap_or_default() {
            let row = tables.issued.get(entity).and_then(|rows| rows.get(&issued));
            if let (Some(def), Some(row)) = (entity_of(plugins, entity), row) {
                self.put(directory, plugins, tables, def, row);
            }
        }
    }
}

/// The field of an entity that refers to a credential, and the credentials' entity.
fn owner(plugins: &[PluginDef], def: &EntityDef) -> Option<(&'static str, &'static str)> {
    let mut references = def.foreign_keys();
    references.find_map(|(field, to, _)| {
        let to = entity_of(plugins, to)?;
        (to.lookup.is_some() && to.field("consumer").is_some()).then_some((field, to.name))
    })
}

fn entity_of<'p>(plugins: &'p [PluginDef], name: &str) -> Option<&'p EntityDef> {
    let mut all = plugins.iter().flat_map(|p| &p.entities);
    all.find(|def| def.name == name)
}

fn find(
    directory: &DirectoryIndex,
    tables: &Tables,
    entity: &'static str,
    id: Uuid,
) -> Option<Arc<Credential>> {
    let row = tables.credentials.get(entity)?.get(&id)?;
    directory.known(entity, &row.lookup).cloned()
}
