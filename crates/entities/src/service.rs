//! Services: where requests go.

use serde_json::{Map, Value, json};
use silverback_schema::field::{
    array, boolean, foreign, id, integer, string, timestamp, uuid as uuid_field,
};
use silverback_schema::{EntityCheck, EntityDef, Record, Shorthand, record};
use uuid::Uuid;

use crate::route::Protocol;
use crate::{Ref, tags};
use silverback_schema::checks::{host, path, split_url, utf8_name};

const PROTOCOLS: [&str; 8] = [
    "grpc",
    "grpcs",
    "http",
    "https",
    "tcp",
    "tls",
    "tls_passthrough",
    "udp",
];
const TIMEOUT_MAX: i64 = 2_147_483_646;

record! {
    /// An upstream API: where requests are sent, how long to wait and how often to try.
    pub struct Service {
        /// The primary key.
        pub id: Uuid = id(),
        /// When the row was made.
        pub created_at: i64 = timestamp(),
        /// When the row was last changed.
        pub updated_at: i64 = timestamp(),
        /// A unique name.
        pub name: Option<String> = string().unique().len_min(1).check(utf8_name),
        /// How many times a failed request is tried again.
        pub retries: Option<u16> = integer().default(5).between(0, 32767),
        /// The protocol spoken with the upstream.
        pub protocol: Protocol = string().required().default("http").one_of(PROTOCOLS).len_min(1),
        /// The upstream's host name, address or the name of an `upstream`.
        pub host: String = string().required().len_min(1).check(host),
        /// The upstream's port.
        pub port: u16 = integer().required().default(80).between(0, 65535),
        /// The path put before the request's path.
        pub path: Option<String> = string().starts_with("/").len_min(1).match_none("//", "must not have empty segments").check(path),
        /// Milliseconds to wait for a connection.
        pub connect_timeout: Option<u32> = integer().default(60000).between(1, TIMEOUT_MAX),
        /// Milliseconds between two successful writes to the upstream.
        pub write_timeout: Option<u32> = integer().default(60000).between(1, TIMEOUT_MAX),
        /// Milliseconds between two successful reads from the upstream.
        pub read_timeout: Option<u32> = integer().default(60000).between(1, TIMEOUT_MAX),
        /// Words for grouping and filtering.
        pub tags: Option<Vec<String>> = tags(),
        /// The certificate shown to the upstream.
        pub client_certificate: Option<Ref> = foreign("certificates"),
        /// Whether the upstream's certificate is verified; the node's setting when null.
        pub tls_verify: Option<bool> = boolean(),
        /// How long a chain of certificates may be.
        pub tls_verify_depth: Option<u8> = integer().default(Value::Null).between(0, 64),
        /// The authorities trusted when the upstream's certificate is verified; the node's when null.
        pub ca_certificates: Option<Vec<Uuid>> = array(uuid_field().required().len_min(1)),
        /// A disabled service is as if it were not there.
        pub enabled: bool = boolean().required().default(true),
    }
}

fn only_with(protocols: &[&'static str], field: &'static str) -> EntityCheck {
    EntityCheck::Conditional {
        if_field: "protocol",
        if_match: Box::new(string().not_one_of(protocols.iter().copied())),
        then_field: field,
        then_match: Box::new(string().eq(Value::Null)),
        then_err: None,
    }
}

/// Learnt from `kong/db/schema/entities/services.lua`: the scheme is taken as it is, without one the port tells the protocol; without a port the
/// protocol tells the port. A null changes nothing.
fn from_url(v: &Value) -> Map<String, Value> {
    let Some(url) = v.as_str() else {
        return Map::new();
    };
    let parts = split_url(url);
    let number = parts.port.and_then(|p| p.parse::<i64>().ok());
    let guessed = match number {
        Some(443) => "https",
        _ => "http",
    };
    let protocol = parts.scheme.unwrap_or(guessed);
    let port = match (number, parts.port) {
        (Some(n), _) => Value::from(n),
        // No number: left for validation to complain about.
        (None, Some(text)) => text.into(),
        (None, None) if protocol == "https" => 443.into(),
        (None, None) => 80.into(),
    };
    Map::from_iter([
        ("protocol".to_owned(), protocol.into()),
        (
            "host".to_owned(),
            parts.host.map_or(Value::Null, Value::from),
        ),
        ("port".to_owned(), port),
        (
            "path".to_owned(),
            parts.path.map_or(Value::Null, Value::from),
        ),
    ])
}

pub(crate) fn def() -> EntityDef {
    let not_http = string().one_of(["tcp", "tls", "udp", "grpc", "grpcs"]);
    EntityDef::new("services", Service::fields())
        .endpoint_key("name")
        .example(|| json!({ "name": "my-service", "url": "http://example.com:8080/base" }))
        .nested("client_certificate", "services")
        .catalogue(crate::core)
        .shorthand(Shorthand {
            name: "url",
            field: string(),
            translate: from_url,
            shown_from: None,
            wins: true,
        })
        .check(EntityCheck::Conditional {
            if_field: "protocol",
            if_match: Box::new(not_http),
            then_field: "path",
            then_match: Box::new(string().eq(Value::Null)),
            then_err: None,
        })
        .check(only_with(&["https", "tls"], "client_certificate"))
        .check(only_with(&["https", "tls"], "tls_verify"))
        .check(only_with(&["https", "tls"], "tls_verify_depth"))
        .check(only_with(&["https", "tls"], "ca_certificates"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use silverback_schema::{Op, complete};

    use super::*;

    fn with_url(url: Value) -> Result<Value, Value> {
        let row = complete(
            &def(),
            Map::from_iter([("url".to_owned(), url)]),
            Op::Insert,
            1,
        );
        row.map(|r| json!([r["protocol"], r["host"], r["port"], r["path"]]))
            .map_err(|e| Value::Object(e.0))
    }

    #[test]
    fn url_stands_for_protocol_host_port_and_path() {
        assert_eq!(
            with_url(json!("http://a.test:81/b?c=d")),
            Ok(json!(["http", "a.test", 81, "/b"]))
        );
        assert_eq!(
            with_url(json!("https://a.test")),
            Ok(json!(["https", "a.test", 443, null]))
        );
        assert_eq!(
            with_url(json!("//a.test:443")),
            Ok(json!(["https", "a.test", 443, null]))
        );
        assert_eq!(
            with_url(json!("grpc://a.test")),
            Ok(json!(["grpc", "a.test", 80, null]))
        );
        assert_eq!(
            with_url(json!("http://me:pw@[::1]:80/")),
            Ok(json!(["http", "::1", 80, "/"]))
        );
    }

    #[test]
    fn a_broken_url_is_a_violation_of_what_it_stands_for() {
        assert_eq!(
            with_url(json!("foo")),
            Err(json!({ "host": "required field missing", "path": "should start with: /" }))
        );
        assert_eq!(
            with_url(json!("http://a:x/")),
            Err(json!({ "port": "expected an integer" }))
        );
        assert_eq!(
            with_url(json!("http://a:70000/")),
            Err(json!({ "port": "value should be between 0 and 65535" }))
        );
        assert_eq!(
            with_url(json!("")),
            Err(json!({ "url": "length must be at least 1" }))
        );
        assert_eq!(
            with_url(Value::Null),
            Err(json!({ "host": "required field missing" }))
        );
    }

    #[test]
    fn a_valid_row_is_a_service() {
        let input = Map::from_iter([("host".to_owned(), json!("a.test"))]);
        let row = complete(&def(), input, Op::Insert, 7).unwrap();
        let service: Service = serde_json::from_value(Value::Object(row)).unwrap();
        assert_eq!(
            (service.port, service.retries, service.created_at),
            (80, Some(5), 7)
        );
    }
}
