//! What the plugin is told.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use silverback_plugin::schema::field::{boolean, integer, number, string};
use silverback_plugin::schema::typedefs::{header_name, path, redis};
use silverback_plugin::schema::{CustomViolation, EntityCheck, Shorthand, record};

use crate::window::Period;

record! {
    /// Settings of `rate-limiting`.
    pub struct Config {
        /// Requests allowed per second.
        pub second: Option<f64> = number().gt(0.0),
        /// Requests allowed per minute.
        pub minute: Option<f64> = number().gt(0.0),
        /// Requests allowed per hour.
        pub hour: Option<f64> = number().gt(0.0),
        /// Requests allowed per day.
        pub day: Option<f64> = number().gt(0.0),
        /// Requests allowed per month.
        pub month: Option<f64> = number().gt(0.0),
        /// Requests allowed per year.
        pub year: Option<f64> = number().gt(0.0),
        /// Whose requests are counted together. What cannot be told, such as a consumer where nobody authenticates, is counted by address.
        pub limit_by: Option<String> = string().default("consumer")
            .one_of(["consumer", "credential", "ip", "service", "header", "path"]),
        /// The header whose value is counted by, with `limit_by` `header`.
        pub header_name: Option<String> = header_name(),
        /// The path that is counted, with `limit_by` `path`.
        pub path: Option<String> = path(),
        /// Where requests are counted: on each node for itself (`local`), exactly and for all nodes in Redis (`redis`), for all nodes in
        /// the database (`cluster`).
        pub policy: Option<String> = string().default("local").len_min(0).one_of(["local", "cluster", "redis"]),
        /// Let requests pass when Redis or the database is out of reach; otherwise they are answered with status 500.
        pub fault_tolerant: bool = boolean().required().default(true),
        /// The Redis server.
        pub redis: Redis = redis(),
        /// Do not tell clients their limits.
        pub hide_client_headers: bool = boolean().required().default(false),
        /// The status of the answer when a limit is reached.
        pub error_code: Option<f64> = number().default(429).gt(0.0),
        /// The text of that answer.
        pub error_message: Option<String> = string().default("API rate limit exceeded"),
        /// With Redis: how often, in seconds, nodes tell each other what they counted; -1 for with each request.
        pub sync_rate: f64 = number().required().default(-1),
    }
}

/// Where a Redis server is and how to log in; its form is the schema's `typedefs::redis`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[allow(missing_docs)]
pub struct Redis {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub timeout: Option<u64>,
    pub username: Option<String>,
    pub password: Option<String>,
    pub database: Option<i64>,
    pub ssl: Option<bool>,
    pub ssl_verify: Option<bool>,
    pub server_name: Option<String>,
}

impl Config {
    pub(crate) fn limit(&self, period: Period) -> Option<f64> {
        match period {
            Period::Second => self.second,
            Period::Minute => self.minute,
            Period::Hour => self.hour,
            Period::Day => self.day,
            Period::Month => self.month,
            Period::Year => self.year,
        }
    }
}

pub(crate) fn checks() -> Vec<EntityCheck> {
    let conditional = |if_field, if_match, then_field, then_match| EntityCheck::Conditional {
        if_field,
        if_match: Box::new(if_match),
        then_field,
        then_match: Box::new(then_match),
        then_err: None,
    };
    let redis = || string().eq("redis");
    // Lengths are said where Kong's schema shows them.
    let by = |what: &str| string().eq(what).len_min(1);
    vec![
        EntityCheck::AtLeastOneOf(vec![
            "config.second",
            "config.minute",
            "config.hour",
            "config.day",
            "config.month",
            "config.year",
        ]),
        conditional(
            "config.policy",
            redis(),
            "config.redis.host",
            string().required().len_min(1),
        ),
        conditional(
            "config.policy",
            redis(),
            "config.redis.port",
            integer().required(),
        ),
        conditional(
            "config.policy",
            redis(),
            "config.redis.timeout",
            integer().required(),
        ),
        conditional(
            "config.limit_by",
            by("header"),
            "config.header_name",
            string().required(),
        ),
        conditional(
            "config.limit_by",
            by("path"),
            "config.path",
            string().required(),
        ),
        EntityCheck::Unlisted {
            when_valid: vec!["config"],
            run: together,
        },
    ]
}

/// Longer periods may not have lower limits, and `sync_rate` needs Redis.
fn together(row: &Map<String, Value>) -> Result<(), CustomViolation> {
    let config = row.get("config").and_then(Value::as_object);
    let number = |name: &str| config?.get(name)?.as_f64();
    let refuse = |text: String| Err(CustomViolation::Field("config", text.into()));
    for (i, lower) in Period::ALL.iter().enumerate() {
        for upper in &Period::ALL[i + 1..] {
            if let (Some(low), Some(high)) = (number(lower.name()), number(upper.name()))
                && high < low
            {
                let (upper, lower) = (upper.name(), lower.name());
                return refuse(format!(
                    "The limit for {upper}({high:.1}) cannot be lower than the limit for {lower}({low:.1})"
                ));
            }
        }
    }
    let redis = config.and_then(|c| c.get("policy")).and_then(Value::as_str) == Some("redis");
    match number("sync_rate") {
        Some(rate) if rate != -1.0 && !redis => {
            refuse("sync_rate can only be used with the redis policy".to_owned())
        }
        Some(rate) if rate != -1.0 && rate < 0.02 => {
            refuse("sync_rate must be greater than 0.02, or -1 to disable".to_owned())
        }
        _ => Ok(()),
    }
}

/// The spellings of before Kong 3.6, which it still takes and shows.
pub(crate) fn shorthands() -> Vec<Shorthand> {
    fn shorthand(
        name: &'static str,
        field: silverback_plugin::schema::Field,
        shown_from: &'static str,
        translate: fn(&Value) -> Map<String, Value>,
    ) -> Shorthand {
        Shorthand {
            name,
            field,
            translate,
            shown_from: Some(shown_from),
            wins: false,
        }
    }
    fn redis_field(name: &str, value: &Value) -> Map<String, Value> {
        let inner = Map::from_iter([(name.to_owned(), value.clone())]);
        Map::from_iter([("redis".to_owned(), Value::Object(inner))])
    }
    vec![
        shorthand("redis_host", string(), "redis.host", |v| {
            redis_field("host", v)
        }),
        shorthand("redis_port", integer(), "redis.port", |v| {
            redis_field("port", v)
        }),
        shorthand(
            "redis_password",
            string().len_min(0),
            "redis.password",
            |v| redis_field("password", v),
        ),
        shorthand("redis_username", string(), "redis.username", |v| {
            redis_field("username", v)
        }),
        shorthand("redis_ssl", boolean(), "redis.ssl", |v| {
            redis_field("ssl", v)
        }),
        shorthand("redis_ssl_verify", boolean(), "redis.ssl_verify", |v| {
            redis_field("ssl_verify", v)
        }),
        shorthand("redis_server_name", string(), "redis.server_name", |v| {
            redis_field("server_name", v)
        }),
        shorthand("redis_timeout", integer(), "redis.timeout", |v| {
            redis_field("timeout", v)
        }),
        shorthand("redis_database", integer(), "redis.database", |v| {
            redis_field("database", v)
        }),
    ]
}
