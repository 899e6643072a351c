//! Each entity by itself: references turned into ids, the rules of its definition, defaults.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use silverback_schema::validate::MAX_TTL;
use silverback_schema::{EntityDef, Op, Violations, complete};
use uuid::Uuid;

use crate::Row;
use crate::errors::{Invalid, Path, Place, Problem, Wrong};
use crate::format::Format;
use crate::walk::Item;

/// The end of the year 9999.
const LAST_MOMENT: f64 = 253_402_300_799.0;

/// Asked about each complete row of an entity: what its definition cannot say.
pub type Accept<'a> = &'a dyn Fn(&str, &Row) -> Result<(), Violations>;

/// An entity that is right by itself.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) known: usize,
    pub(crate) path: Path,
    pub(crate) id: String,
    pub(crate) row: Row,
    /// References to nothing in the file: the field and what was written.
    pub(crate) lost: Vec<(&'static str, &'static str, Value)>,
}

/// The rows of all items, or everything that is wrong with them and with the tree.
pub(crate) fn check(
    format: &Format,
    transform: bool,
    items: Vec<Item>,
    mut problems: Vec<Problem>,
    asked: (i64, Accept<'_>),
) -> Result<Vec<Checked>, Invalid> {
    let index = Index::of(format, &items);
    let parents: Vec<Option<String>> = items
        .iter()
        .map(|item| item.above.map(|(parent, _)| items[parent].id.clone()))
        .collect();
    let mut out = Vec::with_capacity(items.len());
    for (item, parent) in items.into_iter().zip(parents) {
        let path = item.path.clone();
        match one(format, transform, &index, item, parent, asked) {
            Ok(checked) => out.push(checked),
            Err(wrong) => problems.push(Problem {
                path,
                wrong,
                shown: None,
            }),
        }
    }
    if problems.is_empty() {
        Ok(out)
    } else {
        Err(Invalid::problems(problems))
    }
}

fn one(
    format: &Format,
    transform: bool,
    index: &Index,
    item: Item,
    parent: Option<String>,
    (now, accept): (i64, Accept<'_>),
) -> Result<Checked, Wrong> {
    let known = &format.known[item.known];
    let mut fields = item.fields;
    if fields.get("id").is_none_or(Value::is_null) {
        fields.insert("id".into(), item.id.as_str().into());
    }
    let mut wrong = Wrong::empty();
    let mut lost = Vec::new();
    for (field, to, _) in known.def.foreign_keys() {
        if let (Some((_, above)), Some(parent)) = (item.above, &parent)
            && above == field
        {
            fields.insert(field.to_owned(), reference(parent));
            continue;
        }
        let found = match fields.get(field) {
            None | Some(Value::Null) => continue,
            Some(Value::String(name)) => index.find(format, to, name),
            Some(Value::Object(map)) => match map.get("id").and_then(Value::as_str) {
                Some(id) if Uuid::try_parse(id).is_ok() => index.find(format, to, id),
                // What else may be wrong with it, its definition says.
                _ => {
                    lost.push((field, to, Value::Object(map.clone())));
                    continue;
                }
            },
            Some(_) => {
                wrong
                    .below(Place::Name(field.to_owned()))
                    .merge(Wrong::Text("expected a string".into()));
                fields.insert(field.to_owned(), reference(""));
                continue;
            }
        };
        let given = fields.insert(field.to_owned(), reference(found.unwrap_or_default()));
        match (found, item.above, given) {
            (None, None, Some(given)) => lost.push((field, to, given)),
            // Nested entities refer to what they are in, and may refer to others only if those are there.
            (None, Some(_), _) => wrong
                .below(Place::Name(field.to_owned()))
                .merge(Wrong::Text("value must be null".into())),
            _ => {}
        }
    }
    let until = take_until(&known.def, &mut fields);
    let checked = format
        .def_of(known, transform, &fields)
        .and_then(|def| complete(def, fields, Op::Insert, now))
        .and_then(|row| accept(known.def.name, &row).map(|()| row));
    match checked {
        Ok(mut row) if wrong.is_empty() => {
            if let Some(until) = until {
                let made = row.get("created_at").and_then(Value::as_i64);
                // One that is over already is over as soon as it was made.
                let ttl = until.saturating_sub(made.unwrap_or(now)).max(1);
                row.insert("ttl".into(), ttl.into());
            }
            for (name, field) in &known.def.record.fields {
                if field.transient {
                    row.shift_remove(*name);
                }
            }
            let id = row.get("id").and_then(Value::as_str).unwrap_or_default();
            Ok(Checked {
                id: id.to_owned(),
                known: item.known,
                path: item.path,
                row,
                lost,
            })
        }
        Ok(_) => Err(wrong),
        Err(Violations(found)) => {
            let mut all = Wrong::of(&Value::Object(found));
            all.merge(wrong);
            Err(all)
        }
    }
}

/// A `ttl` that is too long to be one: the moment at which the row expires, in seconds since 1970, as exports have it (Kong's too:
/// `select_for_export_expressions` in `kong/db/strategies/postgres/init.lua`).
fn take_until(def: &EntityDef, fields: &mut Map<String, Value>) -> Option<i64> {
    let ttl = fields.get("ttl").filter(|_| def.ttl)?.as_f64()?;
    if ttl.fract() != 0.0 || ttl <= MAX_TTL as f64 || ttl > LAST_MOMENT {
        return None;
    }
    fields.remove("ttl");
    // A whole number, and small enough.
    Some(ttl as i64)
}

/// A reference to a row; one to none is complete, so that nothing else is found wrong with it.
fn reference(id: &str) -> Value {
    let valid = Uuid::try_parse(id).unwrap_or_default();
    json!({ "id": valid.to_string() })
}

/// Which rows there are, by name and by id, for each entity.
struct Index {
    names: Vec<HashMap<String, String>>,
    ids: Vec<HashMap<String, ()>>,
}

impl Index {
    fn of(format: &Format, items: &[Item]) -> Self {
        let mut names = vec![HashMap::new(); format.known.len()];
        let mut ids = vec![HashMap::new(); format.known.len()];
        for item in items {
            if let Some(name) = unique_name(format, item.known, &item.fields) {
                names[item.known].insert(name.to_owned(), item.id.clone());
            }
            ids[item.known].insert(item.id.clone(), ());
        }
        Index { names, ids }
    }

    /// The id of the row of that name or id.
    fn find<'a>(&'a self, format: &Format, entity: &str, name: &str) -> Option<&'a str> {
        let known = format.find(entity)?;
        if let Some(id) = self.names[known].get(name) {
            return Some(id);
        }
        let id = self.ids[known].get_key_value(name.to_ascii_lowercase().as_str());
        id.map(|(id, ())| id.as_str())
    }
}

/// The name by which others may refer to a row.
pub(crate) fn unique_name<'a>(
    format: &Format,
    known: usize,
    fields: &'a Map<String, Value>,
) -> Option<&'a str> {
    let def = &format.known[known].def;
    let name = def
        .endpoint_key
        .filter(|n| def.field(n).is_some_and(|f| f.unique))?;
    fields.get(name)?.as_str()
}
