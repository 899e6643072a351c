//! A field of a definition as JSON Schema (2020-12, which OpenAPI 3.1 speaks).
//!
//! What JSON Schema has no word for stands in extensions in Kong's words: `x-unique`, `x-referenceable`, `x-encrypted`, `x-match` (Lua patterns),
//! `x-entity-checks` (as in `GET /schemas/...`). Checks in code are in neither: the request is then refused with 400.

use serde_json::{Map, Value, json};
use silverback_schema::field::{Field, Kind, RecordDef};
use silverback_schema::{EntityDef, render};

/// For whom a schema is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Rows in answers: every field is there.
    Shown,
    /// Bodies of `POST` and `PUT`.
    New,
    /// Bodies of `PATCH`.
    Change,
}

impl Shape {
    pub(super) const ALL: [Shape; 3] = [Shape::Shown, Shape::New, Shape::Change];

    /// What a component's name ends with.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Shape::Shown => "",
            Shape::New => ".new",
            Shape::Change => ".change",
        }
    }
}

/// The reference of a vault, which may stand in place of a text.
const REFERENCE: &str = r"^\{vault://.+\}$";

/// Unique fields of other entities, by which references may name a row.
pub(super) type Names<'a> = &'a dyn Fn(&str) -> Vec<&'static str>;

/// The rows of a definition. `names` tells by which fields rows of other entities can be named.
pub(super) fn row(def: &EntityDef, shape: Shape, names: Names<'_>) -> Value {
    let mut schema = record(&def.record, shape, names, true);
    if def.ttl {
        let mut ttl = json!({
            "type": ["integer", "null"], "minimum": 0, "maximum": silverback_schema::validate::MAX_TTL,
            "description": "Seconds after which the row vanishes; none when 0 or null. Shown is what is left.",
        });
        if shape != Shape::Shown {
            ttl["default"] = Value::Null;
        }
        schema["properties"]["ttl"] = ttl;
        if shape == Shape::Shown
            && let Some(Value::Array(required)) = schema.get_mut("required")
        {
            required.push("ttl".into());
        }
    }
    let checks = render::schema_json(def)["entity_checks"].take();
    if shape != Shape::Shown && checks.as_array().is_some_and(|all| !all.is_empty()) {
        schema["x-entity-checks"] = checks;
    }
    schema
}

fn record(def: &RecordDef, shape: Shape, names: Names<'_>, is_row: bool) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, field) in def.fields.iter().filter(|(_, f)| !f.hidden) {
        let mut schema = value(field, shape, names);
        if shape != Shape::Shown && is_row && field.immutable {
            schema["description"] =
                "Set by the server when it is not given to a new row, and ignored in changes."
                    .into();
        }
        properties.insert((*name).to_owned(), schema);
        let asked = field.is_required()
            && !field.auto
            && field.default.is_none()
            // Another spelling may stand for it; and the path may say what a row hangs on.
            && def.shorthands.iter().all(|s| def.get(s.name).is_some())
            && !matches!(field.kind, Kind::Foreign(_))
            && !is_filled(field);
        match shape {
            Shape::Shown => required.push(Value::from(*name)),
            Shape::New if asked => required.push(Value::from(*name)),
            Shape::New | Shape::Change => {}
        }
    }
    // One that is called as a field only rewrites what the field says.
    for shorthand in def.shorthands.iter().filter(|s| def.get(s.name).is_none()) {
        let mut schema = match shape {
            Shape::Shown if shorthand.shown_from.is_none() => continue,
            // A copy of another field's value: whatever that may be.
            Shape::Shown => {
                required.push(shorthand.name.into());
                let mut plain = value(&bare(&shorthand.field), shape, names);
                nullable(&mut plain);
                plain
            }
            Shape::New | Shape::Change => value(&shorthand.field, shape, names),
        };
        if schema.get("description").is_none() {
            schema["description"] = "Another spelling of other fields.".into();
        }
        properties.insert(shorthand.name.to_owned(), schema);
    }
    let mut out =
        json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        out["required"] = required.into();
    }
    out
}

/// A record that is filled with defaults where it is left out.
fn is_filled(field: &Field) -> bool {
    matches!(&field.kind, Kind::Record(inner) if inner.fields.iter().all(|(_, f)| {
        !f.is_required() || f.default.is_some() || f.auto || is_filled(f)
    }))
}

/// A field's value with everything that is said about it.
fn value(field: &Field, shape: Shape, names: Names<'_>) -> Value {
    let mut schema = plain(field, shape, names);
    if field.referenceable && field.one_of.is_some() {
        schema = json!({ "anyOf": [schema, { "type": "string", "pattern": REFERENCE }] });
    }
    let never_null =
        field.is_required() || (field.auto && shape == Shape::Shown) || field.immutable;
    if !never_null {
        nullable(&mut schema);
    }
    let Value::Object(out) = &mut schema else {
        return schema;
    };
    let mut text = field.description.to_string();
    if field.timestamp && text.is_empty() {
        text = "Seconds since 1970.".to_owned();
    }
    if let Some((message, version)) = field.deprecation {
        out.insert("deprecated".into(), true.into());
        let said = format!("Deprecated, to be gone in {version}: {message}");
        text = if text.is_empty() {
            said
        } else {
            format!("{text} {said}")
        };
    }
    if !text.is_empty() {
        out.insert("description".into(), text.into());
    }
    if shape != Shape::Change
        && let Some(default) = &field.default
        // A secret that is taken where none is given is made up anew each time.
        && !field.encrypted
    {
        out.insert("default".into(), default.clone());
    }
    for (name, on) in [
        ("x-unique", field.unique),
        ("x-referenceable", field.referenceable),
        ("x-encrypted", field.encrypted),
    ] {
        if on {
            out.insert(name.into(), true.into());
        }
    }
    if let Some(pattern) = field.matches {
        out.insert("x-match".into(), pattern.into());
    }
    schema
}

/// The type and its bounds.
fn plain(field: &Field, shape: Shape, names: Names<'_>) -> Value {
    if field.eq == Some(Value::Null) {
        return json!({ "type": "null" });
    }
    let mut out = match &field.kind {
        Kind::String => string(field, shape),
        Kind::Integer => json!({ "type": "integer" }),
        Kind::Number => json!({ "type": "number" }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Array(elements) | Kind::Set(elements) => list(field, elements, shape, names),
        Kind::Map { keys, values } => {
            let mut out =
                json!({ "type": "object", "additionalProperties": element(values, shape, names) });
            let keys = element(keys, shape, names);
            if keys != json!({ "type": "string", "minLength": 1 }) {
                out["propertyNames"] = keys;
            }
            out
        }
        Kind::Record(inner) => record(inner, shape, names, false),
        Kind::Foreign(entity) => reference(entity, shape, names),
        Kind::Abstract => json!({ "type": "object" }),
    };
    if let Some((low, high)) = field.between {
        out["minimum"] = bound(low);
        out["maximum"] = bound(high);
    }
    if let Some(low) = field.gt {
        out["exclusiveMinimum"] = json!(low);
    }
    if let Some(values) = &field.one_of {
        out["enum"] = values.clone().into();
    }
    if let Some(values) = &field.not_one_of {
        out["not"] = json!({ "enum": values });
    }
    if let Some(v) = &field.eq {
        out["const"] = v.clone();
    }
    out
}

fn string(field: &Field, shape: Shape) -> Value {
    let mut out = json!({ "type": "string" });
    if field.uuid {
        out["format"] = "uuid".into();
        return out;
    }
    let low = field.len_eq.or(field.len_min).unwrap_or(1);
    // An alternative to `one_of` and the like is a reference; those of a prefix are long enough.
    if low > 0 && !(shape != Shape::Shown && field.auto) {
        out["minLength"] = low.into();
    }
    if let Some(high) = field.len_eq.or(field.len_max) {
        out["maxLength"] = high.into();
    }
    if let Some(prefix) = field.starts_with
        && !field.referenceable
    {
        out["pattern"] = format!("^{}", escaped(prefix)).into();
    }
    out
}

fn list(field: &Field, elements: &Field, shape: Shape, names: Names<'_>) -> Value {
    let mut out = json!({ "type": "array", "items": element(elements, shape, names) });
    if let Some(low) = field.len_eq.or(field.len_min) {
        out["minItems"] = low.into();
    }
    if let Some(high) = field.len_eq.or(field.len_max) {
        out["maxItems"] = high.into();
    }
    if let Some(wanted) = &field.contains {
        out["contains"] = json!({ "const": wanted });
    }
    out
}

/// A part of a list or a map: never null.
fn element(field: &Field, shape: Shape, names: Names<'_>) -> Value {
    let mut field = field.clone();
    field.required = Some(true);
    value(&field, shape, names)
}

fn reference(entity: &str, shape: Shape, names: Names<'_>) -> Value {
    let by_id = json!({
        "type": "object", "properties": { "id": { "type": "string", "format": "uuid" } },
        "required": ["id"], "additionalProperties": false,
    });
    if shape == Shape::Shown {
        return by_id;
    }
    let mut ways = vec![by_id];
    for name in names(entity) {
        ways.push(json!({
            "type": "object", "properties": { name: { "type": "string", "minLength": 1 } },
            "required": [name], "additionalProperties": false,
        }));
    }
    match ways.len() {
        1 => ways.remove(0),
        _ => json!({ "anyOf": ways }),
    }
}

/// Nothing but its type.
fn bare(field: &Field) -> Field {
    let mut out = Field::new(field.kind.clone());
    out.description = field.description.clone();
    out.deprecation = field.deprecation;
    out.len_min = Some(0);
    out
}

fn nullable(schema: &mut Value) {
    let Some(out) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(ways)) = out.get_mut("anyOf") {
        return ways.push(json!({ "type": "null" }));
    }
    match out.get_mut("type") {
        Some(Value::String(kind)) if kind == "null" => return,
        Some(kind @ Value::String(_)) => *kind = json!([kind.take(), "null"]),
        _ => return,
    }
    if let Some(Value::Array(values)) = out.get_mut("enum") {
        values.push(Value::Null);
    }
    if let Some(wanted) = out.remove("const") {
        out.insert("enum".into(), json!([wanted, null]));
    }
}

/// For a regular expression.
fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let special = "\\^$.|?*+()[]{}/".contains(c) && c != '/';
            special.then_some('\\').into_iter().chain([c])
        })
        .collect()
}

/// A bound, as a whole number where it is one.
fn bound(n: f64) -> Value {
    if n.fract() == 0.0 {
        Value::from(n as i64)
    } else {
        json!(n)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use silverback_schema::field::{
        array, foreign, id, integer, map, number, set, string, timestamp,
    };

    use super::*;

    fn of(field: Field, shape: Shape) -> Value {
        value(&field, shape, &|_| vec!["name"])
    }

    #[test]
    fn what_is_not_required_may_be_null() {
        assert_eq!(
            of(string().encrypted().default("made up"), Shape::New),
            json!({ "type": ["string", "null"], "minLength": 1, "x-encrypted": true })
        );
        assert_eq!(
            of(integer().between(0, 9).default(5), Shape::New),
            json!({ "type": ["integer", "null"], "minimum": 0, "maximum": 9, "default": 5 })
        );
        assert_eq!(
            of(string().one_of(["a", "b"]), Shape::Shown),
            json!({ "type": ["string", "null"], "minLength": 1, "enum": ["a", "b", null] })
        );
        assert_eq!(
            of(number().required().gt(0.5), Shape::New),
            json!({ "type": "number", "exclusiveMinimum": 0.5 })
        );
        assert_eq!(
            of(timestamp(), Shape::Shown),
            json!({ "type": "integer", "description": "Seconds since 1970." })
        );
    }

    #[test]
    fn parts_of_lists_and_maps_are_never_null() {
        assert_eq!(
            of(set(string()).required(), Shape::Shown),
            json!({ "type": "array", "items": { "type": "string", "minLength": 1 } })
        );
        assert_eq!(
            of(
                map(string().len_min(3), array(integer())).required(),
                Shape::New
            ),
            json!({
                "type": "object", "propertyNames": { "type": "string", "minLength": 3 },
                "additionalProperties": { "type": "array", "items": { "type": "integer" } }
            })
        );
    }

    #[test]
    fn references_may_name_a_row_only_when_they_are_written() {
        let shown = of(foreign("services").required(), Shape::Shown);
        assert_eq!(shown["required"], json!(["id"]));
        let written = of(foreign("services"), Shape::New);
        assert_eq!(written["anyOf"].as_array().unwrap().len(), 3);
        assert_eq!(
            of(foreign("consumers").eq(Value::Null), Shape::New),
            json!({ "type": "null" })
        );
    }

    #[test]
    fn of_a_row_everything_is_shown_and_little_is_asked_for() {
        let def = EntityDef::new(
            "x",
            vec![
                ("id", id()),
                ("host", string().required()),
                ("retries", integer().required().default(5)),
                ("secret", string().hidden()),
            ],
        )
        .with_ttl();
        let required = |shape| row(&def, shape, &|_| Vec::new())["required"].clone();
        assert_eq!(
            required(Shape::Shown),
            json!(["id", "host", "retries", "ttl"])
        );
        assert_eq!(required(Shape::New), json!(["host"]));
        assert_eq!(required(Shape::Change), Value::Null);
    }

    #[test]
    fn prefixes_are_patterns() {
        assert_eq!(
            of(string().required().starts_with("/a.b"), Shape::New)["pattern"],
            "^/a\\.b"
        );
    }
}
