//! What the plugin is told, and the entity it brings.

use silverback_plugin::schema::field::{array, boolean, foreign, id, string, timestamp};
use silverback_plugin::schema::typedefs::{header_name, tags};
use silverback_plugin::schema::{EntityDef, OnDelete, Record, record};

use crate::CREDENTIALS;

record! {
    /// Settings of `key-auth`.
    pub struct Config {
        /// The names that a key may go by, in headers, query and body. They are tried in order.
        pub key_names: Vec<String> = array(header_name()).required().default(vec!["apikey"]),
        /// Take the key out of the request before it goes to the upstream.
        pub hide_credentials: bool = boolean().required().default(false),
        /// A consumer, by id or username, who calls when authentication fails. Without it the request is refused.
        pub anonymous: Option<String> = string(),
        /// Look for the key in headers.
        pub key_in_header: bool = boolean().required().default(true),
        /// Look for the key in the query.
        pub key_in_query: bool = boolean().required().default(true),
        /// Look for the key in the body: forms, multipart forms and JSON objects. The whole body is then held in memory.
        pub key_in_body: bool = boolean().required().default(false),
        /// Also authenticate `OPTIONS` requests.
        pub run_on_preflight: bool = boolean().required().default(true),
        /// The realm named in `WWW-Authenticate` when authentication fails.
        pub realm: Option<String> = string().optional(),
    }
}

record! {
    /// A key of a consumer.
    struct Key {
        /// The primary key.
        id: String = id(),
        /// When the row was made.
        created_at: i64 = timestamp(),
        /// Whose key it is.
        consumer: serde_json::Value = foreign("consumers").required().on_delete(OnDelete::Cascade),
        /// The key itself; 32 random letters and digits when it is left out.
        key: String = string().optional().unique().auto().len_min(1),
        /// Words for grouping and filtering.
        tags: Option<Vec<String>> = tags(),
    }
}

pub(crate) fn credentials() -> EntityDef {
    EntityDef::new(CREDENTIALS, Key::fields())
        .collection("key-auths")
        .endpoint_key("key")
        .example(|| serde_json::json!({ "key": "a-secret-key", "tags": ["mine"] }))
        .nested("consumer", "key-auth")
        .lookup("key")
        .with_ttl()
}
