//! What the plugin is told.

use serde_json::Value;
use silverback_plugin::schema::checks::is_regex;
use silverback_plugin::schema::field::{array, boolean, number, string};
use silverback_plugin::schema::record;

const METHODS: [&str; 9] = [
    "GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT",
];

record! {
    /// Settings of `cors`.
    pub struct Config {
        /// The origins whose scripts may read answers (`https://shop.example.com`), or regular expressions for them; `*`, or nothing at all, for any.
        pub origins: Option<Vec<String>> = array(string().check(any_or_regex)),
        /// Request headers that scripts may send; those that the browser asks for when none are given.
        pub headers: Option<Vec<String>> = array(string()),
        /// Response headers that scripts may read beside those that the browser always lets them read.
        pub exposed_headers: Option<Vec<String>> = array(string()),
        /// Methods that scripts may use.
        pub methods: Option<Vec<String>> = array(string().one_of(METHODS)).default(METHODS.to_vec()),
        /// For how many seconds a browser may remember the answer to a preflight request.
        pub max_age: Option<f64> = number(),
        /// Whether scripts may send cookies and credentials.
        pub credentials: bool = boolean().required().default(false),
        /// Whether pages from the public network may call, where the browser asks for it, although the gateway is in a private one.
        pub private_network: bool = boolean().required().default(false),
        /// Whether the upstream answers preflight requests itself.
        pub preflight_continue: bool = boolean().required().default(false),
    }
}

/// What is allowed when `methods` is null.
pub(crate) fn all_methods() -> Vec<String> {
    METHODS.map(str::to_owned).to_vec()
}

fn any_or_regex(value: &Value) -> Result<(), String> {
    let text = value.as_str().unwrap_or_default();
    if text == "*" || is_regex(text) {
        Ok(())
    } else {
        Err(format!("'{text}' is not a valid regex"))
    }
}
