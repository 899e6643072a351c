//! Sessions that are kept in the database.

use silverback_plugin::schema::field::{id, integer, string, timestamp};
use silverback_plugin::schema::{EntityDef, Record, record};

/// The entity's name.
pub(crate) const SESSIONS: &str = "sessions";

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

pub(crate) fn def() -> EntityDef {
    EntityDef::new(SESSIONS, Session::fields())
        .endpoint_key("session_id")
        .lookup("session_id")
        .with_ttl()
        .not_exported()
}
