//! What the Admin API and the status API tell about the node, and the schemas.

use serde_json::json;
use silverback_testkit::gateway::{Gateway, Setup};

use crate::Outcome;

#[tokio::test]
async fn the_root_says_what_clients_look_for() -> Outcome {
    let gateway = Setup::new().set("pg_password", "hunter2").start().await?;
    let answer = gateway.admin().get("/").expect(200).await?;
    assert!(!answer.text().contains("hunter2"));
    let root = answer.json();
    assert_eq!(root["version"], "3.9.1");
    assert_eq!(root["configuration"]["database"], "postgres");
    assert_eq!(
        root["configuration"]["router_flavor"],
        "traditional_compatible"
    );
    assert_eq!(root["configuration"]["pg_password"], "******");
    let available = root["plugins"]["available_on_server"].as_object().unwrap();
    for name in [
        "key-auth",
        "rate-limiting",
        "retry",
        "correlation-id",
        "request-termination",
    ] {
        assert!(available.contains_key(name), "{name}");
    }
    assert!(root["node_id"].as_str().unwrap().len() == 36);
    assert!(answer.header("Server").unwrap().starts_with("silverback/"));
    Ok(())
}

#[tokio::test]
async fn the_status_tells_of_the_database() -> Outcome {
    let gateway = Gateway::start().await?;
    for status in [
        gateway.admin().get("/status").expect(200).await?.json(),
        gateway.status().get("/status").expect(200).await?.json(),
    ] {
        assert_eq!(status["database"]["reachable"], true);
        assert!(status["server"]["connections_accepted"].is_number());
        assert!(status["memory"].is_object());
    }
    Ok(())
}

#[tokio::test]
async fn metrics_count_what_was_proxied() -> Outcome {
    let upstream = silverback_testkit::upstream::Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .create()
        .await?;
    for _ in 0..3 {
        gateway.get("/").expect(200).await?;
    }
    let metrics = gateway.status().get("/metrics").expect(200).await?;
    assert!(
        metrics
            .header("Content-Type")
            .unwrap()
            .starts_with("text/plain")
    );
    let text = metrics.text();
    let line = text
        .lines()
        .find(|l| l.starts_with("kong_http_requests_total") && l.contains("service=\"s\""))
        .unwrap_or_default();
    assert!(
        line.contains("code=\"200\"") && line.ends_with(" 3"),
        "{line}\n{text}"
    );
    Ok(())
}

#[tokio::test]
async fn schemas_are_told_and_used_for_trying() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    for path in [
        "/schemas/services",
        "/schemas/routes",
        "/schemas/consumers",
        "/schemas/plugins",
        "/schemas/keyauth_credentials",
        "/schemas/plugins/key-auth",
        "/schemas/plugins/rate-limiting",
        "/schemas/plugins/retry",
    ] {
        let schema = admin.get(path).expect(200).await?.json();
        assert!(
            schema["fields"].as_array().is_some_and(|f| !f.is_empty()),
            "{path}"
        );
    }
    admin.get("/schemas/nothing").expect(404).await?;
    let good = json!({"name": "s", "host": "a.test"});
    admin
        .post("/schemas/services/validate", &good)
        .expect(200)
        .await?;
    let bad = json!({"name": "key-auth", "config": {"key_names": 1}});
    let answer = admin
        .post("/schemas/plugins/validate", &bad)
        .expect(400)
        .await?;
    assert!(answer.json()["fields"]["config"]["key_names"].is_string());
    let rows = admin.get("/services").expect(200).await?.json();
    assert_eq!(rows["data"], json!([]));
    Ok(())
}

#[tokio::test]
async fn enabled_plugins_are_listed() -> Outcome {
    let gateway = Setup::new()
        .set("plugins", "key-auth,correlation-id")
        .start()
        .await?;
    let admin = gateway.admin();
    let enabled = admin.get("/plugins/enabled").expect(200).await?.json();
    let mut names: Vec<_> = enabled["enabled_plugins"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|n| n.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["correlation-id", "key-auth"]);
    admin
        .post("/plugins", &json!({"name": "retry"}))
        .expect(400)
        .await?;
    Ok(())
}
