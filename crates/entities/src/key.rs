//! Keys and sets of keys, for plugins that sign or verify.

use serde_json::{Map, Value, json};
use silverback_schema::checks::tag;
use silverback_schema::field::{array, foreign, id, record_with, set, string, timestamp};
use silverback_schema::{
    CustomViolation, EntityCheck, EntityDef, Field, Named, OnDelete, Op, Record, complete, record,
};
use uuid::Uuid;

use crate::{Ref, tags, x509};

record! {
    /// A named set of keys.
    pub struct KeySet {
        /// The primary key.
        pub id: Uuid = id(),
        /// A unique name.
        pub name: Option<String> = string().optional().unique().len_min(1),
        /// Words for grouping and filtering.
        pub tags: Option<Vec<String>> = tags(),
        /// When the row was made.
        pub created_at: i64 = timestamp(),
        /// When the row was last changed.
        pub updated_at: i64 = timestamp(),
    }
}

record! {
    /// A pair of keys in PEM, or one of them.
    pub struct PemPair {
        /// The private key.
        pub private_key: Option<String> = string().optional().referenceable().encrypted(),
        /// The public key.
        pub public_key: Option<String> = string().optional().referenceable(),
    }
}

record! {
    /// A key, as JSON Web Key or in PEM.
    pub struct Key {
        /// The primary key.
        pub id: Uuid = id(),
        /// The set it is part of.
        pub set: Option<Ref> = foreign("key_sets").optional().on_delete(OnDelete::Cascade),
        /// A unique name.
        pub name: Option<String> = string().optional().unique().len_min(1),
        /// The key's id, unique in its set.
        pub kid: String = kid(),
        /// The key as JSON Web Key: a JSON text.
        pub jwk: Option<String> = string().referenceable().encrypted().len_min(1),
        /// The key in PEM.
        pub pem: Option<PemPair> = record_with::<PemPair>(vec![EntityCheck::AtLeastOneOf(vec!["private_key", "public_key"])])
            .optional().check(x509::valid_pair),
        /// Words for grouping and filtering.
        pub tags: Option<Vec<String>> = set(string().required().check(tag)),
        /// When the row was made.
        pub created_at: i64 = timestamp(),
        /// When the row was last changed.
        pub updated_at: i64 = timestamp(),
    }
}

/// Kong says `unique: false` out loud in this schema.
fn kid() -> Field {
    string().required().len_min(1).not_unique()
}

/// The members of a JSON Web Key, with the names Kong knows.
fn jwk_members() -> Vec<Named> {
    let texts = [
        "issuer", "kty", "use", "alg", "x5u", "x5t", "x5t#S256", "k", "x", "y", "crv", "n", "e",
        "d", "p", "q", "dp", "dq", "qi", "oth", "r", "t",
    ];
    let lists = ["key_ops", "x5c"];
    let mut all: Vec<Named> = vec![("kid", string().required())];
    all.extend(texts.map(|n| (n, string())));
    all.extend(lists.map(|n| (n, array(string()))));
    all
}

fn usable(row: &Map<String, Value>) -> Result<(), CustomViolation> {
    let Some(Value::String(text)) = row.get("jwk") else {
        return Ok(());
    };
    let wrong = |text: &str| Err(CustomViolation::Entity(text.to_owned()));
    let Ok(Value::Object(jwk)) = serde_json::from_str(text) else {
        return wrong("could not json decode jwk string");
    };
    if jwk.get("kid") != row.get("kid") {
        return wrong("kid in jwk.kid must be equal to keys.kid");
    }
    if !x509::is_jwk(&jwk) {
        return wrong("could not load JWK, likely not a valid key");
    }
    let members = EntityDef::new("jwk", jwk_members());
    match complete(&members, jwk, Op::Insert, 0) {
        Ok(_) => Ok(()),
        Err(found) => Err(CustomViolation::Entity(found.message())),
    }
}

pub(crate) fn set_def() -> EntityDef {
    EntityDef::new("key_sets", KeySet::fields())
        .collection("key-sets")
        .endpoint_key("name")
        .example(|| json!({ "name": "my-keys" }))
}

pub(crate) fn def() -> EntityDef {
    EntityDef::new("keys", Key::fields())
        .endpoint_key("name")
        .example(|| {
            let jwk = json!({
                "kty": "EC", "kid": "first", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
            });
            json!({ "name": "my-key", "kid": "first", "jwk": jwk.to_string() })
        })
        .nested("set", "keys")
        .catalogue(crate::core)
        .unique_together(&["kid", "set"])
        .check(EntityCheck::MutuallyExclusive(vec!["pem", "jwk"]))
        .check(EntityCheck::AtLeastOneOf(vec!["pem", "jwk"]))
        .check(EntityCheck::Custom {
            field_sources: vec!["jwk", "pem", "kid"],
            run_with_missing_fields: false,
            run: usable,
        })
}
