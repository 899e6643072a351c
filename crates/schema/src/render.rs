//! `GET /schemas/<entity>` and `GET /schemas/plugins/<name>`: a description in Kong's JSON form, with descriptions
//! (`kong/api/api_helpers.lua`, `schema_to_jsonable`).
//!
//! Only what a definition says is shown: `len_min` of a string is there when it was written, not when it is implied.

use serde_json::{Map, Number, Value, json};

use crate::check::{EntityCheck, Shorthand};
use crate::entity::EntityDef;
use crate::field::{Field, Kind, Named, OnDelete, Pattern};

/// The answer of `GET /schemas/<entity>`.
pub fn schema_json(def: &EntityDef) -> Value {
    json!({ "entity_checks": checks(&def.record.checks), "fields": fields(&def.record.fields) })
}

/// The answer of `GET /schemas/plugins/<name>`, from what [`crate::plugin_def::plugin_entity`] made: the scopes that are closed,
/// `protocols` and `config`.
pub fn plugin_schema_json(def: &EntityDef) -> Value {
    let closed = |n: &&str| def.field(n).is_some_and(|f| f.eq == Some(Value::Null));
    let names = ["consumer", "service", "route"]
        .into_iter()
        .filter(closed)
        .chain(["protocols", "config"]);
    let shown: Vec<Value> = names
        .filter_map(|n| def.field(n).map(|f| one(n, f)))
        .collect();
    json!({ "entity_checks": checks(&def.record.checks), "fields": shown })
}

/// Whether a field says more than its type.
pub(crate) fn says_something(field: &Field) -> bool {
    !rules(field).is_empty()
}

fn fields(fields: &[Named]) -> Vec<Value> {
    fields
        .iter()
        .filter(|(_, f)| !f.hidden)
        .map(|(n, f)| one(n, f))
        .collect()
}

fn one(name: &str, field: &Field) -> Value {
    Value::Object(Map::from_iter([(
        name.to_owned(),
        Value::Object(full(field)),
    )]))
}

/// A field with its type and description.
fn full(f: &Field) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("type".into(), type_name(&f.kind).into());
    if !f.description.is_empty() {
        out.insert("description".into(), f.description.as_ref().into());
    }
    match &f.kind {
        Kind::Array(e) | Kind::Set(e) => {
            out.insert("elements".into(), full(e).into());
        }
        Kind::Map { keys, values } => {
            out.insert("keys".into(), full(keys).into());
            out.insert("values".into(), full(values).into());
        }
        Kind::Record(inner) => {
            out.insert("fields".into(), fields(&inner.fields).into());
            if !inner.checks.is_empty() {
                out.insert("entity_checks".into(), checks(&inner.checks).into());
            }
            if !inner.shorthands.is_empty() {
                out.insert(
                    "shorthand_fields".into(),
                    inner.shorthands.iter().map(shorthand).collect(),
                );
            }
        }
        Kind::Foreign(entity) => {
            out.insert("reference".into(), (*entity).into());
        }
        Kind::Abstract => {
            out.insert("abstract".into(), true.into());
        }
        Kind::String | Kind::Integer | Kind::Number | Kind::Boolean => {}
    }
    out.extend(rules(f));
    out
}

fn shorthand(s: &Shorthand) -> Value {
    one(s.name, &s.field)
}

fn type_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::String => "string",
        Kind::Integer => "integer",
        Kind::Number => "number",
        Kind::Boolean => "boolean",
        Kind::Array(_) => "array",
        Kind::Set(_) => "set",
        Kind::Map { .. } => "map",
        Kind::Record(_) | Kind::Abstract => "record",
        Kind::Foreign(_) => "foreign",
    }
}

/// What is said about a field beside its type.
fn rules(f: &Field) -> Map<String, Value> {
    let mut out = Map::new();
    let flags = [
        ("auto", f.auto),
        ("unique", f.unique),
        ("unique_across_ws", f.unique_across_ws),
        ("transient", f.transient),
        ("uuid", f.uuid),
        ("timestamp", f.timestamp),
        ("is_regex", f.is_regex),
        ("referenceable", f.referenceable),
        ("encrypted", f.encrypted),
    ];
    out.extend(
        flags
            .into_iter()
            .filter(|(_, on)| *on)
            .map(|(k, _)| (k.to_owned(), true.into())),
    );
    if f.says_not_unique {
        out.insert("unique".into(), false.into());
    }
    let patterns =
        |list: &[Pattern]| (!list.is_empty()).then(|| list.iter().map(pattern).collect());
    let values: [(&str, Option<Value>); 20] = [
        ("required", f.required.map(Value::from)),
        ("default", f.default.clone()),
        ("one_of", f.one_of.clone().map(Value::from)),
        ("not_one_of", f.not_one_of.clone().map(Value::from)),
        (
            "between",
            f.between
                .map(|(low, high)| json!([number(low), number(high)])),
        ),
        ("gt", f.gt.map(number)),
        ("eq", f.eq.clone()),
        ("len_min", f.len_min.map(Value::from)),
        ("len_max", f.len_max.map(Value::from)),
        ("len_eq", f.len_eq.map(Value::from)),
        ("starts_with", f.starts_with.map(Value::from)),
        ("match", f.matches.map(Value::from)),
        ("err", f.err.map(Value::from)),
        ("match_none", patterns(&f.match_none)),
        ("match_all", patterns(&f.match_all)),
        (
            "match_any",
            f.match_any.as_ref().map(|(patterns, err)| match err {
                Some(err) => json!({ "patterns": patterns, "err": err }),
                None => json!({ "patterns": patterns }),
            }),
        ),
        ("contains", f.contains.clone()),
        (
            "mutually_exclusive_subsets",
            f.mutually_exclusive_subsets
                .as_ref()
                .map(|groups| json!(groups)),
        ),
        (
            "on_delete",
            f.on_delete.map(|what| match what {
                OnDelete::Cascade => "cascade".into(),
                OnDelete::Null => "null".into(),
            }),
        ),
        (
            "deprecation",
            f.deprecation.map(
                |(message, version)| json!({ "message": message, "removal_in_version": version }),
            ),
        ),
    ];
    out.extend(
        values
            .into_iter()
            .filter_map(|(k, v)| v.map(|v| (k.to_owned(), v))),
    );
    out
}

fn number(n: f64) -> Value {
    let mut v = Number::from_f64(n).map_or(Value::Null, Value::Number);
    crate::validate::normalise(&mut v);
    v
}

fn pattern(p: &Pattern) -> Value {
    match p.err {
        Some(err) => json!({ "pattern": p.lua, "err": err }),
        None => json!({ "pattern": p.lua }),
    }
}

fn checks(checks: &[EntityCheck]) -> Vec<Value> {
    checks.iter().filter_map(check).collect()
}

fn check(check: &EntityCheck) -> Option<Value> {
    Some(match check {
        EntityCheck::AtLeastOneOf(paths) => json!({ "at_least_one_of": paths }),
        EntityCheck::OnlyOneOf(paths) => json!({ "only_one_of": paths }),
        EntityCheck::Distinct(paths) => json!({ "distinct": paths }),
        EntityCheck::MutuallyRequired(paths) => json!({ "mutually_required": paths }),
        EntityCheck::MutuallyExclusive(paths) => json!({ "mutually_exclusive": paths }),
        EntityCheck::MutuallyExclusiveSets(one, other) => {
            json!({ "mutually_exclusive_sets": { "set1": one, "set2": other } })
        }
        EntityCheck::Conditional {
            if_field,
            if_match,
            then_field,
            then_match,
            then_err,
        } => {
            let mut body = json!({
                "if_field": if_field, "if_match": condition(if_match), "then_field": then_field, "then_match": condition(then_match)
            });
            if let Some(err) = then_err {
                body["then_err"] = (*err).into();
            }
            json!({ "conditional": body })
        }
        EntityCheck::ConditionalAtLeastOneOf {
            if_field,
            if_match,
            then_at_least_one_of,
            then_err,
        } => {
            let mut body = json!({
                "if_field": if_field, "if_match": condition(if_match), "then_at_least_one_of": then_at_least_one_of
            });
            if let Some(err) = then_err {
                body["then_err"] = (*err).into();
            }
            json!({ "conditional_at_least_one_of": body })
        }
        EntityCheck::Custom {
            field_sources,
            run_with_missing_fields,
            ..
        } => {
            let mut body = json!({ "field_sources": field_sources });
            if *run_with_missing_fields {
                body["run_with_missing_fields"] = true.into();
            }
            json!({ "custom_entity_check": body })
        }
        EntityCheck::Unlisted { .. } => return None,
    })
}

/// A condition has no type of its own: it is about a field that has one.
fn condition(f: &Field) -> Value {
    let mut out = rules(f);
    if let Kind::Array(e) | Kind::Set(e) = &f.kind
        && says_something(e)
    {
        out.insert("elements".into(), full(e).into());
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{array, boolean, foreign, integer, map, number, set, string};

    fn shown(f: Field) -> Value {
        Value::Object(full(&f))
    }

    #[test]
    fn only_what_was_said_is_shown() {
        assert_eq!(shown(string()), json!({ "type": "string" }));
        assert_eq!(
            shown(integer().required().default(80).between(0, 65535)),
            json!({ "type": "integer", "required": true, "default": 80, "between": [0, 65535] })
        );
        assert_eq!(
            shown(boolean().optional()),
            json!({ "type": "boolean", "required": false })
        );
        assert_eq!(
            shown(number().gt(0.0)),
            json!({ "type": "number", "gt": 0 })
        );
        assert_eq!(
            shown(number().gt(0.5)),
            json!({ "type": "number", "gt": 0.5 })
        );
        assert_eq!(
            shown(string().default(Value::Null)),
            json!({ "type": "string", "default": null })
        );
    }

    #[test]
    fn aggregates_show_what_is_inside() {
        assert_eq!(
            shown(array(string())),
            json!({ "type": "array", "elements": { "type": "string" } })
        );
        assert_eq!(
            shown(map(string(), set(integer()))),
            json!({ "type": "map", "keys": { "type": "string" }, "values": { "type": "set", "elements": { "type": "integer" } } })
        );
        assert_eq!(
            shown(foreign("services").on_delete(OnDelete::Cascade)),
            json!({ "type": "foreign", "reference": "services", "on_delete": "cascade" })
        );
    }

    #[test]
    fn descriptions_and_deprecations_are_shown() {
        assert_eq!(
            shown(string().describe("A word.").deprecated("use x", "4.0")),
            json!({
                "type": "string", "description": "A word.",
                "deprecation": { "message": "use x", "removal_in_version": "4.0" }
            })
        );
    }

    #[test]
    fn conditions_show_no_type() {
        let check = EntityCheck::Conditional {
            if_field: "policy",
            if_match: Box::new(string().eq("redis")),
            then_field: "tags",
            then_match: Box::new(set(string()).len_eq(0)),
            then_err: None,
        };
        assert_eq!(
            checks(&[check]),
            [json!({ "conditional": {
                "if_field": "policy", "if_match": { "eq": "redis" }, "then_field": "tags", "then_match": { "len_eq": 0 }
            } })]
        );
    }

    #[test]
    fn hidden_fields_and_unlisted_checks_are_not_shown() {
        let def = EntityDef::new("x", vec![("a", string().hidden()), ("b", string())]).check(
            EntityCheck::Unlisted {
                when_valid: vec![],
                run: |_| Ok(()),
            },
        );
        assert_eq!(
            schema_json(&def),
            json!({ "entity_checks": [], "fields": [{ "b": { "type": "string" } }] })
        );
    }
}
