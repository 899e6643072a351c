//! Create, read, update and delete, the same for every entity.

use serde_json::{Value, json};
use silverback_testkit::gateway::Gateway;

use crate::Outcome;

/// One collection: how a row is made, what is changed, and its name in addresses if it has one.
struct Case {
    collection: &'static str,
    row: Value,
    change: (&'static str, Value),
    name: Option<&'static str>,
}

/// The core entities, made so that one node can hold all of them; key-auth credentials and plugins refer to earlier ones.
fn cases() -> Vec<Case> {
    vec![
        Case {
            collection: "/services",
            row: json!({"name": "svc", "host": "a.test", "tags": ["t"]}),
            change: ("port", json!(8080)),
            name: Some("svc"),
        },
        Case {
            collection: "/routes",
            row: json!({"name": "rt", "paths": ["/x"], "service": {"name": "base"}}),
            change: ("strip_path", json!(false)),
            name: Some("rt"),
        },
        Case {
            collection: "/consumers",
            row: json!({"username": "bob", "custom_id": "b1"}),
            change: ("custom_id", json!("b2")),
            name: Some("bob"),
        },
        Case {
            collection: "/plugins",
            row: json!({"name": "correlation-id", "instance_name": "mine"}),
            change: ("enabled", json!(false)),
            name: Some("mine"),
        },
        Case {
            collection: "/consumers/base/key-auth",
            row: json!({"key": "secret"}),
            change: ("tags", json!(["new"])),
            name: Some("secret"),
        },
        Case {
            collection: "/services/base/routes",
            row: json!({"name": "nested", "hosts": ["n.test"]}),
            change: ("hosts", json!(["m.test"])),
            name: Some("nested"),
        },
        Case {
            collection: "/services/base/plugins",
            row: json!({"name": "rate-limiting", "config": {"hour": 5}}),
            change: ("enabled", json!(false)),
            name: None,
        },
        Case {
            collection: "/routes/base/plugins",
            row: json!({"name": "key-auth"}),
            change: ("protocols", json!(["https"])),
            name: None,
        },
        Case {
            collection: "/consumers/base/plugins",
            row: json!({"name": "request-termination", "config": {"status_code": 403}}),
            change: ("config", json!({"status_code": 404})),
            name: None,
        },
    ]
}

async fn node() -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    gateway
        .service_at("base", "http://base.test")
        .paths(["/base"])
        .create()
        .await?;
    let base = json!({"username": "base"});
    gateway
        .admin()
        .post("/consumers", &base)
        .expect(201)
        .await?;
    Ok(gateway)
}

/// Whether `row` has everything that `part` says.
fn holds(row: &Value, part: &Value) -> bool {
    match (row, part) {
        (Value::Object(row), Value::Object(part)) => part
            .iter()
            .all(|(k, v)| k == "service" || row.get(k).is_some_and(|r| holds(r, v))),
        _ => row == part,
    }
}

#[tokio::test]
async fn rows_live_by_id_from_post_to_delete() -> Outcome {
    let gateway = node().await?;
    let admin = gateway.admin();
    for case in cases() {
        let at = case.collection;
        let made = admin.post(at, &case.row).expect(201).await?.json();
        assert!(holds(&made, &case.row), "{at}: {made}");
        let id = made["id"].as_str().unwrap();
        let path = format!("{at}/{id}");
        assert_eq!(admin.get(&path).expect(200).await?.json(), made, "{at}");
        let listed = admin.get(at).expect(200).await?.json();
        let rows = listed["data"].as_array().unwrap();
        assert!(rows.contains(&made), "{at}: {listed}");

        let (field, value) = &case.change;
        let patch = json!({ *field: value });
        let changed = admin.patch(&path, &patch).expect(200).await?.json();
        assert!(holds(&changed, &patch), "{at}: {changed}");
        assert_eq!(changed["id"], made["id"]);
        assert_eq!(changed["created_at"], made["created_at"]);
        assert_eq!(admin.get(&path).expect(200).await?.json(), changed, "{at}");

        admin.delete(&path).expect(204).await?;
        admin.get(&path).expect(404).await?;
    }
    Ok(())
}

#[tokio::test]
async fn rows_are_found_by_name_too() -> Outcome {
    let gateway = node().await?;
    let admin = gateway.admin();
    for case in cases() {
        let Some(name) = case.name else { continue };
        let at = case.collection;
        let made = admin.post(at, &case.row).expect(201).await?.json();
        let path = format!("{at}/{name}");
        assert_eq!(admin.get(&path).expect(200).await?.json(), made, "{at}");
        let (field, value) = &case.change;
        let patch = json!({ *field: value });
        let changed = admin.patch(&path, &patch).expect(200).await?.json();
        assert!(holds(&changed, &patch), "{at}: {changed}");
        admin.delete(&path).expect(204).await?;
        admin.get(&path).expect(404).await?;
    }
    Ok(())
}

#[tokio::test]
async fn put_makes_a_row_and_replaces_it() -> Outcome {
    let gateway = node().await?;
    let admin = gateway.admin();
    for (n, case) in cases().into_iter().enumerate() {
        let id = format!("00000000-0000-4000-8000-{n:012}");
        let path = format!("{}/{id}", case.collection);
        let made = admin.put(&path, &case.row).expect(200).await?.json();
        assert_eq!(made["id"], id, "{path}");
        let (field, value) = &case.change;
        let mut row = case.row.clone();
        row[*field] = value.clone();
        let changed = admin.put(&path, &row).expect(200).await?.json();
        assert!(holds(&changed, &row), "{path}: {changed}");
        let back = admin.put(&path, &case.row).expect(200).await?.json();
        assert_eq!(
            back[*field], made[*field],
            "{path}: what is not said is the default again"
        );
        admin.delete(&path).expect(204).await?;
    }
    Ok(())
}

#[tokio::test]
async fn put_by_name_names_the_row() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let made = admin.put("/services/mine", &json!({"host": "a.test"}));
    assert_eq!(made.expect(200).await?.json()["name"], "mine");
    let made = admin.put("/consumers/bob", &json!({}));
    assert_eq!(made.expect(200).await?.json()["username"], "bob");
    Ok(())
}

#[tokio::test]
async fn what_is_missing_is_404_or_already_deleted() -> Outcome {
    let gateway = node().await?;
    let admin = gateway.admin();
    let nobody = "00000000-0000-4000-8000-000000000000";
    for collection in ["/services", "/routes", "/consumers", "/plugins"] {
        for name in [nobody, "nobody"] {
            let path = format!("{collection}/{name}");
            let missing = admin.get(&path).expect(404).await?;
            assert_eq!(missing.json(), json!({"message": "Not found"}), "{path}");
            admin.patch(&path, &json!({})).expect(404).await?;
            admin.delete(&path).expect(204).await?;
        }
    }
    admin.get("/services/nobody/routes").expect(404).await?;
    admin
        .delete(&format!("/consumers/base/key-auth/{nobody}"))
        .expect(404)
        .await?;
    admin.get("/no/such/path").expect(404).await?;
    Ok(())
}

#[tokio::test]
async fn rows_of_another_parent_are_not_found() -> Outcome {
    let gateway = node().await?;
    let admin = gateway.admin();
    let other = json!({"username": "other"});
    admin.post("/consumers", &other).expect(201).await?;
    let key = admin.post("/consumers/base/key-auth", &json!({"key": "k"}));
    let id = key.expect(201).await?.json()["id"].clone();
    let path = format!("/consumers/other/key-auth/{}", id.as_str().unwrap());
    admin.get(&path).expect(404).await?;
    admin.delete(&path).expect(404).await?;
    let mine = admin.get("/consumers/base/key-auth").expect(200).await?;
    assert_eq!(mine.json()["data"].as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn the_service_of_a_route_and_the_consumer_of_a_key_are_reached_from_there() -> Outcome {
    let gateway = node().await?;
    let admin = gateway.admin();
    let service = admin.get("/routes/base/service").expect(200).await?.json();
    assert_eq!(service["name"], "base");
    admin
        .patch("/routes/base/service", &json!({"port": 81}))
        .expect(200)
        .await?;
    let service = admin.get("/services/base").expect(200).await?.json();
    assert_eq!(service["port"], 81);
    admin
        .post("/consumers/base/key-auth", &json!({"key": "k"}))
        .expect(201)
        .await?;
    let consumer = admin.get("/key-auths/k/consumer").expect(200).await?.json();
    assert_eq!(consumer["username"], "base");
    Ok(())
}

#[tokio::test]
async fn references_hold() -> Outcome {
    let gateway = node().await?;
    let admin = gateway.admin();
    // A service with routes stays; what belongs to a route or a consumer goes with it.
    let refused = admin.delete("/services/base").expect(400).await?.json();
    assert_eq!(refused["name"], "foreign key violation");
    assert_eq!(refused["fields"]["@referenced_by"], "routes");
    for path in ["/routes/base", "/consumers/base"] {
        let plugin = json!({"name": "request-termination"});
        admin
            .post(&format!("{path}/plugins"), &plugin)
            .expect(201)
            .await?;
        admin.delete(path).expect(204).await?;
    }
    let plugins = admin.get("/plugins").expect(200).await?.json();
    assert_eq!(plugins["data"], json!([]));
    admin.delete("/services/base").expect(204).await?;
    Ok(())
}
