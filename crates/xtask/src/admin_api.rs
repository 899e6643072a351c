//! The Admin API page, made of the OpenAPI document: what can be asked where, and which fields rows have.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::repo;

/// The generated part of the page.
pub(crate) fn page() -> Result<Vec<String>> {
    let mut command = repo::cargo(&[
        "run",
        "--quiet",
        "-p",
        "silverback-admin",
        "--example",
        "openapi",
    ]);
    let output = command.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!(
            "the OpenAPI document cannot be made: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let document =
        serde_json::from_slice(&output.stdout).context("the OpenAPI document is no JSON")?;
    Ok(Page { document }.lines())
}

struct Page {
    document: Value,
}

impl Page {
    fn lines(&self) -> Vec<String> {
        let mut out = Vec::new();
        for tag in self.document["tags"].as_array().into_iter().flatten() {
            let name = tag["name"].as_str().unwrap_or_default();
            out.extend([format!("## {name}"), String::new()]);
            if let Some(text) = tag["description"].as_str() {
                out.extend([text.to_owned(), String::new()]);
            }
            out.extend(self.operations(name));
            out.extend(self.rows(name));
        }
        while out.last().is_some_and(String::is_empty) {
            out.pop();
        }
        out
    }

    fn operations(&self, tag: &str) -> Vec<String> {
        let mut rows = Vec::new();
        for (path, item) in object(&self.document["paths"]) {
            // Methods that do the same share a line.
            let mut calls: Vec<(String, Vec<String>, BTreeSet<String>)> = Vec::new();
            for (method, operation) in object(item).iter().filter(|(m, _)| *m != "parameters") {
                if operation["tags"][0] != tag {
                    continue;
                }
                let text = operation["summary"].as_str().unwrap_or_default();
                let text = format!("{}{}", cell(text), self.arguments(operation));
                let answers = object(&operation["responses"]).keys().cloned();
                match calls.iter_mut().find(|(other, ..)| *other == text) {
                    Some((_, methods, all)) => {
                        methods.push(method.to_uppercase());
                        all.extend(answers);
                    }
                    None => calls.push((text, vec![method.to_uppercase()], answers.collect())),
                }
            }
            rows.extend(calls.into_iter().map(|(text, methods, answers)| {
                let answers: Vec<String> = answers.into_iter().collect();
                let (methods, answers) = (methods.join(", "), answers.join(" "));
                format!("| `{methods} {path}` | {text} | {answers} |")
            }));
        }
        table(&["call", "what", "answers"], rows)
    }

    fn arguments(&self, operation: &Value) -> String {
        let names: Vec<String> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|p| self.resolved(p)["name"].as_str())
            .map(|name| format!("`{name}`"))
            .collect();
        if names.is_empty() {
            String::new()
        } else {
            format!(" ({})", names.join(", "))
        }
    }

    /// The fields of an entity's rows, and of each of its kinds.
    fn rows(&self, entity: &str) -> Vec<String> {
        let schemas = object(&self.document["components"]["schemas"]);
        let (Some(shown), Some(new)) = (schemas.get(entity), schemas.get(&format!("{entity}.new")))
        else {
            return Vec::new();
        };
        let Some(kinds) = new["oneOf"].as_array() else {
            return self.fields(shown, new);
        };
        let mut out = Vec::new();
        for (n, kind) in kinds.iter().enumerate() {
            let place = kind["$ref"].as_str().unwrap_or_default();
            let name = place
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .trim_end_matches(".new");
            let (shown, new) = (&schemas[name], self.resolved(kind));
            if n == 0 {
                out.extend(self.fields(&without(shown, "config"), &without(new, "config")));
            }
            let title = new["title"].as_str().unwrap_or_default();
            out.extend([format!("### {entity}: {title}"), String::new()]);
            out.extend(self.fields(&only(shown, "config"), &only(new, "config")));
        }
        out
    }

    /// A table of fields: those that can be written, with what is said about them, and those that are only shown.
    fn fields(&self, shown: &Value, new: &Value) -> Vec<String> {
        let mut rows = Vec::new();
        self.walk(&mut rows, "", new, true);
        let known: Vec<String> = rows.iter().map(|(name, _)| name.clone()).collect();
        let mut only_shown = Vec::new();
        self.walk(&mut only_shown, "", shown, false);
        rows.extend(
            only_shown
                .into_iter()
                .filter(|(name, _)| !known.contains(name)),
        );
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        table(&["field", "type", "default", "what"], rows)
    }

    fn walk(&self, rows: &mut Vec<(String, String)>, above: &str, record: &Value, is_new: bool) {
        for (name, field) in object(&record["properties"]) {
            let place = if above.is_empty() {
                name.clone()
            } else {
                format!("{above}.{name}")
            };
            let default = match field.get("default") {
                Some(default) if !default.is_null() => format!("`{default}`"),
                // Rows in answers have all their fields; only of new ones it is worth saying.
                _ if is_new && required(record, name) => "required".to_owned(),
                _ => String::new(),
            };
            let text = field["description"].as_str().unwrap_or_default();
            let row = format!(
                "| `{place}` | {} | {} | {} |",
                cell(&kind(field)),
                cell(&default),
                cell(text)
            );
            rows.push((place.clone(), row));
            self.walk(rows, &place, field, is_new);
            if field["items"]["properties"].is_object() {
                self.walk(rows, &format!("{place}[]"), &field["items"], is_new);
            }
        }
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let place = value.get("$ref").and_then(Value::as_str);
        place
            .and_then(|place| self.document.pointer(place.trim_start_matches('#')))
            .unwrap_or(value)
    }
}

fn required(record: &Value, name: &str) -> bool {
    record["required"]
        .as_array()
        .is_some_and(|all| all.iter().any(|n| n == name))
}

/// A type in words.
fn kind(field: &Value) -> String {
    if let Some(ways) = field["anyOf"].as_array() {
        let mut words: Vec<String> = ways.iter().map(kind).collect();
        words.dedup();
        return words.join(" or ");
    }
    if let Some(word) = field.get("const") {
        return format!("`{word}`");
    }
    let (types, null): (Vec<&str>, bool) = match &field["type"] {
        Value::String(one) => (vec![one], false),
        Value::Array(all) => (
            all.iter()
                .filter_map(Value::as_str)
                .filter(|t| *t != "null")
                .collect(),
            all.iter().any(|t| t == "null"),
        ),
        _ => (vec!["anything"], false),
    };
    let mut text = match types.first().copied().unwrap_or_default() {
        "string" if field["format"] == "uuid" => "UUID".to_owned(),
        "string" => "text".to_owned(),
        "array" => format!("list of {}", kind(&field["items"])),
        "object" if field["additionalProperties"].is_object() => {
            format!("map of {}", kind(&field["additionalProperties"]))
        }
        "object" if required(field, "id") && object(&field["properties"]).len() == 1 => {
            "`{\"id\"}`".to_owned()
        }
        "object" if object(&field["properties"]).len() == 1 => {
            let name = object(&field["properties"])
                .keys()
                .next()
                .map_or("", String::as_str);
            format!("`{{\"{name}\"}}`")
        }
        "object" => "record".to_owned(),
        other => other.to_owned(),
    };
    if let Some(values) = field["enum"].as_array() {
        let words: Vec<String> = values
            .iter()
            .filter(|v| !v.is_null())
            .map(|v| {
                format!(
                    "`{}`",
                    v.as_str().map_or_else(|| v.to_string(), str::to_owned)
                )
            })
            .collect();
        text = words.join(", ");
    }
    match (
        field.get("minimum"),
        field.get("maximum"),
        field.get("exclusiveMinimum"),
    ) {
        (Some(low), Some(high), _) => text = format!("{text}, {low} to {high}"),
        (_, _, Some(low)) => text = format!("{text}, more than {low}"),
        _ => {}
    }
    if null {
        format!("{text}, or null")
    } else {
        text
    }
}

/// The schema with one property less.
fn without(schema: &Value, name: &str) -> Value {
    let mut out = schema.clone();
    if let Some(properties) = out["properties"].as_object_mut() {
        properties.shift_remove(name);
        // Its kind is in the heading.
        if let Some(kind) = properties.get_mut("name").and_then(Value::as_object_mut) {
            kind.shift_remove("const");
        }
    }
    out
}

/// The schema with one property only.
fn only(schema: &Value, name: &str) -> Value {
    let mut out = schema.clone();
    if let Some(properties) = out["properties"].as_object_mut() {
        properties.retain(|other, _| other == name);
    }
    out
}

fn table(heads: &[&str], rows: Vec<String>) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let mut out = vec![
        format!("| {} |", heads.join(" | ")),
        format!("|{}", "---|".repeat(heads.len())),
    ];
    out.extend(rows);
    out.push(String::new());
    out
}

/// Text that may stand in a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn object(value: &Value) -> &Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    value.as_object().unwrap_or(&NONE)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_has_calls_and_fields() {
        let document = json!({
            "tags": [{ "name": "things", "description": "All things." }],
            "paths": { "/things": {
                "get": { "tags": ["things"], "summary": "List things", "responses": { "200": {}, "400": {} },
                    "parameters": [{ "$ref": "#/components/parameters/size" }] },
                "put": { "tags": ["things"], "summary": "Refused", "responses": { "400": {} } },
                "post": { "tags": ["things"], "summary": "Refused", "responses": { "405": {} } },
                "parameters": [],
            } },
            "components": {
                "parameters": { "size": { "name": "size" } },
                "schemas": {
                    "things": { "properties": { "a": {}, "seen": { "type": "boolean" } }, "required": ["a", "seen"] },
                    "things.new": { "required": ["a"], "properties": {
                        "a": { "type": "string", "description": "An a|b." },
                        "b": { "type": ["integer", "null"], "minimum": 0, "maximum": 9, "default": 5 },
                        "c": { "type": "object", "properties": { "d": { "type": "array", "items": { "type": "string" } }, "e": {} } },
                    } },
                },
            },
        });
        assert_eq!(
            Page { document }.lines(),
            [
                "## things",
                "",
                "All things.",
                "",
                "| call | what | answers |",
                "|---|---|---|",
                "| `GET /things` | List things (`size`) | 200 400 |",
                "| `PUT, POST /things` | Refused | 400 405 |",
                "",
                "| field | type | default | what |",
                "|---|---|---|---|",
                "| `a` | text | required | An a\\|b. |",
                "| `b` | integer, 0 to 9, or null | `5` |  |",
                "| `c` | record |  |  |",
                "| `c.d` | list of text |  |  |",
                "| `c.e` | anything |  |  |",
                "| `seen` | boolean |  |  |",
            ]
        );
    }
}
