//! Shorthands, defaults, automatic fields, coercion and merging: what is done to a row before it is checked.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use rand::Rng as _;
use rand::distr::Alphanumeric;
use serde_json::{Map, Number, Value};

use super::check;
use crate::entity::EntityDef;
use crate::field::{Field, Kind, RecordDef};

type Record = Map<String, Value>;

/// What a record is filled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// From a client, to be complete: missing fields get their defaults.
    New,
    /// From a client, a part of a row: missing fields stay missing.
    Change,
    /// A change merged into a row: complete again; nothing in it is a shorthand.
    Merged,
    /// From the store: also a null where a value is required gets the default, as when a field is newer than the row.
    Stored,
}

impl Mode {
    fn is_clients(self) -> bool {
        matches!(self, Mode::New | Mode::Change)
    }
}

/// The record with its fields in order and what is unknown behind them; or the violations of its shorthands.
pub(crate) fn record(def: &RecordDef, mut data: Record, mode: Mode) -> Result<Record, Record> {
    if mode.is_clients() {
        shorthands(def, &mut data)?;
    }
    let mut out = Record::with_capacity(def.fields.len().max(data.len()));
    for (name, field) in &def.fields {
        let given = data.remove(*name);
        if field.hidden && given.is_some() && mode.is_clients() {
            return Err(Record::from_iter([(
                (*name).to_owned(),
                check::UNKNOWN.into(),
            )]));
        }
        if let Some(v) = value(field, given, mode)? {
            out.insert((*name).to_owned(), v);
        }
    }
    out.extend(data);
    Ok(out)
}

/// The value of one field; `None` stays `None` when nothing can be made up for it.
pub(crate) fn value(
    field: &Field,
    given: Option<Value>,
    mode: Mode,
) -> Result<Option<Value>, Record> {
    let given = match given {
        Some(Value::Null) if mode == Mode::Stored && field.is_required() => None,
        other => other,
    };
    let Some(mut v) = given.or_else(|| missing(field, mode)) else {
        return Ok(None);
    };
    match (&field.kind, &mut v) {
        // Lua has one kind of table: an empty one is as good as the other.
        (Kind::Record(_) | Kind::Map { .. }, Value::Array(items)) if items.is_empty() => {
            v = Value::Object(Map::new())
        }
        (Kind::Array(_) | Kind::Set(_), Value::Object(map)) if map.is_empty() => {
            v = Value::Array(Vec::new())
        }
        _ => {}
    }
    match (&field.kind, &mut v) {
        (Kind::Record(inner), Value::Object(map)) => {
            *map = record(inner, std::mem::take(map), mode)?
        }
        (Kind::Array(element), Value::Array(items)) => elements(element, items, mode)?,
        (Kind::Set(element), Value::Array(items)) => {
            elements(element, items, mode)?;
            drop_duplicates(items);
        }
        (Kind::Map { values, .. }, Value::Object(map)) => {
            for slot in map.values_mut() {
                element(values, slot, mode)?;
            }
        }
        (Kind::Integer | Kind::Number, n) => normalise_number(n),
        (Kind::String, Value::String(s)) if field.uuid => s.make_ascii_lowercase(),
        _ => {}
    }
    Ok(Some(v))
}

/// Whole numbers are written without a fraction, as Lua does.
pub(crate) fn normalise_number(v: &mut Value) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if let Value::Number(n) = v
        && n.is_f64()
        && let Some(f) = n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() <= EXACT)
    {
        // Checked to be whole and within 2^53.
        *n = Number::from(f as i64);
    }
}

/// Fills what the server says: ids, times, random keys; also within records, such as a plugin's configuration.
pub(crate) fn automatic(def: &EntityDef, row: &mut Record, new: bool, now: i64) {
    automatic_in(&def.record, row, new, now);
}

fn automatic_in(def: &RecordDef, row: &mut Record, new: bool, now: i64) {
    for (name, field) in &def.fields {
        if let (Kind::Record(inner), Some(Value::Object(within))) =
            (&field.kind, row.get_mut(*name))
        {
            automatic_in(inner, within, new, now);
        }
    }
    for (name, field) in def.fields.iter().filter(|(_, f)| f.auto) {
        let absent = row.get(*name).is_none_or(Value::is_null);
        let made = match field.kind {
            Kind::Number if *name == "updated_at" || (*name == "created_at" && new && absent) => {
                milliseconds()
            }
            _ if *name == "updated_at" => Value::from(now),
            _ if !new || !absent => continue,
            _ if field.uuid => uuid::Uuid::new_v4().to_string().into(),
            _ if *name == "created_at" => Value::from(now),
            Kind::String => random_key().into(),
            _ => continue,
        };
        row.insert((*name).to_owned(), made);
    }
}

/// `change` over `old`: records deeply, everything else as a whole.
pub(crate) fn merge(def: &RecordDef, change: Record, mut old: Record) -> Record {
    for (name, new) in change {
        match (def.get(&name).map(|f| &f.kind), new, old.get_mut(&name)) {
            (Some(Kind::Record(inner)), Value::Object(new), Some(Value::Object(was))) => {
                *was = merge(inner, new, std::mem::take(was));
            }
            (_, new, _) => {
                old.insert(name, new);
            }
        }
    }
    old
}

fn missing(field: &Field, mode: Mode) -> Option<Value> {
    if mode == Mode::Change {
        return None;
    }
    match (&field.default, &field.kind) {
        (Some(default), _) => Some(default.clone()),
        (None, _) if !field.is_required() => Some(Value::Null),
        (None, Kind::Record(_)) => Some(Value::Object(Map::new())),
        _ => None,
    }
}

fn elements(field: &Field, items: &mut [Value], mode: Mode) -> Result<(), Record> {
    items
        .iter_mut()
        .try_for_each(|slot| element(field, slot, mode))
}

fn element(field: &Field, slot: &mut Value, mode: Mode) -> Result<(), Record> {
    // A null element stays and is a violation: there is no default to put in its place. Records in lists are replaced
    // as a whole, so that even in a change they are complete.
    if !slot.is_null() {
        let mode = if mode == Mode::Change {
            Mode::New
        } else {
            mode
        };
        *slot = value(field, Some(slot.take()), mode)?.unwrap_or(Value::Null);
    }
    Ok(())
}

fn drop_duplicates(items: &mut Vec<Value>) {
    // Tables are never equal in Lua, so that records stay.
    let scalar = |v: &Value| !v.is_object() && !v.is_array();
    if items.len() < 2 {
        return;
    }
    if items.len() <= 16 {
        let mut i = 1;
        while i < items.len() {
            if scalar(&items[i]) && items[..i].contains(&items[i]) {
                items.remove(i);
            } else {
                i += 1;
            }
        }
        return;
    }
    let mut seen = HashSet::with_capacity(items.len());
    items.retain(|v| !scalar(v) || seen.insert(v.to_string()));
}

/// Seconds since 1970 with milliseconds behind the point. From the clock: what a caller knows as "now" is whole seconds.
fn milliseconds() -> Value {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Value::from(since.as_millis() as f64 / 1000.0)
}

fn random_key() -> String {
    rand::rng()
        .sample_iter(Alphanumeric)
        .take(32)
        .map(char::from)
        .collect()
}

fn shorthands(def: &RecordDef, data: &mut Record) -> Result<(), Record> {
    let mut wrong = Record::new();
    for shorthand in &def.shorthands {
        let Some(v) = data.get(shorthand.name) else {
            continue;
        };
        let problem = check::standalone(&shorthand.field, v).err().or_else(|| {
            let path = shorthand.shown_from.filter(|_| !shorthand.wins && !v.is_null())?;
            let full = check::at(data, path).filter(|full| !full.is_null() && *full != v)?;
            Some(Value::from(format!(
                "both deprecated and new field are used but their values mismatch: {} = {} vs {path} = {}",
                shorthand.name,
                check::lua_text(v),
                check::lua_text(full)
            )))
        });
        if let Some(problem) = problem {
            wrong.insert(shorthand.name.to_owned(), problem);
            continue;
        }
        let v = data.remove(shorthand.name).unwrap_or(Value::Null);
        for (name, part) in (shorthand.translate)(&v) {
            put(data, name, part, shorthand.wins);
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn put(data: &mut Record, name: String, part: Value, wins: bool) {
    match (data.get_mut(&name), part) {
        (Some(Value::Object(was)), Value::Object(part)) => {
            for (key, v) in part {
                if wins || was.get(&key).is_none_or(Value::is_null) {
                    was.insert(key, v);
                }
            }
        }
        (was, part) => {
            if wins || was.is_none_or(|was| was.is_null()) {
                data.insert(name, part);
            }
        }
    }
}
