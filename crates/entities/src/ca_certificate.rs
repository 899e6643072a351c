//! Certificates of authorities, trusted when an upstream's certificate is verified.

use serde_json::{Map, Value, json};
use silverback_schema::field::{Kind, id, string, timestamp};
use silverback_schema::{
    CustomViolation, EntityCheck, EntityDef, Field, Record, Shorthand, record,
};
use uuid::Uuid;

use crate::{tags, x509};

record! {
    /// The certificate of an authority.
    pub struct CaCertificate {
        /// The primary key.
        pub id: Uuid = id(),
        /// When the row was made.
        pub created_at: i64 = timestamp(),
        /// When the row was last changed.
        pub updated_at: i64 = timestamp(),
        /// The certificate in PEM.
        pub cert: String = string().required().len_min(1).check(x509::valid_certificate),
        /// The SHA-256 digest of the certificate, in hexadecimal digits. Made from the certificate.
        pub cert_digest: Option<String> = string().unique().len_min(1).immutable(),
        /// Words for grouping and filtering.
        pub tags: Option<Vec<String>> = tags(),
    }
}

/// The digest follows from the certificate, whatever a client says it is.
fn with_digest(v: &Value) -> Map<String, Value> {
    let digest = v.as_str().and_then(x509::digest);
    Map::from_iter([
        ("cert".to_owned(), v.clone()),
        (
            "cert_digest".to_owned(),
            digest.map_or(Value::Null, Value::from),
        ),
    ])
}

fn one_authority(row: &Map<String, Value>) -> Result<(), CustomViolation> {
    let wrong = row
        .get("cert")
        .and_then(Value::as_str)
        .and_then(x509::not_an_authority);
    match wrong {
        Some(why) => Err(CustomViolation::Entity(why.to_owned())),
        None => Ok(()),
    }
}

pub(crate) fn def() -> EntityDef {
    EntityDef::new("ca_certificates", CaCertificate::fields())
        .example(|| json!({ "id": "9b5b4b1e-0001-4c9d-8f6f-3f7d1c0a0001", "cert": crate::certificate::EXAMPLE }))
        .shorthand(Shorthand {
            name: "cert",
            // What the certificate must be is said once, by the field.
            field: Field::new(Kind::Abstract),
            translate: with_digest,
            shown_from: None,
            wins: true,
        })
        .check(EntityCheck::Custom {
            field_sources: vec!["cert"],
            run_with_missing_fields: false,
            run: one_authority,
        })
}
