//! decK: reads everything, writes every row by its id, and expects to find no difference afterwards. Learnt from the sources of `Kong/deck`
//! and `Kong/go-database-reconciler` (June 2026).

use serde_json::{Map, Value, json};
use silverback_testkit::gateway::Gateway;

use super::go_kong::{decodes, list_all};
use super::traffic::certificate;
use crate::Outcome;

fn id(n: u32) -> String {
    format!("d0000000-0000-4000-8000-{n:012}")
}

#[tokio::test]
async fn everything_can_be_dumped() -> Outcome {
    let gateway = Gateway::start().await?;
    // Of these an answer other than a list ends the dump.
    for path in [
        "/services",
        "/routes",
        "/consumers",
        "/plugins",
        "/upstreams",
        "/certificates",
        "/ca_certificates",
        "/snis",
        "/vaults",
        "/keys",
        "/key-sets",
        "/basic-auths",
        "/hmac-auths",
        "/jwts",
        "/oauth2",
        "/acls",
    ] {
        assert!(
            list_all(&gateway, path, 1000, None).await?.is_empty(),
            "{path}"
        );
        assert!(
            list_all(&gateway, path, 1000, Some("a%2Cb"))
                .await?
                .is_empty(),
            "{path}"
        );
    }
    // Of these it takes "not found", and of some "forbidden" or "bad request", for an answer.
    for (path, fine) in [
        ("/key-auths", &[200, 404][..]),
        ("/mtls-auths", &[200, 403, 404]),
        ("/consumer_groups", &[200, 403, 404]),
        ("/partials", &[200, 403, 404]),
        ("/filter-chains", &[200, 400, 404]),
        ("/licenses", &[200, 404]),
        ("/cloned-plugins", &[200, 403, 404]),
        ("/custom-plugins", &[200, 403, 404]),
    ] {
        let answer = gateway
            .admin()
            .get(&format!("{path}?size=1000"))
            .send()
            .await?;
        assert!(fine.contains(&answer.status), "{path}: {}", answer.status);
        let body = answer.json();
        assert!(
            body["message"].is_string() || body["data"].is_array(),
            "{path}: {body}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn rows_are_made_and_changed_by_put_with_their_id() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let (cert, key) = certificate()?;
    let jwk = json!({
        "kty": "EC", "kid": "k1", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    })
    .to_string();
    let consumer = id(3);
    // In the order in which it makes them. Fields that it does not know it leaves out.
    let rows = [
        (
            "certificates",
            "/certificates".to_owned(),
            json!({"cert": cert, "key": key, "tags": ["t"]}),
        ),
        (
            "snis",
            "/snis".to_owned(),
            json!({"name": "a.test", "certificate": {"id": id(0)}}),
        ),
        (
            "services",
            "/services".to_owned(),
            json!({
                "name": "s", "host": "a.test", "port": 80, "protocol": "http", "connect_timeout": 60000, "read_timeout": 60000,
                "write_timeout": 60000, "retries": 5, "enabled": true, "tags": ["t"],
            }),
        ),
        (
            "consumers",
            "/consumers".to_owned(),
            json!({"username": "c", "custom_id": "1"}),
        ),
        (
            "routes",
            "/routes".to_owned(),
            json!({
                "name": "r", "paths": ["/a", "~/b$"], "headers": {"x-a": ["1", "2"]}, "protocols": ["http", "https"],
                "service": {"id": id(2)}, "strip_path": true, "preserve_host": false, "regex_priority": 0, "https_redirect_status_code": 426,
                "request_buffering": true, "response_buffering": true, "path_handling": "v0",
            }),
        ),
        (
            "upstreams",
            "/upstreams".to_owned(),
            json!({"name": "u", "slots": 10000, "algorithm": "round-robin", "hash_on": "none"}),
        ),
        (
            "plugins",
            "/plugins".to_owned(),
            json!({
                "name": "key-auth", "route": {"id": id(4)}, "enabled": true, "protocols": ["grpc", "grpcs", "http", "https"],
                "config": {"key_names": ["apikey"], "anonymous": null, "hide_credentials": false},
            }),
        ),
        (
            "vaults",
            "/vaults".to_owned(),
            json!({"name": "env", "prefix": "my-env", "config": {"prefix": "X_"}}),
        ),
        ("key-sets", "/key-sets".to_owned(), json!({"name": "ks"})),
        (
            "keys",
            "/keys".to_owned(),
            json!({"name": "k", "kid": "k1", "jwk": jwk, "set": {"id": id(8)}}),
        ),
        (
            "key-auth",
            format!("/consumers/{consumer}/key-auth"),
            json!({"key": "secret"}),
        ),
    ];
    for (n, (kind, path, row)) in rows.iter().enumerate() {
        let id = id(u32::try_from(n)?);
        let mut row = row.clone();
        row["id"] = json!(id);
        let path = format!("{path}/{id}");
        let made = admin.put(&path, &row).expect(200).await?.json();
        decodes(kind, &made);
        assert_eq!(made["id"], id, "{kind}");
        row["tags"] = json!(["changed"]);
        let changed = admin.put(&path, &row).expect(200).await?.json();
        assert_eq!(
            (&changed["id"], &changed["tags"]),
            (&json!(id), &json!(["changed"])),
            "{kind}"
        );
        let collection = path.rsplit_once('/').map_or("", |(c, _)| c);
        let listed = list_all(&gateway, collection, 1000, None).await?;
        listed.iter().for_each(|row| decodes(kind, row));
        let found = listed.iter().find(|r| r["id"] == id.as_str()).unwrap();
        let same = |row: &Value| {
            let mut row = row.clone();
            row.as_object_mut().unwrap().remove("updated_at");
            row
        };
        assert_eq!(same(found), same(&changed), "{kind}");
    }
    assert!(
        !list_all(&gateway, "/services", 1000, Some("changed"))
            .await?
            .is_empty()
    );
    // Backwards, each before what it hangs on.
    for (n, (kind, path, _)) in rows.iter().enumerate().rev() {
        let path = format!("{path}/{}", id(u32::try_from(n)?));
        admin.delete(&path).expect(204).await?;
        admin
            .get(&path)
            .expect(404)
            .await
            .map_err(|e| e.context(*kind))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_target_that_is_not_there_is_put_in_vain_and_then_posted() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    admin
        .put(&format!("/upstreams/{}", id(1)), &json!({"name": "u"}))
        .expect(200)
        .await?;
    let targets = format!("/upstreams/{}/targets", id(1));
    let path = format!("{targets}/{}", id(2));
    let row = json!({"id": id(2), "target": "10.0.0.1:80", "weight": 100});
    admin.put(&path, &row).expect(404).await?;
    let made = admin.post(&targets, &row).expect(201).await?.json();
    decodes("targets", &made);
    assert_eq!(made["id"], id(2));
    let changed = json!({"id": id(2), "target": "10.0.0.1:80", "weight": 7});
    let changed = admin.put(&path, &changed).expect(200).await?.json();
    assert_eq!(
        (&changed["weight"], &changed["id"]),
        (&json!(7), &made["id"])
    );
    let listed = list_all(&gateway, &targets, 1000, None).await?;
    assert_eq!((listed.len(), &listed[0]["weight"]), (1, &json!(7)));
    admin.delete(&path).expect(204).await?;
    Ok(())
}

/// What it fills in where the file says nothing, from the schemas: if that were other than what the gateway does, every comparison after a
/// change would find a difference again.
fn filled(schema: &Value, given: &Map<String, Value>) -> Map<String, Value> {
    let mut out = given.clone();
    for field in schema["fields"].as_array().unwrap() {
        let (name, field) = field.as_object().unwrap().iter().next().unwrap();
        let own = given.get(name).filter(|v| !v.is_null());
        if field["type"] == "record" {
            let inner = own.and_then(Value::as_object).cloned();
            if inner.is_some() || field["required"] == true {
                let mut inner = inner.unwrap_or_default();
                if let Some(whole) = field["default"].as_object() {
                    for (k, v) in whole {
                        inner.entry(k.clone()).or_insert_with(|| v.clone());
                    }
                }
                out.insert(name.clone(), filled(field, &inner).into());
                continue;
            }
        }
        if own.is_none() {
            out.insert(
                name.clone(),
                field.get("default").cloned().unwrap_or(Value::Null),
            );
        }
    }
    out
}

#[tokio::test]
async fn defaults_of_plugins_are_those_of_their_schemas() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let root = admin.get("/").expect(200).await?.json();
    let mut compared = Vec::new();
    for name in root["plugins"]["available_on_server"]
        .as_object()
        .unwrap()
        .keys()
    {
        let schema = admin
            .get(&format!("/schemas/plugins/{name}"))
            .expect(200)
            .await?
            .json();
        let find = |name: &str| {
            let all = schema["fields"].as_array().unwrap();
            all.iter().find_map(|f| f.get(name)).cloned().unwrap()
        };
        let config = match name.as_str() {
            "rate-limiting" => json!({"minute": 5, "redis": {"host": "r.test"}}),
            _ => json!({}),
        };
        let made = admin
            .post("/plugins", &json!({"name": name, "config": config}))
            .send()
            .await?;
        if made.status == 400 {
            // It cannot do with defaults alone.
            assert!(made.json()["fields"].is_object(), "{name}: {}", made.text());
            continue;
        }
        assert_eq!(made.status, 201, "{name}: {}", made.text());
        let made = made.json();
        assert_eq!(made["protocols"], find("protocols")["default"], "{name}");
        assert_eq!(made["enabled"], true);
        for (field, value) in filled(&find("config"), config.as_object().unwrap()) {
            // Records in lists are shown with all their fields.
            let shown = without_nulls(made["config"][&field].clone());
            assert_eq!(shown, without_nulls(value), "{name}: {field}");
        }
        compared.push(name.clone());
    }
    assert!(compared.len() >= 5, "{compared:?}");
    Ok(())
}

/// A value without the members that are null, at any depth below lists.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| (k, without_nulls(v)))
            .collect(),
        other => other,
    }
}

#[tokio::test]
async fn defaults_of_entities_are_those_of_their_schemas() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    admin
        .post("/upstreams", &json!({"name": "for-targets"}))
        .expect(201)
        .await?;
    for (entity, path, given) in [
        ("services", "/services", json!({"host": "a.test"})),
        ("routes", "/routes", json!({"paths": ["/a"]})),
        ("upstreams", "/upstreams", json!({"name": "u"})),
        (
            "targets",
            "/upstreams/for-targets/targets",
            json!({"target": "10.0.0.1:80"}),
        ),
    ] {
        let schema = admin
            .get(&format!("/schemas/{entity}"))
            .expect(200)
            .await?
            .json();
        let made = admin.post(path, &given).expect(201).await?.json();
        for (field, value) in filled(&schema, given.as_object().unwrap()) {
            if !["id", "created_at", "updated_at", "upstream"].contains(&field.as_str()) {
                assert_eq!(made[&field], value, "{entity}: {field}");
            }
        }
    }
    Ok(())
}
