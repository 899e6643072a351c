//! Rows of `plugins`: a plugin switched on somewhere, with its configuration.

use serde_json::{Map, Value, json};
use silverback_schema::field::{Kind, boolean, foreign, id, set, string, timestamp};
use silverback_schema::{EntityDef, Field, OnDelete, Record, record};
use uuid::Uuid;

use crate::{Ref, tags};
use silverback_schema::checks::utf8_name;

record! {
    /// A plugin switched on globally or for a route, a service, a consumer or a combination of them.
    pub struct PluginRow {
        /// The primary key.
        pub id: Uuid = id(),
        /// The plugin's name.
        pub name: String = string().required().len_min(1),
        /// A unique name for this instance of the plugin.
        pub instance_name: Option<String> = string().unique().len_min(1).check(utf8_name),
        /// When the row was made.
        pub created_at: i64 = timestamp(),
        /// When the row was last changed.
        pub updated_at: i64 = timestamp(),
        /// Only for requests on this route.
        pub route: Option<Ref> = scope("routes"),
        /// Only for requests to this service.
        pub service: Option<Ref> = scope("services"),
        /// Only for requests of this consumer.
        pub consumer: Option<Ref> = scope("consumers"),
        /// The plugin's own configuration; its form depends on the plugin.
        pub config: Map<String, Value> = Field::new(Kind::Abstract),
        /// The protocols of routes the plugin runs on.
        pub protocols: Vec<String> = set(string().one_of(["grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp"]))
            .required().default(vec!["grpc", "grpcs", "http", "https"]),
        /// Whether it runs.
        pub enabled: bool = boolean().required().default(true),
        /// Words for grouping and filtering.
        pub tags: Option<Vec<String>> = tags(),
    }
}

fn scope(entity: &'static str) -> Field {
    foreign(entity)
        .default(Value::Null)
        .on_delete(OnDelete::Cascade)
}

pub(crate) fn def() -> EntityDef {
    EntityDef::new("plugins", PluginRow::fields())
        .endpoint_key("instance_name")
        .example(|| json!({ "name": "key-auth", "instance_name": "my-plugin", "config": { "key_names": ["apikey"] } }))
        .catalogue(crate::core)
        .nested("route", "plugins")
        .nested("service", "plugins")
        .nested("consumer", "plugins")
        .unique_together(&["name", "route", "service", "consumer"])
}
