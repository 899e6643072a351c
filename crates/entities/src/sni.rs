//! SNIs: which server names a certificate is shown for.

use silverback_schema::checks::wildcard_sni;
use silverback_schema::field::{foreign, id, string, timestamp};
use silverback_schema::{EntityDef, Record, record};
use uuid::Uuid;

use crate::{Ref, tags};

record! {
    /// A server name of the TLS handshake, and the certificate shown for it.
    pub struct Sni {
        /// The primary key.
        pub id: Uuid = id(),
        /// The server name, with a wildcard at its beginning or end.
        pub name: String = string().required().unique_across_ws().len_min(1).check(wildcard_sni),
        /// When the row was made.
        pub created_at: i64 = timestamp(),
        /// When the row was last changed.
        pub updated_at: i64 = timestamp(),
        /// Words for grouping and filtering.
        pub tags: Option<Vec<String>> = tags(),
        /// The certificate.
        pub certificate: Ref = foreign("certificates").required(),
    }
}

pub(crate) fn def() -> EntityDef {
    EntityDef::new("snis", Sni::fields())
        .endpoint_key("name")
        .example(|| serde_json::json!({ "name": "www.example.com" }))
        .nested("certificate", "snis")
        .catalogue(crate::core)
}
