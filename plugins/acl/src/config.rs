//! What the plugin is told.

use silverback_plugin::schema::field::{array, boolean, string};
use silverback_plugin::schema::record;

record! {
    /// Settings of `acl`.
    pub struct Config {
        /// Only these groups are let in.
        pub allow: Option<Vec<String>> = array(string()),
        /// These groups are kept out.
        pub deny: Option<Vec<String>> = array(string()),
        /// Do not tell the upstream the caller's groups.
        pub hide_groups_header: bool = boolean().required().default(false),
        /// Go by the groups that an authentication plugin found, where there are any, rather than by those of the consumer.
        pub always_use_authenticated_groups: bool = boolean().required().default(false),
    }
}
