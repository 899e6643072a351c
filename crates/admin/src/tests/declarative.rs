//! Without a database: what can be read, what is refused, and `/config`.

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::{Value, json};
use silverback_store::Store;
use uuid::Uuid;

use super::harness::{Api, Got, entities, plugins};
use crate::{AdminBuilder, NodeInfo};

fn api() -> Api {
    with(|builder| builder)
}

fn with(extend: impl FnOnce(AdminBuilder) -> AdminBuilder) -> Api {
    let entities = entities();
    let store = Store::memory_only(entities.clone(), None).unwrap();
    let node = NodeInfo {
        node_id: Uuid::from_u128(7),
        hostname: "here".into(),
        version: "1.2.3".into(),
        configuration: json!({ "database": "off" }),
    };
    let server = extend(AdminBuilder::new(store, entities, plugins(), node)).bind();
    Api {
        router: server.unwrap().router(),
        db: None,
    }
}

async fn config(api: &Api, content_type: Option<&str>, body: impl Into<Body>) -> Got {
    config_at(api, "/config", content_type, body).await
}

async fn config_at(api: &Api, uri: &str, content_type: Option<&str>, body: impl Into<Body>) -> Got {
    let mut request = Request::builder().method(Method::POST).uri(uri);
    if let Some(t) = content_type {
        request = request.header(header::CONTENT_TYPE, t);
    }
    api.raw(request.body(body.into()).unwrap()).await
}

const YAML: &str =
    "_format_version: '3.0'\nservices: [{name: s, host: h, routes: [{name: r, paths: [/]}]}]\n";

#[tokio::test]
async fn a_configuration_comes_in_many_bodies() {
    let api = api();
    let part = |name: &str, text: &str| {
        format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    };
    let multipart = format!(
        "{}{}--x--\r\n",
        part("config", YAML),
        part("check_hash", "0")
    );
    let form = format!(
        "config={}",
        percent_encoding::utf8_percent_encode(YAML, percent_encoding::NON_ALPHANUMERIC)
    );
    for (content_type, body) in [
        (Some("application/yaml"), YAML.to_owned()),
        (Some("text/yaml"), YAML.to_owned()),
        (None, YAML.to_owned()),
        (Some("application/json"), json!({ "config": YAML }).to_string()),
        (Some("application/json"), json!({ "_format_version": "3.0", "services": [{ "name": "s", "host": "h" }] }).to_string()),
        (Some("application/json"), json!({ "config": { "_format_version": "3.0", "services": [{ "name": "s", "host": "h" }] } }).to_string()),
        (Some("multipart/form-data; boundary=x"), multipart),
        (Some("application/x-www-form-urlencoded"), form),
    ] {
        config(&api, Some("application/json"), r#"{"_format_version":"3.0"}"#).await.expect(201);
        assert_eq!(api.get("/services/s").await.status, 404);
        let told = format!("{content_type:?} {body}");
        let got = config(&api, content_type, body).await;
        assert_eq!(got.status, 201, "{told}: {}", got.body);
        let services = got.body["services"].as_object().unwrap().values();
        assert_eq!(services.map(|s| s["name"].clone()).collect::<Vec<_>>(), ["s"]);
        api.get("/services/s").await.expect(200);
    }
}

#[tokio::test]
async fn what_is_no_configuration_is_refused() {
    let api = api();
    let got = config(&api, None, "").await;
    assert_eq!(
        (got.status, got.message()),
        (400, "expected a declarative configuration")
    );
    let got = config(
        &api,
        Some("application/json"),
        r#"{"config":"bobby tables"}"#,
    )
    .await;
    assert_eq!(
        got.expect(400),
        json!({
            "code": 14, "name": "invalid declarative configuration",
            "message": "declarative config is invalid: {error=\"failed parsing declarative configuration: expected an object\"}",
            "fields": { "error": "failed parsing declarative configuration: expected an object" },
        })
    );
    for (content_type, body) in [
        ("application/json", "{"),
        ("application/yaml", "\u{0}"),
        ("application/yaml", "a: ["),
    ] {
        assert_eq!(
            config(&api, Some(content_type), body).await.status,
            400,
            "{body:?}"
        );
    }
    config(&api, Some("application/yaml"), vec![0xff, 0xfe])
        .await
        .expect(400);
}

#[tokio::test]
async fn the_gateway_s_own_checks_count_too() {
    let api = api();
    let wrong = "{_format_version: '3.0', plugins: [{name: picky, config: {pattern: bad}}]}";
    assert_eq!(
        config(&api, None, wrong).await.expect(400)["fields"],
        json!({ "plugins": [{ "config": { "pattern": "cannot be used" } }] })
    );
}

#[tokio::test]
async fn single_rows_cannot_be_written() {
    let api = api();
    config(&api, None, YAML).await.expect(201);
    let id = api.get("/services/s").await.expect(200)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let refused = |got: Got, text: &str| {
        assert_eq!(
            got.expect(405),
            json!({ "code": 12, "name": "operation unsupported", "message": text })
        );
    };
    let service = json!({ "name": "t", "host": "h" });
    refused(
        api.post("/services", service.clone()).await,
        "cannot create 'services' entities when not using a database",
    );
    refused(
        api.post("/services/s/routes", json!({ "paths": ["/"] }))
            .await,
        "cannot create 'routes' entities when not using a database",
    );
    refused(
        api.put(&format!("/services/{id}"), service.clone()).await,
        "cannot create or update 'services' entities when not using a database",
    );
    refused(
        api.put("/services/s", json!({ "host": "h" })).await,
        "cannot create or update 'services' entities by 'name' when not using a database",
    );
    refused(
        api.patch("/services/s", json!({ "host": "i" })).await,
        "cannot update 'services' entities by 'name' when not using a database",
    );
    refused(
        api.bare(Method::DELETE, &format!("/services/{id}")).await,
        "cannot remove 'services' entities when not using a database",
    );
    // What is wrong with them is said first, and what is not there is not there.
    assert_eq!(api.post("/services", json!({})).await.status, 400);
    assert_eq!(
        api.patch("/services/nope", json!({ "host": "i" }))
            .await
            .status,
        404
    );
    assert_eq!(api.delete("/services/nope").await, 204);
    assert_eq!(api.get("/services/s").await.expect(200)["host"], "h");
}

#[tokio::test]
async fn lists_are_paged_and_filtered() {
    let api = api();
    let consumers: Vec<Value> = (0..25)
        .map(|i| json!({ "username": format!("c{i}"), "tags": [if i % 5 == 0 { "five" } else { "other" }, "all"] }))
        .collect();
    let tree = json!({ "_format_version": "3.0", "consumers": consumers });
    config(&api, Some("application/json"), tree.to_string())
        .await
        .expect(201);
    let mut names = Vec::new();
    let mut next = "/consumers?size=10".to_owned();
    loop {
        let page = api.get(&next).await.expect(200);
        names.extend(
            page["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|r| r["username"].clone()),
        );
        match page["next"].as_str() {
            Some(path) => next = path.to_owned(),
            None => break,
        }
    }
    names.sort_by_key(Value::to_string);
    names.dedup();
    assert_eq!(names.len(), 25);
    let count = |body: Value| body["data"].as_array().unwrap().len();
    assert_eq!(
        count(api.get("/consumers?tags=five,all").await.expect(200)),
        5
    );
    assert_eq!(
        count(api.get("/consumers?tags=five/other").await.expect(200)),
        25
    );
    assert_eq!(count(api.get("/tags/five").await.expect(200)), 5);
    let first = api.get("/tags?size=30").await.expect(200);
    assert_eq!(count(first.clone()), 30);
    assert_eq!(
        count(api.get(first["next"].as_str().unwrap()).await.expect(200)),
        20
    );
    assert_eq!(api.get("/consumers?offset=x").await.status, 400);
}

#[tokio::test]
async fn the_configuration_is_told() {
    let api = api();
    assert_eq!(
        api.get("/status").await.expect(200)["configuration_hash"],
        ""
    );
    config(&api, None, YAML).await.expect(201);
    let status = api.get("/status").await.expect(200);
    assert_eq!(status["database"]["reachable"], true);
    assert_eq!(status["configuration_hash"].as_str().unwrap().len(), 32);
    let text = api.get("/config").await.expect(200);
    let text = text["config"].as_str().unwrap();
    assert!(text.contains("\nservices:\n- id: "), "{text}");
    assert!(text.find("services:") < text.find("routes:"), "{text}");
    config(&api, None, text.to_owned()).await.expect(201);
}

#[tokio::test]
async fn a_configuration_is_tried_without_being_taken() {
    let api = api();
    config(&api, None, YAML).await.expect(201);
    let other = "{_format_version: '3.0', services: [{name: t, host: h}]}";
    let tried = config_at(&api, "/config?dry_run=true", None, other).await;
    assert_eq!(tried.header("silverback-dry-run"), "true");
    let shown = tried.expect(201);
    let mut services = shown["services"].as_object().unwrap().values();
    assert_eq!(services.next().unwrap()["name"], "t");
    assert_eq!(api.get("/services/t").await.status, 404);
    api.get("/services/s").await.expect(200);
    let wrong = "{_format_version: '3.0', services: [{name: t}]}";
    let tried = config_at(&api, "/config?dry_run=true", None, wrong).await;
    assert_eq!(tried.expect(400)["code"], 14);
    let unclear = config_at(&api, "/config?dry_run=yes", None, other).await;
    assert_eq!(unclear.expect(400)["code"], 11);
    let request = Request::builder()
        .method(Method::POST)
        .uri("/config")
        .header(header::IF_MATCH, "\"x\"")
        .body(Body::from(other))
        .unwrap();
    assert_eq!(api.raw(request).await.status, 412);
    api.get("/services/s").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_nobody_waits_for_is_still_before_the_next() {
    let (entered, mut is_in) = tokio::sync::mpsc::unbounded_channel();
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let api = with(|builder| {
        builder.check("services", move |row| {
            if row["name"] == "slow" {
                entered.send(()).unwrap();
                gate.lock().unwrap().recv().unwrap();
            }
            Ok(())
        })
    });
    let slow = "{_format_version: '3.0', services: [{name: slow, host: h}]}";
    {
        let mut request = std::pin::pin!(config(&api, None, slow));
        tokio::select! {
            got = &mut request => panic!("{got:?}"),
            _ = is_in.recv() => {}
        }
    }
    let busy = config(&api, None, YAML).await;
    assert_eq!((busy.status, busy.header("retry-after")), (429, "1"));
    go.send(()).unwrap();
    loop {
        let got = config(&api, None, YAML).await;
        if got.status != 429 {
            got.expect(201);
            break;
        }
        tokio::task::yield_now().await;
    }
    api.get("/services/s").await.expect(200);
    assert_eq!(api.get("/services/slow").await.status, 404);
}

#[tokio::test]
async fn groups_of_a_consumer_are_read_by_name() {
    let api = api();
    let text = "{_format_version: '3.0', consumers: [{username: alice, acls: [{group: admins}]}, {username: bob}]}";
    config(&api, None, text).await.expect(201);
    let group = api.get("/consumers/alice/acls/admins").await.expect(200);
    assert_eq!(group["group"], "admins");
    for path in ["/consumers/alice/acls/users", "/consumers/bob/acls/admins"] {
        assert_eq!(api.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn what_is_read_back_ends_when_it_did() {
    let api = api();
    let made = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        - 1800;
    let text = format!(
        "{{_format_version: '3.0', consumers: [{{username: a, keyauth_credentials: \
         [{{key: k, ttl: 3600, created_at: {made}}}, {{key: f}}, {{key: v, ttl: 60, created_at: {made}}}]}}]}}"
    );
    config(&api, None, text).await.expect(201);
    for _ in 0..2 {
        let left = api.get("/key-auths/k").await.expect(200)["ttl"].clone();
        assert!((1700..=1800).contains(&left.as_i64().unwrap()), "{left}");
        assert_eq!(
            api.get("/key-auths/f").await.expect(200)["ttl"],
            Value::Null
        );
        assert_eq!(api.get("/key-auths/v").await.status, 404);
        let text = api.get("/config").await.expect(200);
        let text = text["config"].as_str().unwrap().to_owned();
        // As Kong writes it: the moment itself.
        assert!(text.contains(&format!("ttl: {}\n", made + 3600)), "{text}");
        config(&api, None, text).await.expect(201);
    }
}
