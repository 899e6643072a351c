//! Routes: which requests go to which service.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use silverback_schema::field::{
    array, boolean, foreign, id, integer, map, record, set, string, timestamp,
};
use silverback_schema::{EntityCheck, EntityDef, Field, Kind, Record, Variant, record};
use uuid::Uuid;

use crate::{Ref, tags};
use silverback_schema::checks::{
    header_name, host_pattern, ip_or_cidr, route_path, utf8_name, wildcard_sni,
};

mod variant;

/// A protocol of a route or a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// gRPC in clear text.
    Grpc,
    /// gRPC over TLS.
    Grpcs,
    /// HTTP in clear text.
    Http,
    /// HTTP over TLS.
    Https,
    /// A TCP stream.
    Tcp,
    /// A TLS stream ended here.
    Tls,
    /// A TLS stream passed on as it is.
    TlsPassthrough,
    /// Datagrams.
    Udp,
}

/// How the service's path and the request's path are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PathHandling {
    /// With exactly one slash between them.
    V0,
    /// As they are.
    V1,
}

record! {
    /// An address or port of a stream connection's end.
    pub struct SourceOrDestination {
        /// An address or a block of addresses.
        pub ip: Option<String> = string().check(ip_or_cidr),
        /// A port.
        pub port: Option<u16> = integer().between(0, 65535),
    }
}

record! {
    /// Rules that requests are matched with, and what is done with those that match.
    pub struct Route {
        /// The primary key.
        pub id: Uuid = id(),
        /// When the row was made.
        pub created_at: i64 = timestamp(),
        /// When the row was last changed.
        pub updated_at: i64 = timestamp(),
        /// A unique name.
        pub name: Option<String> = string().unique().len_min(1).check(utf8_name),
        /// The protocols the route accepts.
        pub protocols: Vec<Protocol> = set(string().required().len_min(1)
                .one_of(["grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp"]))
            .required().len_min(1).default(vec!["http", "https"])
            .mutually_exclusive_subsets(&[&["http", "https"], &["tcp", "tls", "udp"], &["tls_passthrough"], &["grpc", "grpcs"]]),
        /// The status of the answer when all but the protocol matches.
        pub https_redirect_status_code: u16 = integer().required().default(426).one_of([426, 301, 302, 307, 308]),
        /// Whether the matched path is cut off before the request is sent on.
        pub strip_path: bool = boolean().required().default(true),
        /// Whether the upstream sees the request's own `Host`.
        pub preserve_host: bool = boolean().required().default(false),
        /// Whether a request is read whole before it is sent on.
        pub request_buffering: bool = boolean().required().default(true),
        /// Whether a response is read whole before it is sent on.
        pub response_buffering: bool = boolean().required().default(true),
        /// Words for grouping and filtering.
        pub tags: Option<Vec<String>> = tags(),
        /// Where matched requests go.
        pub service: Option<Ref> = foreign("services"),
        /// Server names of the TLS handshake.
        pub snis: Option<Vec<String>> = set(string().required().len_min(1).check(wildcard_sni)),
        /// Where a stream connection comes from.
        pub sources: Option<Vec<SourceOrDestination>> = set(endpoint().required()),
        /// Where a stream connection goes.
        pub destinations: Option<Vec<SourceOrDestination>> = set(endpoint()),
        /// Request methods.
        pub methods: Option<Vec<String>> = set(string().required().len_min(1).matches("^%u+$")),
        /// Host names, with a wildcard as first or last label.
        pub hosts: Option<Vec<String>> = array(string().required().len_min(1)
            .match_all("^[^*]*%*?[^*]*$", "invalid wildcard: must have at most one wildcard")
            .match_any(["^%*%.", "%.%*$", "^[^*]*$"], "invalid wildcard: must be placed at leftmost or rightmost label")
            .check(host_pattern)),
        /// Path prefixes, or with a leading `~` regular expressions.
        pub paths: Option<Vec<String>> = array(string().required().len_min(1)
            .match_any(["^/", "^~/"], "should start with: / (fixed path) or ~/ (regex path)")
            .match_none("//", "must not have empty segments")
            .check(route_path)),
        /// Headers with the values of which one must be there.
        pub headers: Option<BTreeMap<String, Vec<String>>> = map(
            string().required().len_min(1)
                .match_none("^[Hh][Oo][Ss][Tt]$", "cannot contain 'host' header, which must be specified in the 'hosts' attribute")
                .check(header_name),
            array(string().required().len_min(1)).required().check(some_value)),
        /// Of two matching regular expressions the higher number wins.
        pub regex_priority: Option<i64> = integer().default(0),
        /// How the service's path and the request's path are joined.
        pub path_handling: Option<PathHandling> = string().default("v0").one_of(["v0", "v1"]).len_min(1),
    }
}

/// A header without a value could never match; Kong refuses it too, in the words of its expression language.
fn some_value(v: &serde_json::Value) -> Result<(), String> {
    if v.as_array().is_some_and(Vec::is_empty) {
        Err("length must be at least 1".to_owned())
    } else {
        Ok(())
    }
}

fn endpoint() -> Field {
    let mut f = record::<SourceOrDestination>();
    if let Kind::Record(r) = &mut f.kind {
        r.checks.push(EntityCheck::AtLeastOneOf(vec!["ip", "port"]));
    }
    f
}

pub(crate) fn def() -> EntityDef {
    EntityDef::new("routes", Route::fields())
        .endpoint_key("name")
        .example(|| serde_json::json!({ "name": "my-route", "paths": ["/my-path"], "methods": ["GET", "POST"] }))
        .nested("service", "routes")
        .catalogue(crate::core)
        .variant(Variant { defaults: variant::defaults, gate: variant::gate })
        .check(EntityCheck::Conditional {
            if_field: "protocols",
            if_match: Box::new(Field::new(Kind::Set(Box::new(
                string().required().len_min(1).not_one_of(["grpcs", "https", "tls", "tls_passthrough"]),
            )))),
            then_field: "snis",
            then_match: Box::new(set(string()).len_eq(0)),
            then_err: Some("'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'"),
        })
        // Kong only warns of `v1` here; the check is there because clients see it in the schema.
        .check(EntityCheck::Custom {
            field_sources: vec!["path_handling"],
            run_with_missing_fields: false,
            run: |_| Ok(()),
        })
        // Kong compiles the route's expression here. Everything that could fail in it is a rule of a field with us.
        .check(EntityCheck::Custom {
            field_sources: vec![
                "id", "protocols", "snis", "sources", "destinations", "methods", "hosts", "paths", "headers", "expression",
                "regex_priority", "priority",
            ],
            run_with_missing_fields: true,
            run: |_| Ok(()),
        })
        .check(EntityCheck::Unlisted { when_valid: vec![], run: variant::no_methods })
        .check(EntityCheck::Unlisted { when_valid: vec![], run: variant::no_hosts })
        .check(EntityCheck::Unlisted { when_valid: vec![], run: variant::no_paths })
        .check(EntityCheck::Unlisted { when_valid: vec![], run: variant::no_headers })
        .check(EntityCheck::Unlisted { when_valid: vec![], run: variant::no_sources })
        .check(EntityCheck::Unlisted { when_valid: vec![], run: variant::no_destinations })
        .check(EntityCheck::Unlisted { when_valid: vec![], run: variant::no_strip_path })
        .check(EntityCheck::Unlisted { when_valid: vec![], run: variant::matches_something })
}
