//! What the plugin is told.

use serde_json::{Map, Value};
use silverback_limits::{Period, Redis, out_of_order, redis_needed};
use silverback_plugin::schema::field::{boolean, number, string};
use silverback_plugin::schema::typedefs::{header_name, path, redis};
use silverback_plugin::schema::{CustomViolation, EntityCheck, record};

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
    // Lengths are said where Kong's schema shows them.
    let limited_by = |what: &str, then_field| EntityCheck::Conditional {
        if_field: "config.limit_by",
        if_match: Box::new(string().eq(what).len_min(1)),
        then_field,
        then_match: Box::new(string().required()),
        then_err: None,
    };
    let mut checks = vec![EntityCheck::AtLeastOneOf(vec![
        "config.second",
        "config.minute",
        "config.hour",
        "config.day",
        "config.month",
        "config.year",
    ])];
    checks.extend(redis_needed(
        || string().eq("redis"),
        string().required().len_min(1),
    ));
    checks.extend([
        limited_by("header", "config.header_name"),
        limited_by("path", "config.path"),
        EntityCheck::Unlisted {
            when_valid: vec!["config"],
            run: together,
        },
    ]);
    checks
}

/// Longer periods may not have lower limits, and `sync_rate` needs Redis.
fn together(row: &Map<String, Value>) -> Result<(), CustomViolation> {
    let config = row.get("config").and_then(Value::as_object);
    let number = |name: &str| config?.get(name)?.as_f64();
    let refuse = |text: String| Err(CustomViolation::Field("config", text.into()));
    if let Some(wrong) = out_of_order(|period| number(period.name())) {
        return refuse(format!("The {wrong}"));
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
