//! What limiting plugins are told about Redis.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use silverback_plugin::schema::field::{boolean, integer, string};
use silverback_plugin::schema::{EntityCheck, Field, Shorthand};

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

impl Redis {
    /// What tells it from any other server and login. Not to be logged or shown: it holds the password.
    pub(crate) fn identity(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The checks of `config.redis` where `config.policy` is `policy`. How much `policy` and `host` say depends on where Kong's schemas
/// show it.
pub fn redis_needed(policy: impl Fn() -> Field, host: Field) -> Vec<EntityCheck> {
    let needed = |then_field, then_match| EntityCheck::Conditional {
        if_field: "config.policy",
        if_match: Box::new(policy()),
        then_field,
        then_match: Box::new(then_match),
        then_err: None,
    };
    vec![
        needed("config.redis.host", host),
        needed("config.redis.port", integer().required()),
        needed("config.redis.timeout", integer().required()),
    ]
}

/// The spellings of before Kong 3.6, which it still takes and shows.
pub fn redis_shorthands() -> Vec<Shorthand> {
    fn shorthand(
        name: &'static str,
        field: Field,
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
