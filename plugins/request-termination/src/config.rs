//! What the plugin is told.

use serde_json::{Map, Value};
use silverback_plugin::schema::field::{boolean, integer, string};
use silverback_plugin::schema::typedefs::header_name;
use silverback_plugin::schema::{CustomViolation, EntityCheck, record};

record! {
    /// Settings of `request-termination`.
    pub struct Config {
        /// The status of the answer.
        pub status_code: u16 = integer().required().default(503).between(100, 599),
        /// The text of the answer, sent as `{"message": "..."}`.
        pub message: Option<String> = string(),
        /// The type of `body`.
        pub content_type: Option<String> = string(),
        /// The body of the answer, sent as it is; in place of `message`.
        pub body: Option<String> = string(),
        /// Answer with a description of the request, for debugging.
        pub echo: bool = boolean().required().default(false),
        /// Answer only requests with a header or a query argument of this name; others go on.
        pub trigger: Option<String> = header_name(),
    }
}

pub(crate) fn checks() -> Vec<EntityCheck> {
    vec![EntityCheck::Unlisted {
        when_valid: vec!["config"],
        run: together,
    }]
}

/// Which fields go together; Kong reports it for `config` as a whole.
fn together(row: &Map<String, Value>) -> Result<(), CustomViolation> {
    let config = row.get("config").and_then(Value::as_object);
    let said = |name: &str| {
        let value = config.and_then(|c| c.get(name)).and_then(Value::as_str);
        value.is_some_and(|v| !v.is_empty())
    };
    let refuse = |text: &str| Err(CustomViolation::Field("config", text.into()));
    if said("message") && (said("content_type") || said("body")) {
        return refuse("message cannot be used with content_type or body");
    }
    if said("content_type") && !said("body") {
        return refuse("content_type requires a body");
    }
    let echo = config.and_then(|c| c.get("echo")) == Some(&Value::Bool(true));
    if echo && (said("content_type") || said("body")) {
        return refuse("echo cannot be used with content_type and body");
    }
    Ok(())
}
