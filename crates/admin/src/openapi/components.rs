//! Schemas of rows, of errors and of pages, and the answers that many operations share.

use serde_json::{Map, Value, json};
use silverback_entities::VAULT_KINDS;
use silverback_schema::EntityDef;

use super::fields::{self, Shape};
use crate::model::{Entity, Model, PLUGINS, VAULTS};

/// A schema's place.
pub(super) fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// `components`.
pub(super) fn all(model: &Model) -> Value {
    let mut schemas = Map::new();
    for entity in model.iter().filter(|e| e.def.in_api) {
        for shape in Shape::ALL {
            let name = format!("{}{}", entity.def.name, shape.suffix());
            let kinds = kinds(model, entity, shape);
            let row = if kinds.is_empty() {
                rows_of(model, &entity.def, shape)
            } else {
                let choice = choice(&kinds, shape, &rows_of(model, &entity.def, shape));
                schemas.extend(kinds.into_iter().map(|k| (k.component, k.schema)));
                choice
            };
            schemas.insert(name, row);
        }
        schemas.insert(
            format!("{}.page", entity.def.name),
            page(&schema(entity.def.name)),
        );
    }
    schemas.extend(common());
    json!({ "schemas": schemas, "responses": answers(), "parameters": parameters(), "headers": headers() })
}

/// Rows of one kind: of a plugin, of a kind of vault.
struct OfKind {
    kind: &'static str,
    component: String,
    schema: Value,
}

fn kinds(model: &Model, entity: &Entity, shape: Shape) -> Vec<OfKind> {
    let all: Vec<(&'static str, &EntityDef)> = match entity.def.name {
        PLUGINS => {
            let mut all: Vec<_> = model.plugins().map(|p| (p.plugin.name, &p.def)).collect();
            all.sort_unstable_by_key(|(name, _)| *name);
            all
        }
        VAULTS => VAULT_KINDS.iter().map(|(name, def)| (*name, def)).collect(),
        _ => Vec::new(),
    };
    let of = |(kind, def): (&'static str, &EntityDef)| {
        let mut schema = rows_of(model, def, shape);
        // The name tells the kinds apart.
        schema["properties"]["name"] = json!({ "const": kind, "type": "string" });
        schema["title"] = kind.into();
        let component = format!("{}.{kind}{}", entity.def.name, shape.suffix());
        OfKind {
            kind,
            component,
            schema,
        }
    };
    all.into_iter().map(of).collect()
}

/// One of the kinds. A row of a plugin that is there no more is still shown, with whatever configuration it has.
fn choice(kinds: &[OfKind], shape: Shape, any: &Value) -> Value {
    let mut ways: Vec<Value> = kinds.iter().map(|k| schema(&k.component)).collect();
    let mapping: Map<String, Value> = kinds
        .iter()
        .map(|k| {
            let place = format!("#/components/schemas/{}", k.component);
            (k.kind.to_owned(), place.into())
        })
        .collect();
    match shape {
        // Without a name in it a change fits several.
        Shape::Change => json!({ "anyOf": ways }),
        Shape::New => json!({
            "oneOf": ways, "discriminator": { "propertyName": "name", "mapping": mapping },
        }),
        Shape::Shown => {
            let names: Vec<&str> = kinds.iter().map(|k| k.kind).collect();
            let mut other = any.clone();
            other["properties"]["name"] = json!({ "type": "string", "not": { "enum": names } });
            other["title"] = "of a kind that is not loaded".into();
            ways.push(other);
            json!({ "oneOf": ways })
        }
    }
}

fn rows_of(model: &Model, def: &EntityDef, shape: Shape) -> Value {
    let names = |entity: &str| {
        let found = model.get(entity);
        found.map_or_else(Vec::new, |e| e.unique_fields().collect())
    };
    fields::row(def, shape, &names)
}

/// A page of a collection.
pub(super) fn page(row: &Value) -> Value {
    json!({
        "type": "object",
        "properties": {
            "data": { "type": "array", "items": row },
            "next": { "type": ["string", "null"], "description": "The path of the next page; null on the last." },
            "offset": { "type": "string", "description": "Where the next page begins; not there on the last." },
        },
        "required": ["data", "next"],
        "additionalProperties": false,
    })
}

fn common() -> Vec<(String, Value)> {
    let error = json!({
        "type": "object",
        "properties": {
            "message": { "type": "string", "description": "What is wrong, for people." },
            "name": { "type": "string", "description": "The kind of error." },
            "code": { "type": "integer", "minimum": 1, "description": "Kong's number of the kind." },
            "fields": {
                "type": "object",
                "description": "What is wrong, by field; nested as the row is. `@entity` holds what is wrong with several fields together.",
            },
            "operation": {
                "type": "object",
                "description": "Which operation of a batch is meant.",
                "properties": { "index": { "type": "integer" }, "method": { "type": "string" }, "path": { "type": "string" } },
            },
            "options": { "type": "object", "description": "What is wrong with arguments of the query, by their names." },
        },
        "required": ["message"],
    });
    let message = json!({
        "type": "object", "properties": { "message": { "type": "string" } }, "required": ["message"], "additionalProperties": false,
    });
    let field_schemas = json!({
        "type": "object",
        "description": "A schema in Kong's form: fields, each an object with one key, and checks over several fields.",
        "properties": {
            "fields": { "type": "array", "items": { "type": "object", "minProperties": 1, "maxProperties": 1 } },
            "entity_checks": { "type": "array", "items": { "type": "object" } },
        },
        "required": ["fields"],
    });
    let tag = json!({
        "type": "object",
        "properties": {
            "tag": { "type": "string" },
            "entity_name": { "type": "string", "description": "The kind of row that carries it." },
            "entity_id": { "type": "string", "format": "uuid" },
        },
        "required": ["tag", "entity_name", "entity_id"],
        "additionalProperties": false,
    });
    let health = json!({ "type": "string", "enum": ["HEALTHY", "UNHEALTHY", "HEALTHCHECKS_OFF", "DNS_ERROR"] });
    let revision = json!({
        "type": "object",
        "properties": revision_head(),
        "required": ["revision", "at", "who", "inserted", "updated", "deleted", "entities"],
        "additionalProperties": false,
    });
    let mut whole = revision.clone();
    whole["properties"]["changes"] = json!({ "type": "array", "items": {
        "type": "object",
        "properties": {
            "entity": { "type": "string" }, "id": { "type": "string", "format": "uuid" },
            "operation": { "type": "string", "enum": ["insert", "update", "delete"] },
            "fields": { "type": ["array", "null"], "items": { "type": "string" }, "description": "Which fields an update changed." },
            "before": { "type": ["object", "null"], "description": "The row as it was, without its secrets." },
            "after": { "type": ["object", "null"], "description": "The row as it became, without its secrets." },
        },
        "required": ["entity", "id", "operation", "fields", "before", "after"],
        "additionalProperties": false,
    } });
    [
        ("revision", revision),
        ("revision.whole", whole),
        ("revision.page", page(&schema("revision"))),
        ("tag.page", page(&schema("tag"))),
        ("error", error),
        ("message", message),
        ("schema", field_schemas),
        ("tag", tag),
        ("health", health),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into()
}

fn revision_head() -> Value {
    let count = json!({ "type": "integer", "minimum": 0 });
    json!({
        "revision": { "type": "integer" },
        "at": { "type": ["number", "null"], "description": "Seconds since 1970." },
        "who": { "type": ["string", "null"], "description": "`token:<name>`, `certificate:<subject>` or `address:<ip>`." },
        "inserted": count, "updated": count, "deleted": count,
        "entities": { "type": "array", "items": { "type": "string" } },
    })
}

/// Answers that several operations have in common, by status.
pub(super) const ANSWERS: [(u16, &str); 15] = [
    (204, "done; or there was nothing to do"),
    (304, "it is so already"),
    (400, "the request cannot be understood or breaks a rule"),
    (401, "a token or a client certificate is needed"),
    (403, "the token may only read"),
    (404, "no such row"),
    (405, "not with this method, or not without a database"),
    (408, "the body did not arrive in time"),
    (
        409,
        "another row has the same value of a unique field, or what happened since is in the way",
    ),
    (412, "the row is not of a version that If-Match names"),
    (413, "the body is larger than 10 MiB"),
    (415, "the body is neither JSON nor a form"),
    (429, "another one is at it; try again in a second"),
    (501, "not on this node"),
    (503, "the database cannot be reached"),
];

fn answers() -> Value {
    let of = |(status, text): &(u16, &str)| {
        let mut answer = json!({ "description": text });
        match status {
            204 | 304 => {}
            // As nginx says it for Kong.
            415 => answer["content"] = json!({ "text/html": { "schema": { "type": "string" } } }),
            _ => answer["content"] = json!({ "application/json": { "schema": schema("error") } }),
        }
        (status.to_string(), answer)
    };
    Value::Object(ANSWERS.iter().map(of).collect())
}

/// Headers of answers.
fn headers() -> Value {
    let text = |text: &str| json!({ "description": text, "schema": { "type": "string" } });
    json!({
        "ETag": text("The version of the row, for `If-Match`."),
        "Silverback-Revision": text("The revision of what was written."),
        "Silverback-Dry-Run": text("`true` when nothing was written."),
    })
}

/// Parameters that operations share.
fn parameters() -> Value {
    json!({
        "size": {
            "name": "size", "in": "query", "description": "Rows on a page.",
            "schema": { "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 },
        },
        "offset": {
            "name": "offset", "in": "query", "description": "Where the page begins: `offset` of the page before it.",
            "schema": { "type": "string" },
        },
        "dry_run": {
            "name": "dry_run", "in": "query", "description": "`true`: check everything, answer as if, write nothing.",
            "schema": { "type": "boolean", "default": false },
        },
        "If-Match": {
            "name": "If-Match", "in": "header",
            "description": "Only if the row is still of this version (`ETag`), or of one of several separated by commas; `*`: of any.",
            "schema": { "type": "string" },
        },
        "tags": {
            "name": "tags", "in": "query",
            "description": "Only rows with these tags: all of them when separated by commas, any of them when separated by slashes; at most five.",
            "schema": { "type": "string", "minLength": 1 },
        },
    })
}
