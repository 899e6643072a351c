//! Paths: what can be done where, with what, and what is answered.

use http::Method;
use serde_json::{Map, Value, json};
use silverback_plugin::AdminEndpoint;

use super::components::{ANSWERS, schema};
use super::described::{self, Described};
use super::{examples, is_nothing};
use crate::change;
use crate::model::{Entity, Model};
use crate::table::{Endpoint, Target};

/// Answers that everything may get which asks the database.
const ANY: [u16; 2] = [400, 503];
/// And what is sent with a body.
const WITH_BODY: [u16; 3] = [408, 413, 415];

/// The operations of an endpoint, by method in small letters; none where there is nothing.
pub(super) fn path_item(model: &Model, endpoint: &Endpoint) -> Map<String, Value> {
    let mut item = Map::new();
    if is_nothing(endpoint.target) {
        return item;
    }
    for method in methods(endpoint) {
        let mut operation = match rows(model, endpoint.target, &method) {
            Some(of_rows) => of_rows,
            None => described(model, endpoint.target, &method).build(),
        };
        terms(&mut operation, endpoint.target, &method);
        operation["operationId"] = id(&endpoint.path, &method).into();
        item.insert(method.as_str().to_ascii_lowercase(), operation);
    }
    let parameters = parameters(model, endpoint);
    if !parameters.is_empty() {
        item.insert("parameters".into(), parameters.into());
    }
    item
}

fn described(model: &Model, target: Target, method: &Method) -> Described {
    let of_plugin = of_plugin(model, target).and_then(|(plugin, endpoint)| {
        let operation = endpoint.operation(method)?;
        Some(described::of_plugin(plugin, operation))
    });
    of_plugin.unwrap_or_else(|| described::operation(target, method))
}

/// The endpoint of a plugin, and which plugin's.
fn of_plugin(model: &Model, target: Target) -> Option<(&'static str, &AdminEndpoint)> {
    let Target::OfPlugin { plugin, nth } = target else {
        return None;
    };
    let endpoint = model.plugin(plugin)?.plugin.endpoints.get(nth)?;
    Some((plugin, endpoint))
}

/// What Kong does not know: writes that are only tried, and only done if the row is still the one that the client saw.
fn terms(operation: &mut Value, target: Target, method: &Method) {
    let is_one = matches!(
        target,
        Target::Row { .. } | Target::RowBelow { .. } | Target::Hop { .. }
    );
    let is_rows = is_one || matches!(target, Target::Collection { .. } | Target::Below { .. });
    let is_write = *method != Method::GET;
    // Whether there are tokens, and whether it is known which, is the node's affair.
    add_answer(operation, 401);
    add_answer(operation, 503);
    if is_write {
        add_answer(operation, 403);
        // Where the condition cannot be kept it is refused in the same way.
        add_answer(operation, 412);
    }
    let mut asked = Vec::new();
    if is_write && change::can_be_tried(target) {
        asked.push("dry_run");
    }
    if is_write && is_one {
        asked.push("If-Match");
    }
    for name in asked {
        let parameter = json!({ "$ref": format!("#/components/parameters/{name}") });
        match operation
            .get_mut("parameters")
            .and_then(Value::as_array_mut)
        {
            Some(all) => all.push(parameter),
            None => operation["parameters"] = json!([parameter]),
        }
    }
    if !is_rows {
        return;
    }
    if is_write {
        // A node without a database has its configuration from `/config` only.
        add_answer(operation, 405);
    }
    let headers: &[&str] = match (is_write, is_one || *method == Method::POST) {
        (true, true) => &["ETag", "Silverback-Revision", "Silverback-Dry-Run"],
        (false, true) => &["ETag"],
        _ => &[],
    };
    for status in ["200", "201"] {
        if let Some(answer) = operation["responses"].get_mut(status) {
            for name in headers {
                answer["headers"][name] = json!({ "$ref": format!("#/components/headers/{name}") });
            }
        }
    }
}

/// Methods that are documented one by one.
pub(super) fn methods(endpoint: &Endpoint) -> Vec<Method> {
    [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ]
    .into_iter()
    .filter(|m| endpoint.allows(m))
    .collect()
}

/// `get_services_services_routes`
fn id(path: &str, method: &Method) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|w| !w.is_empty()).collect();
    let place = if words.is_empty() {
        "root".to_owned()
    } else {
        words.join("_")
    };
    format!("{}_{place}", method.as_str().to_ascii_lowercase())
}

/// The parameters in a path.
fn parameters(model: &Model, endpoint: &Endpoint) -> Vec<Value> {
    let names = endpoint
        .path
        .split('/')
        .filter_map(|s| s.strip_prefix('{').and_then(|s| s.strip_suffix('}')));
    names
        .map(|name| {
            let text = match model.get(name) {
                Some(entity) => named_by(entity),
                None => match of_plugin(model, endpoint.target) {
                    Some((_, own)) => own
                        .parameters
                        .iter()
                        .find(|(n, _)| *n == name)
                        .map(|(_, text)| (*text).to_owned())
                        .unwrap_or_default(),
                    None => described::parameter(endpoint.target, name).to_owned(),
                },
            };
            let mut parameter = json!({
                "name": name, "in": "path", "required": true, "description": text,
                "schema": { "type": "string", "minLength": 1 },
            });
            let example = match model.get(name) {
                Some(entity) => examples::name(model, entity),
                None => described::example(endpoint.target),
            };
            if let Some(example) = example {
                parameter["example"] = example;
            }
            parameter
        })
        .collect()
}

/// How a row is named in paths.
fn named_by(entity: &Entity) -> String {
    match entity.def.endpoint_key.filter(|k| *k != "id") {
        Some(key) => format!("The `id` or the `{key}`."),
        None => "The `id`.".to_owned(),
    }
}

/// Operations on rows; `None` for other endpoints.
fn rows(model: &Model, target: Target, method: &Method) -> Option<Value> {
    let found = |name: &str| model.get(name);
    let answers: &[u16];
    let place: String;
    let (tag, entity) = match target {
        Target::Collection { entity } => {
            (answers, place) = (&[], String::new());
            (entity, found(entity)?)
        }
        Target::Row { entity } => {
            (answers, place) = (&[404], String::new());
            (entity, found(entity)?)
        }
        Target::Below { parent, entity, .. } | Target::RowBelow { parent, entity, .. } => {
            (answers, place) = (&[404], format!(" of one of the {parent}"));
            (entity, found(entity)?)
        }
        Target::Hop { entity, field, to } => {
            (answers, place) = (
                &[404],
                format!(" that one of the {entity} has as `{field}`"),
            );
            (entity, found(to)?)
        }
        _ => return None,
    };
    let name = entity.def.name;
    let is_list = matches!(target, Target::Collection { .. } | Target::Below { .. });
    let is_target = name == "targets";
    let mut out = match *method {
        Method::GET if is_list => operation(
            tag,
            format!("List {name}{place}"),
            200,
            &format!("{name}.page"),
            &[],
        ),
        Method::GET => operation(
            tag,
            format!("Read one of the {name}{place}"),
            200,
            name,
            &[],
        ),
        Method::POST => operation(
            tag,
            format!("Make one of the {name}{place}"),
            201,
            name,
            &[409],
        ),
        // Targets are changed by PUT.
        Method::PUT if is_target => operation(
            tag,
            format!("Change one of the {name}{place}"),
            200,
            name,
            &[409],
        ),
        Method::PUT => operation(
            tag,
            format!("Make or replace one of the {name}{place}"),
            200,
            name,
            &[409],
        ),
        Method::PATCH => operation(
            tag,
            format!("Change one of the {name}{place}"),
            200,
            name,
            &[409],
        ),
        // What a row points at cannot be deleted through it.
        Method::DELETE if matches!(target, Target::Hop { .. }) => refused(
            tag,
            format!("Refused: the {name}{place} cannot be deleted here"),
            405,
        ),
        Method::DELETE => gone(tag, format!("Delete one of the {name}{place}")),
        _ => return None,
    };
    for status in answers {
        add_answer(&mut out, *status);
    }
    match *method {
        Method::GET if is_list => out["parameters"] = query(entity, target).into(),
        Method::POST => out["requestBody"] = body(&created(entity, target), true),
        Method::PUT if is_target => {
            out["requestBody"] = body(&schema(&format!("{name}.change")), false)
        }
        Method::PUT => out["requestBody"] = body(&schema(&format!("{name}.new")), false),
        Method::PATCH => out["requestBody"] = body(&schema(&format!("{name}.change")), false),
        _ => {}
    }
    if out.get("requestBody").is_some() {
        for status in WITH_BODY {
            add_answer(&mut out, status);
        }
        let said = match target {
            Target::Below { field, .. } | Target::RowBelow { field, .. } => Some(field),
            _ => None,
        };
        if let Some(row) = examples::row(model, entity, said) {
            out["requestBody"]["content"]["application/json"]["example"] = row;
        }
    }
    Some(out)
}

/// A new row: what it hangs on has to be said unless the path says it.
fn created(entity: &Entity, target: Target) -> Value {
    let own = schema(&format!("{}.new", entity.def.name));
    let said = match target {
        Target::Below { field, .. } => Some(field),
        _ => None,
    };
    let missing: Vec<&str> = entity
        .def
        .foreign_keys()
        .map(|(field, ..)| field)
        .filter(|field| Some(*field) != said)
        .filter(|field| entity.def.field(field).is_some_and(|f| f.is_required()))
        .collect();
    if missing.is_empty() {
        own
    } else {
        json!({ "allOf": [own, { "type": "object", "required": missing }] })
    }
}

/// Arguments of a collection.
fn query(entity: &Entity, target: Target) -> Vec<Value> {
    let shared = |name: &str| json!({ "$ref": format!("#/components/parameters/{name}") });
    let mut out = vec![shared("size"), shared("offset")];
    // Below another row the filter is checked and not applied, as in Kong.
    if matches!(target, Target::Collection { .. }) && entity.def.has_tags() {
        out.push(shared("tags"));
    }
    if matches!(target, Target::Collection { .. }) && entity.def.name == "consumers" {
        out.push(json!({
            "name": "custom_id", "in": "query", "description": "Only the consumer with this `custom_id`.",
            "schema": { "type": "string", "minLength": 1 },
        }));
    }
    out
}

fn operation(tag: &str, summary: String, status: u16, answer: &str, more: &[u16]) -> Value {
    let text = if status == 201 { "made" } else { "as asked" };
    let mut out = json!({
        "tags": [tag], "summary": summary,
        "responses": { status.to_string(): json_answer(text, &schema(answer)) },
    });
    for status in ANY.iter().chain(more) {
        add_answer(&mut out, *status);
    }
    out
}

fn gone(tag: &str, summary: String) -> Value {
    let mut out = json!({ "tags": [tag], "summary": summary, "responses": {} });
    for status in [204].iter().chain(&ANY) {
        add_answer(&mut out, *status);
    }
    out
}

fn refused(tag: &str, summary: String, status: u16) -> Value {
    let mut out = json!({ "tags": [tag], "summary": summary, "responses": {} });
    for status in [status].iter().chain(&ANY) {
        add_answer(&mut out, *status);
    }
    out
}

/// An answer with a body.
pub(super) fn json_answer(text: &str, schema: &Value) -> Value {
    json!({ "description": text, "content": { "application/json": { "schema": schema } } })
}

/// One of the shared answers.
pub(super) fn add_answer(operation: &mut Value, status: u16) {
    debug_assert!(ANSWERS.iter().any(|(s, _)| *s == status));
    operation["responses"][status.to_string()] =
        json!({ "$ref": format!("#/components/responses/{status}") });
}

/// An error that comes as JSON or, without a body, as nginx's page.
fn either(status: u16) -> Value {
    let text = ANSWERS.iter().find(|(s, _)| *s == status);
    json!({
        "description": text.map_or("", |(_, text)| text),
        "content": {
            "application/json": { "schema": schema("error") },
            "text/html": { "schema": { "type": "string" } },
        },
    })
}

/// A body, in each way in which it may be written.
pub(super) fn body(schema: &Value, required: bool) -> Value {
    let written = json!({ "schema": schema });
    json!({
        "required": required,
        "content": {
            "application/json": written,
            "application/x-www-form-urlencoded": written,
            "multipart/form-data": written,
        },
    })
}

impl Described {
    fn build(self) -> Value {
        let mut out = json!({ "tags": [self.tag], "summary": self.summary, "responses": {} });
        if let Some((status, schema)) = self.answer {
            out["responses"][status.to_string()] = if self.is_text {
                json!({ "description": "as asked", "content": { "text/plain": { "schema": schema } } })
            } else {
                json_answer("as asked", &schema)
            };
        }
        if self.has_pages {
            // A path that is no text, `dry_run`.
            add_answer(&mut out, 400);
        }
        for status in self.also {
            add_answer(&mut out, *status);
            if self.has_pages && *status >= 400 {
                out["responses"][status.to_string()] = either(*status);
            }
        }
        if !self.query.is_empty() {
            out["parameters"] = self.query.into();
        }
        if let Some(schema) = self.json_body {
            let mut written = json!({ "schema": schema });
            if let Some(example) = self.example {
                written["example"] = example;
            }
            out["requestBody"] =
                json!({ "required": true, "content": { "application/json": written } });
            for status in WITH_BODY {
                add_answer(&mut out, status);
            }
        }
        if let Some(schema) = self.body {
            out["requestBody"] = body(&schema, false);
            for status in WITH_BODY {
                add_answer(&mut out, status);
            }
        }
        out
    }
}
