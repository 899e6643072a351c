//! Types from the definition.

use serde_json::{Map, Number, Value};

use crate::entity::EntityDef;
use crate::field::{Field, Kind, RecordDef};
use crate::validate::normalise;

/// Gives the texts of a form the types that the definition wants: numbers, booleans, a single value where a list is wanted, null for an empty
/// text. What does not fit stays a text, for validation to complain about. Values that have a type already are left alone.
pub fn infer(def: &EntityDef, mut body: Map<String, Value>) -> Map<String, Value> {
    record(&def.record, &mut body);
    if def.ttl
        && let Some(ttl) = body.get_mut("ttl")
    {
        number(ttl);
    }
    body
}

fn record(def: &RecordDef, body: &mut Map<String, Value>) {
    let shorthands = def.shorthands.iter().map(|s| (s.name, &s.field));
    for (name, field) in def.fields.iter().map(|(n, f)| (*n, f)).chain(shorthands) {
        if let Some(v) = body.get_mut(name) {
            value(field, v);
        }
    }
}

fn value(field: &Field, v: &mut Value) {
    if v.as_str() == Some("") {
        *v = Value::Null;
    }
    if v.is_null() {
        return;
    }
    match &field.kind {
        Kind::Number | Kind::Integer => number(v),
        Kind::Boolean => match v.as_str() {
            Some("true") => *v = true.into(),
            Some("false") => *v = false.into(),
            _ => {}
        },
        Kind::Array(element) | Kind::Set(element) => {
            if !v.is_array() && !v.is_object() {
                *v = Value::Array(vec![v.take()]);
            }
            if let Value::Array(items) = v {
                items.iter_mut().for_each(|item| value(element, item));
            }
        }
        Kind::Map { values, .. } => {
            if let Value::Object(map) = v {
                map.values_mut().for_each(|item| value(values, item));
            }
        }
        Kind::Record(inner) => {
            if let Value::Object(map) = v {
                record(inner, map);
            }
        }
        Kind::Foreign(_) => {
            if let Value::Object(map) = v {
                map.values_mut()
                    .filter(|v| v.as_str() == Some(""))
                    .for_each(|v| *v = Value::Null);
            }
        }
        Kind::String | Kind::Abstract => {}
    }
}

/// A text that Lua's `tonumber` takes: decimal, with an exponent, or hexadecimal.
fn number(v: &mut Value) {
    let Some(s) = v.as_str().map(str::trim) else {
        return;
    };
    let unsigned = s.trim_start_matches(['+', '-']);
    let parsed = if let Some(hex) = unsigned
        .strip_prefix("0x")
        .or_else(|| unsigned.strip_prefix("0X"))
    {
        let n = i64::from_str_radix(hex, 16).ok();
        n.map(|n| Number::from(if s.starts_with('-') { -n } else { n }))
    } else if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        let whole = s
            .strip_prefix('+')
            .unwrap_or(s)
            .parse::<i64>()
            .ok()
            .map(Number::from);
        whole.or_else(|| s.parse::<f64>().ok().and_then(Number::from_f64))
    } else {
        None
    };
    if let Some(n) = parsed {
        *v = Value::Number(n);
        normalise(v);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::field::{
        array, boolean, foreign, integer, map, number as number_field, set, string,
    };

    fn inferred(f: Field, v: Value) -> Value {
        let def = EntityDef::new("x", vec![("f", f)]);
        infer(&def, Map::from_iter([("f".to_owned(), v)]))
            .remove("f")
            .unwrap()
    }

    #[test]
    fn texts_become_numbers_and_booleans_where_they_look_like_it() {
        assert_eq!(inferred(integer(), json!("80")), json!(80));
        assert_eq!(inferred(number_field(), json!("0.5")), json!(0.5));
        assert_eq!(inferred(number_field(), json!("1e3")), json!(1000));
        assert_eq!(inferred(integer(), json!("0x10")), json!(16));
        assert_eq!(inferred(integer(), json!(" -5 ")), json!(-5));
        for odd in ["abc", "inf", "nan", "--5", "5x", "."] {
            assert_eq!(inferred(integer(), json!(odd)), json!(odd));
        }
        assert_eq!(inferred(boolean(), json!("true")), json!(true));
        assert_eq!(inferred(boolean(), json!("false")), json!(false));
        assert_eq!(inferred(boolean(), json!("0")), json!("0"));
    }

    #[test]
    fn an_empty_text_is_null() {
        for f in [
            string(),
            integer(),
            boolean(),
            array(string()),
            foreign("x"),
        ] {
            assert_eq!(inferred(f, json!("")), Value::Null);
        }
        assert_eq!(inferred(set(string()), json!([""])), json!([null]));
        assert_eq!(
            inferred(foreign("x"), json!({ "id": "" })),
            json!({ "id": null })
        );
    }

    #[test]
    fn a_single_value_becomes_a_list_and_is_not_split() {
        assert_eq!(inferred(set(string()), json!("a")), json!(["a"]));
        assert_eq!(inferred(array(integer()), json!("1")), json!([1]));
        assert_eq!(inferred(array(string()), json!("a,b")), json!(["a,b"]));
        assert_eq!(
            inferred(map(string(), array(string())), json!({ "k": "v" })),
            json!({ "k": ["v"] })
        );
    }

    #[test]
    fn ttl_becomes_a_number() {
        let def = EntityDef::new("x", vec![]).with_ttl();
        let body = infer(&def, Map::from_iter([("ttl".to_owned(), json!("60"))]));
        assert_eq!(body["ttl"], json!(60));
    }
}
