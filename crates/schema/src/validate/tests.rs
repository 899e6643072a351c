//! Every rule once, with Kong's words.
#![allow(clippy::unwrap_used)]

mod checks;
mod fields;
mod properties;
mod rows;

use serde_json::{Map, Value, json};

use super::{Op, complete, patch, ttl_violation};
use crate::check::{CustomViolation, EntityCheck, Shorthand};
use crate::entity::{EntityDef, Variant};
use crate::field::{
    Field, Kind, Named, RecordDef, array, boolean, foreign, id, integer, map, number, set, string,
    timestamp, uuid,
};

const NOW: i64 = 1_700_000_000;
const ID: &str = "00000001-0000-4000-8000-00000000000a";

fn object(v: Value) -> Map<String, Value> {
    v.as_object().unwrap().clone()
}

fn inner(fields: Vec<Named>) -> Field {
    Field::new(Kind::Record(RecordDef {
        fields,
        ..RecordDef::default()
    }))
}

fn insert(def: &EntityDef, v: Value) -> Result<Value, Value> {
    complete(def, object(v), Op::Insert, NOW)
        .map(Value::Object)
        .map_err(|e| Value::Object(e.0))
}

fn update(def: &EntityDef, old: Value, v: Value) -> Result<Value, Value> {
    patch(def, &object(old), object(v), NOW)
        .map(Value::Object)
        .map_err(|e| Value::Object(e.0))
}

/// The value of a field `f` after it was filled, or what is wrong with it.
fn one(f: Field, v: Value) -> Result<Value, Value> {
    let def = EntityDef::new("x", vec![("f", f)]);
    insert(&def, json!({ "f": v }))
        .map(|r| r["f"].clone())
        .map_err(|e| e["f"].clone())
}

#[track_caller]
fn refused(f: Field, v: Value, text: &str) {
    assert_eq!(one(f, v), Err(json!(text)));
}

#[track_caller]
fn taken(f: Field, v: Value) {
    assert_eq!(one(f, v.clone()), Ok(v));
}

fn redis_host(v: &Value) -> Map<String, Value> {
    object(json!({ "redis": { "host": v } }))
}
