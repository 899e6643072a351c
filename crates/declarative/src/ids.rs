//! Ids of entities that say none: made from what identifies them, so that the same file has the same ids everywhere, and those that
//! Kong gives it (`get_key_for_uuid_gen` in `kong/db/schema/others/declarative_config.lua`).

use serde_json::{Map, Value};
use silverback_schema::{EntityDef, Kind, OnDelete};
use uuid::{Uuid, uuid};

const ENTITIES: Uuid = uuid!("fd02801f-0957-4a15-a55a-c8d9606f30b5");

/// The row that an entity is nested in: the field that points there, and its id if that is the same everywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Above<'a> {
    pub(crate) field: &'a str,
    pub(crate) id: Option<&'a str>,
}

/// The ids of an entity.
#[derive(Debug)]
pub(crate) struct Ids {
    space: Uuid,
    /// The fields that identify a row together; empty when its name does.
    together: Vec<&'static str>,
}

impl Ids {
    pub(crate) fn of(def: &EntityDef) -> Self {
        Ids {
            space: Uuid::new_v5(&ENTITIES, def.name.as_bytes()),
            together: def.cache_key(),
        }
    }

    /// The id of a row; `None` when nothing identifies it.
    pub(crate) fn make(
        &self,
        def: &EntityDef,
        fields: &Map<String, Value>,
        above: Option<Above<'_>>,
    ) -> Option<String> {
        let key = if self.together.is_empty() {
            by_name(def, fields, above)?
        } else {
            self.by_all(def, fields, above)?
        };
        Some(Uuid::new_v5(&self.space, key.as_bytes()).to_string())
    }

    fn by_all(
        &self,
        def: &EntityDef,
        fields: &Map<String, Value>,
        above: Option<Above<'_>>,
    ) -> Option<String> {
        // The star stands for the workspace.
        let mut key = format!("{}:*", def.name);
        for name in &self.together {
            let part = match fields.get(*name) {
                Some(Value::String(text)) => text,
                Some(_) => continue,
                None => match above.filter(|a| a.field == *name) {
                    Some(above) => above.id?,
                    None if def.field(name).is_some_and(|f| f.is_required() || f.auto) => {
                        return None;
                    }
                    None => "",
                },
            };
            key.push(':');
            key.push_str(part);
        }
        Some(key)
    }
}

fn by_name(
    def: &EntityDef,
    fields: &Map<String, Value>,
    above: Option<Above<'_>>,
) -> Option<String> {
    let name = def.endpoint_key?;
    let mut key = fields.get(name)?.as_str()?.to_owned();
    let field = def.field(name)?;
    if !field.unique {
        // Then it is unique below the row that it goes with.
        for (name, field) in &def.record.fields {
            if matches!(field.kind, Kind::Foreign(_)) && field.on_delete == Some(OnDelete::Cascade)
            {
                key.push(':');
                key.push_str(match above.filter(|a| a.field == *name) {
                    Some(above) => above.id?,
                    None => fields.get(*name)?.as_str()?,
                });
            }
        }
        key.push_str(":*");
    }
    Some(key)
}
