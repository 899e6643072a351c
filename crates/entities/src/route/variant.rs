//! What routes of HTTP, of gRPC and of streams may and must say; Kong's `kong/db/schema/entities/routes_subschemas.lua`.

use serde_json::{Map, Value};
use silverback_schema::CustomViolation;

type Row = Map<String, Value>;
type Verdict = Result<(), CustomViolation>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Http,
    Grpc,
    Stream,
}

impl Family {
    fn of(protocol: &str) -> Option<Family> {
        match protocol {
            "http" | "https" => Some(Family::Http),
            "grpc" | "grpcs" => Some(Family::Grpc),
            "tcp" | "tls" | "udp" | "tls_passthrough" => Some(Family::Stream),
            _ => None,
        }
    }

    /// The first protocol that is known decides.
    fn of_row(row: &Row) -> Option<Family> {
        match row.get("protocols")? {
            Value::String(one) => Family::of(one),
            Value::Array(many) => many.iter().filter_map(Value::as_str).find_map(Family::of),
            _ => None,
        }
    }
}

/// The path of a gRPC call is never stripped, so that `strip_path` is false unless said otherwise.
pub(super) fn defaults(row: &mut Row) {
    if !row.contains_key("strip_path") && Family::of_row(row) == Some(Family::Grpc) {
        row.insert("strip_path".into(), false.into());
    }
}

/// A route whose protocols tell no family is not looked at further.
pub(super) fn gate(row: &Row) -> Verdict {
    let refuse = |text: String| Err(CustomViolation::Field("protocols", text.into()));
    let unknown = |p: &str| refuse(format!("unknown type: {p}"));
    match row.get("protocols") {
        None | Some(Value::Null) => refuse("required field missing".into()),
        _ if Family::of_row(row).is_some() => Ok(()),
        Some(Value::String(one)) => unknown(one),
        Some(Value::Array(many)) => match many.first() {
            None => refuse("length must be at least 1".into()),
            Some(first) => first.as_str().map_or(Ok(()), unknown),
        },
        Some(_) => Ok(()),
    }
}

pub(super) fn no_methods(row: &Row) -> Verdict {
    forbidden(row, "methods", &[Family::Grpc, Family::Stream])
}

pub(super) fn no_hosts(row: &Row) -> Verdict {
    forbidden(row, "hosts", &[Family::Stream])
}

pub(super) fn no_paths(row: &Row) -> Verdict {
    forbidden(row, "paths", &[Family::Stream])
}

pub(super) fn no_headers(row: &Row) -> Verdict {
    forbidden(row, "headers", &[Family::Stream])
}

pub(super) fn no_sources(row: &Row) -> Verdict {
    forbidden(row, "sources", &[Family::Http, Family::Grpc])
}

pub(super) fn no_destinations(row: &Row) -> Verdict {
    forbidden(row, "destinations", &[Family::Http, Family::Grpc])
}

pub(super) fn no_strip_path(row: &Row) -> Verdict {
    if row.get("strip_path") == Some(&Value::Bool(true)) {
        forbidden(row, "strip_path", &[Family::Grpc])
    } else {
        Ok(())
    }
}

/// A route must have something to match requests with.
pub(super) fn matches_something(row: &Row) -> Verdict {
    let protocols: Vec<&str> = row
        .get("protocols")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let has = |p: &str| protocols.contains(&p);
    let (names, text): (&[&str], &str) = match Family::of_row(row) {
        Some(Family::Http) if has("https") => (
            &["methods", "hosts", "headers", "paths", "snis"],
            "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'",
        ),
        Some(Family::Http) if has("http") => (
            &["methods", "hosts", "headers", "paths"],
            "must set one of 'methods', 'hosts', 'headers', 'paths' when 'protocols' is 'http'",
        ),
        Some(Family::Grpc) if has("grpcs") => (
            &["hosts", "headers", "paths", "snis"],
            "must set one of 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'grpcs'",
        ),
        Some(Family::Grpc) if has("grpc") => (
            &["hosts", "headers", "paths"],
            "must set one of 'hosts', 'headers', 'paths' when 'protocols' is 'grpc'",
        ),
        Some(Family::Stream)
            if protocols
                .iter()
                .all(|p| matches!(*p, "tcp" | "tls" | "udp")) =>
        {
            (
                &["sources", "destinations", "snis"],
                "must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp', 'tls' or 'udp'",
            )
        }
        Some(Family::Stream) if protocols.iter().all(|p| *p == "tls_passthrough") => (
            &["snis"],
            "must set snis when 'protocols' is 'tls_passthrough'",
        ),
        _ => return Ok(()),
    };
    if names.iter().any(|n| given(row, n)) {
        Ok(())
    } else {
        Err(CustomViolation::Entity(text.into()))
    }
}

fn forbidden(row: &Row, field: &'static str, families: &[Family]) -> Verdict {
    let Some(family) = Family::of_row(row).filter(|f| families.contains(f)) else {
        return Ok(());
    };
    if row.get(field).is_none_or(Value::is_null) {
        return Ok(());
    }
    let when = match family {
        Family::Http => "'http' or 'https'",
        Family::Grpc => "'grpc' or 'grpcs'",
        Family::Stream => "'tcp', 'tls', 'tls_passthrough' or 'udp'",
    };
    Err(CustomViolation::Field(
        field,
        format!("cannot set '{field}' when 'protocols' is {when}").into(),
    ))
}

fn given(row: &Row, field: &str) -> bool {
    match row.get(field) {
        None | Some(Value::Null) => false,
        Some(Value::String(s)) => !s.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        Some(_) => true,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use silverback_schema::{Op, complete};

    use crate::{Route, Uuid};

    use super::*;

    fn made(v: Value) -> Result<Route, Value> {
        let row = complete(
            crate::core("routes").unwrap(),
            v.as_object().unwrap().clone(),
            Op::Insert,
            1,
        );
        row.map(|r| serde_json::from_value(Value::Object(r)).unwrap())
            .map_err(|e| Value::Object(e.0))
    }

    fn entity(text: &str) -> Value {
        json!({ "@entity": [text] })
    }

    #[test]
    fn each_family_says_what_a_route_must_match_with() {
        for (protocols, text) in [
            (
                json!(["http"]),
                "must set one of 'methods', 'hosts', 'headers', 'paths' when 'protocols' is 'http'",
            ),
            (
                json!(["http", "https"]),
                "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'",
            ),
            (
                json!(["grpc"]),
                "must set one of 'hosts', 'headers', 'paths' when 'protocols' is 'grpc'",
            ),
            (
                json!(["grpcs"]),
                "must set one of 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'grpcs'",
            ),
            (
                json!(["tcp", "tls"]),
                "must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp', 'tls' or 'udp'",
            ),
            (
                json!(["tls_passthrough"]),
                "must set snis when 'protocols' is 'tls_passthrough'",
            ),
        ] {
            assert_eq!(
                made(json!({ "protocols": protocols })).unwrap_err(),
                entity(text)
            );
        }
    }

    #[test]
    fn each_family_forbids_what_it_cannot_use() {
        assert_eq!(
            made(json!({ "protocols": ["tcp"], "paths": ["x"], "sources": [{ "port": 1 }] }))
                .unwrap_err(),
            json!({ "paths": "cannot set 'paths' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'" })
        );
        assert_eq!(
            made(json!({ "paths": ["/x"], "sources": [{ "port": 1 }] })).unwrap_err(),
            json!({ "sources": "cannot set 'sources' when 'protocols' is 'http' or 'https'" })
        );
        assert_eq!(
            made(json!({ "protocols": ["http"], "paths": ["/x"], "snis": ["a.test"] }))
                .unwrap_err(),
            json!({
                "snis": "length must be 0",
                "@entity": ["'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'"]
            })
        );
    }

    #[test]
    fn grpc_routes_do_not_strip_their_path() {
        assert!(
            !made(json!({ "protocols": ["grpc"], "paths": ["/x"] }))
                .unwrap()
                .strip_path
        );
        assert!(made(json!({ "paths": ["/x"] })).unwrap().strip_path);
    }

    #[test]
    fn protocols_decide_before_anything_else() {
        let only =
            |v: Value, text: &str| assert_eq!(made(v).unwrap_err(), json!({ "protocols": text }));
        only(
            json!({ "protocols": ["ftp"], "zz": 1 }),
            "unknown type: ftp",
        );
        only(json!({ "protocols": "ftp" }), "unknown type: ftp");
        only(json!({ "protocols": [] }), "length must be at least 1");
        only(json!({ "protocols": null }), "required field missing");
        assert_eq!(
            made(json!({ "protocols": ["http", "tcp"], "paths": ["/x"] })).unwrap_err(),
            json!({ "protocols": "these sets are mutually exclusive: ('http', 'https'), ('tcp', 'tls', 'udp')" })
        );
        assert_eq!(
            made(json!({ "protocols": ["ftp", "http"], "paths": ["/x"] })).unwrap_err(),
            json!({ "protocols": ["expected one of: grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp"] })
        );
    }

    #[test]
    fn header_names_are_checked() {
        assert_eq!(
            made(json!({ "headers": { "a b": ["x"] } })).unwrap_err(),
            json!({ "headers": "bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-'" })
        );
    }

    #[test]
    fn a_valid_row_is_a_route() {
        let id = "00000001-0000-4000-8000-00000000000a";
        let route =
            made(json!({ "paths": ["/x"], "service": { "id": id }, "headers": { "x-a": ["1"] } }))
                .unwrap();
        assert_eq!(route.service.map(|s| s.id), Uuid::parse_str(id).ok());
        assert_eq!(route.headers.unwrap()["x-a"], ["1"]);
    }
}
