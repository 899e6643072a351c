//! `session`: sessions that are kept in the database. What starts and reads them is not there yet.
//!
//! Learnt from `kong/plugins/session/daos.lua`.

use silverback_plugin::schema::field::{id, integer, string, timestamp};
use silverback_plugin::schema::{EntityDef, Record, record};

record! {
    /// A session of a browser.
    struct Session {
        /// The primary key.
        id: String = id(),
        /// The id in the browser's cookie.
        session_id: String = string().required().unique().len_min(1),
        /// Seconds since 1970 after which the session is void.
        expires: Option<i64> = integer(),
        /// What the session holds, encrypted by whoever made it.
        data: Option<String> = string(),
        /// When the row was made.
        created_at: i64 = timestamp(),
    }
}

/// The entities of the plugin.
pub fn entities() -> Vec<EntityDef> {
    vec![
        EntityDef::new("sessions", Session::fields())
            .endpoint_key("session_id")
            .lookup("session_id")
            .with_ttl()
            .not_exported(),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::Value;
    use silverback_plugin::exchange::entity_schema_without_descriptions;

    use super::*;

    #[test]
    fn the_schema_is_that_of_kong() {
        let facts: Value =
            serde_json::from_str(include_str!("../testdata/session_schema.json")).unwrap();
        assert_eq!(entity_schema_without_descriptions(&entities()[0]), facts);
        assert!(entities()[0].ttl);
    }
}
