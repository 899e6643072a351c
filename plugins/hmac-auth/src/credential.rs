//! The entity: a username, and the secret that its owner signs with.

use serde_json::Value;
use silverback_plugin::schema::field::{foreign, id, string, timestamp};
use silverback_plugin::schema::typedefs::credential_tags;
use silverback_plugin::schema::{EntityDef, OnDelete, Record, record};

record! {
    /// A username of a consumer, with the secret that it signs with.
    struct Credential {
        /// The primary key.
        id: String = id(),
        /// When the row was made.
        created_at: i64 = timestamp(),
        /// Whose it is.
        consumer: Value = foreign("consumers").required().on_delete(OnDelete::Cascade),
        /// The name that the caller gives.
        username: String = string().required().unique().len_min(1),
        /// The secret; 32 random letters and digits when it is left out.
        secret: Option<String> = string().auto().len_min(1),
        /// Words for grouping and filtering.
        tags: Option<Vec<String>> = credential_tags(),
    }
}

/// The entity of usernames.
pub const CREDENTIALS: &str = "hmacauth_credentials";

pub(crate) fn def() -> EntityDef {
    EntityDef::new(CREDENTIALS, Credential::fields())
        .collection("hmac-auths")
        .endpoint_key("username")
        .nested("consumer", "hmac-auth")
        .lookup("username")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};
    use silverback_plugin::exchange::entity_schema_without_descriptions;
    use silverback_plugin::schema::{Op, complete};

    use super::*;

    #[test]
    fn the_schema_is_that_of_kong() {
        let facts: Value =
            serde_json::from_str(include_str!("../testdata/credential_schema.json")).unwrap();
        assert_eq!(entity_schema_without_descriptions(&def()), facts);
    }

    #[test]
    fn a_secret_is_made_up_unless_one_is_given() {
        let made = |secret: Value| {
            let row = json!({ "username": "a", "secret": secret, "consumer": { "id": "00000003-0000-4000-8000-000000000001" } });
            let row = complete(&def(), row.as_object().unwrap().clone(), Op::Insert, 1).unwrap();
            row["secret"].as_str().unwrap().to_owned()
        };
        assert_eq!(made(json!("s")), "s");
        let random = made(Value::Null);
        assert_eq!(random.len(), 32);
        assert!(random.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_ne!(random, made(Value::Null));
    }
}
