//! The core entities of Kong's data model, each defined once: a typed struct, its field model and its [`EntityDef`].
//!
//! Plugins bring their own entities (credentials); see `silverback-plugin`.

mod consumer;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod golden;
mod plugin;
mod route;
mod service;
pub mod tables;

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use silverback_schema::EntityDef;
use silverback_schema::Field;
pub use uuid::Uuid;

pub use consumer::Consumer;
pub use plugin::PluginRow;
pub use route::{PathHandling, Protocol, Route, SourceOrDestination};
pub use service::Service;
pub use silverback_schema::checks::normalize_path;
pub use tables::{Change, CredentialRow, Row, Tables};

/// `{"id": "..."}`: a reference to another row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Ref {
    /// The primary key pointed at.
    pub id: Uuid,
}

/// The core entities, in an order in which each comes after those it refers to.
pub static CORE: LazyLock<Vec<EntityDef>> =
    LazyLock::new(|| vec![service::def(), route::def(), consumer::def(), plugin::def()]);

/// The core entity of that name.
pub fn core(name: &str) -> Option<&'static EntityDef> {
    CORE.iter().find(|d| d.name == name)
}

/// `tags`: as every entity has it.
pub fn tags() -> Field {
    silverback_schema::typedefs::tags()
}
