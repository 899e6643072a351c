//! Postgres behind the Admin API and the nodes: pool, migrations, SQL made from the entity definitions, change log, LISTEN.
//!
//! An [`EntityDef`](silverback_schema::EntityDef) is turned into SQL once, in [`Store::new`]; the tables themselves are written by hand
//! in `migrations/`, and a test compares the two. Every write ends with an entry in `config_changes` and a new number in
//! `config_revision`, in the same transaction; [`watch::Watcher`] is the other end of that.
//!
//! Without a database (`Store::memory`) the same reads are answered from memory, and the configuration is replaced as a whole.
//!
//! Not for requests: the data plane never waits for anything in here.

mod batch;
mod bulk;
mod cell;
mod changes;
mod check;
mod config;
mod counters;
mod decode;
mod delete;
mod document;
mod error;
mod history;
mod load;
mod memory;
pub mod migrate;
mod page;
mod pool;
mod put;
mod read;
mod scope;
mod sql;
mod store;
mod table;
mod tags;
mod tokens;
mod turns;
mod update;
pub mod watch;
mod write;

#[cfg(test)]
mod testpg;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use batch::Write;
pub use bulk::Imported;
pub use config::PgConfig;
pub use counters::{Increment, PgCounters};
pub use error::{StoreError, UpdateError};
pub use history::{Change, Op, Revision};
pub use page::{Key, ListQuery, Page, TagFilter, Tagged};
pub use scope::Transaction;
pub use store::{ServerInfo, Store};
pub use tokens::{ADMIN_TOKENS, AdminToken, Role};

/// A complete row in the Admin API's form: every field of the entity is there, `null` when unset; a reference is `{"id": ".."}` or
/// null, times are whole seconds since 1970, `ttl` of an entity whose rows expire is the seconds left.
pub type Row = serde_json::Map<String, serde_json::Value>;
