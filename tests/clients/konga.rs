//! Konga 0.14.9. It calls from its own server, appends `size=1000` to every list, sends `null` for what is not set, and takes much
//! of what it reads for granted.

use serde_json::{Value, json};
use silverback_testkit::gateway::Gateway;

use crate::Outcome;

async fn list(gateway: &Gateway, path: &str) -> anyhow::Result<Value> {
    // With a JSON content type and no body, as it does.
    let call = gateway
        .admin()
        .get(path)
        .header("Content-Type", "application/json")
        .header("Content-Length", "0");
    Ok(call.expect(200).await?.json())
}

#[tokio::test]
async fn a_connection_can_be_made_and_the_dashboard_is_drawn() -> Outcome {
    let gateway = Gateway::start().await?;
    let root = list(&gateway, "/?connection_id=1").await?;
    let version = root["version"].as_str().unwrap();
    assert_eq!(version.split('.').count(), 3);
    for key in ["hostname", "tagline", "lua_version"] {
        assert!(root[key].is_string(), "{key}");
    }
    assert!(root["timers"].is_object());
    assert!(root["plugins"]["available_on_server"].is_object());
    assert!(root["plugins"]["enabled_in_cluster"].is_array());
    assert_eq!(root["configuration"]["database"], "postgres");
    let status = list(&gateway, "/status?size=1000").await?;
    for key in [
        "connections_active",
        "connections_reading",
        "connections_writing",
        "connections_waiting",
        "connections_accepted",
        "connections_handled",
        "total_requests",
    ] {
        assert!(status["server"][key].is_number(), "{key}");
    }
    assert_eq!(status["database"]["reachable"], true);
    Ok(())
}

#[tokio::test]
async fn every_list_takes_a_size_and_is_an_array() -> Outcome {
    let gateway = Gateway::start().await?;
    for path in [
        "/services",
        "/routes",
        "/consumers",
        "/plugins",
        "/key-auths",
    ] {
        let page = list(&gateway, &format!("{path}?size=1000")).await?;
        assert_eq!(page["data"], json!([]), "{path}");
        assert!(page["next"].is_null(), "{path}");
    }
    for n in 0..3 {
        let row = json!({"username": format!("u{n}"), "custom_id": "", "tags": []});
        let row = if n == 0 {
            json!({"username": "u0", "tags": []})
        } else {
            row
        };
        let made = gateway.admin().post("/consumers", &row).send().await?;
        assert!(made.status == 201 || n > 0, "{}", made.text());
    }
    let page = list(&gateway, "/consumers?size=1").await?;
    if let Some(next) = page["next"].as_str() {
        // It is put behind the address of the Admin API as it is.
        assert!(next.starts_with("/consumers?"), "{next}");
    }
    Ok(())
}

#[tokio::test]
async fn services_and_routes_are_made_and_sent_back_whole() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let mut service = json!({
        "name": "s", "host": "a.test", "protocol": "http", "port": null, "path": "/", "retries": 5,
        "connect_timeout": 60000, "write_timeout": 60000, "read_timeout": 60000, "tags": [],
    });
    let refused = admin.post("/services/", &service).expect(400).await?.json();
    // It shows each field's text beside the field.
    assert_eq!(refused["fields"]["port"], "required field missing");
    service["port"] = json!(80);
    let service = admin.post("/services/", &service).expect(201).await?.json();
    let id = service["id"].as_str().unwrap();
    // Seconds: it multiplies them.
    assert!(service["created_at"].as_u64().unwrap() < 10_000_000_000);
    let mut whole = service.clone();
    whole["retries"] = json!(2);
    let path = format!("/services/{id}");
    let changed = admin.patch(&path, &whole).expect(200).await?.json();
    assert_eq!(
        (&changed["retries"], &changed["id"]),
        (&json!(2), &service["id"])
    );

    let route = json!({
        "name": "r", "hosts": null, "protocols": ["http", "https"], "methods": null, "paths": ["/x"], "headers": null,
        "path_handling": "v1", "strip_path": true, "preserve_host": false, "https_redirect_status_code": 426,
        "regex_priority": 0, "snis": null, "sources": null, "destinations": null, "service": {"id": id}, "tags": null,
    });
    let route = admin.post("/routes/", &route).expect(201).await?.json();
    let path = format!("/routes/{}", route["id"].as_str().unwrap());
    for toggle in ["strip_path", "preserve_host"] {
        let flipped = json!({ toggle: !route[toggle].as_bool().unwrap() });
        let row = admin.patch(&path, &flipped).expect(200).await?.json();
        assert_eq!(row[toggle], flipped[toggle]);
    }
    let of_service = list(&gateway, &format!("/services/{id}/routes?size=1000")).await?;
    assert_eq!(of_service["data"].as_array().unwrap().len(), 1);

    // A delete comes with a body of two bytes.
    let call = admin.call("DELETE", &format!("/services/{id}"));
    let refused = call.json(&json!({})).expect(400).await?.json();
    assert!(refused["message"].as_str().unwrap().contains("routes"));
    let call = admin.call("DELETE", &path);
    call.json(&json!({})).expect(204).await?;
    Ok(())
}

#[tokio::test]
async fn consumers_and_their_keys() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let row = json!({"username": "bob", "tags": []});
    let consumer = admin.post("/consumers", &row).expect(201).await?.json();
    let id = consumer["id"].as_str().unwrap();
    let keys = format!("/consumers/{id}/key-auth");
    let made = admin.post(&keys, &json!({})).expect(201).await?.json();
    assert_eq!(made["key"].as_str().unwrap().len(), 32);
    // A snapshot is restored with what was read, nulls included.
    let restored = json!({"key": "k", "ttl": null, "tags": null, "created_at": 1_700_000_000});
    admin.post(&keys, &restored).expect(201).await?;
    for key in list(&gateway, "/key-auths?size=1000").await?["data"]
        .as_array()
        .unwrap()
    {
        assert_eq!(key["consumer"]["id"], id);
    }
    let whole = json!({
        "username": "rob", "custom_id": null, "tags": null,
        "created_at": consumer["created_at"], "updated_at": consumer["updated_at"],
    });
    let path = format!("/consumers/{id}");
    let changed = admin.patch(&path, &whole).expect(200).await?.json();
    assert_eq!(changed["username"], "rob");
    Ok(())
}

#[tokio::test]
async fn plugin_forms_are_drawn_from_the_old_schema_address() -> Outcome {
    let gateway = Gateway::start().await?;
    for name in [
        "key-auth",
        "rate-limiting",
        "correlation-id",
        "request-termination",
        "retry",
    ] {
        let schema = list(&gateway, &format!("/plugins/schema/{name}?size=1000")).await?;
        let fields = schema["fields"].as_array().unwrap();
        assert!(!fields.is_empty(), "{name}");
        for field in fields {
            let field = field.as_object().unwrap();
            assert_eq!(field.len(), 1, "{name}: one key each");
            for (key, spec) in field {
                let kind = spec["type"].as_str().unwrap();
                if matches!(kind, "array" | "set") {
                    assert!(spec["elements"]["type"].is_string(), "{name}.{key}");
                }
                if kind == "record" {
                    assert!(spec["fields"].is_array(), "{name}.{key}");
                }
            }
        }
    }
    gateway
        .admin()
        .get("/plugins/schema/none?size=1000")
        .expect(404)
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_plugin_is_made_with_nulls_and_edited_whole() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let body = json!({
        "name": "rate-limiting",
        "config": {"minute": 5, "redis": {"port": null, "timeout": null, "database": null}},
    });
    let row = admin.post("/plugins", &body).expect(201).await?.json();
    assert_eq!(row["config"]["minute"], 5);
    assert!(row["config"]["redis"]["port"].is_null());
    for scope in ["service", "route", "consumer"] {
        assert!(row[scope].is_null(), "{scope}");
    }
    let path = format!("/plugins/{}", row["id"].as_str().unwrap());
    let off = admin.patch(&path, &json!({"enabled": false}));
    assert_eq!(off.expect(200).await?.json()["enabled"], false);
    let mut whole = row.clone();
    whole["config"]["minute"] = json!(6);
    let changed = admin.patch(&path, &whole).expect(200).await?.json();
    assert_eq!(changed["config"]["minute"], 6);
    Ok(())
}

#[tokio::test]
async fn a_snapshot_is_restored_by_put() -> Outcome {
    let gateway = Gateway::start().await?;
    gateway
        .service_at("s", "http://a.test")
        .paths(["/x"])
        .plugin("key-auth", json!({}))
        .create()
        .await?;
    gateway.consumer("c", "k").await?;
    let copy = Gateway::start().await?;
    for collection in ["services", "routes", "consumers", "plugins"] {
        let page = list(&gateway, &format!("/{collection}?size=1000")).await?;
        for row in page["data"].as_array().unwrap() {
            let mut row = row.clone();
            let id = row.as_object_mut().unwrap().remove("id").unwrap();
            let path = format!("/{collection}/{}", id.as_str().unwrap());
            let restored = copy.admin().put(&path, &row).expect(200).await?.json();
            for (key, value) in row.as_object().unwrap() {
                if !key.ends_with("_at") {
                    assert_eq!(&restored[key], value, "{collection} {key}");
                }
            }
        }
    }
    copy.get("/x").expect(401).await?;
    Ok(())
}
