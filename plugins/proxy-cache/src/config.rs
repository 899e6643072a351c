//! What the plugin is told.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use silverback_plugin::schema::field::{Named, Record, array, boolean, integer, record, string};
use silverback_plugin::schema::{CustomViolation, EntityCheck, record};

record! {
    /// Settings of `proxy-cache`.
    pub struct Config {
        /// Statuses of the upstream's answers that are kept.
        pub response_code: Vec<u16> = array(integer().between(100, 900)).required().default(vec![200, 301, 404]).len_min(1),
        /// Methods of requests whose answers are kept.
        pub request_method: Vec<String> = array(string().one_of(["HEAD", "GET", "POST", "PATCH", "PUT"]))
            .required().default(vec!["GET", "HEAD"]),
        /// Media types of answers that are kept. Parameters count: `application/json` is not `application/json; charset=utf-8`. `*` stands for any
        /// type, or for any subtype.
        pub content_type: Vec<String> = array(string()).required().default(vec!["text/plain", "application/json"]),
        /// For how many seconds an answer is good.
        pub cache_ttl: Option<u64> = integer().default(DEFAULT_TTL).gt(0.0),
        /// Where answers are kept: in the node's memory.
        pub strategy: String = string().required().one_of(["memory"]),
        /// Whether `Cache-Control` of requests and answers counts, and how long an answer is good is for the upstream to say.
        pub cache_control: bool = boolean().required().default(false),
        /// Whether paths that differ only in upper and lower case are the same.
        pub ignore_uri_case: Option<bool> = boolean().optional().default(false),
        /// For how many seconds an answer is kept, if it is longer or shorter than it is good; 0: until there is no room.
        pub storage_ttl: Option<i64> = integer(),
        /// The strategy `memory`.
        pub memory: Memory = record::<Memory>().required(),
        /// Query arguments that tell requests from one another; all of them when there are none here.
        pub vary_query_params: Option<Vec<String>> = array(string()),
        /// Headers of the request that tell requests from one another.
        pub vary_headers: Option<Vec<String>> = array(string()),
        /// Headers that tell clients what the cache did.
        pub response_headers: ResponseHeaders = record::<ResponseHeaders>().required(),
    }
}

record! {
    /// The strategy `memory`.
    pub struct Memory {
        /// Which of the node's memories it is; configurations with the same name share it.
        pub dictionary_name: String = string().required().default("kong_db_cache"),
    }
}

/// How long an answer is good where nothing else is said.
pub(crate) const DEFAULT_TTL: u64 = 300;

/// Headers that tell clients what the cache did.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct ResponseHeaders {
    /// How old an answer from the cache is.
    pub age: Option<bool>,
    /// What the cache did.
    #[serde(rename = "X-Cache-Status")]
    pub status: Option<bool>,
    /// Under which key the answer is kept.
    #[serde(rename = "X-Cache-Key")]
    pub key: Option<bool>,
}

// By hand because of the names.
impl Record for ResponseHeaders {
    fn fields() -> Vec<Named> {
        let shown = |text| boolean().default(true).describe(text);
        vec![
            ("age", shown("How old an answer from the cache is.")),
            ("X-Cache-Status", shown("What the cache did.")),
            ("X-Cache-Key", shown("Under which key the answer is kept.")),
        ]
    }
}

/// The dictionaries that Kong's nginx configuration has. All names are the same here; others Kong refuses.
const DICTIONARIES: [&str; 11] = [
    "kong",
    "kong_locks",
    "kong_healthchecks",
    "kong_cluster_events",
    "kong_rate_limiting_counters",
    "kong_core_db_cache",
    "kong_core_db_cache_miss",
    "kong_db_cache",
    "kong_db_cache_miss",
    "kong_secrets",
    "prometheus_metrics",
];

pub(crate) fn checks() -> Vec<EntityCheck> {
    vec![EntityCheck::Custom {
        field_sources: vec!["config"],
        run_with_missing_fields: false,
        run: known_dictionary,
    }]
}

fn known_dictionary(row: &Map<String, Value>) -> Result<(), CustomViolation> {
    let config = row.get("config");
    let memory = config.and_then(|c| c.get("memory"));
    let name = memory.and_then(|m| m.get("dictionary_name"));
    match name.and_then(Value::as_str) {
        Some(name) if !DICTIONARIES.contains(&name) => Err(CustomViolation::Entity(format!(
            "missing shared dict '{name}'"
        ))),
        _ => Ok(()),
    }
}
