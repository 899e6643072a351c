//! Kong Manager (open source edition): a page in the browser that calls the Admin API from another origin.

use serde_json::json;
use silverback_testkit::gateway::Gateway;
use silverback_testkit::h1::Response;

use crate::Outcome;

const ORIGIN: &str = "http://127.0.0.1:8002";

/// Without these the browser hides the answer from the page.
#[track_caller]
fn readable(answer: &Response) {
    let origin = answer.header("Access-Control-Allow-Origin");
    assert!(
        matches!(origin, Some(ORIGIN | "*")),
        "{}: {origin:?}",
        answer.status
    );
}

#[tokio::test]
async fn every_answer_can_be_read_from_another_origin() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    for (method, path, status) in [
        ("GET", "/", 200),
        ("GET", "/services?sort_desc=1&size=30", 200),
        ("GET", "/services/none?sort_desc=1&size=30", 404),
        ("GET", "/no/such/path", 404),
        ("DELETE", "/services", 405),
    ] {
        let answer = admin.call(method, path).header("Origin", ORIGIN);
        readable(&answer.expect(status).await?);
    }
    let refused = admin.post("/services", &json!({}));
    readable(&refused.header("Origin", ORIGIN).expect(400).await?);
    Ok(())
}

#[tokio::test]
async fn writes_are_asked_for_first() -> Outcome {
    let gateway = Gateway::start().await?;
    let preflight = gateway
        .admin()
        .call("OPTIONS", "/services/00000000-0000-4000-8000-000000000000")
        .header("Origin", ORIGIN)
        .header("Access-Control-Request-Method", "PATCH")
        .header("Access-Control-Request-Headers", "content-type");
    let answer = preflight.expect(204).await?;
    readable(&answer);
    assert_eq!(
        answer.header("Access-Control-Allow-Headers"),
        Some("content-type")
    );
    let methods = answer.header("Access-Control-Allow-Methods").unwrap();
    assert!(methods.contains("PATCH"), "{methods}");
    Ok(())
}

#[tokio::test]
async fn lists_go_on_by_their_offset() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    for n in 0..40 {
        let row = json!({"username": format!("u{n}"), "custom_id": format!("c{n}"), "tags": []});
        admin.post("/consumers", &row).expect(201).await?;
    }
    let path = "/consumers?sort_desc=1&size=30";
    let first = admin.get(path).expect(200).await?.json();
    let offset = first["offset"].as_str().unwrap();
    let second = admin.get(&format!("{path}&offset={offset}"));
    let second = second.expect(200).await?.json();
    assert_eq!(
        (
            first["data"].as_array().unwrap().len(),
            second["data"].as_array().unwrap().len()
        ),
        (30, 10)
    );
    assert!(second.get("offset").is_none());
    Ok(())
}

#[tokio::test]
async fn searching_is_getting_by_name() -> Outcome {
    let gateway = Gateway::start().await?;
    gateway
        .service_at("s", "http://a.test")
        .paths(["/x"])
        .create()
        .await?;
    gateway.consumer("bob", "k").await?;
    let admin = gateway.admin();
    let plugin = json!({"name": "key-auth", "instance_name": "mine"});
    admin.post("/plugins", &plugin).expect(201).await?;
    for path in [
        "/services/s",
        "/routes/s",
        "/consumers/bob",
        "/plugins/mine",
    ] {
        let found = admin.get(&format!("{path}?sort_desc=1&size=30"));
        assert!(found.expect(200).await?.json()["id"].is_string());
        let missing = admin.get(&format!("{path}x?sort_desc=1&size=30"));
        missing.expect(404).await?;
    }
    Ok(())
}

#[tokio::test]
async fn forms_are_saved() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let service = json!({
        "name": "s", "tags": null, "retries": 5, "connect_timeout": 60000, "write_timeout": 60000, "read_timeout": 60000,
        "ca_certificates": null, "client_certificate": null, "port": 80, "url": "http://a.test", "enabled": true,
    });
    let service = admin.post("/services", &service).expect(201).await?.json();
    let id = service["id"].as_str().unwrap();
    let route = json!({
        "name": "r", "protocols": ["http", "https"], "service": {"id": id}, "methods": null, "hosts": null, "paths": ["/a"],
        "headers": null, "snis": null, "sources": null, "destinations": null, "regex_priority": 0, "path_handling": "v0",
        "strip_path": true, "preserve_host": false, "https_redirect_status_code": 426, "request_buffering": true,
        "response_buffering": true, "tags": [],
    });
    admin
        .post(&format!("/services/{id}/routes"), &route)
        .expect(201)
        .await?;
    let plugin = json!({
        "name": "key-auth", "enabled": true, "service": {"id": id}, "protocols": ["grpc", "grpcs", "http", "https"],
        "config": {"key_names": ["apikey"]},
    });
    let plugins = format!("/services/{id}/plugins");
    let plugin = admin.post(&plugins, &plugin).expect(201).await?.json();
    let path = format!("{plugins}/{}", plugin["id"].as_str().unwrap());
    let read = admin.get(&format!("{path}?expand_partials=true"));
    assert_eq!(read.expect(200).await?.json(), plugin);
    let mut off = plugin.clone();
    off["enabled"] = json!(false);
    let off = admin.patch(&path, &off).expect(200).await?.json();
    assert_eq!(off["enabled"], false);

    admin
        .get("/schemas/keyauth_credentials")
        .expect(200)
        .await?;
    let consumer = json!({"username": "c", "custom_id": "1", "tags": []});
    admin.post("/consumers", &consumer).expect(201).await?;
    // A time to live of nothing is none.
    let key = json!({"key": "k", "ttl": 0, "tags": []});
    let key = admin
        .post("/consumers/c/key-auth", &key)
        .expect(201)
        .await?;
    assert!(key.json().get("ttl").is_none_or(|t| t.is_null() || *t == 0));
    Ok(())
}
