//! Transformations: what is made of given values before they are stored, and when a client has to give them together
//! (`run_transformation_checks`, `run_transformations` in `kong/db/schema/init.lua`).

use serde_json::{Map, Value};

use super::check::{at, quoted};
use crate::check::CustomViolation;
use crate::entity::EntityDef;
use crate::violations::Violations;

type Record = Map<String, Value>;

/// What a client gave of the fields that transformations look at, before anything was filled in.
pub(super) struct Given(Vec<(&'static str, Value)>);

impl Given {
    pub(super) fn of(def: &EntityDef, input: &Record) -> Self {
        let paths = def
            .transformations
            .iter()
            .flat_map(|t| t.input.iter().chain(&t.needs));
        Given(
            paths
                .filter_map(|p| at(input, p).map(|v| (*p, v.clone())))
                .collect(),
        )
    }

    fn get(&self, path: &str) -> Option<&Value> {
        self.0.iter().find(|(p, _)| *p == path).map(|(_, v)| v)
    }

    fn has(&self, path: &str) -> bool {
        says_something(self.get(path))
    }
}

/// Adds a violation for each transformation whose fields came only in part. `old` is the row that is changed.
pub(super) fn check(
    def: &EntityDef,
    given: &Given,
    row: &Record,
    old: Option<&Record>,
    wrong: &mut Record,
) {
    for t in &def.transformations {
        let differs =
            |path: &&str| old.is_some_and(|old| some(given.get(path)) != some(at(old, path)));
        let moved = t.needs.iter().any(differs);
        if !moved && !t.input.iter().any(|p| given.has(p)) {
            continue;
        }
        let all: Vec<&str> = t.input.iter().chain(&t.needs).copied().collect();
        let has = |path: &str| {
            if moved {
                given.has(path)
            } else {
                says_something(at(row, path))
            }
        };
        for (fields, there) in [
            (&all, all.iter().filter(|p| has(p)).count()),
            (&t.input, t.input.iter().filter(|p| given.has(p)).count()),
        ] {
            if there != 0 && there != fields.len() {
                let text = format!(
                    "all or none of these fields must be set: {}",
                    quoted(fields)
                );
                add(wrong, text);
                break;
            }
        }
    }
}

/// Transforms a row that has no violations.
pub(super) fn apply(def: &EntityDef, given: &Given, row: &mut Record) -> Result<(), Violations> {
    for t in &def.transformations {
        let wanted = t.input.iter().all(|p| given.has(p));
        let mut all = t.input.iter().chain(&t.needs);
        if wanted && all.all(|p| says_something(at(row, p))) {
            let made = (t.on_write)(row)
                .map_err(|why| CustomViolation::Entity(format!("transformation failed: {why}")))?;
            row.extend(made);
        }
    }
    Ok(())
}

fn add(wrong: &mut Record, text: String) {
    let texts = wrong
        .entry("@entity")
        .or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(texts) = texts {
        texts.push(text.into());
    }
}

fn some(v: Option<&Value>) -> Option<&Value> {
    v.filter(|v| !v.is_null())
}

fn says_something(v: Option<&Value>) -> bool {
    match v {
        None | Some(Value::Null) => false,
        Some(Value::String(s)) => !s.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Bool(_) | Value::Number(_)) => true,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use crate::field::{boolean, foreign, id, string};
    use crate::{EntityDef, Op, Transformation, complete, patch};

    use super::*;

    const OWNER: &str = "00000001-0000-4000-8000-000000000001";

    /// A secret that is turned around, with its owner at the end.
    fn turned() -> EntityDef {
        EntityDef::new(
            "x",
            vec![
                ("id", id()),
                ("name", string()),
                ("owner", foreign("owners")),
                ("secret", string().required()),
            ],
        )
        .transformation(Transformation {
            input: vec!["secret"],
            needs: vec!["owner.id"],
            on_write: |row| {
                let text = row["secret"].as_str().unwrap();
                if text == "bad" {
                    return Err("no mirror".into());
                }
                let owner = row["owner"]["id"].as_str().unwrap();
                let turned: String = text.chars().rev().chain(owner.chars().take(8)).collect();
                Ok(Map::from_iter([("secret".to_owned(), turned.into())]))
            },
        })
    }

    /// A secret that is kept in another form on demand.
    fn flagged() -> EntityDef {
        EntityDef::new(
            "y",
            vec![
                ("id", id()),
                ("name", string()),
                ("secret", string().auto()),
                ("hide", boolean().required().default(false)),
            ],
        )
        .transformation(Transformation {
            input: vec!["hide"],
            needs: vec!["secret"],
            on_write: |row| match row["hide"] {
                Value::Bool(true) => Ok(Map::from_iter([("secret".to_owned(), "***".into())])),
                _ => Ok(Map::new()),
            },
        })
    }

    fn object(v: Value) -> Record {
        v.as_object().unwrap().clone()
    }

    fn new(def: &EntityDef, v: Value) -> Record {
        complete(def, object(v), Op::Insert, 1).unwrap()
    }

    fn refused(got: Result<Record, Violations>) -> Value {
        got.unwrap_err().0["@entity"].clone()
    }

    #[test]
    fn a_given_value_is_transformed_once() {
        let def = turned();
        let row = new(&def, json!({ "secret": "abc", "owner": { "id": OWNER } }));
        assert_eq!(row["secret"], "cba00000001");
        let renamed = patch(&def, &row, object(json!({ "name": "n" })), 2).unwrap();
        assert_eq!(renamed["secret"], "cba00000001");
        let again = object(json!({ "secret": "xyz", "owner": { "id": OWNER } }));
        assert_eq!(
            patch(&def, &renamed, again, 3).unwrap()["secret"],
            "zyx00000001"
        );
    }

    #[test]
    fn what_the_result_depends_on_is_given_with_it() {
        let def = turned();
        let text = json!(["all or none of these fields must be set: 'secret', 'owner.id'"]);
        let nobody = complete(&def, object(json!({ "secret": "abc" })), Op::Insert, 1);
        assert_eq!(refused(nobody), text);
        let row = new(&def, json!({ "secret": "abc", "owner": { "id": OWNER } }));
        assert_eq!(
            refused(patch(&def, &row, object(json!({ "secret": "x" })), 1)),
            text
        );
        let other = json!({ "owner": { "id": "00000002-0000-4000-8000-000000000001" } });
        assert_eq!(refused(patch(&def, &row, object(other), 1)), text);
    }

    #[test]
    fn a_flag_and_its_value_belong_together() {
        let def = flagged();
        assert_eq!(
            new(&def, json!({ "secret": "a", "hide": true }))["secret"],
            "***"
        );
        assert_eq!(
            new(&def, json!({ "hide": true }))["secret"],
            "***",
            "a made-up secret too"
        );
        let row = new(&def, json!({ "secret": "a" }));
        assert_eq!((&row["secret"], &row["hide"]), (&json!("a"), &json!(false)));
        let text = json!(["all or none of these fields must be set: 'hide', 'secret'"]);
        for part in [json!({ "hide": true }), json!({ "secret": "b" })] {
            assert_eq!(refused(patch(&def, &row, object(part), 1)), text);
        }
        let both = object(json!({ "hide": true, "secret": "b" }));
        assert_eq!(patch(&def, &row, both, 1).unwrap()["secret"], "***");
        assert_eq!(
            patch(&def, &row, object(json!({ "name": "n" })), 1).unwrap()["secret"],
            "a"
        );
    }

    #[test]
    fn a_transformation_that_fails_is_told() {
        let bad = object(json!({ "secret": "bad", "owner": { "id": OWNER } }));
        let got = complete(&turned(), bad, Op::Insert, 1);
        assert_eq!(refused(got), json!(["transformation failed: no mirror"]));
    }

    #[test]
    fn values_that_are_stored_already_stay_when_the_list_is_empty() {
        let mut def = turned();
        def.transformations.clear();
        assert_eq!(new(&def, json!({ "secret": "hash" }))["secret"], "hash");
    }
}
