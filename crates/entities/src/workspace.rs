//! Workspaces exist in Kong's data model and not in its community edition: there is only their schema.

use serde_json::{Map, Value};
use silverback_schema::checks::utf8_name;
use silverback_schema::field::{Kind, RecordDef, string, timestamp, uuid as uuid_field};
use silverback_schema::{EntityDef, Field, Record, record};
use uuid::Uuid;

record! {
    /// A part of the configuration that is kept apart.
    pub struct Workspace {
        /// The primary key.
        pub id: Uuid = uuid_field().auto(),
        /// The unique name.
        pub name: String = string().required().unique().len_min(1).check(utf8_name).not_one_of([
            "workspaces", "consumers", "certificates", "services", "routes", "snis", "upstreams", "targets", "plugins",
            "tags", "ca_certificates", "clustering_data_planes", "parameters", "vaults", "key_sets", "keys", "filter_chains",
        ]),
        /// A text for people.
        pub comment: Option<String> = string(),
        /// When the row was made.
        pub created_at: i64 = timestamp(),
        /// When the row was last changed.
        pub updated_at: i64 = timestamp(),
        /// Facts for user interfaces.
        pub meta: Map<String, Value> = nothing(),
        /// Settings.
        pub config: Map<String, Value> = nothing(),
    }
}

fn nothing() -> Field {
    Field::new(Kind::Record(RecordDef::default())).required()
}

pub(crate) fn def() -> EntityDef {
    EntityDef::new("workspaces", Workspace::fields()).endpoint_key("name")
}
