//! Authorization codes: what applications change for tokens, once and soon.

use serde_json::Value;
use silverback_plugin::schema::field::{foreign, id, string, timestamp};
use silverback_plugin::schema::{EntityDef, Field, OnDelete, Record, record};

/// The entity's name.
pub(crate) const CODES: &str = "oauth2_authorization_codes";

record! {
    /// A code that was given to an application, by way of the user's browser.
    struct Code {
        /// The primary key.
        id: String = unmeasured_id(),
        /// When the row was made.
        created_at: i64 = timestamp(),
        /// The only service that its token is good for; any when null.
        service: Option<Value> = foreign("services").default(Value::Null).on_delete(OnDelete::Cascade),
        /// The application it was given to.
        credential: Value = foreign("oauth2_credentials").required().on_delete(OnDelete::Cascade),
        /// The code; 32 random letters and digits.
        code: String = string().optional().unique().auto(),
        /// The user who allowed it.
        authenticated_userid: Option<String> = string().optional(),
        /// What was allowed, words between spaces.
        scope: Option<String> = string(),
        /// What the application has to show the verifier of (RFC 7636).
        challenge: Option<String> = string().optional(),
        /// How the challenge was made of the verifier.
        challenge_method: Option<String> = string().optional().one_of(["S256"]),
        /// The configuration under which it was given out.
        plugin: Option<Value> = foreign("plugins").default(Value::Null).on_delete(OnDelete::Cascade),
    }
}

/// Kong's schemas show the shortest length of a text only when the Admin API has had to do with it.
fn unmeasured_id() -> Field {
    Field {
        len_min: None,
        ..id()
    }
}

pub(crate) fn def() -> EntityDef {
    EntityDef::new(CODES, Code::fields())
        .with_ttl()
        .not_exported()
        .not_in_api()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use silverback_plugin::exchange::entity_schema_without_descriptions;

    use super::*;

    #[test]
    fn the_schema_is_that_of_kong() {
        let facts: Value =
            serde_json::from_str(include_str!("../testdata/code_schema.json")).unwrap();
        assert_eq!(entity_schema_without_descriptions(&def()), facts);
        assert!(def().ttl);
    }
}
