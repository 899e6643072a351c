//! What is wrong, entity by entity, each with the entity as it was written: `flattened_errors` (`flatten_errors` in
//! `kong/db/errors.lua`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use silverback_schema::EntityDef;
use uuid::Uuid;

use crate::errors::{Path, Place, Problem, Wrong, tree};
use crate::format::Format;

/// The list, and what belongs to no entity.
pub(crate) fn flatten(
    format: &Format,
    input: &Map<String, Value>,
    problems: &[Problem],
) -> (Vec<Value>, Wrong) {
    let mut by_entity: BTreeMap<&Path, Wrong> = BTreeMap::new();
    let mut rest = Vec::new();
    for p in problems {
        let is_record = find(input, &p.path).is_some_and(|(v, _)| v.is_object());
        if p.path.is_empty() || !is_record {
            rest.push(p);
        } else {
            let all = by_entity.entry(&p.path).or_insert_with(Wrong::empty);
            all.merge(match &p.wrong {
                Wrong::Text(text) => Wrong::at("@entity", text),
                other => other.clone(),
            });
        }
    }
    let mut out = Vec::new();
    // Kong goes backwards, and into what is nested first.
    for (path, wrong) in by_entity.into_iter().rev() {
        if let Some((Value::Object(entity), parent)) = find(input, path) {
            let name = path.last().map_or("", |(name, _)| name);
            let known = format.find(name);
            let mut entity = entity.clone();
            if let (Some(known), Some(parent)) = (known, parent) {
                point(format, known, path, parent, &mut entity);
            }
            add(format, name, entity, wrong, &mut out);
        }
    }
    (out, tree(rest))
}

/// The entity at a path, and the one it is nested in.
fn find<'a>(
    input: &'a Map<String, Value>,
    path: &Path,
) -> Option<(&'a Value, Option<&'a Map<String, Value>>)> {
    let mut parent = None;
    let mut map = input;
    let mut found = None;
    for (list, i) in path {
        let value = map.get(*list)?.get(i - 1)?;
        (parent, found) = (found, Some(value));
        match value {
            Value::Object(inner) => map = inner,
            other => return Some((other, None)),
        }
    }
    Some((found?, parent.and_then(Value::as_object)))
}

/// A nested entity says what it is in, if that has an id.
fn point(
    format: &Format,
    known: usize,
    path: &Path,
    parent: &Map<String, Value>,
    entity: &mut Map<String, Value>,
) {
    let above = path.len().checked_sub(2).and_then(|i| path.get(i));
    let children = above
        .and_then(|(name, _)| format.find(name))
        .map(|i| &format.known[i].children);
    let field = children.and_then(|all| all.iter().find(|(child, _)| *child == known));
    if let (Some((_, field)), Some(key)) = (field, key(parent)) {
        entity.entry(*field).or_insert(key);
    }
}

fn add(
    format: &Format,
    name: &str,
    mut entity: Map<String, Value>,
    mut wrong: Wrong,
    out: &mut Vec<Value>,
) {
    if let Some(known) = format.find(name) {
        let known = &format.known[known];
        for (child, _) in &known.children {
            let child = format.known[*child].def.name;
            if entity.get(child).is_some_and(is_table) {
                entity.shift_remove(child);
            }
        }
        whole_references(format, &known.def, &mut entity, &mut wrong, out);
    }
    let mut errors = Vec::new();
    categorise(&wrong, "", &mut errors);
    if errors.is_empty() {
        return;
    }
    let singular = name.strip_suffix('s').unwrap_or(name);
    let mut item = Map::new();
    item.insert("entity_type".into(), singular.into());
    let name = entity
        .get("name")
        .filter(|v| v.as_str().is_some_and(|s| !s.is_empty()));
    let tags = entity.get("tags").filter(|v| {
        v.as_array()
            .is_some_and(|tags| tags.iter().all(Value::is_string))
    });
    let id = entity.get("id").filter(|v| is_id(v));
    for (key, value) in [
        ("entity_id", id),
        ("entity_name", name),
        ("entity_tags", tags),
    ] {
        if let Some(value) = value {
            item.insert(key.into(), value.clone());
        }
    }
    item.insert("entity".into(), entity.into());
    item.insert("errors".into(), errors.into());
    out.push(item.into());
}

/// What was written in full in place of a reference is an entity of its own.
fn whole_references(
    format: &Format,
    def: &EntityDef,
    entity: &mut Map<String, Value>,
    wrong: &mut Wrong,
    out: &mut Vec<Value>,
) {
    for (field, to, _) in def.foreign_keys() {
        let Some(Value::Object(whole)) = entity.get(field) else {
            continue;
        };
        if whole.len() == 1 && whole.contains_key("id") {
            continue;
        }
        let whole = whole.clone();
        match key(&whole) {
            Some(key) => drop(entity.insert(field.to_owned(), key)),
            None => drop(entity.shift_remove(field)),
        }
        if let Wrong::Table(table) = wrong
            && let Some(inner) = table.remove(&Place::Name(field.to_owned()))
        {
            let inner = match inner {
                Wrong::Text(text) => Wrong::at("@entity", text),
                table => table,
            };
            add(format, to, whole, inner, out);
        }
    }
}

fn categorise(wrong: &Wrong, at: &str, out: &mut Vec<Value>) {
    let Wrong::Table(table) = wrong else { return };
    for (place, wrong) in table.iter().rev() {
        let name = match place {
            Place::Index(i) => i.to_string(),
            Place::Name(name) => name.clone(),
        };
        let field = if at.is_empty() {
            name.clone()
        } else {
            format!("{at}.{name}")
        };
        match wrong {
            _ if name == "@entity" => texts(wrong, out),
            Wrong::Text(text) => {
                out.push(json!({ "type": "field", "field": field, "message": text }));
            }
            Wrong::Table(_) => categorise(wrong, &field, out),
        }
    }
}

fn texts(wrong: &Wrong, out: &mut Vec<Value>) {
    match wrong {
        Wrong::Text(text) => out.push(json!({ "type": "entity", "message": text })),
        Wrong::Table(table) => table.values().for_each(|wrong| texts(wrong, out)),
    }
}

fn key(entity: &Map<String, Value>) -> Option<Value> {
    let id = entity.get("id").filter(|v| is_id(v))?;
    Some(json!({ "id": id }))
}

fn is_id(v: &Value) -> bool {
    v.as_str()
        .is_some_and(|s| s.len() == 36 && Uuid::try_parse(s).is_ok())
}

fn is_table(v: &Value) -> bool {
    v.is_array() || v.is_object()
}
