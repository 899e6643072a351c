//! The Terraform provider `kevholditch/kong` 6: makes a row, reads it, changes it, reads it, deletes it. Learnt from its sources (April 2024); it
//! uses go-kong 0.28.

use serde_json::{Value, json};
use silverback_testkit::gateway::Gateway;

use super::go_kong::{decodes, list_all};
use super::traffic::certificate;
use crate::Outcome;

/// A resource's life. The provider makes rows without an id of its own and finds them again by the one in the answer.
async fn lives(
    gateway: &Gateway,
    kind: &str,
    collection: &str,
    row: Value,
    change: Value,
) -> anyhow::Result<Value> {
    let admin = gateway.admin();
    let made = admin.post(collection, &row).expect(201).await?.json();
    decodes(kind, &made);
    let path = format!("{collection}/{}", made["id"].as_str().unwrap());
    let read = admin.get(&path).expect(200).await?.json();
    assert_eq!(read, made, "{kind}");
    // What it wrote is what it finds: anything else would be planned for change again.
    for (name, value) in row.as_object().unwrap() {
        assert_eq!(&read[name], value, "{kind}: {name}");
    }
    let changed = admin.patch(&path, &change).expect(200).await?.json();
    decodes(kind, &changed);
    for (name, value) in change.as_object().unwrap() {
        assert_eq!(&changed[name], value, "{kind}: {name}");
    }
    Ok(changed)
}

async fn ends(gateway: &Gateway, path: &str) -> Outcome {
    gateway.admin().delete(path).expect(204).await?;
    // It tells by the 404 that somebody else deleted it.
    gateway.admin().get(path).expect(404).await?;
    Ok(())
}

#[tokio::test]
async fn resources_live_and_end() -> Outcome {
    let gateway = Gateway::start().await?;
    let service = lives(
        &gateway,
        "services",
        "/services",
        json!({
            "name": "s", "protocol": "http", "host": "a.test", "port": 80, "path": "/p", "retries": 5, "connect_timeout": 1000,
            "write_timeout": 2000, "read_timeout": 3000, "tags": ["a"],
        }),
        json!({"host": "b.test", "retries": 3, "tags": ["b"]}),
    )
    .await?;
    let route = lives(
        &gateway,
        "routes",
        "/routes",
        json!({
            "name": "r", "protocols": ["http"], "methods": ["GET"], "hosts": ["a.test"], "paths": ["/a"], "strip_path": true,
            "preserve_host": false, "regex_priority": 1, "path_handling": "v1", "https_redirect_status_code": 301,
            "request_buffering": true, "response_buffering": false, "service": {"id": service["id"]}, "headers": {"x-a": ["1"]},
        }),
        json!({"paths": ["/b"], "headers": {"x-a": ["2"]}}),
    )
    .await?;
    let consumer = lives(
        &gateway,
        "consumers",
        "/consumers",
        json!({"username": "c", "custom_id": "1", "tags": ["a"]}),
        json!({"username": "d"}),
    )
    .await?;
    let plugin = lives(
        &gateway,
        "plugins",
        "/plugins",
        json!({"name": "key-auth", "route": {"id": route["id"]}, "enabled": true}),
        json!({"name": "key-auth", "route": {"id": route["id"]}, "enabled": false, "config": {
            "key_names": ["x"], "hide_credentials": true, "anonymous": null, "key_in_header": true, "key_in_query": true,
            "key_in_body": false, "run_on_preflight": true, "realm": null,
        }}),
    )
    .await?;
    let keys = format!("/consumers/{}/key-auth", consumer["id"].as_str().unwrap());
    let key = lives(
        &gateway,
        "key-auth",
        &keys,
        json!({"key": "k", "tags": ["a"]}),
        json!({"key": "l"}),
    )
    .await?;
    let upstream = lives(
        &gateway,
        "upstreams",
        "/upstreams",
        json!({"name": "u", "slots": 10, "hash_on": "header", "hash_on_header": "x-a", "hash_fallback": "cookie", "hash_on_cookie": "c", "hash_on_cookie_path": "/", "tags": ["a"]}),
        json!({"slots": 20, "host_header": "x.test"}),
    )
    .await?;
    let (cert, pem) = certificate()?;
    let certificate = lives(
        &gateway,
        "certificates",
        "/certificates",
        json!({"cert": cert, "key": pem, "snis": ["a.test", "b.test"]}),
        json!({"cert": cert, "key": pem, "snis": ["b.test"], "tags": ["a"]}),
    )
    .await?;
    for (collection, row) in [
        ("/certificates", certificate),
        ("/upstreams", upstream),
        (keys.as_str(), key),
        ("/plugins", plugin),
        ("/consumers", consumer),
        ("/routes", route),
        ("/services", service),
    ] {
        ends(
            &gateway,
            &format!("{collection}/{}", row["id"].as_str().unwrap()),
        )
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_target_is_looked_for_in_the_first_page_of_its_upstream() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let upstream = admin
        .post("/upstreams", &json!({"name": "u"}))
        .expect(201)
        .await?
        .json();
    let id = upstream["id"].as_str().unwrap();
    let targets = format!("/upstreams/{id}/targets");
    let row = json!({"target": "10.0.0.1:80", "weight": 10, "tags": ["a"], "upstream": {"id": id}});
    let made = admin.post(&targets, &row).expect(201).await?.json();
    assert_eq!(made["upstream"]["id"], id);
    admin.get(&format!("/upstreams/{id}")).expect(200).await?;
    let page = admin.get(&targets).expect(200).await?.json();
    let found = &page["data"][0];
    decodes("targets", found);
    for (name, value) in row.as_object().unwrap() {
        assert_eq!(&found[name], value, "{name}");
    }
    let path = format!("{targets}/{}", made["id"].as_str().unwrap());
    admin.delete(&path).expect(204).await?;
    assert!(list_all(&gateway, &targets, 100, None).await?.is_empty());
    Ok(())
}
