//! What the plugin is told.

use silverback_plugin::schema::field::{boolean, string};
use silverback_plugin::schema::record;

record! {
    /// Settings of `basic-auth`.
    pub struct Config {
        /// A consumer, by id or username, who calls when authentication fails. Without it the request is refused.
        pub anonymous: Option<String> = string(),
        /// Take the header with the password out of the request before it goes to the upstream.
        pub hide_credentials: bool = boolean().required().default(false),
        /// The realm named in `WWW-Authenticate` when authentication fails.
        pub realm: String = string().required().default("service"),
    }
}
