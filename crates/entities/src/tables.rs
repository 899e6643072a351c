//! The whole configuration in memory, as the builder of snapshots reads it, and changes to it.
//!
//! Postgres, the snapshot file, a declarative file and tests all fill the same [`Tables`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use silverback_schema::EntityDef;
use uuid::Uuid;

use crate::{Certificate, Consumer, PluginRow, Route, Service, Target, Upstream, Vault};

/// All rows that a node serves from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tables {
    /// The revision of the configuration these rows are.
    pub revision: i64,
    /// By primary key.
    pub services: HashMap<Uuid, Arc<Service>>,
    /// By primary key.
    pub routes: HashMap<Uuid, Arc<Route>>,
    /// By primary key.
    pub consumers: HashMap<Uuid, Arc<Consumer>>,
    /// By primary key.
    pub plugins: HashMap<Uuid, Arc<PluginRow>>,
    /// By primary key.
    #[serde(default)]
    pub certificates: HashMap<Uuid, Arc<Certificate>>,
    /// By primary key.
    #[serde(default)]
    pub vaults: HashMap<Uuid, Arc<Vault>>,
    /// By primary key.
    #[serde(default)]
    pub upstreams: HashMap<Uuid, Arc<Upstream>>,
    /// By primary key.
    #[serde(default)]
    pub targets: HashMap<Uuid, Arc<Target>>,
    /// Rows of plugins' entities that are looked up while serving, by entity and primary key.
    pub credentials: BTreeMap<String, HashMap<Uuid, Arc<CredentialRow>>>,
    /// Rows that plugins give out, which belong to no consumer themselves: tokens, sessions.
    #[serde(default)]
    pub issued: BTreeMap<String, HashMap<Uuid, Arc<IssuedRow>>>,
}

/// A row of a plugin's entity that has a lookup field and belongs to a consumer, kept small: there may be millions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CredentialRow {
    /// Primary key.
    pub id: Uuid,
    /// Whose it is.
    pub consumer: Uuid,
    /// The value of the lookup field.
    pub lookup: Box<str>,
    /// Seconds since 1970 after which it is void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// The entity's other fields; empty for a key.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

impl CredentialRow {
    /// From a stored row; `expires_at` is apart because `ttl` in a row is what is left of it. `None` when the row lacks its
    /// consumer or lookup value, which the database does not allow.
    pub fn from_row(
        def: &EntityDef,
        mut row: Map<String, Value>,
        expires_at: Option<i64>,
    ) -> Option<Self> {
        let id = uuid_of(row.remove("id")?)?;
        let consumer = uuid_of(row.remove("consumer")?.get("id")?.clone())?;
        let Value::String(lookup) = row.remove(def.lookup?)? else {
            return None;
        };
        for k in ["created_at", "updated_at", "tags", "ttl"] {
            row.remove(k);
        }
        row.retain(|_, v| !v.is_null());
        Some(CredentialRow {
            id,
            consumer,
            lookup: lookup.into(),
            expires_at,
            extra: row,
        })
    }
}

/// A row of a plugin's entity that has a lookup field and is no consumer's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IssuedRow {
    /// Primary key.
    pub id: Uuid,
    /// The value of the lookup field.
    pub lookup: Box<str>,
    /// Seconds since 1970 after which it is void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// The entity's other fields that are not null.
    pub fields: Map<String, Value>,
}

impl IssuedRow {
    /// From a stored row, as [`CredentialRow::from_row`]. `None` when the row lacks its lookup value: nobody can ask for it.
    pub fn from_row(
        def: &EntityDef,
        mut row: Map<String, Value>,
        expires_at: Option<i64>,
    ) -> Option<Self> {
        let id = uuid_of(row.remove("id")?)?;
        let Value::String(lookup) = row.remove(def.lookup?)? else {
            return None;
        };
        row.remove("ttl");
        row.retain(|_, v| !v.is_null());
        Some(IssuedRow {
            id,
            lookup: lookup.into(),
            expires_at,
            fields: row,
        })
    }

    /// The primary key of the row that a field refers to.
    pub fn reference(&self, field: &str) -> Option<Uuid> {
        uuid_of(self.fields.get(field)?.get("id")?.clone())
    }
}

fn uuid_of(v: Value) -> Option<Uuid> {
    v.as_str().and_then(|s| Uuid::parse_str(s).ok())
}

/// A row of one of the tables.
#[derive(Debug, Clone)]
pub enum Row {
    /// `services`
    Service(Service),
    /// `routes`
    Route(Route),
    /// `consumers`
    Consumer(Consumer),
    /// `plugins`
    Plugin(PluginRow),
    /// `certificates`
    Certificate(Certificate),
    /// `vaults`
    Vault(Vault),
    /// `upstreams`
    Upstream(Box<Upstream>),
    /// `targets`
    Target(Target),
    /// An entity with a lookup field whose rows are consumers' own.
    Credential(CredentialRow),
    /// An entity with a lookup field whose rows are no consumer's.
    Issued(IssuedRow),
}

/// What happened to one row. An entity the node does not serve from is passed over.
#[derive(Debug, Clone)]
pub struct Change {
    /// The entity's name.
    pub entity: String,
    /// Primary key.
    pub id: Uuid,
    /// The row as it is now; `None` when it is gone.
    pub row: Option<Row>,
}

impl Tables {
    /// Applies a change.
    pub fn apply(&mut self, change: Change) {
        let id = change.id;
        match change.row {
            Some(Row::Service(r)) => drop(self.services.insert(id, Arc::new(r))),
            Some(Row::Route(r)) => drop(self.routes.insert(id, Arc::new(r))),
            Some(Row::Consumer(r)) => drop(self.consumers.insert(id, Arc::new(r))),
            Some(Row::Plugin(r)) => drop(self.plugins.insert(id, Arc::new(r))),
            Some(Row::Certificate(r)) => drop(self.certificates.insert(id, Arc::new(r))),
            Some(Row::Vault(r)) => drop(self.vaults.insert(id, Arc::new(r))),
            Some(Row::Upstream(r)) => drop(self.upstreams.insert(id, Arc::from(r))),
            Some(Row::Target(r)) => drop(self.targets.insert(id, Arc::new(r))),
            Some(Row::Credential(r)) => {
                drop(
                    self.credentials
                        .entry(change.entity)
                        .or_default()
                        .insert(id, Arc::new(r)),
                );
            }
            Some(Row::Issued(r)) => {
                let rows = self.issued.entry(change.entity).or_default();
                rows.insert(id, Arc::new(r));
            }
            None => match change.entity.as_str() {
                "services" => drop(self.services.remove(&id)),
                "routes" => drop(self.routes.remove(&id)),
                "consumers" => drop(self.consumers.remove(&id)),
                "plugins" => drop(self.plugins.remove(&id)),
                "certificates" => drop(self.certificates.remove(&id)),
                "vaults" => drop(self.vaults.remove(&id)),
                "upstreams" => drop(self.upstreams.remove(&id)),
                "targets" => drop(self.targets.remove(&id)),
                other => {
                    if let Some(rows) = self.credentials.get_mut(other) {
                        rows.remove(&id);
                    }
                    if let Some(rows) = self.issued.get_mut(other) {
                        rows.remove(&id);
                    }
                }
            },
        }
    }
}
