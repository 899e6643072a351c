//! What the Admin API prints of a stored row (`process_auto_fields` with the context `select` in `kong/db/schema/init.lua`).

use serde_json::{Map, Value};

use crate::entity::EntityDef;
use crate::field::{Field, Kind, RecordDef};
use crate::validate::{Mode, fill_value};

/// The row as clients see it: every field that is not hidden, in the definition's order, with nulls; then the shorthands that are also shown.
///
/// A field that the stored row does not have, or that is null where a value is required, shows its default: definitions grow, rows stay.
/// What the definition does not know is left out, but for `ttl` of entities that have one.
pub fn show(def: &EntityDef, mut row: Map<String, Value>) -> Map<String, Value> {
    let ttl = def.ttl.then(|| row.remove("ttl").unwrap_or(Value::Null));
    let mut out = record(&def.record, row);
    if let Some(ttl) = ttl {
        out.insert("ttl".into(), ttl);
    }
    out
}

fn record(def: &RecordDef, mut row: Map<String, Value>) -> Map<String, Value> {
    let mut out = Map::with_capacity(def.fields.len() + def.shorthands.len());
    for (name, field) in def.fields.iter().filter(|(_, f)| !f.hidden) {
        out.insert((*name).to_owned(), value(field, row.remove(*name)));
    }
    for shorthand in &def.shorthands {
        if let Some(path) = shorthand.shown_from {
            let mut parts = path.split('.');
            let first = parts.next().and_then(|part| out.get(part));
            let v = parts.fold(first, |v, part| v?.as_object()?.get(part));
            out.insert(shorthand.name.to_owned(), v.cloned().unwrap_or(Value::Null));
        }
    }
    out
}

fn value(field: &Field, stored: Option<Value>) -> Value {
    // Filling a stored value cannot fail: only shorthands can, and those are not looked for.
    let filled = fill_value(field, stored, Mode::Stored)
        .ok()
        .flatten()
        .unwrap_or(Value::Null);
    visible(field, filled)
}

fn visible(field: &Field, v: Value) -> Value {
    match (&field.kind, v) {
        (Kind::Record(inner), Value::Object(map)) => Value::Object(record(inner, map)),
        (Kind::Array(e) | Kind::Set(e), Value::Array(items))
            if matches!(e.kind, Kind::Record(_)) =>
        {
            items.into_iter().map(|v| visible(e, v)).collect()
        }
        (Kind::Map { values, .. }, Value::Object(map))
            if matches!(values.kind, Kind::Record(_)) =>
        {
            map.into_iter()
                .map(|(k, v)| (k, visible(values, v)))
                .collect()
        }
        (Kind::String, Value::String(s)) if s.is_empty() && field.len_min.unwrap_or(1) > 0 => {
            Value::Null
        }
        (_, v) => v,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::Shorthand;
    use crate::field::{array, boolean, integer, map, string};

    fn shown(def: &EntityDef, row: Value) -> Value {
        Value::Object(show(def, row.as_object().unwrap().clone()))
    }

    #[test]
    fn every_field_is_shown_in_order_with_nulls() {
        let def = EntityDef::new(
            "x",
            vec![("a", string()), ("b", integer()), ("c", string().hidden())],
        );
        let out = shown(&def, json!({ "c": "secret", "b": 1, "zz": 1 }));
        assert_eq!(out, json!({ "a": null, "b": 1 }));
        assert_eq!(
            out.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["a", "b"]
        );
    }

    #[test]
    fn fields_newer_than_the_row_show_their_default() {
        let def = EntityDef::new(
            "x",
            vec![
                ("a", boolean().required().default(true)),
                ("b", integer().default(5)),
            ],
        );
        assert_eq!(
            shown(&def, json!({ "a": null, "b": null })),
            json!({ "a": true, "b": null })
        );
        assert_eq!(shown(&def, json!({})), json!({ "a": true, "b": 5 }));
    }

    #[test]
    fn empty_lists_and_maps_keep_their_shape() {
        let def = EntityDef::new(
            "x",
            vec![("a", array(string())), ("b", map(string(), string()))],
        );
        assert_eq!(
            shown(&def, json!({ "a": {}, "b": [] })),
            json!({ "a": [], "b": {} })
        );
    }

    #[test]
    fn shown_shorthands_repeat_the_value_they_stand_for() {
        let redis = Field::new(Kind::Record(RecordDef {
            fields: vec![("host", string())],
            ..RecordDef::default()
        }));
        let config = Field::new(Kind::Record(RecordDef {
            fields: vec![("redis", redis.required())],
            checks: vec![],
            shorthands: vec![Shorthand {
                name: "redis_host",
                field: string(),
                translate: |_| Map::new(),
                shown_from: Some("redis.host"),
                wins: false,
            }],
        }));
        let def = EntityDef::new("x", vec![("config", config.required())]);
        let out = shown(&def, json!({ "config": { "redis": { "host": "h" } } }));
        assert_eq!(
            out,
            json!({ "config": { "redis": { "host": "h" }, "redis_host": "h" } })
        );
        assert_eq!(
            shown(&def, json!({})),
            json!({ "config": { "redis": { "host": null }, "redis_host": null } })
        );
    }

    #[test]
    fn ttl_is_shown_for_entities_that_have_one() {
        let def = EntityDef::new("x", vec![("a", string())]).with_ttl();
        assert_eq!(
            shown(&def, json!({ "a": "b" })),
            json!({ "a": "b", "ttl": null })
        );
        assert_eq!(
            shown(&def, json!({ "ttl": 5 })),
            json!({ "a": null, "ttl": 5 })
        );
    }
}
