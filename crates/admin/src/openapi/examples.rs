//! Rows and names that can be tried, from the examples that definitions give: made in the order of the definitions, each is accepted.

use serde_json::{Map, Value};

use crate::model::{Entity, Model, PLUGINS};

/// A row as a client would write it, with the references that it cannot do without, but for one that the path says.
pub(super) fn row(model: &Model, entity: &Entity, said: Option<&str>) -> Option<Value> {
    let mut row = example(model, entity)?;
    for (field, to, _) in entity.def.foreign_keys() {
        let is_needed = entity.def.field(field).is_some_and(|f| f.is_required());
        if !is_needed || Some(field) == said {
            continue;
        }
        let above = model.get(to)?;
        let by = key(above);
        row[field] = Value::Object(Map::from_iter([(by.to_owned(), name(model, above)?)]));
    }
    Some(row)
}

/// What stands for the row of [`row`] in paths.
pub(super) fn name(model: &Model, entity: &Entity) -> Option<Value> {
    let row = example(model, entity)?;
    row.get(key(entity)).cloned()
}

fn key(entity: &Entity) -> &'static str {
    entity.def.endpoint_key.unwrap_or("id")
}

fn example(model: &Model, entity: &Entity) -> Option<Value> {
    let row = entity.def.example.map(|make| make())?;
    // That of plugins is of one which a gateway may be without.
    let is_there = entity.def.name != PLUGINS
        || row["name"]
            .as_str()
            .is_some_and(|name| model.plugin(name).is_some());
    is_there.then_some(row)
}
