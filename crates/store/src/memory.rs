//! Running without a database: all rows in memory, replaced as a whole, and kept in a file so that a restart finds them.
//!
//! Who reads cannot tell it from Postgres; who writes one row is refused, in Kong's words (`kong/db/strategies/off/init.lua`).

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use silverback_entities as entities;
use silverback_schema::EntityDef;
use tokio::sync::watch;
use uuid::Uuid;

use crate::cell::now_micros;
use crate::load;
use crate::page::{token, token_id};
use crate::table::{Table, Tables};
use crate::{Key, ListQuery, Page, PgConfig, Row, Store, StoreError, TagFilter};

/// As Kong says of an endpoint that needs there to be none.
const NEEDS_DATABASE: &str =
    "this is only available when Silverback is configured to use a database";
/// Raised when the form of the file changes; a file of another form is not read.
const FORMAT: u32 = 1;

impl Store {
    /// A store without a database, empty until [`Store::replace`] or [`Store::restore`]. `file`: where the configuration is kept.
    ///
    /// What is not about rows of these entities, such as counters, is not there: it answers `Unavailable`.
    ///
    /// # Errors
    /// When an entity cannot be a table.
    pub fn memory_only(defs: Vec<EntityDef>, file: Option<PathBuf>) -> Result<Store, StoreError> {
        let nowhere = PgConfig {
            host: "/nonexistent".into(),
            ..PgConfig::default()
        };
        Self::with(nowhere, defs, Some(Memory::new(file)))
    }

    /// Whether there is a database.
    pub fn has_database(&self) -> bool {
        self.memory().is_none()
    }

    /// Without a database: the hash that the configuration was given. `None` with one.
    pub fn configuration_hash(&self) -> Option<String> {
        self.memory().map(|m| m.content().hash.clone())
    }

    /// Without a database: replaces all rows, by entity, and the hash of the configuration, at once. They are in the file when this is done.
    ///
    /// # Errors
    /// `Internal` when the file cannot be written, or when there is a database; then nothing has changed.
    pub fn replace(
        &self,
        rows: BTreeMap<String, Vec<Row>>,
        hash: String,
    ) -> Result<(), StoreError> {
        match self.memory() {
            Some(memory) => memory.replace(self.tables(), rows, hash),
            None => Err(StoreError::Internal("there is a database".into())),
        }
    }

    /// Without a database: takes the configuration that the file has; false when there is no file.
    ///
    /// # Errors
    /// `Internal` when the file cannot be used.
    pub fn restore(&self) -> Result<bool, StoreError> {
        self.memory()
            .map_or(Ok(false), |memory| memory.restore(self.tables()))
    }

    /// Refuses what is not about rows when there is no database.
    pub(crate) fn needs_database(&self) -> Result<(), StoreError> {
        match self.memory() {
            Some(_) => Err(StoreError::ReadOnly(NEEDS_DATABASE.to_owned())),
            None => Ok(()),
        }
    }

    /// Refuses in Kong's words when there is no database.
    pub(crate) fn writable(
        &self,
        verb: &str,
        table: &Table,
        by: Option<&str>,
    ) -> Result<(), StoreError> {
        match self.memory() {
            Some(_) => Err(read_only(verb, table, by)),
            None => Ok(()),
        }
    }
}

/// A configuration as it is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    format: u32,
    revision: i64,
    hash: String,
    rows: BTreeMap<String, Vec<Row>>,
}

/// A configuration as it is read from.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) hash: String,
    revision: i64,
    rows: HashMap<String, BTreeMap<Uuid, Row>>,
    /// Ids by unique field and value.
    names: HashMap<(String, &'static str), HashMap<String, Uuid>>,
}

/// The rows of a node without a database.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Locked only to take it or to put another in its place.
    content: RwLock<Arc<Content>>,
    /// Held by whoever makes the next one.
    replacing: Mutex<()>,
    file: Option<PathBuf>,
    revision: watch::Sender<i64>,
}

impl Memory {
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Memory {
            content: RwLock::default(),
            replacing: Mutex::default(),
            file,
            revision: watch::Sender::new(0),
        }
    }

    /// What is there now. Whoever holds it is not disturbed by what comes next.
    pub(crate) fn content(&self) -> Arc<Content> {
        self.content
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Says a new number whenever the configuration was replaced.
    pub(crate) fn changes(&self) -> watch::Receiver<i64> {
        self.revision.subscribe()
    }

    /// Replaces everything: in the file first, so that what is served is also what a restart finds.
    pub(crate) fn replace(
        &self,
        tables: &Tables,
        rows: BTreeMap<String, Vec<Row>>,
        hash: String,
    ) -> Result<(), StoreError> {
        let _replacing = self.replacing();
        let kept = Kept {
            format: FORMAT,
            revision: self.content().revision + 1,
            hash,
            rows,
        };
        if let Some(path) = &self.file {
            save(path, &kept)
                .map_err(|e| StoreError::Internal(format!("{}: {e}", path.display())))?;
        }
        self.put(Content::of(tables, kept));
        Ok(())
    }

    fn replacing(&self) -> MutexGuard<'_, ()> {
        // It guards nothing that could be half done.
        self.replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, content: Content) {
        let revision = content.revision;
        let mut place = self.content.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *place, Arc::new(content));
        drop(place);
        // Many rows, for which nobody has to wait.
        drop(old);
        self.revision.send_replace(revision);
    }

    /// Takes what the file has; false when there is none.
    pub(crate) fn restore(&self, tables: &Tables) -> Result<bool, StoreError> {
        let Some(path) = &self.file else {
            return Ok(false);
        };
        let _replacing = self.replacing();
        let bad = |why: String| StoreError::Internal(format!("{}: {why}", path.display()));
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(bad(e.to_string())),
        };
        let kept: Kept = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        if kept.format != FORMAT {
            return Err(bad(format!(
                "it has format {}, this version reads {FORMAT}",
                kept.format
            )));
        }
        self.put(Content::of(tables, kept));
        Ok(true)
    }
}

impl Content {
    fn of(tables: &Tables, kept: Kept) -> Self {
        let mut out = Content {
            hash: kept.hash,
            revision: kept.revision,
            ..Content::default()
        };
        for (entity, rows) in kept.rows {
            let Some(table) = tables.get(&entity) else {
                tracing::error!("left out: rows of {entity}, which no plugin here brings");
                continue;
            };
            let mut by_id = BTreeMap::new();
            for row in rows {
                let Some(id) = id_of(&row) else { continue };
                for field in table.def.unique_fields() {
                    if let Some(value) = text_of(&row, field) {
                        let names = out.names.entry((entity.clone(), field)).or_default();
                        names.insert(value, id);
                    }
                }
                by_id.insert(id, row);
            }
            out.rows.insert(entity, by_id);
        }
        out
    }

    pub(crate) fn get(&self, table: &Table, key: &Key<'_>) -> Option<Row> {
        let id = match key {
            Key::Id(id) => *id,
            Key::Unique(field, value) => {
                // The map's key is made of a name of the definition, not of the client's.
                let field = table.def.unique_fields().find(|f| f == field)?;
                *self
                    .names
                    .get(&(table.name.to_owned(), field))?
                    .get(*value)?
            }
        };
        alive(table, self.rows.get(table.name)?.get(&id)?)
    }

    pub(crate) fn get_below(
        &self,
        table: &Table,
        (field, id): (&str, Uuid),
        (name, value): (&str, &str),
    ) -> Option<Row> {
        let id = id.to_string();
        self.all(table, None).find(|row| {
            text_of(row, name).as_deref() == Some(value)
                && text_of(row, field).as_deref() == Some(id.as_str())
        })
    }

    pub(crate) fn list(&self, table: &Table, q: &ListQuery) -> Result<Page, StoreError> {
        let after = q.offset.as_deref().map(token_id).transpose()?;
        let size = q.size.max(1) as usize;
        let fits = |row: &Row| {
            q.parent
                .is_none_or(|(field, id)| text_of(row, field) == Some(id.to_string()))
                && match &q.tags {
                    Some(TagFilter::All(tags)) => tags.iter().all(|t| has_tag(row, t)),
                    Some(TagFilter::Any(tags)) => tags.iter().any(|t| has_tag(row, t)),
                    None => true,
                }
        };
        let mut rows: Vec<Row> = self
            .all(table, after)
            .filter(|row| fits(row))
            .take(size + 1)
            .collect();
        let more = rows.len() > size;
        rows.truncate(size);
        let last = rows.last().and_then(|r| r.get("id")).filter(|_| more);
        let next = last.map(|id| token(std::slice::from_ref(id)));
        Ok(Page { rows, next })
    }

    /// All rows that have not expired, in the order of their ids.
    pub(crate) fn all<'a>(
        &'a self,
        table: &'a Table,
        after: Option<Uuid>,
    ) -> impl Iterator<Item = Row> + 'a {
        let rows = self.rows.get(table.name).into_iter();
        rows.flatten()
            .filter(move |(id, _)| after.is_none_or(|after| **id > after))
            .filter_map(|(_, row)| alive(table, row))
    }

    /// The same with the moment of expiry, in seconds since 1970, in place of `ttl`.
    pub(crate) fn exported<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = Row> + 'a {
        let rows = self.rows.get(table.name).into_iter().flatten();
        rows.filter_map(|(_, row)| {
            let mut out = alive(table, row)?;
            if table.def.ttl {
                let end = expires_at(table, row);
                out.insert("ttl".into(), end.map_or(Value::Null, Value::from));
            }
            Some(out)
        })
    }

    /// What a node serves from.
    pub(crate) fn served(&self, tables: &Tables) -> entities::Tables {
        let mut out = entities::Tables {
            revision: self.revision,
            ..entities::Tables::default()
        };
        for table in &tables.list {
            for (id, row) in self.rows.get(table.name).into_iter().flatten() {
                match load::from_json(table, row, expires_at(table, row)) {
                    Ok(None) => break,
                    Ok(row) => out.apply(entities::Change {
                        entity: table.name.to_owned(),
                        id: *id,
                        row,
                    }),
                    Err(e) => tracing::error!("left out: {e}"),
                }
            }
        }
        out
    }
}

/// Writing one row is refused. `by`: the field that the row was named by.
pub(crate) fn read_only(verb: &str, table: &Table, by: Option<&str>) -> StoreError {
    let by = match by.filter(|f| *f != "id") {
        Some(field) => format!(" by '{field}'"),
        None => String::new(),
    };
    StoreError::ReadOnly(format!(
        "cannot {verb} '{}' entities{by} when not using a database",
        table.name
    ))
}

/// The moment, in seconds since 1970, after which a row is void: its `ttl` counts from when it was made.
fn expires_at(table: &Table, row: &Row) -> Option<i64> {
    if !table.def.ttl {
        return None;
    }
    let ttl = row.get("ttl")?.as_i64().filter(|ttl| *ttl > 0)?;
    Some(row.get("created_at")?.as_i64()?.saturating_add(ttl))
}

/// The row as it is now: its `ttl` is what is left. `None` when that is nothing.
fn alive(table: &Table, row: &Row) -> Option<Row> {
    let mut row = row.clone();
    if let Some(end) = expires_at(table, &row) {
        let left = end - now_micros() / 1_000_000;
        if left <= 0 {
            return None;
        }
        row.insert("ttl".into(), left.into());
    }
    Some(row)
}

pub(crate) fn id_of(row: &Row) -> Option<Uuid> {
    row.get("id")?.as_str()?.parse().ok()
}

/// A value by which rows are found: a text, or the id in a reference.
fn text_of(row: &Row, field: &str) -> Option<String> {
    match row.get(field)? {
        Value::String(text) => Some(text.clone()),
        Value::Object(reference) => reference.get("id")?.as_str().map(str::to_owned),
        _ => None,
    }
}

pub(crate) fn tags_of(row: &Row) -> impl Iterator<Item = &str> {
    let tags = row.get("tags").and_then(Value::as_array);
    tags.into_iter().flatten().filter_map(Value::as_str)
}

fn has_tag(row: &Row, tag: &str) -> bool {
    tags_of(row).any(|t| t == tag)
}

/// Writes the file in place of an earlier one, at once or not at all. It holds secrets: only its owner may read it.
fn save(path: &Path, kept: &Kept) -> io::Result<()> {
    let next = path.with_extension("next");
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    // A leftover of a crash may have other rights.
    let _ = fs::remove_file(&next);
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&next)?;
    let mut out = BufWriter::new(file);
    serde_json::to_writer(&mut out, kept)?;
    out.flush()?;
    out.into_inner().map_err(|e| e.into_error())?.sync_all()?;
    fs::rename(&next, path)
}
