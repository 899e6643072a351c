//! What the plugin is told.

use silverback_plugin::schema::field::{boolean, integer};
use silverback_plugin::schema::record;
use silverback_plugin::schema::typedefs::url;

record! {
    /// Settings of `redirect`.
    pub struct Config {
        /// The status of the answer.
        pub status_code: u16 = integer().required().default(301).between(100, 599),
        /// Where clients are sent to.
        pub location: String = url().required(),
        /// Whether they are sent to the path and query of their request there, in place of those in `location`.
        pub keep_incoming_path: Option<bool> = boolean().default(false),
    }
}
