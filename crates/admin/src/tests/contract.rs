//! Answers against the document that `GET /openapi.json` answers.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use http::Method;
use jsonschema::Validator;
use serde_json::{Value, json};

use super::harness::{Api, Got, entities, plugins};
use crate::openapi_document;

/// What the document says, ready to be asked.
pub(super) struct Contract {
    document: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// The document of the harness's API.
pub(super) fn contract() -> &'static Contract {
    static CONTRACT: LazyLock<Contract> = LazyLock::new(|| Contract {
        document: openapi_document(entities(), plugins(), "1.2.3"),
        validators: Mutex::default(),
    });
    &CONTRACT
}

impl Contract {
    /// Fails the test when the answer is not one of those that the document names.
    #[track_caller]
    pub(super) fn check(&self, method: &Method, path: &str, got: &Got) {
        if *method == Method::OPTIONS || got.status == 500 {
            // Not documented one by one; and asked for by a test.
            return;
        }
        let method = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let Some((template, item)) = self.find(path) else {
            // Who may not come in is not told what there is.
            assert!([401, 404].contains(&got.status), "{path} is not documented");
            return;
        };
        let line = format!("{method} {template}: {}", got.status);
        let Some(operation) = item.get(method.as_str().to_ascii_lowercase()) else {
            assert!([401, 403, 405].contains(&got.status), "{line}");
            return;
        };
        let answer = &operation["responses"][got.status.to_string()];
        assert!(answer.is_object(), "{line} is not documented: {}", got.body);
        let answer = self.resolved(answer);
        let Some(content) = answer.get("content") else {
            assert!(got.body.is_null(), "{line}: a body: {}", got.body);
            return;
        };
        let kind = got
            .header("content-type")
            .split(';')
            .next()
            .unwrap_or_default();
        let schema = &content[kind]["schema"];
        assert!(schema.is_object(), "{line}: {kind} is not documented");
        if got.body.is_null() {
            // The answer to HEAD.
            return;
        }
        let validator = self.validator(schema);
        let wrong: Vec<String> = validator
            .iter_errors(&got.body)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(
            wrong.is_empty(),
            "{line}: {}\n{}",
            wrong.join("\n"),
            got.body
        );
    }

    /// The documented path that a path is an instance of: of several the one with fewest parameters.
    fn find(&self, path: &str) -> Option<(&String, &Value)> {
        if path.contains("//") {
            return None;
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let segments: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let template: Vec<&str> = template.trim_end_matches('/').split('/').collect();
            template.len() == segments.len()
                && template
                    .iter()
                    .zip(&segments)
                    .all(|(t, s)| t.starts_with('{') || t == s)
        };
        let paths = self.document["paths"].as_object()?;
        paths
            .iter()
            .filter(|(template, _)| fits(template))
            .min_by_key(|(template, _)| {
                template
                    .split('/')
                    .map(|s| s.starts_with('{'))
                    .collect::<Vec<_>>()
            })
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(place) => self
                .document
                .pointer(place.trim_start_matches('#'))
                .unwrap_or_else(|| panic!("{place} leads nowhere")),
            None => value,
        }
    }

    /// A validator of a schema of the document.
    pub(super) fn validator(&self, schema: &Value) -> Arc<Validator> {
        let mut all = self.validators.lock().unwrap();
        let made = all.entry(schema.to_string()).or_insert_with(|| {
            let whole = json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "allOf": [schema],
                "components": self.document["components"],
            });
            Arc::new(jsonschema::validator_for(&whole).unwrap())
        });
        made.clone()
    }
}

/// With its parameters replaced by their examples.
fn filled(path: &str, item: &Value) -> Option<String> {
    let mut out = path.to_owned();
    for parameter in item["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str()?;
        out = out.replace(&format!("{{{name}}}"), parameter["example"].as_str()?);
    }
    Some(out)
}

#[tokio::test]
async fn examples_are_accepted() {
    let api = Api::new().await;
    let paths = contract().document["paths"].as_object().unwrap();
    let with_example = entities().into_iter().filter(|def| def.example.is_some());
    for def in with_example {
        let below = def.nested.first().map(|n| format!("/{}", n.segment));
        let (path, item) = paths
            .get_key_value(&format!("/{}", def.collection))
            .or_else(|| {
                paths
                    .iter()
                    .find(|(p, _)| below.as_ref().is_some_and(|b| p.ends_with(b)))
            })
            .unwrap();
        let body = &item["post"]["requestBody"]["content"]["application/json"]["example"];
        assert!(body.is_object(), "{} has no example", def.name);
        let made = api.post(&filled(path, item).unwrap(), body.clone()).await;
        made.expect(201);
        let one = format!("{path}/{{{}}}", def.name);
        let item = &paths[&one];
        // What it is called in paths is how it is found.
        api.get(&filled(&one, item).unwrap()).await.expect(200);
    }
}
