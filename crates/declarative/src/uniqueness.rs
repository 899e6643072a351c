//! All entities together: that references lead somewhere, and that what is unique is there once
//! (`populate_references`, `validate_references` and `flatten` in `kong/db/schema/others/declarative_config.lua`).

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use crate::Row;
use crate::checked::{Checked, unique_name};
use crate::errors::{Invalid, Place, Problem, Wrong};
use crate::format::Format;

/// The rows by entity, in the order of the entities; those without rows left out.
pub(crate) fn check(
    format: &Format,
    checked: Vec<Checked>,
) -> Result<Vec<(&'static str, Vec<Row>)>, Invalid> {
    let problems = places(format, &checked);
    if !problems.is_empty() {
        return Err(Invalid::problems(problems));
    }
    let problems = values(format, &checked);
    if !problems.is_empty() {
        return Err(Invalid::problems(problems));
    }
    let mut rows: Vec<Vec<Row>> = vec![Vec::new(); format.known.len()];
    for one in checked {
        rows[one.known].push(one.row);
    }
    let all = format.known.iter().map(|k| k.def.name).zip(rows);
    Ok(all.filter(|(_, rows)| !rows.is_empty()).collect())
}

/// Names and ids that are there twice, and references that lead nowhere.
fn places(format: &Format, checked: &[Checked]) -> Vec<Problem> {
    let mut names: Vec<HashSet<&str>> = vec![HashSet::new(); format.known.len()];
    let mut ids: Vec<HashSet<&str>> = vec![HashSet::new(); format.known.len()];
    let mut problems = Vec::new();
    for one in checked {
        let def = &format.known[one.known].def;
        let name = unique_name(format, one.known, &one.row);
        let twice = match (name, def.endpoint_key) {
            (Some(name), Some(key)) if !names[one.known].insert(name) => Some((key, name)),
            _ => (!ids[one.known].insert(&one.id)).then_some(("primary key", one.id.as_str())),
        };
        if let Some((key, value)) = twice {
            problems.push(Problem {
                path: one.path.clone(),
                wrong: Wrong::Text(violated(def.name, key, value)),
                shown: None,
            });
        }
        if one.lost.is_empty() {
            continue;
        }
        let mut here = BTreeMap::new();
        let mut list = BTreeMap::new();
        for (i, (field, to, value)) in one.lost.iter().enumerate() {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let text = Wrong::Text(format!(
                "invalid reference '{field}: {value}' (no such entry in '{to}')"
            ));
            here.insert(Place::Name((*field).to_owned()), text.clone());
            list.insert(Place::Index(i + 1), text);
        }
        problems.push(Problem {
            path: one.path.clone(),
            wrong: Wrong::Table(here),
            shown: Some((
                def.name,
                name.unwrap_or(&one.id).to_owned(),
                Wrong::Table(list),
            )),
        });
    }
    problems
}

/// Values of unique fields that are there twice.
fn values(format: &Format, checked: &[Checked]) -> Vec<Problem> {
    let mut seen: HashSet<(usize, &str, String)> = HashSet::new();
    let mut problems = Vec::new();
    for one in checked {
        let def = &format.known[one.known].def;
        let alone = def.unique_fields().map(|f| (f, text(one.row.get(f))));
        let alone = alone.filter_map(|(f, value)| Some((f, vec![f], value?)));
        let together = def.unique_together.iter().map(|fields| {
            let values: Vec<_> = fields
                .iter()
                .map(|f| text(one.row.get(*f)).unwrap_or_default())
                .collect();
            (fields[0], fields.clone(), values.join(", "))
        });
        for (at, fields, value) in alone.chain(together) {
            let key = if fields.len() == 1 { at } else { "" };
            if seen.insert((one.known, key, value.clone())) {
                continue;
            }
            let text = violated(def.name, &fields.join(", "), &value);
            let name = def.endpoint_key.and_then(|k| one.row.get(k)?.as_str());
            problems.push(Problem {
                path: one.path.clone(),
                wrong: Wrong::at(at, text.clone()),
                shown: Some((
                    def.name,
                    name.unwrap_or(&one.id).to_owned(),
                    Wrong::Text(text),
                )),
            });
        }
    }
    problems
}

fn violated(entity: &str, key: &str, value: &str) -> String {
    format!("uniqueness violation: '{entity}' entity with {key} set to '{value}' already declared")
}

fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Object(map) => map.get("id")?.as_str().map(str::to_owned),
        other => Some(other.to_string()),
    }
}
