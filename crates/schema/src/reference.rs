//! References to secrets: `{vault://...}` in place of a text that a field allows it for. Which secrets they stand for is not known here;
//! this is about where they are in a row (`process_auto_fields` in `kong/db/schema/init.lua`).

use serde_json::{Map, Value};

use crate::field::{Field, Kind, RecordDef};

/// Whether a text has the form of a reference (`is_reference` in `kong/pdk/vault.lua`).
pub fn is_reference(text: &str) -> bool {
    text.starts_with("{vault://") && text.ends_with('}')
}

/// Whether a record holds references where its definition allows them.
pub fn has_references(def: &RecordDef, data: &Map<String, Value>) -> bool {
    def.fields
        .iter()
        .any(|(name, field)| data.get(*name).is_some_and(|v| is_or_has(field, v)))
}

/// Puts `secret` of each reference in its place, where the definition allows references. Texts elsewhere stay, whatever they look like.
pub fn replace_references(
    def: &RecordDef,
    data: &mut Map<String, Value>,
    secret: &mut impl FnMut(&str) -> String,
) {
    for (name, field) in &def.fields {
        if let Some(v) = data.get_mut(*name) {
            replace(field, v, secret);
        }
    }
}

fn is_or_has(field: &Field, v: &Value) -> bool {
    match (&field.kind, v) {
        (Kind::String, Value::String(text)) => field.referenceable && is_reference(text),
        (Kind::Array(element) | Kind::Set(element), Value::Array(items)) => {
            items.iter().any(|item| is_or_has(element, item))
        }
        (Kind::Map { values, .. }, Value::Object(map)) => {
            map.values().any(|v| is_or_has(values, v))
        }
        (Kind::Record(inner), Value::Object(map)) => has_references(inner, map),
        _ => false,
    }
}

fn replace(field: &Field, v: &mut Value, secret: &mut impl FnMut(&str) -> String) {
    match (&field.kind, v) {
        (Kind::String, Value::String(text)) if field.referenceable && is_reference(text) => {
            *text = secret(text);
        }
        (Kind::Array(element) | Kind::Set(element), Value::Array(items)) => {
            for item in items {
                replace(element, item, secret);
            }
        }
        (Kind::Map { values, .. }, Value::Object(map)) => {
            for v in map.values_mut() {
                replace(values, v, secret);
            }
        }
        (Kind::Record(inner), Value::Object(map)) => replace_references(inner, map, secret),
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::field::{array, map, string};

    fn def() -> RecordDef {
        let inner = RecordDef {
            fields: vec![("secret", string().referenceable())],
            ..RecordDef::default()
        };
        RecordDef {
            fields: vec![
                ("plain", string()),
                ("list", array(string().referenceable())),
                ("map", map(string(), string().referenceable())),
                ("records", array(Field::new(Kind::Record(inner.clone())))),
                ("record", Field::new(Kind::Record(inner))),
            ],
            ..RecordDef::default()
        }
    }

    #[test]
    fn references_are_replaced_where_they_are_allowed() {
        let r = "{vault://env/a}";
        let data = json!({
            "plain": r, "unknown": r, "list": [r, "x", 1], "map": { "k": r }, "records": [{ "secret": r }, null],
            "record": { "secret": r, "other": r }
        });
        let mut data = data.as_object().unwrap().clone();
        assert!(has_references(&def(), &data));
        replace_references(&def(), &mut data, &mut |_| "S".into());
        assert_eq!(
            Value::Object(data.clone()),
            json!({
                "plain": r, "unknown": r, "list": ["S", "x", 1], "map": { "k": "S" },
                "records": [{ "secret": "S" }, null], "record": { "secret": "S", "other": r }
            })
        );
        assert!(!has_references(&def(), &data));
    }

    #[test]
    fn only_whole_texts_are_references() {
        assert!(is_reference("{vault://env/a}"));
        for no in ["{vault://env/a", "x{vault://env/a}", "{vault:/env/a}", ""] {
            assert!(!is_reference(no), "{no}");
        }
    }
}
