//! The core entities of Kong's data model, each defined once: a typed struct, its field model and its [`EntityDef`].
//!
//! Plugins bring their own entities (credentials); see `silverback-plugin`.

mod ca_certificate;
mod certificate;
mod consumer;
mod elsewhere;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod golden;
mod key;
mod plugin;
mod route;
mod service;
mod sni;
pub mod tables;
mod target;
mod upstream;
mod vault;
mod workspace;
mod x509;

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use silverback_schema::EntityDef;
use silverback_schema::Field;
pub use uuid::Uuid;

pub use ca_certificate::CaCertificate;
pub use certificate::Certificate;
pub use consumer::Consumer;
pub use key::{Key, KeySet, PemPair};
pub use plugin::PluginRow;
pub use route::{PathHandling, Protocol, Route, SourceOrDestination};
pub use service::Service;
pub use silverback_schema::checks::normalize_path;
pub use sni::Sni;
pub use tables::{Change, CredentialRow, IssuedRow, Row, Tables};
pub use target::{DEFAULT_PORT, Target, format_target};
pub use upstream::{
    ActiveChecks, ActiveHealthy, ActiveUnhealthy, Algorithm, CheckType, HashOn, Healthchecks,
    PassiveChecks, PassiveHealthy, PassiveUnhealthy, Upstream,
};
pub use vault::{EnvVault, VAULT_KINDS, Vault, unknown_vault};
pub use workspace::Workspace;

/// `{"id": "..."}`: a reference to another row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Ref {
    /// The primary key pointed at.
    pub id: Uuid,
}

/// The core entities, in an order in which each comes after those it refers to.
pub static CORE: LazyLock<Vec<EntityDef>> = LazyLock::new(|| {
    vec![
        certificate::def(),
        sni::def(),
        ca_certificate::def(),
        service::def(),
        route::def(),
        consumer::def(),
        plugin::def(),
        upstream::def(),
        target::def(),
        vault::def(),
        key::set_def(),
        key::def(),
    ]
});

/// Entities of Kong's data model of which there is only a schema to see.
pub static SCHEMAS_ONLY: LazyLock<Vec<EntityDef>> = LazyLock::new(elsewhere::defs);

/// The core entity of that name.
pub fn core(name: &str) -> Option<&'static EntityDef> {
    CORE.iter().find(|d| d.name == name)
}

/// `tags`: as every entity has it.
pub fn tags() -> Field {
    silverback_schema::typedefs::tags()
}
