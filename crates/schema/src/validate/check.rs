//! The rules of one field, and of a record's fields.

use serde_json::{Map, Value};

use super::entity_check;
use crate::checks;
use crate::entity::{Catalogue, EntityDef};
use crate::field::{Field, Kind, Pattern, RecordDef};
use crate::lua_pattern::is_match;
use crate::reference::is_reference;
use crate::render;
use crate::violations::Violations;

pub(super) const REQUIRED: &str = "required field missing";
pub(super) const UNKNOWN: &str = "unknown field";

/// What a check needs to know beside the value.
#[derive(Clone, Copy)]
pub(super) struct Cx {
    /// Texts say "when updating".
    pub(super) updating: bool,
    /// Where other entities are found.
    pub(super) catalogue: Option<Catalogue>,
}

/// All violations of a record; `whole` when it must be complete.
pub(super) fn record(
    def: &RecordDef,
    data: &Map<String, Value>,
    cx: Cx,
    whole: bool,
) -> Map<String, Value> {
    let mut wrong = Map::new();
    // Filled records have their fields in the definition's order: looking at the next one first saves the search.
    let mut next = 0;
    for (name, v) in data {
        let field = match def.fields.get(next) {
            Some((n, field)) if n == name => {
                next += 1;
                Some(field)
            }
            _ => def.fields.iter().position(|(n, _)| n == name).map(|i| {
                next = i + 1;
                &def.fields[i].1
            }),
        };
        let result = field.map_or_else(|| Err(UNKNOWN.into()), |field| value(field, None, v, cx));
        if let Err(e) = result {
            wrong.insert(name.clone(), e);
        }
    }
    if whole {
        for (name, _) in def
            .fields
            .iter()
            .filter(|(n, f)| f.is_required() && !data.contains_key(*n))
        {
            wrong.insert((*name).to_owned(), REQUIRED.into());
        }
    }
    for check in &def.checks {
        entity_check::run(check, def, data, cx, whole, &mut wrong);
    }
    wrong
}

/// The rules of a field that belongs to no row.
pub(super) fn standalone(field: &Field, v: &Value) -> Result<(), Value> {
    value(
        field,
        None,
        v,
        Cx {
            updating: false,
            catalogue: None,
        },
    )
}

/// The violation of one value. `base`: a condition takes from it what it does not say itself.
pub(super) fn value(field: &Field, base: Option<&Field>, v: &Value, cx: Cx) -> Result<(), Value> {
    let said = Said { field, base };
    let eq = said.pick(|f| f.eq.as_ref());
    if v.is_null() {
        return match eq {
            Some(wanted) if !wanted.is_null() => Err(must_be(wanted)),
            _ if said.pick(|f| f.required) == Some(true) => Err(REQUIRED.into()),
            _ => Ok(()),
        };
    }
    if let Some(Value::Null) = eq {
        return Err(must_be(&Value::Null));
    }
    shape(said, v, cx)?;
    if let Value::String(s) = v
        && said.pick(|f| f.referenceable.then_some(())).is_some()
        && is_reference(s)
    {
        return Ok(());
    }
    rules(said, eq, v)
}

/// What is said about a value: by the field, or else by the field it is a condition on.
#[derive(Clone, Copy)]
struct Said<'a> {
    field: &'a Field,
    base: Option<&'a Field>,
}

impl<'a> Said<'a> {
    fn pick<T>(self, of: impl Fn(&'a Field) -> Option<T>) -> Option<T> {
        of(self.field).or_else(|| self.base.and_then(of))
    }

    fn patterns(self, of: impl Fn(&'a Field) -> &'a Vec<Pattern>) -> &'a [Pattern] {
        self.pick(|f| Some(of(f)).filter(|p| !p.is_empty()))
            .map_or(&[], Vec::as_slice)
    }

    /// A condition's type is that of the field it looks at; its elements are its own if something is said about them.
    fn kind(self) -> &'a Kind {
        let Some(base) = self.base else {
            return &self.field.kind;
        };
        match (&base.kind, &self.field.kind) {
            (Kind::Array(_) | Kind::Set(_), Kind::Array(e) | Kind::Set(e))
                if render::says_something(e) =>
            {
                &self.field.kind
            }
            _ => &base.kind,
        }
    }
}

fn shape(said: Said<'_>, v: &Value, cx: Cx) -> Result<(), Value> {
    match (said.kind(), v) {
        (Kind::Array(element) | Kind::Set(element), Value::Array(items)) => {
            elements(element, items, cx)
        }
        (Kind::Array(_), _) => Err("expected an array".into()),
        (Kind::Set(_), _) => Err("expected a set".into()),
        (Kind::Map { keys, values }, Value::Object(map)) => map.iter().try_for_each(|(k, v)| {
            value(keys, None, &Value::from(k.as_str()), cx)?;
            required(values, v, cx)
        }),
        (Kind::Map { .. }, _) => Err("expected a map".into()),
        (Kind::Record(inner), Value::Object(map)) => {
            let wrong = record(inner, map, cx, true);
            if wrong.is_empty() {
                Ok(())
            } else {
                Err(Value::Object(wrong))
            }
        }
        (Kind::Record(_), _) => Err("expected a record".into()),
        (Kind::Foreign(entity), v) => reference(entity, v, cx),
        (Kind::Integer, Value::Number(n)) if n.is_i64() => Ok(()),
        (Kind::Integer, _) => Err("expected an integer".into()),
        (Kind::Number, Value::Number(_))
        | (Kind::Boolean, Value::Bool(_))
        | (Kind::Abstract, _) => Ok(()),
        (Kind::Number, _) => Err("expected a number".into()),
        (Kind::Boolean, _) => Err("expected a boolean".into()),
        // Kong lets it through and its database refuses it.
        (Kind::String, Value::String(s)) if s.contains('\0') => {
            Err("must not contain a null character".into())
        }
        (Kind::String, Value::String(_)) => Ok(()),
        (Kind::String, _) => Err("expected a string".into()),
    }
}

fn required(field: &Field, v: &Value, cx: Cx) -> Result<(), Value> {
    if v.is_null() {
        Err(REQUIRED.into())
    } else {
        value(field, None, v, cx)
    }
}

fn elements(element: &Field, items: &[Value], cx: Cx) -> Result<(), Value> {
    let mut wrong = Vec::new();
    for (i, item) in items.iter().enumerate() {
        if let Err(e) = required(element, item, cx) {
            wrong.resize(i, Value::Null);
            wrong.push(e);
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Value::Array(wrong))
    }
}

fn rules(said: Said<'_>, eq: Option<&Value>, v: &Value) -> Result<(), Value> {
    let fail = |text: String| Err(Value::from(text));
    if let Some(wanted) = eq
        && !same(v, wanted)
    {
        return Err(must_be(wanted));
    }
    if let Some(options) = said.pick(|f| f.not_one_of.as_ref())
        && options.iter().any(|o| same(v, o))
    {
        return fail(format!("must not be one of: {}", list(options)));
    }
    if let Some(options) = said.pick(|f| f.one_of.as_ref())
        && !options.iter().any(|o| same(v, o))
    {
        return fail(format!("expected one of: {}", list(options)));
    }
    if let Some(n) = v.as_f64() {
        if let Some(limit) = said.pick(|f| f.gt)
            && n <= limit
        {
            return fail(format!("value must be greater than {limit}"));
        }
        if said.pick(|f| f.timestamp.then_some(())).is_some() && n <= 0.0 {
            return fail("expected a valid timestamp".into());
        }
        if let Some((low, high)) = said.pick(|f| f.between)
            && (n < low || n > high)
        {
            return fail(format!("value should be between {low} and {high}"));
        }
    }
    if let Value::String(s) = v {
        if said.pick(|f| f.uuid.then_some(())).is_some() && !is_uuid(s) {
            return fail("expected a valid UUID".into());
        }
        if said.pick(|f| f.is_regex.then_some(())).is_some() && !checks::is_regex(s) {
            return fail(format!("not a valid regex: {s}"));
        }
    }
    lengths(said, v)?;
    if let Value::String(s) = v {
        strings(said, s)?;
    }
    if let (Some(wanted), Value::Array(items)) = (said.pick(|f| f.contains.as_ref()), v)
        && !items.contains(wanted)
    {
        return fail(format!("expected to contain: {}", lua_text(wanted)));
    }
    for check in said
        .pick(|f| Some(&f.custom).filter(|c| !c.is_empty()))
        .into_iter()
        .flatten()
    {
        check(v).map_err(Value::from)?;
    }
    if let (Some(groups), Value::Array(items)) =
        (said.pick(|f| f.mutually_exclusive_subsets.as_ref()), v)
    {
        let mut used: Vec<usize> = Vec::new();
        for item in items.iter().filter_map(Value::as_str) {
            let group = groups.iter().rposition(|g| g.contains(&item));
            used.extend(group.filter(|g| !used.contains(g)));
        }
        if used.len() > 1 {
            let used: Vec<String> = used
                .iter()
                .map(|g| format!("({})", quoted(&groups[*g])))
                .collect();
            return fail(format!(
                "these sets are mutually exclusive: {}",
                used.join(", ")
            ));
        }
    }
    Ok(())
}

fn lengths(said: Said<'_>, v: &Value) -> Result<(), Value> {
    let length = match v {
        Value::String(s) => s.len(),
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        _ => return Ok(()),
    };
    // Empty strings are refused unless the definition says otherwise.
    let least = said.pick(|f| f.len_min).or(v.is_string().then_some(1));
    if let Some(n) = said.pick(|f| f.len_eq).filter(|n| length != *n) {
        return Err(format!("length must be {n}").into());
    }
    if let Some(n) = least.filter(|n| length < *n) {
        return Err(format!("length must be at least {n}").into());
    }
    if let Some(n) = said.pick(|f| f.len_max).filter(|n| length > *n) {
        return Err(format!("length must be at most {n}").into());
    }
    Ok(())
}

fn strings(said: Said<'_>, s: &str) -> Result<(), Value> {
    let violated = |p: &Pattern| {
        p.err
            .map_or_else(|| format!("invalid value: {s}"), str::to_owned)
            .into()
    };
    if let Some(prefix) = said
        .pick(|f| f.starts_with)
        .filter(|prefix| !s.starts_with(*prefix))
    {
        return Err(format!("should start with: {prefix}").into());
    }
    if let Some(p) = said
        .patterns(|f| &f.match_none)
        .iter()
        .find(|p| is_match(p.lua, s))
    {
        return Err(violated(p));
    }
    if said
        .pick(|f| f.matches)
        .is_some_and(|lua| !is_match(lua, s))
    {
        let err = said.pick(|f| f.err).map(str::to_owned);
        return Err(err.unwrap_or_else(|| format!("invalid value: {s}")).into());
    }
    if let Some(p) = said
        .patterns(|f| &f.match_all)
        .iter()
        .find(|p| !is_match(p.lua, s))
    {
        return Err(violated(p));
    }
    if let Some((patterns, err)) = said.pick(|f| f.match_any.as_ref())
        && !patterns.iter().any(|lua| is_match(lua, s))
    {
        return Err(err.map_or_else(|| format!("invalid value: {s}").into(), Value::from));
    }
    Ok(())
}

/// The violation of a reference to a row: `{"id": ...}`, or a unique field of that row which the caller resolves.
fn reference(entity: &str, v: &Value, cx: Cx) -> Result<(), Value> {
    let wrong_id = |text: &str| {
        Err(Value::Object(Map::from_iter([(
            "id".to_owned(),
            text.into(),
        )])))
    };
    let Value::Object(map) = v else {
        return wrong_id("missing primary key");
    };
    let id_problem = match map.get("id") {
        Some(Value::String(s)) if is_uuid(s) => return Ok(()),
        Some(Value::String(_)) => "expected a valid UUID",
        Some(Value::Null) => REQUIRED,
        Some(_) => "expected a string",
        None => "missing primary key",
    };
    let Some(other) = cx.catalogue.and_then(|catalogue| catalogue(entity)) else {
        let resolvable = map.iter().any(|(k, v)| k != "id" && v.is_string());
        return if resolvable {
            Ok(())
        } else {
            wrong_id(id_problem)
        };
    };
    if unique_key(other, map, cx).is_some() {
        return Ok(());
    }
    if let Some(variant) = &other.variant
        && let Err(found) = (variant.gate)(map)
    {
        return Err(Value::Object(Violations::from(found).0));
    }
    let wrong = record(&other.record, map, cx, false);
    if wrong.is_empty() {
        wrong_id(id_problem)
    } else {
        Err(Value::Object(wrong))
    }
}

/// Leaves of a reference that was checked only what finds the row: its id, or one unique field.
pub(super) fn reduce_reference(entity: &str, map: &mut Map<String, Value>, cx: Cx) {
    let valid_id = map
        .get("id")
        .and_then(Value::as_str)
        .filter(|s| is_uuid(s))
        .map(str::to_ascii_lowercase);
    if let Some(id) = valid_id {
        *map = Map::from_iter([("id".to_owned(), id.into())]);
        return;
    }
    map.remove("id");
    if let Some(other) = cx.catalogue.and_then(|catalogue| catalogue(entity))
        && let Some(key) = unique_key(other, map, cx)
    {
        map.retain(|k, _| k == key);
    }
}

fn unique_key(other: &EntityDef, map: &Map<String, Value>, cx: Cx) -> Option<&'static str> {
    let unique = |n: &str, f: &Field| f.unique || other.endpoint_key == Some(n);
    let valid = |n: &str, f: &Field| {
        map.get(n)
            .is_some_and(|v| !v.is_null() && value(f, None, v, cx).is_ok())
    };
    other
        .record
        .fields
        .iter()
        .find(|(n, f)| unique(n, f) && valid(n, f))
        .map(|(n, _)| *n)
}

/// The value at a dotted path; `None` when it or what leads to it is missing.
pub(super) fn at<'a>(data: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let first = data.get(parts.next()?)?;
    parts.try_fold(first, |v, part| v.as_object()?.get(part))
}

/// The field at a dotted path.
pub(super) fn field_at<'a>(def: &'a RecordDef, path: &str) -> Option<&'a Field> {
    match path.split_once('.') {
        None => def.get(path),
        Some((head, tail)) => match &def.get(head)?.kind {
            Kind::Record(inner) => field_at(inner, tail),
            _ => None,
        },
    }
}

/// `'a', 'b'`.
pub(super) fn quoted(words: &[&str]) -> String {
    words
        .iter()
        .map(|w| format!("'{w}'"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A value as Lua's `tostring` shows it.
pub(super) fn lua_text(v: &Value) -> String {
    v.as_str().map_or_else(|| v.to_string(), str::to_owned)
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        _ => a == b,
    }
}

fn must_be(wanted: &Value) -> Value {
    format!("value must be {}", lua_text(wanted)).into()
}

fn list(options: &[Value]) -> String {
    options.iter().map(lua_text).collect::<Vec<_>>().join(", ")
}

fn is_uuid(s: &str) -> bool {
    s.len() == 36
        && s.bytes().enumerate().all(|(i, b)| {
            if matches!(i, 8 | 13 | 18 | 23) {
                b == b'-'
            } else {
                b.is_ascii_hexdigit()
            }
        })
}
