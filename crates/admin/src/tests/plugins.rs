//! Rows of plugins, whose form depends on the plugin.

use http::Method;
use serde_json::{Value, json};

use super::harness::Api;

#[tokio::test]
async fn a_plugins_configuration_is_filled_and_merged() {
    let api = Api::furnished().await;
    let made = api
        .post(
            "/routes/r/plugins",
            json!({ "name": "key-auth", "instance_name": "k" }),
        )
        .await
        .expect(201);
    assert_eq!(made["config"]["key_names"], json!(["apikey"]));
    assert_eq!(made["protocols"], json!(["grpc", "grpcs", "http", "https"]));
    let path = format!("/plugins/{}", made["id"].as_str().unwrap());
    let changed = api
        .patch(&path, json!({ "config": { "hide_credentials": true } }))
        .await
        .expect(200);
    assert_eq!(
        (
            &changed["config"]["hide_credentials"],
            &changed["config"]["key_in_query"]
        ),
        (&json!(true), &json!(true))
    );
    assert_eq!(api.get("/plugins/k/route").await.expect(200)["name"], "r");
    assert_eq!(api.get("/plugins/k/service").await.status, 404);
    assert_eq!(api.get("/routes/r/plugins/k").await.status, 200);
    let form = api
        .form(
            Method::PATCH,
            "/routes/r/plugins/k",
            "config.key_names=a&config.key_names=b",
        )
        .await;
    assert_eq!(form.expect(200)["config"]["key_names"], json!(["a", "b"]));
    assert_eq!(api.delete("/routes/r/plugins/k").await, 204);
}

#[tokio::test]
async fn plugins_that_are_not_there_are_refused() {
    let api = Api::furnished().await;
    let unknown = api.post("/plugins", json!({ "name": "nope" })).await;
    assert_eq!(
        (unknown.status, unknown.message()),
        (
            400,
            "schema violation (name: plugin 'nope' not enabled; add it to the 'plugins' configuration property)"
        )
    );
    assert_eq!(
        api.post("/plugins", json!({})).await.expect(400)["fields"],
        json!({ "name": "required field missing" })
    );
    assert_eq!(
        api.post("/plugins", json!({ "name": 1 })).await.expect(400)["fields"],
        json!({ "name": "expected a string" })
    );
    assert_eq!(
        api.patch("/plugins/nope", json!({ "enabled": false }))
            .await
            .expect(404),
        json!({ "message": "Not found" })
    );
    assert_eq!(
        api.patch("/plugins/nope", json!({ "name": "key-auth" }))
            .await
            .expect(404)["code"],
        6
    );
}

#[tokio::test]
async fn a_plugin_is_once_in_one_place() {
    let api = Api::furnished().await;
    api.post("/plugins", json!({ "name": "key-auth" }))
        .await
        .expect(201);
    let again = api
        .post("/plugins", json!({ "name": "key-auth" }))
        .await
        .expect(409);
    assert_eq!(
        again["message"],
        "UNIQUE violation detected on '{consumer=null,name=\"key-auth\",route=null,service=null}'"
    );
    assert_eq!(
        again["fields"],
        json!({ "name": "key-auth", "route": null, "service": null, "consumer": null })
    );
    api.post("/services/svc/plugins", json!({ "name": "key-auth" }))
        .await
        .expect(201);
}

#[tokio::test]
async fn scopes_and_protocols_must_fit() {
    let api = Api::furnished().await;
    let closed = api
        .post("/consumers/alice/plugins", json!({ "name": "key-auth" }))
        .await
        .expect(400);
    assert_eq!(
        closed["fields"],
        json!({ "consumer": "value must be null" })
    );
    api.post("/routes", json!({ "name": "http", "paths": ["/h"], "protocols": ["http"], "service": { "name": "svc" } }))
        .await
        .expect(201);
    let misfit = api
        .post(
            "/routes/http/plugins",
            json!({ "name": "picky", "protocols": ["grpc"] }),
        )
        .await
        .expect(400);
    assert_eq!(
        misfit["fields"]["protocols"],
        "must match the associated route's protocols"
    );
    let misfit = api
        .post(
            "/services/svc/plugins",
            json!({ "name": "picky", "protocols": ["grpcs"] }),
        )
        .await
        .expect(400);
    assert_eq!(
        misfit["fields"]["protocols"],
        "must match the protocols of at least one route pointing to this Plugin's service"
    );
    api.post(
        "/services/other/plugins",
        json!({ "name": "picky", "protocols": ["grpcs"] }),
    )
    .await
    .expect(201);
    api.post(
        "/routes/http/plugins",
        json!({ "name": "picky", "instance_name": "p" }),
    )
    .await
    .expect(201);
    assert_eq!(
        api.patch("/plugins/p", json!({ "protocols": ["grpc"] }))
            .await
            .status,
        400
    );
    assert_eq!(
        api.patch("/plugins/p", json!({ "protocols": ["http"] }))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_configuration_that_does_not_compile_is_not_stored() {
    let api = Api::furnished().await;
    let bad = json!({ "name": "picky", "instance_name": "p", "config": { "pattern": "bad" } });
    let refused = api.post("/plugins", bad.clone()).await.expect(400);
    assert_eq!(
        refused["message"],
        "schema violation (config.pattern: cannot be used)"
    );
    assert_eq!(
        refused["fields"],
        json!({ "config": { "pattern": "cannot be used" } })
    );
    assert_eq!(api.put("/plugins/p", bad.clone()).await.status, 400);
    assert_eq!(api.post("/schemas/plugins/validate", bad).await.status, 400);
    api.post("/plugins", json!({ "name": "picky", "instance_name": "p" }))
        .await
        .expect(201);
    assert_eq!(
        api.patch("/plugins/p", json!({ "config": { "pattern": "bad" } }))
            .await
            .status,
        400
    );
    assert_eq!(
        api.get("/plugins/p").await.expect(200)["config"],
        json!({ "pattern": "good" })
    );
}

#[tokio::test]
async fn rows_of_a_plugin_that_is_gone_are_still_shown() {
    let api = Api::furnished().await;
    api.post("/plugins", json!({ "name": "picky", "instance_name": "p" }))
        .await
        .expect(201);
    api.db
        .as_ref()
        .unwrap()
        .sql("update plugins set name = 'gone'")
        .unwrap();
    assert_eq!(
        api.get("/plugins/p").await.expect(200)["config"],
        json!({ "pattern": "good" })
    );
    assert_eq!(
        api.get("/plugins").await.expect(200)["data"][0]["name"],
        "gone"
    );
    assert_eq!(
        api.patch("/plugins/p", json!({ "enabled": false }))
            .await
            .status,
        400
    );
    assert_eq!(api.delete("/plugins/p").await, 204);
}

#[tokio::test]
async fn schemas_are_those_of_entities_and_plugins() {
    let api = Api::new().await;
    let services = api.get("/schemas/services").await.expect(200);
    assert!(
        services["fields"]
            .as_array()
            .unwrap()
            .iter()
            .any(|f| f["host"]["required"] == true)
    );
    let plugin = api.get("/schemas/plugins/key-auth").await.expect(200);
    let config = plugin["fields"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|f| f.get("config"))
        .unwrap();
    let legacy = api.get("/plugins/schema/key-auth").await.expect(200);
    assert_eq!(legacy["fields"], config["fields"]);
    assert_eq!(legacy["entity_checks"], json!([]));
    assert_eq!(
        api.get("/schemas/nope").await.expect(404)["message"],
        "No entity named 'nope'"
    );
    assert_eq!(
        api.get("/schemas/plugins/nope").await.expect(404)["message"],
        "No plugin named 'nope'"
    );
    assert_eq!(
        api.get("/plugins/schema/nope").await.expect(404)["message"],
        "No plugin named 'nope'"
    );
}

#[tokio::test]
async fn rows_can_be_validated_without_being_stored() {
    let api = Api::new().await;
    let fine = json!({ "message": "schema validation successful" });
    assert_eq!(
        api.post(
            "/schemas/services/validate",
            json!({ "name": "v", "url": "http://x" })
        )
        .await
        .expect(200),
        fine
    );
    assert_eq!(
        api.post("/schemas/plugins/validate", json!({ "name": "key-auth" }))
            .await
            .expect(200),
        fine
    );
    let bad = api
        .post("/schemas/services/validate", json!({ "foo": 1 }))
        .await
        .expect(400);
    assert_eq!(
        bad["fields"],
        json!({ "foo": "unknown field", "host": "required field missing" })
    );
    assert_eq!(
        api.post("/schemas/nope/validate", json!({}))
            .await
            .expect(404)["message"],
        "No entity named 'nope'"
    );
    assert_eq!(
        api.get("/services").await.body["data"],
        Value::Array(vec![])
    );
}
