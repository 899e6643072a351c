//! The document as a whole.

use std::collections::BTreeSet;

use silverback_entities::CORE;
use silverback_plugin::PluginDef;
use silverback_schema::EntityDef;
use silverback_schema::field::{foreign, id, string};

use super::*;

fn plugins() -> Vec<PluginDef> {
    silverback_bundled::all()
}

fn entities() -> Vec<EntityDef> {
    let mut all = CORE.clone();
    all.extend(plugins().into_iter().flat_map(|p| p.entities));
    all
}

fn whole() -> Value {
    openapi_document(entities(), plugins(), "1.2.3")
}

#[test]
fn every_endpoint_is_in_the_document_and_nothing_else() {
    let model = Model::new(entities(), plugins());
    let served: BTreeSet<String> = table::endpoints(&model)
        .iter()
        .filter(|e| !is_nothing(e.target))
        .flat_map(|e| {
            let methods = e
                .allow
                .split(", ")
                .filter(|m| !matches!(*m, "HEAD" | "OPTIONS"));
            methods
                .map(|m| format!("{m} {}", e.path))
                .collect::<Vec<_>>()
        })
        .collect();
    let document = whole();
    let told: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item
                .as_object()
                .unwrap()
                .keys()
                .filter(|k| *k != "parameters");
            methods
                .map(|m| format!("{} {path}", m.to_ascii_uppercase()))
                .collect::<Vec<_>>()
        })
        .collect();
    let missing: Vec<_> = served.difference(&told).collect();
    let invented: Vec<_> = told.difference(&served).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "{missing:?} {invented:?}"
    );
}

#[test]
fn it_is_valid_openapi_3_1() {
    let official: Value =
        serde_json::from_str(include_str!("../../testdata/openapi_3_1.json")).unwrap();
    let document = whole();
    let validator = jsonschema::validator_for(&official).unwrap();
    let wrong: Vec<String> = validator
        .iter_errors(&document)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What it leaves to others: that schemas are schemas, and references lead somewhere.
    let mut schemas = 0;
    visit(&document, &mut |key, value| {
        if key == "schema" {
            schemas += 1;
            assert!(jsonschema::meta::is_valid(value), "{value}");
        }
        if key == "$ref" {
            let place = value.as_str().unwrap().trim_start_matches('#');
            assert!(document.pointer(place).is_some(), "{place}");
        }
    });
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::meta::is_valid(schema), "{name}");
    }
    assert!(schemas > 100, "{schemas}");
}

fn visit(value: &Value, found: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                found(key, value);
                visit(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|v| visit(v, found)),
        _ => {}
    }
}

#[test]
fn operations_have_names_of_their_own_tags_that_exist_and_all_their_parameters() {
    let document = whole();
    let tags: BTreeSet<&str> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["name"].as_str().unwrap())
        .collect();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let asked = path.matches('{').count();
        let told = item
            .get("parameters")
            .map_or(0, |p| p.as_array().unwrap().len());
        assert_eq!(asked, told, "{path}");
        for parameter in item["parameters"].as_array().into_iter().flatten() {
            assert_ne!(parameter["description"], "", "{path}: {parameter}");
        }
        for (method, operation) in item
            .as_object()
            .unwrap()
            .iter()
            .filter(|(k, _)| *k != "parameters")
        {
            assert!(
                names.insert(operation["operationId"].to_string()),
                "{path} {method}"
            );
            assert!(
                operation["tags"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|t| tags.contains(t.as_str().unwrap()))
            );
            assert!(
                operation["summary"]
                    .as_str()
                    .is_some_and(|s| s != "Nothing"),
                "{path} {method}"
            );
            assert_eq!(
                operation.get("requestBody").is_some(),
                matches!(method.as_str(), "post" | "put" | "patch"),
                "{path} {method}"
            );
        }
    }
}

#[test]
fn an_entity_and_a_plugin_that_are_added_are_there_by_themselves() {
    let mut all = entities();
    let thing = EntityDef::new(
        "things",
        vec![
            ("id", id()),
            (
                "name",
                string().required().unique().describe("What it is called."),
            ),
            ("service", foreign("services").required()),
        ],
    )
    .endpoint_key("name")
    .nested("service", "things");
    all.push(thing);
    let document = openapi_document(all, plugins(), "1");
    for path in [
        "/things",
        "/things/{things}",
        "/things/{things}/service",
        "/services/{services}/things",
        "/services/{services}/things/{things}",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    let row = &document["components"]["schemas"]["things"];
    assert_eq!(
        row["properties"]["name"]["description"],
        "What it is called."
    );
    // What the path says needs not be said in the body.
    let made = |path: &str| {
        let body = &document["paths"][path]["post"]["requestBody"];
        body["content"]["application/json"]["schema"].clone()
    };
    assert_eq!(made("/things")["allOf"][1]["required"], json!(["service"]));
    assert_eq!(
        made("/services/{services}/things"),
        json!({ "$ref": "#/components/schemas/things.new" })
    );
    let without: Vec<PluginDef> = plugins()
        .into_iter()
        .filter(|p| p.name != "key-auth")
        .collect();
    let schemas = |document: Value| document["components"]["schemas"].clone();
    assert!(schemas(whole())["plugins.key-auth.new"].is_object());
    assert!(
        schemas(openapi_document(CORE.clone(), without, "1"))
            .get("plugins.key-auth.new")
            .is_none()
    );
}

#[test]
fn fields_carry_what_their_definition_says() {
    let document = whole();
    let service = &document["components"]["schemas"]["services.new"]["properties"];
    assert_eq!(service["retries"]["minimum"], 0);
    assert_eq!(service["retries"]["maximum"], 32767);
    assert_eq!(service["retries"]["default"], 5);
    assert!(
        service["protocol"]["enum"]
            .as_array()
            .unwrap()
            .contains(&json!("grpcs"))
    );
    assert_eq!(service["path"]["type"], json!(["string", "null"]));
    assert!(service["url"].is_object());
    let shown = &document["components"]["schemas"]["services"];
    assert!(shown["properties"].get("url").is_none());
    assert!(
        shown["required"]
            .as_array()
            .unwrap()
            .contains(&json!("tls_verify"))
    );
    let plugin = &document["components"]["schemas"]["plugins.key-auth.new"]["properties"];
    assert_eq!(plugin["name"]["const"], "key-auth");
    assert_eq!(
        plugin["consumer"],
        json!({ "type": "null", "description": plugin["consumer"]["description"] })
    );
    assert_eq!(
        plugin["config"]["properties"]["key_names"]["default"],
        json!(["apikey"])
    );
}
