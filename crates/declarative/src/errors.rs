//! [`Invalid`]: everything that is wrong with a file, and how Kong words it (`declarative_config` in `kong/db/errors.lua`,
//! `pretty_print_error` in `kong/db/declarative/init.lua`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use silverback_schema::violations::line;

use crate::flattened;

/// A place among what is wrong: a position that counts from 1, or a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Index(usize),
    Name(String),
}

/// What is wrong at a place, in the shape of what is there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Wrong {
    Text(String),
    Table(BTreeMap<Place, Wrong>),
}

impl Wrong {
    pub(crate) fn empty() -> Self {
        Wrong::Table(BTreeMap::new())
    }

    pub(crate) fn at(name: &str, text: impl Into<String>) -> Self {
        let entry = (Place::Name(name.to_owned()), Wrong::Text(text.into()));
        Wrong::Table(BTreeMap::from([entry]))
    }

    /// As violations of a row say it.
    pub(crate) fn of(v: &Value) -> Self {
        match v {
            Value::Array(items) => {
                let places = items.iter().enumerate().filter(|(_, v)| !v.is_null());
                Wrong::Table(
                    places
                        .map(|(i, v)| (Place::Index(i + 1), Wrong::of(v)))
                        .collect(),
                )
            }
            Value::Object(map) => Wrong::Table(
                map.iter()
                    .map(|(k, v)| (Place::Name(k.clone()), Wrong::of(v)))
                    .collect(),
            ),
            Value::String(text) => Wrong::Text(text.clone()),
            other => Wrong::Text(other.to_string()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Wrong::Table(t) if t.is_empty())
    }

    /// What is below a place; made if there is nothing.
    pub(crate) fn below(&mut self, place: Place) -> &mut Wrong {
        if let Wrong::Text(_) = self {
            *self = Wrong::empty();
        }
        match self {
            Wrong::Table(t) => t.entry(place).or_insert_with(Wrong::empty),
            Wrong::Text(_) => self,
        }
    }

    /// Both.
    pub(crate) fn merge(&mut self, other: Wrong) {
        match (self, other) {
            (Wrong::Table(mine), Wrong::Table(others)) => {
                for (place, wrong) in others {
                    match mine.entry(place) {
                        std::collections::btree_map::Entry::Vacant(e) => drop(e.insert(wrong)),
                        std::collections::btree_map::Entry::Occupied(mut e) => {
                            e.get_mut().merge(wrong);
                        }
                    }
                }
            }
            (Wrong::Text(_), Wrong::Table(t)) if t.is_empty() => {}
            (mine, other) => *mine = other,
        }
    }

    /// As JSON, in the way of Kong's encoder: positions make a list with nulls between, unless there would be too many of them.
    pub(crate) fn to_json(&self) -> Value {
        let table = match self {
            Wrong::Text(text) => return text.as_str().into(),
            Wrong::Table(table) => table,
        };
        let highest = table
            .keys()
            .map(|p| match p {
                Place::Index(i) => Some(*i),
                Place::Name(_) => None,
            })
            .collect::<Option<Vec<_>>>()
            .and_then(|all| all.into_iter().max());
        match highest {
            Some(highest) if highest <= 10 || highest <= 2 * table.len() => (1..=highest)
                .map(|i| {
                    table
                        .get(&Place::Index(i))
                        .map_or(Value::Null, Wrong::to_json)
                })
                .collect(),
            _ => Value::Object(
                table
                    .iter()
                    .map(|(place, wrong)| match place {
                        Place::Index(i) => (i.to_string(), wrong.to_json()),
                        Place::Name(name) => (name.clone(), wrong.to_json()),
                    })
                    .collect(),
            ),
        }
    }

    fn lines(&self, within: &str, indent: usize, out: &mut Vec<String>) {
        let Wrong::Table(table) = self else { return };
        let pad = " ".repeat(indent);
        for (place, wrong) in table {
            let (name, what) = match place {
                Place::Index(i) => (i.to_string(), format!("- in entry {i} of '{within}'")),
                Place::Name(name) => (name.clone(), format!("in '{name}'")),
            };
            match wrong {
                Wrong::Text(text) => out.push(format!("{pad}{what}: {text}")),
                Wrong::Table(_) => {
                    out.push(format!("{pad}{what}:"));
                    wrong.lines(&name, indent + 2, out);
                }
            }
        }
    }
}

/// Where an entity is in the file: names of lists and positions in them, which count from 1.
pub(crate) type Path = Vec<(&'static str, usize)>;

/// What is wrong with one entity, or with the file as a whole when the path is empty.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) path: Path,
    pub(crate) wrong: Wrong,
    /// Where Kong shows it when that is somewhere else: below a list, under this name; and what it shows there.
    pub(crate) shown: Option<(&'static str, String, Wrong)>,
}

/// Everything that is wrong with a declarative configuration.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.lines())]
pub struct Invalid(What);

#[derive(Debug, Clone)]
enum What {
    /// The text cannot be read at all.
    Text(String),
    /// What the text says is wrong.
    Problems(Vec<Problem>),
}

impl Invalid {
    pub(crate) fn text(why: String) -> Self {
        Invalid(What::Text(why))
    }

    pub(crate) fn problems(all: Vec<Problem>) -> Self {
        Invalid(What::Problems(all))
    }

    /// The body of the answer 400.
    pub fn to_json(&self) -> Value {
        body(&self.tree())
    }

    /// As [`Invalid::to_json`], with what is wrong entity by entity in `flattened_errors`; `input` is the tree that was refused.
    pub fn to_json_flattened(&self, input: &Map<String, Value>, format: &crate::Format) -> Value {
        let What::Problems(problems) = &self.0 else {
            return self.to_json();
        };
        let (flattened, rest) = flattened::flatten(format, input, problems);
        let mut out = body(&rest);
        out["flattened_errors"] = Value::Array(flattened);
        out
    }

    /// For people: a line for each, indented as the file is.
    pub fn lines(&self) -> String {
        if let What::Text(why) = &self.0 {
            return why.clone();
        }
        let mut out = Vec::new();
        self.tree().lines("", 0, &mut out);
        out.join("\n")
    }

    fn tree(&self) -> Wrong {
        match &self.0 {
            What::Text(why) => Wrong::at("error", why),
            What::Problems(problems) => tree(problems),
        }
    }
}

pub(crate) fn tree<'a>(problems: impl IntoIterator<Item = &'a Problem>) -> Wrong {
    let mut out = Wrong::empty();
    for p in problems {
        if let Some((list, name, wrong)) = &p.shown {
            out.below(Place::Name((*list).to_owned()))
                .below(Place::Name(name.clone()))
                .merge(wrong.clone());
            continue;
        }
        let mut at = &mut out;
        for (list, i) in &p.path {
            at = at
                .below(Place::Name((*list).to_owned()))
                .below(Place::Index(*i));
        }
        at.merge(p.wrong.clone());
    }
    out
}

fn body(fields: &Wrong) -> Value {
    let fields = match fields.to_json() {
        Value::Array(none) if none.is_empty() => json!({}),
        fields => fields,
    };
    json!({
        "message": format!("declarative config is invalid: {}", line(&fields)),
        "name": "invalid declarative configuration",
        "code": 14,
        "fields": fields,
    })
}
