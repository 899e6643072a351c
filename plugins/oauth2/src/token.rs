//! Tokens: what applications show instead of a user's password.

use serde_json::Value;
use silverback_plugin::schema::field::{foreign, id, integer, string, timestamp};
use silverback_plugin::schema::{EntityDef, OnDelete, Record, record};

/// The entity's name.
pub(crate) const TOKENS: &str = "oauth2_tokens";

record! {
    /// A token that was given to an application.
    struct Token {
        /// The primary key.
        id: String = id(),
        /// When the row was made.
        created_at: i64 = timestamp(),
        /// The only service it is good for; any when null.
        service: Option<Value> = foreign("services").default(Value::Null).on_delete(OnDelete::Cascade),
        /// The application it was given to.
        credential: Value = foreign("oauth2_credentials").required().on_delete(OnDelete::Cascade),
        /// The kind of token.
        token_type: String = string().required().default("bearer").one_of(["bearer"]).len_min(1),
        /// Seconds after its making in which it is good; for ever when 0.
        expires_in: i64 = integer().required(),
        /// The token; 32 random letters and digits when it is left out.
        access_token: String = string().optional().unique().auto().len_min(1),
        /// What a new token can be had for.
        refresh_token: Option<String> = string().optional().unique(),
        /// The user who allowed it.
        authenticated_userid: Option<String> = string().optional(),
        /// What it is good for, words between spaces.
        scope: Option<String> = string(),
    }
}

pub(crate) fn def() -> EntityDef {
    EntityDef::new(TOKENS, Token::fields())
        .endpoint_key("access_token")
        .nested("credential", "oauth2_tokens")
        .nested("service", "oauth2_tokens")
        .lookup("access_token")
        .with_ttl()
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
            serde_json::from_str(include_str!("../testdata/token_schema.json")).unwrap();
        assert_eq!(entity_schema_without_descriptions(&def()), facts);
        assert!(def().ttl);
    }

    #[test]
    fn a_token_is_made_up_and_what_refreshes_it_is_not() {
        let given = json!({ "credential": { "id": "00000003-0000-4000-8000-000000000001" }, "expires_in": 10 });
        let row = complete(&def(), given.as_object().unwrap().clone(), Op::Insert, 1).unwrap();
        assert_eq!(row["access_token"].as_str().unwrap().len(), 32);
        assert_eq!(
            (&row["refresh_token"], &row["token_type"]),
            (&Value::Null, &json!("bearer"))
        );
        assert_eq!((&row["service"], &row["ttl"]), (&Value::Null, &Value::Null));
    }
}
