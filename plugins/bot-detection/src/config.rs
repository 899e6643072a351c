//! What the plugin is told.

use serde_json::json;
use silverback_plugin::schema::field::{array, string};
use silverback_plugin::schema::record;

record! {
    /// Settings of `bot-detection`.
    pub struct Config {
        /// Regular expressions: agents that match one are let in, whatever else matches.
        pub allow: Option<Vec<String>> = array(string().is_regex()).default(json!([])),
        /// Regular expressions: agents that match one are kept out, as are the bots that are known.
        pub deny: Option<Vec<String>> = array(string().is_regex()).default(json!([])),
    }
}
