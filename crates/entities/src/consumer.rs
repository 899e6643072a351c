//! Consumers: those who call.

use silverback_schema::field::{id, string, timestamp};
use silverback_schema::{EntityCheck, EntityDef, Record, record};
use uuid::Uuid;

use crate::tags;

record! {
    /// Someone who calls the gateway.
    pub struct Consumer {
        /// The primary key.
        pub id: Uuid = id(),
        /// When the row was made.
        pub created_at: i64 = timestamp(),
        /// When the row was last changed.
        pub updated_at: i64 = timestamp(),
        /// The unique name of the consumer.
        pub username: Option<String> = string().unique().len_min(1),
        /// The consumer's id in a system of yours.
        pub custom_id: Option<String> = string().unique().len_min(1),
        /// Words for grouping and filtering.
        pub tags: Option<Vec<String>> = tags(),
    }
}

pub(crate) fn def() -> EntityDef {
    EntityDef::new("consumers", Consumer::fields())
        .endpoint_key("username")
        .example(|| serde_json::json!({ "username": "alice", "custom_id": "1234" }))
        .check(EntityCheck::AtLeastOneOf(vec!["custom_id", "username"]))
}
