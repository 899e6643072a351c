//! What the plugin is told.

use silverback_plugin::schema::field::{integer, string};
use silverback_plugin::schema::record;

record! {
    /// Settings of `standard-webhooks`.
    pub struct Config {
        /// The secret that senders sign with, taken as it is written.
        pub secret_v1: String = string().required().encrypted().referenceable(),
        /// How many seconds old a message may be.
        pub tolerance_second: i64 = integer().required().default(300).gt(-1.0),
    }
}
