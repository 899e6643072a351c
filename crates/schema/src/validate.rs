//! What a description means for a value: shorthands, defaults, all rules at once, merging of changes.
//!
//! Learnt from `kong/db/schema/init.lua` (`process_auto_fields`, `validate`, `merge_values`) and `kong/db/dao/init.lua`.
//!
//! # References to other rows
//! A foreign field is `{"id": "<uuid>"}` or null in what [`complete`] and [`patch`] answer, with one exception: when the client named the row by a unique
//! field (`{"name": "x"}`, `{"username": "x"}`), the answer has just that one field and no `id`. The caller looks the row up and puts
//! its `{"id"}` in place, or answers Kong's "foreign keys unresolved" (code 13). Which fields are unique is known when the definition has a
//! [`catalogue`](EntityDef::catalogue); without one any field but `id` is left for the caller.
//!
//! # `ttl`
//! Entities with [`EntityDef::ttl`] take `ttl`, whole seconds from 0 to [`MAX_TTL`]. [`complete`] answers it as it was given, or null;
//! [`patch`] only when it was given and is not null, so that the end of a row stays as it is when nobody speaks of it. Kong reports a bad one as "invalid option" (code 11) before anything else:
//! ask [`ttl_violation`] first for the same; here it is a violation of the field `ttl`.
//!
//! # Transformations
//! What [`complete`] and [`patch`] answer is ready to be stored: [`EntityDef::transformations`] were applied to what the client gave.

mod check;
mod entity_check;
mod fill;
mod transform;

use serde_json::{Map, Value};

pub use crate::violations::Violations;
pub(crate) use fill::{Mode, normalise_number as normalise, value as fill_value};

use crate::entity::EntityDef;
use crate::field::Kind;
use check::Cx;
use transform::Given;

/// The most seconds that a row may have to live.
pub const MAX_TTL: i64 = 100_000_000;

/// What is done with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A new row: `POST`.
    Insert,
    /// A change of a row. [`patch`] is the way to do it; [`complete`] only takes the texts of an update from it.
    Update,
    /// A new row, or all of an old one replaced: `PUT`. The caller puts the `id` and the endpoint key of the path in first.
    Upsert,
}

/// Checks a whole row and fills it: the answer has every field of the definition, in its order.
///
/// Shorthands are translated first; if one is malformed, only those are reported, as Kong does. Missing fields get their default or null; an
/// explicit null stays null and violates a required field even where it has a default. Missing ids and automatic keys are made up,
/// `created_at` is taken from the client if it is there, `updated_at` never. `now` is in seconds since 1970.
pub fn complete(
    def: &EntityDef,
    mut input: Map<String, Value>,
    op: Op,
    now: i64,
) -> Result<Map<String, Value>, Violations> {
    let ttl = take_ttl(def, &mut input);
    let given = Given::of(def, &input);
    if let Some(variant) = &def.variant {
        (variant.defaults)(&mut input);
    }
    let mut row = fill::record(&def.record, input, Mode::New).map_err(Violations)?;
    fill::automatic(def, &mut row, op != Op::Update, now);
    finish(def, &mut row, op == Op::Update, ttl.as_ref(), &given, None)?;
    if def.ttl {
        row.insert("ttl".into(), ttl.unwrap_or(Value::Null));
    }
    Ok(row)
}

/// Checks a change of a row: records are merged deeply, everything else that is given replaces what was there.
///
/// `existing` is the row as it is stored. Fields that the definition calls immutable are ignored in the input, and so is null in automatic ones. Violations of checks over several fields
/// say "when updating, ...". `now` is in seconds since 1970.
pub fn patch(
    def: &EntityDef,
    existing: &Map<String, Value>,
    mut input: Map<String, Value>,
    now: i64,
) -> Result<Map<String, Value>, Violations> {
    let ttl = take_ttl(def, &mut input);
    for (name, field) in &def.record.fields {
        // Of what the server makes up, null means that nobody has anything to say.
        let unsaid = field.auto && input.get(*name).is_some_and(Value::is_null);
        if field.immutable || unsaid {
            input.remove(*name);
        }
    }
    let given = Given::of(def, &input);
    let change = fill::record(&def.record, input, Mode::Change).map_err(Violations)?;
    let known = existing.iter().filter(|(k, _)| def.record.get(k).is_some());
    let old = known.map(|(k, v)| (k.clone(), v.clone())).collect();
    let old = fill::record(&def.record, old, Mode::Stored).map_err(Violations)?;
    let merged = fill::merge(&def.record, change, old);
    let mut row = fill::record(&def.record, merged, Mode::Merged).map_err(Violations)?;
    fill::automatic(def, &mut row, false, now);
    finish(def, &mut row, true, ttl.as_ref(), &given, Some(existing))?;
    if let Some(ttl) = ttl.filter(|ttl| !ttl.is_null()) {
        row.insert("ttl".into(), ttl);
    }
    Ok(row)
}

/// What is wrong with a `ttl`, in Kong's words.
pub fn ttl_violation(ttl: &Value) -> Option<String> {
    let fine = ttl
        .as_f64()
        .is_some_and(|n| n.fract() == 0.0 && (0.0..=MAX_TTL as f64).contains(&n));
    (!fine && !ttl.is_null()).then(|| format!("must be an integer between 0 and {MAX_TTL}"))
}

fn take_ttl(def: &EntityDef, input: &mut Map<String, Value>) -> Option<Value> {
    let mut ttl = def.ttl.then(|| input.remove("ttl")).flatten()?;
    fill::normalise_number(&mut ttl);
    Some(ttl)
}

fn finish(
    def: &EntityDef,
    row: &mut Map<String, Value>,
    updating: bool,
    ttl: Option<&Value>,
    given: &Given,
    old: Option<&Map<String, Value>>,
) -> Result<(), Violations> {
    let cx = Cx {
        updating,
        catalogue: def.catalogue,
    };
    if let Some(variant) = &def.variant
        && let Err(found) = (variant.gate)(row)
    {
        return Err(found.into());
    }
    let mut wrong = check::record(&def.record, row, cx, true);
    if let Some(text) = ttl.and_then(ttl_violation) {
        wrong.insert("ttl".into(), text.into());
    }
    transform::check(def, given, row, old, &mut wrong);
    if !wrong.is_empty() {
        return Err(Violations(wrong));
    }
    for (name, field) in &def.record.fields {
        if let (Kind::Foreign(entity), Some(Value::Object(reference))) =
            (&field.kind, row.get_mut(*name))
        {
            check::reduce_reference(entity, reference, cx);
        }
    }
    transform::apply(def, given, row)
}

#[cfg(test)]
mod tests;
