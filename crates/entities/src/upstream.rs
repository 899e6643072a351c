//! Upstreams: a name that stands for several targets, how one of them is chosen and how their health is known.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use silverback_schema::checks::{
    HostKind, header_name, host_with_optional_port, path, sni, split_host,
};
use silverback_schema::field::{
    array, boolean, foreign, id, integer, map, number, record, string, timestamp,
};
use silverback_schema::{EntityCheck, EntityDef, Field, Record, Shorthand, record};
use uuid::Uuid;

use crate::{Ref, tags};

const ALGORITHMS: [&str; 4] = [
    "consistent-hashing",
    "least-connections",
    "round-robin",
    "latency",
];
const HASH_ON: [&str; 8] = [
    "none",
    "consumer",
    "ip",
    "header",
    "cookie",
    "path",
    "query_arg",
    "uri_capture",
];
const CHECK_TYPES: [&str; 5] = ["tcp", "http", "https", "grpc", "grpcs"];

/// How one of the targets is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// The same target for the same value of something in the request.
    ConsistentHashing,
    /// The target with the fewest open requests.
    LeastConnections,
    /// In turn, by weight.
    RoundRobin,
    /// The target that has answered fastest.
    Latency,
}

/// What of a request is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HashOn {
    /// Nothing.
    None,
    /// The consumer's id.
    Consumer,
    /// The client's address.
    Ip,
    /// A header.
    Header,
    /// A cookie, which is set when it is not there.
    Cookie,
    /// The path.
    Path,
    /// An argument of the query.
    QueryArg,
    /// A named group of the route's path.
    UriCapture,
}

/// How a target is asked for its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckType {
    /// A connection is opened.
    Tcp,
    /// An HTTP request.
    Http,
    /// An HTTP request over TLS.
    Https,
    /// A connection is opened, for gRPC.
    Grpc,
    /// A connection is opened, for gRPC over TLS.
    Grpcs,
}

record! {
    /// What an active check takes for a failure, and how many make a target unhealthy; 0 is never.
    pub struct ActiveUnhealthy {
        /// How many failed connections.
        pub tcp_failures: Option<u8> = count(),
        /// How many checks without an answer in time.
        pub timeouts: Option<u8> = count(),
        /// How many answers with one of the statuses.
        pub http_failures: Option<u8> = count(),
        /// The statuses that are failures.
        pub http_statuses: Option<Vec<u16>> = statuses(&ACTIVE_BAD),
        /// Seconds between checks of unhealthy targets; 0 switches them off.
        pub interval: Option<f64> = seconds().default(0),
    }
}

record! {
    /// What an active check takes for a success, and how many make a target healthy; 0 is never.
    pub struct ActiveHealthy {
        /// How many successes.
        pub successes: Option<u8> = count(),
        /// Seconds between checks of healthy targets; 0 switches them off.
        pub interval: Option<f64> = seconds().default(0),
        /// The statuses that are successes.
        pub http_statuses: Option<Vec<u16>> = statuses(&ACTIVE_GOOD),
    }
}

record! {
    /// Checks that the gateway makes by itself.
    pub struct ActiveChecks {
        /// Seconds to wait for an answer.
        pub timeout: Option<f64> = seconds().default(1),
        /// Headers sent with a check.
        pub headers: Option<BTreeMap<String, Vec<String>>> =
            map(string().len_min(1).check(header_name), array(string())).optional(),
        /// The server name sent in the TLS handshake.
        pub https_sni: Option<String> = string().optional().check(sni),
        /// How many targets are checked at the same time.
        pub concurrency: Option<u32> = integer().between(1, 2_147_483_648).default(10),
        /// How a target is asked.
        pub r#type: Option<CheckType> = check_type(),
        /// What makes a target unhealthy.
        pub unhealthy: ActiveUnhealthy = record::<ActiveUnhealthy>().required().default(active_unhealthy()),
        /// The path asked for.
        pub http_path: Option<String> = string().starts_with("/").default("/")
            .match_none("//", "must not have empty segments").check(path),
        /// Whether a target's certificate is verified.
        pub https_verify_certificate: bool = boolean().required().default(true),
        /// What makes a target healthy.
        pub healthy: ActiveHealthy = record::<ActiveHealthy>().required().default(active_healthy()),
    }
}

record! {
    /// What a client's request tells of a target that answers well.
    pub struct PassiveHealthy {
        /// The statuses that are successes.
        pub http_statuses: Option<Vec<u16>> = statuses(&PASSIVE_GOOD),
        /// How many successes make a target healthy; 0 is never.
        pub successes: Option<u8> = count(),
    }
}

record! {
    /// What a client's request tells of a target that fails, and how often it may; 0 is always.
    pub struct PassiveUnhealthy {
        /// How many answers with one of the statuses.
        pub http_failures: Option<u8> = count(),
        /// How many failed connections.
        pub tcp_failures: Option<u8> = count(),
        /// The statuses that are failures.
        pub http_statuses: Option<Vec<u16>> = statuses(&PASSIVE_BAD),
        /// How many requests without an answer in time.
        pub timeouts: Option<u8> = count(),
    }
}

record! {
    /// Checks by watching clients' requests.
    pub struct PassiveChecks {
        /// What makes a target healthy.
        pub healthy: PassiveHealthy = record::<PassiveHealthy>().required().default(passive_healthy()),
        /// What makes a target unhealthy.
        pub unhealthy: PassiveUnhealthy = record::<PassiveUnhealthy>().required().default(passive_unhealthy()),
        /// Which failures are looked at.
        pub r#type: Option<CheckType> = check_type(),
    }
}

record! {
    /// How the health of the targets is known.
    pub struct Healthchecks {
        /// Checks that the gateway makes by itself.
        pub active: ActiveChecks = record::<ActiveChecks>().required().default(active()),
        /// Checks by watching clients' requests.
        pub passive: PassiveChecks = record::<PassiveChecks>().required().default(passive()),
        /// The least part of the targets' weight, in percent, that must be healthy for the upstream to be.
        pub threshold: Option<f64> = number().between(0, 100).default(0),
    }
}

record! {
    /// A name that stands for several targets; services use it as their host.
    pub struct Upstream {
        /// The primary key.
        pub id: Uuid = id(),
        /// When the row was made.
        pub created_at: i64 = timestamp(),
        /// The name, which services give as their host.
        pub name: String = string().required().unique().len_min(1).check(upstream_name),
        /// When the row was last changed.
        pub updated_at: i64 = timestamp(),
        /// How one of the targets is chosen.
        pub algorithm: Option<Algorithm> = string().default("round-robin").one_of(ALGORITHMS).len_min(1),
        /// What is hashed; anything but `none` means consistent hashing.
        pub hash_on: Option<HashOn> = hash_on(),
        /// What is hashed when the request does not have the first.
        pub hash_fallback: Option<HashOn> = hash_on(),
        /// The header that is hashed.
        pub hash_on_header: Option<String> = string().len_min(1).check(header_name),
        /// The header that is hashed when the request does not have the first.
        pub hash_fallback_header: Option<String> = string().len_min(1).check(header_name),
        /// The cookie that is hashed.
        pub hash_on_cookie: Option<String> = string().len_min(1).check(cookie_name),
        /// The path of the cookie that is set.
        pub hash_on_cookie_path: Option<String> = string().starts_with("/").default("/").len_min(1)
            .match_none("//", "must not have empty segments").check(path),
        /// The argument of the query that is hashed.
        pub hash_on_query_arg: Option<String> = string().len_min(1),
        /// The argument of the query that is hashed when the request does not have the first.
        pub hash_fallback_query_arg: Option<String> = string().len_min(1),
        /// The named group of the route's path that is hashed.
        pub hash_on_uri_capture: Option<String> = string().len_min(1),
        /// The named group of the route's path that is hashed when the request does not have the first.
        pub hash_fallback_uri_capture: Option<String> = string().len_min(1),
        /// How many places the ring of consistent hashing has.
        pub slots: Option<u32> = integer().default(10000).between(10, 65536),
        /// How the health of the targets is known.
        pub healthchecks: Healthchecks = record::<Healthchecks>().required()
            .default(json!({ "active": active(), "passive": passive() })),
        /// Words for grouping and filtering.
        pub tags: Option<Vec<String>> = tags(),
        /// The `Host` that targets see.
        pub host_header: Option<String> = string().len_min(1).check(host_with_optional_port),
        /// The certificate shown to the targets.
        pub client_certificate: Option<Ref> = foreign("certificates"),
        /// Whether targets are asked for by the names in SRV records.
        pub use_srv_name: Option<bool> = boolean().default(false),
    }
}

const ACTIVE_GOOD: [u16; 2] = [200, 302];
const ACTIVE_BAD: [u16; 8] = [429, 404, 500, 501, 502, 503, 504, 505];
const PASSIVE_BAD: [u16; 3] = [429, 500, 503];
const PASSIVE_GOOD: [u16; 19] = [
    200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308,
];

fn count() -> Field {
    integer().between(0, 255).default(0)
}

fn seconds() -> Field {
    number().between(0, 65535)
}

fn statuses(default: &[u16]) -> Field {
    array(integer().between(100, 999)).default(default.to_vec())
}

fn check_type() -> Field {
    string().default("http").one_of(CHECK_TYPES)
}

fn hash_on() -> Field {
    string().default("none").one_of(HASH_ON).len_min(1)
}

fn active_healthy() -> Value {
    json!({ "interval": 0, "http_statuses": ACTIVE_GOOD, "successes": 0 })
}

fn active_unhealthy() -> Value {
    json!({ "interval": 0, "http_statuses": ACTIVE_BAD, "tcp_failures": 0, "timeouts": 0, "http_failures": 0 })
}

fn active() -> Value {
    json!({
        "type": "http", "timeout": 1, "concurrency": 10, "http_path": "/", "https_verify_certificate": true,
        "healthy": active_healthy(), "unhealthy": active_unhealthy()
    })
}

fn passive_healthy() -> Value {
    json!({ "http_statuses": PASSIVE_GOOD, "successes": 0 })
}

fn passive_unhealthy() -> Value {
    json!({ "http_statuses": PASSIVE_BAD, "tcp_failures": 0, "timeouts": 0, "http_failures": 0 })
}

fn passive() -> Value {
    json!({ "type": "http", "healthy": passive_healthy(), "unhealthy": passive_unhealthy() })
}

/// A host name without a port (`validate_name` in `kong/db/schema/entities/upstreams.lua`).
fn upstream_name(v: &Value) -> Result<(), String> {
    let name = v.as_str().unwrap_or_default();
    let why = match split_host(name) {
        None => "must be a valid hostname",
        Some(p) if p.kind != HostKind::Name => "no ip addresses allowed",
        Some(p) if p.port.is_some() => "no port allowed",
        Some(_) => return Ok(()),
    };
    Err(format!("Invalid name ('{name}'); {why}"))
}

/// A token of HTTP (`validate_http_token` in `kong/tools/http.lua`).
fn cookie_name(v: &Value) -> Result<(), String> {
    let name = v.as_str().unwrap_or_default();
    let forbidden = |b: u8| b <= b' ' || b == 127 || b"()<>@,;:\\\"/?={}[]".contains(&b);
    if !name.bytes().any(forbidden) {
        Ok(())
    } else {
        Err(
            "contains one or more invalid characters. ASCII control characters (0-31;127), space, tab and the \
             characters ()<>@,;:\\\"/?={}[] are not allowed."
                .to_owned(),
        )
    }
}

/// When `field` says `what`, the other field must be there.
fn needs(field: &'static str, what: &'static str, other: &'static str) -> EntityCheck {
    EntityCheck::Conditional {
        if_field: field,
        if_match: Box::new(string().matches(what)),
        then_field: other,
        then_match: Box::new(string().required()),
        then_err: None,
    }
}

/// With `hash_on` being `what`, the fallback must be one of these.
fn fallback(what: &'static str, allowed: &[&'static str]) -> EntityCheck {
    EntityCheck::Conditional {
        if_field: "hash_on",
        if_match: Box::new(string().matches(what)),
        then_field: "hash_fallback",
        then_match: Box::new(string().one_of(allowed.iter().copied())),
        then_err: None,
    }
}

fn with(name: &'static str, translate: fn(&Value) -> Map<String, Value>) -> Shorthand {
    Shorthand {
        name,
        field: string(),
        translate,
        shown_from: None,
        wins: true,
    }
}

fn fields<const N: usize>(all: [(&str, Value); N]) -> Map<String, Value> {
    all.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

/// Two algorithms hash nothing.
fn from_algorithm(v: &Value) -> Map<String, Value> {
    match v.as_str() {
        Some("least-connections" | "latency") => {
            fields([("algorithm", v.clone()), ("hash_on", Value::Null)])
        }
        _ => fields([("algorithm", v.clone())]),
    }
}

/// What is hashed tells the algorithm, and comes after it.
fn from_hash_on(v: &Value) -> Map<String, Value> {
    match v.as_str() {
        None => fields([("hash_on", "none".into())]),
        Some("none") => fields([("hash_on", v.clone()), ("algorithm", "round-robin".into())]),
        Some(_) => fields([
            ("hash_on", v.clone()),
            ("algorithm", "consistent-hashing".into()),
        ]),
    }
}

pub(crate) fn def() -> EntityDef {
    EntityDef::new("upstreams", Upstream::fields())
        .endpoint_key("name")
        .example(|| json!({ "name": "my-upstream", "algorithm": "round-robin" }))
        .nested("client_certificate", "upstreams")
        .catalogue(crate::core)
        .shorthand(with("algorithm", from_algorithm))
        .shorthand(with("hash_on", from_hash_on))
        .check(needs("hash_on", "^header$", "hash_on_header"))
        .check(needs("hash_fallback", "^header$", "hash_fallback_header"))
        .check(needs("hash_on", "^cookie$", "hash_on_cookie"))
        .check(needs("hash_fallback", "^cookie$", "hash_on_cookie"))
        .check(fallback("^none$", &["none"]))
        .check(fallback("^cookie$", &["none"]))
        .check(fallback(
            "^consumer$",
            &[
                "none",
                "ip",
                "header",
                "cookie",
                "path",
                "query_arg",
                "uri_capture",
            ],
        ))
        .check(fallback(
            "^ip$",
            &[
                "none",
                "consumer",
                "header",
                "cookie",
                "path",
                "query_arg",
                "uri_capture",
            ],
        ))
        .check(fallback(
            "^path$",
            &[
                "none",
                "consumer",
                "header",
                "cookie",
                "query_arg",
                "ip",
                "uri_capture",
            ],
        ))
        .check(EntityCheck::Distinct(vec![
            "hash_on_header",
            "hash_fallback_header",
        ]))
        .check(needs("hash_on", "^query_arg$", "hash_on_query_arg"))
        .check(needs(
            "hash_fallback",
            "^query_arg$",
            "hash_fallback_query_arg",
        ))
        .check(EntityCheck::Distinct(vec![
            "hash_on_query_arg",
            "hash_fallback_query_arg",
        ]))
        .check(needs("hash_on", "^uri_capture$", "hash_on_uri_capture"))
        .check(needs(
            "hash_fallback",
            "^uri_capture$",
            "hash_fallback_uri_capture",
        ))
        .check(EntityCheck::Distinct(vec![
            "hash_on_uri_capture",
            "hash_fallback_uri_capture",
        ]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use silverback_schema::{Op, complete, patch};

    use super::*;

    fn made(row: Value) -> Map<String, Value> {
        complete(&def(), row.as_object().unwrap().clone(), Op::Insert, 1).unwrap()
    }

    #[test]
    fn what_is_hashed_tells_the_algorithm() {
        let row = made(json!({ "name": "u", "hash_on": "ip" }));
        assert_eq!(row["algorithm"], "consistent-hashing");
        let row = made(json!({ "name": "u", "algorithm": "latency", "hash_on": "ip" }));
        assert_eq!(
            (&row["algorithm"], &row["hash_on"]),
            (&json!("latency"), &json!("none"))
        );
        let row = made(json!({ "name": "u" }));
        assert_eq!(row["algorithm"], "round-robin");
    }

    #[test]
    fn another_algorithm_takes_the_hashing_away() {
        let old = made(json!({ "name": "u", "hash_on": "ip" }));
        let change = fields([("algorithm", json!("least-connections"))]);
        let row = patch(&def(), &old, change, 2).unwrap();
        assert_eq!(row["hash_on"], "none");
    }

    #[test]
    fn a_row_is_a_typed_upstream() {
        let row = made(
            json!({ "name": "u", "healthchecks": { "active": { "healthy": { "interval": 2.5 } } } }),
        );
        let typed: Upstream = serde_json::from_value(Value::Object(row)).unwrap();
        assert_eq!(typed.healthchecks.active.healthy.interval, Some(2.5));
        assert_eq!(typed.healthchecks.active.r#type, Some(CheckType::Http));
        assert_eq!(
            typed.healthchecks.passive.unhealthy.http_statuses.unwrap(),
            PASSIVE_BAD
        );
        assert_eq!(typed.algorithm, Some(Algorithm::RoundRobin));
    }
}
