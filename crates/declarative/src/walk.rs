//! From the tree to the entities in it: nested ones taken out of those they are in, each with its id.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::errors::{Path, Place, Problem, Wrong};
use crate::format::{Format, Meta};
use crate::ids::Above;

/// What Kong's exports have and what means nothing here: there is one workspace, and parameters are Kong's own notes.
const PASSED_OVER: [&str; 2] = ["workspaces", "parameters"];

/// An entity as it was written.
#[derive(Debug)]
pub(crate) struct Item {
    /// Which entity, among [`Format::known`].
    pub(crate) known: usize,
    pub(crate) path: Path,
    /// What it is nested in: the item and the field that points there.
    pub(crate) above: Option<(usize, &'static str)>,
    pub(crate) fields: Map<String, Value>,
    /// Its own, one that is the same everywhere, or a new one. Text, but not necessarily a UUID.
    pub(crate) id: String,
    /// Whether the id is the same everywhere.
    stable: bool,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Walked {
    pub(crate) meta: Meta,
    /// Each before what is nested in it.
    pub(crate) items: Vec<Item>,
    pub(crate) problems: Vec<Problem>,
}

pub(crate) fn walk(format: &Format, tree: &Map<String, Value>) -> Walked {
    let mut walker = Walker {
        format,
        items: Vec::new(),
        problems: Vec::new(),
    };
    let meta = walker.meta(tree);
    for (i, known) in format.known.iter().enumerate() {
        if let Some(list) = tree.get(known.def.name) {
            walker.list(i, list, &Vec::new(), None);
        }
    }
    Walked {
        meta,
        items: walker.items,
        problems: walker.problems,
    }
}

struct Walker<'a> {
    format: &'a Format,
    items: Vec<Item>,
    problems: Vec<Problem>,
}

impl Walker<'_> {
    fn meta(&mut self, tree: &Map<String, Value>) -> Meta {
        let mut wrong = BTreeMap::new();
        let mut say = |name: &str, text: &str| {
            wrong.insert(Place::Name(name.to_owned()), Wrong::Text(text.to_owned()));
        };
        let version = match tree.get("_format_version") {
            None | Some(Value::Null) => Err("required field missing"),
            Some(Value::String(v)) if v == "3.0" => Ok(v.clone()),
            Some(Value::String(_)) => Err("expected one of: 1.1, 2.1, 3.0"),
            Some(_) => Err("expected a string"),
        };
        let format_version = version.unwrap_or_else(|text| {
            say("_format_version", text);
            String::new()
        });
        let transform = match tree.get("_transform") {
            None | Some(Value::Null) => true,
            Some(Value::Bool(b)) => *b,
            Some(_) => {
                say("_transform", "expected a boolean");
                true
            }
        };
        for (name, text) in notes(tree) {
            say(name, text);
        }
        for (name, v) in tree {
            let known = self.format.find(name).is_some();
            let own = ["_format_version", "_transform", "_comment", "_ignore"];
            if PASSED_OVER.contains(&name.as_str()) {
                if !is_list(v) {
                    say(name, "expected an array");
                }
            } else if !known && !own.contains(&name.as_str()) {
                say(name, "unknown field");
            }
        }
        if !wrong.is_empty() {
            self.problems.push(Problem {
                path: Vec::new(),
                wrong: Wrong::Table(wrong),
                shown: None,
            });
        }
        Meta {
            format_version,
            transform,
        }
    }

    fn list(
        &mut self,
        known: usize,
        list: &Value,
        at: &Path,
        above: Option<(usize, &'static str)>,
    ) {
        let name = self.format.known[known].def.name;
        match list {
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    let mut path = at.clone();
                    path.push((name, i + 1));
                    self.item(known, item, path, above);
                }
            }
            other if is_list(other) => {}
            _ => self.problem(at.clone(), Wrong::at(name, "expected an array")),
        }
    }

    fn item(
        &mut self,
        known: usize,
        item: &Value,
        path: Path,
        above: Option<(usize, &'static str)>,
    ) {
        let this = &self.format.known[known];
        let Value::Object(item) = item else {
            return self.problem(path, Wrong::Text("expected a record".into()));
        };
        let notes: Vec<_> = notes(item).collect();
        for (name, text) in notes {
            self.problem(path.clone(), Wrong::at(name, text));
        }
        let is_child = |name: &str| {
            let mut children = this.children.iter();
            children.any(|(child, _)| self.format.known[*child].def.name == name)
        };
        let own = |name: &str| !["_comment", "_ignore", "ws_id"].contains(&name) && !is_child(name);
        let fields: Map<String, Value> = item
            .iter()
            .filter(|(name, _)| own(name))
            .map(|(name, v)| (name.clone(), v.clone()))
            .collect();
        let (id, stable) = self.id(known, &fields, above);
        let place = self.items.len();
        self.items.push(Item {
            known,
            path: path.clone(),
            above,
            fields,
            id,
            stable,
        });
        for (child, field) in &this.children {
            if let Some(list) = item.get(self.format.known[*child].def.name) {
                self.list(*child, list, &path, Some((place, *field)));
            }
        }
    }

    fn id(
        &self,
        known: usize,
        fields: &Map<String, Value>,
        above: Option<(usize, &'static str)>,
    ) -> (String, bool) {
        if let Some(Value::String(own)) = fields.get("id") {
            return (own.to_ascii_lowercase(), true);
        }
        let above = above.map(|(parent, field)| Above {
            field,
            id: Some(&self.items[parent])
                .filter(|p| p.stable)
                .map(|p| p.id.as_str()),
        });
        let this = &self.format.known[known];
        match this.ids.make(&this.def, fields, above) {
            Some(id) => (id, true),
            None => (Uuid::new_v4().to_string(), false),
        }
    }

    fn problem(&mut self, path: Path, wrong: Wrong) {
        self.problems.push(Problem {
            path,
            wrong,
            shown: None,
        });
    }
}

/// What is wrong with `_comment` and `_ignore`, which mean nothing.
fn notes(map: &Map<String, Value>) -> impl Iterator<Item = (&'static str, &'static str)> {
    let comment = map
        .get("_comment")
        .is_some_and(|v| !v.is_string() && !v.is_null());
    let ignore = map.get("_ignore").is_some_and(|v| !is_list(v));
    [
        (comment, ("_comment", "expected a string")),
        (ignore, ("_ignore", "expected an array")),
    ]
    .into_iter()
    .filter_map(|(wrong, text)| wrong.then_some(text))
}

/// Lua has one kind of table: an empty one is as good as an empty list.
fn is_list(v: &Value) -> bool {
    match v {
        Value::Array(_) | Value::Null => true,
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}
