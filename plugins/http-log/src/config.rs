//! What the plugin is told.

use serde_json::{Map, Value};
use silverback_export::QueueConfig;
use silverback_export::fields::{CustomFieldsByLua, custom_fields_by_lua, keepalive, timeout};
use silverback_export::queue::field as queue;
use silverback_plugin::schema::checks::split_url;
use silverback_plugin::schema::field::{integer, map, number, string};
use silverback_plugin::schema::typedefs::{header_name, url};
use silverback_plugin::schema::{CustomViolation, EntityCheck, record};

record! {
    /// Settings of `http-log`.
    pub struct Config {
        /// Where entries are sent to. A user with a password in it becomes an `Authorization` header; a query is left out, as Kong does.
        pub http_endpoint: String = url().required().encrypted().referenceable(),
        /// The method.
        pub method: Option<String> = string().default("POST").one_of(["POST", "PUT", "PATCH"]),
        /// The `Content-Type`.
        pub content_type: Option<String> = string().default("application/json").one_of(["application/json", "application/json; charset=utf-8"]),
        /// Milliseconds to connect, and to wait for an answer.
        pub timeout: Option<f64> = timeout(),
        /// Milliseconds that an idle connection is kept.
        pub keepalive: Option<f64> = keepalive(),
        /// Means nothing any more: see `queue.max_retry_time`.
        pub retry_count: Option<i64> = integer(),
        /// The former name of `queue.max_batch_size`.
        pub queue_size: Option<i64> = integer(),
        /// The former name of `queue.max_coalescing_delay`.
        pub flush_timeout: Option<f64> = number(),
        /// Further headers.
        pub headers: Option<Map<String, Value>> = map(
            header_name()
                .match_none("^[Hh][Oo][Ss][Tt]$", "cannot contain 'Host' header")
                .match_none("^[Cc][Oo][Nn][Tt][Ee][Nn][Tt]%-[Ll][Ee][nn][Gg][Tt][Hh]$", "cannot contain 'Content-Length' header")
                .match_none("^[Cc][Oo][Nn][Tt][Ee][Nn][Tt]%-[Tt][Yy][Pp][Ee]$", "cannot contain 'Content-Type' header"),
            string().referenceable(),
        ),
        /// How entries wait and are sent.
        pub queue: QueueConfig = queue(),
        /// Not supported: there is no Lua.
        pub custom_fields_by_lua: CustomFieldsByLua = custom_fields_by_lua(),
    }
}

impl Config {
    /// What makes queues the same: where entries go to, and how.
    pub(crate) fn queue_name(&self) -> String {
        format!(
            "{}:{:?}:{:?}:{:?}:{:?}:{:?}",
            self.http_endpoint,
            self.method,
            self.content_type,
            self.timeout,
            self.keepalive,
            self.retry_count
        )
    }
}

pub(crate) fn checks() -> Vec<EntityCheck> {
    vec![EntityCheck::Unlisted {
        when_valid: vec!["config"],
        run: one_authorization,
    }]
}

/// The endpoint and the headers may not both say who calls.
fn one_authorization(row: &Map<String, Value>) -> Result<(), CustomViolation> {
    let config = row.get("config").and_then(Value::as_object);
    let field = |name: &str| config.and_then(|c| c.get(name));
    let userinfo = field("http_endpoint")
        .and_then(Value::as_str)
        .and_then(|url| split_url(url).userinfo);
    let header = field("headers")
        .and_then(Value::as_object)
        .is_some_and(|h| h.keys().any(|k| k.eq_ignore_ascii_case("authorization")));
    if userinfo.is_some() && header {
        let text = "specifying both an 'Authorization' header and user info in 'http_endpoint' is not allowed";
        return Err(CustomViolation::Field("config", text.into()));
    }
    Ok(())
}
