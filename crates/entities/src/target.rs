//! Targets: where an upstream's requests go.

use serde_json::{Map, Value, json};
use silverback_schema::checks::split_host;
use silverback_schema::field::{foreign, id, integer, string, timestamp_ms};
use silverback_schema::{EntityDef, OnDelete, Record, Shorthand, record};
use uuid::Uuid;

use crate::{Ref, tags};

/// The port of a target that names none.
pub const DEFAULT_PORT: u16 = 8000;

record! {
    /// An address, or a name that stands for some, to which an upstream's requests go.
    pub struct Target {
        /// The primary key.
        pub id: Uuid = id(),
        /// When the row was made, with milliseconds.
        pub created_at: f64 = timestamp_ms(),
        /// When the row was last changed, with milliseconds.
        pub updated_at: f64 = timestamp_ms(),
        /// The upstream.
        pub upstream: Ref = foreign("upstreams").required().on_delete(OnDelete::Cascade),
        /// Host and port; 8000 without a port.
        pub target: String = string().required().len_min(1),
        /// The part of the requests it gets, relative to the others; none with 0.
        pub weight: Option<u16> = integer().default(100).between(0, 65535),
        /// Words for grouping and filtering.
        pub tags: Option<Vec<String>> = tags(),
    }
}

/// The one way in which a host with or without a port is written as a target (`format_target` in `kong/db/dao/targets.lua`).
pub fn format_target(text: &str) -> Option<String> {
    let parts = split_host(text)?;
    let port = parts.port.unwrap_or(DEFAULT_PORT);
    Some(format!("{}:{port}", parts.host))
}

fn valid(v: &Value) -> Result<(), String> {
    let text = v.as_str().unwrap_or_default();
    if text.is_empty() || format_target(text).is_some() {
        Ok(())
    } else {
        Err("Invalid target; not a valid hostname or ip address".to_owned())
    }
}

fn formatted(v: &Value) -> Map<String, Value> {
    let formatted = v.as_str().and_then(format_target).map(Value::from);
    Map::from_iter([("target".to_owned(), formatted.unwrap_or_else(|| v.clone()))])
}

pub(crate) fn def() -> EntityDef {
    EntityDef::new("targets", Target::fields())
        .endpoint_key("target")
        .example(|| json!({ "target": "10.0.0.1:8080", "weight": 50 }))
        .nested("upstream", "targets")
        .catalogue(crate::core)
        .unique_together(&["upstream", "target"])
        // Whatever a client writes is stored in one form, or the same target could be there twice.
        .shorthand(Shorthand {
            name: "target",
            field: string().len_min(0).check(valid),
            translate: formatted,
            shown_from: None,
            wins: true,
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use silverback_schema::{Op, complete};

    use super::*;

    fn target(v: Value) -> Result<Value, Value> {
        let upstream = json!({ "id": "00000006-0000-4000-8000-000000000001" });
        let row = json!({ "upstream": upstream, "target": v });
        complete(&def(), row.as_object().unwrap().clone(), Op::Insert, 1)
            .map(|mut row| row.remove("target").unwrap())
            .map_err(|e| Value::Object(e.0))
    }

    #[test]
    fn targets_are_stored_in_one_form() {
        assert_eq!(target(json!("127.0.0.1")), Ok(json!("127.0.0.1:8000")));
        assert_eq!(
            target(json!("[::1]:80")),
            Ok(json!("[0000:0000:0000:0000:0000:0000:0000:0001]:80"))
        );
        assert_eq!(target(json!("a.test:1")), Ok(json!("a.test:1")));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let text = "Invalid target; not a valid hostname or ip address";
        for bad in ["bad target:x", "127.0.0.1:70000"] {
            assert_eq!(target(json!(bad)), Err(json!({ "target": text })));
        }
        assert_eq!(
            target(json!("")),
            Err(json!({ "target": "length must be at least 1" }))
        );
        assert_eq!(
            target(json!(5)),
            Err(json!({ "target": "expected a string" }))
        );
        assert_eq!(
            target(Value::Null),
            Err(json!({ "target": "required field missing" }))
        );
    }

    #[test]
    fn times_have_milliseconds() {
        let row =
            json!({ "upstream": { "id": "00000006-0000-4000-8000-000000000001" }, "target": "a" });
        let row = complete(&def(), row.as_object().unwrap().clone(), Op::Insert, 1).unwrap();
        assert!(row["created_at"].as_f64().unwrap() > 1_000_000_000.0);
        let typed: Target = serde_json::from_value(Value::Object(row)).unwrap();
        assert_eq!(
            (typed.weight, typed.created_at),
            (Some(100), typed.updated_at)
        );
    }
}
