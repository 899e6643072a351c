//! What the Admin API and the status API tell about the node, and the schemas.

use std::time::Duration;

use serde_json::json;
use silverback_testkit::gateway::{Gateway, Setup, eventually};
use silverback_testkit::upstream::Upstream;

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
    // A request is counted when it has ended, which is after its client has the answer.
    eventually(
        "three requests are counted",
        Duration::from_secs(20),
        || async {
            let metrics = gateway.status().get("/metrics").expect(200).await?;
            let kind = metrics.header("Content-Type").unwrap_or_default();
            anyhow::ensure!(kind.starts_with("text/plain"), "{kind}");
            let text = metrics.text();
            let line = text
                .lines()
                .find(|l| l.starts_with("kong_http_requests_total") && l.contains("service=\"s\""))
                .unwrap_or_default();
            let all = line.contains("code=\"200\"") && line.ends_with(" 3");
            Ok(all.then_some(()))
        },
    )
    .await?;
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

async fn log_level(gateway: &Gateway) -> anyhow::Result<String> {
    let answer = gateway.admin().get("/debug/node/log-level").expect(200);
    let message = answer.await?.json()["message"].clone();
    let level = message.as_str().unwrap_or_default();
    Ok(level.trim_start_matches("log level: ").to_owned())
}

async fn has_level(gateway: &Gateway, wanted: &str) -> Outcome {
    eventually(wanted, Duration::from_secs(20), || async {
        Ok((log_level(gateway).await? == wanted).then_some(()))
    })
    .await
}

#[tokio::test]
async fn the_log_level_changes_on_one_node_or_on_all_and_goes_back() -> Outcome {
    let (one, other) = {
        let one = Gateway::start().await?;
        let other = one.another().await?;
        (one, other)
    };
    let put = |path: &str| one.admin().call("PUT", path).expect(200);
    put("/debug/node/log-level/info").await?;
    assert_eq!(log_level(&one).await?, "info");
    assert_eq!(log_level(&other).await?, "notice");

    put("/debug/cluster/log-level/debug").await?;
    assert_eq!(log_level(&one).await?, "debug");
    has_level(&other, "debug").await?;

    put("/debug/cluster/log-level/warn?timeout=1").await?;
    has_level(&other, "warn").await?;
    for node in [&one, &other] {
        has_level(node, "notice").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_node_whose_cache_is_deleted_reads_everything_anew() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    let service = gateway.service("s", &upstream).paths(["/old"]);
    service.create().await?;
    gateway.get("/old").expect(200).await?;
    // Behind everybody's back: nothing tells the node.
    let sql = "update routes set paths = '[\"/new\"]'";
    gateway.database().sql(sql)?;
    gateway.get("/old").expect(200).await?;
    gateway.admin().delete("/cache").expect(204).await?;
    eventually("the new path", Duration::from_secs(20), || async {
        let answer = gateway.get("/new").send().await?;
        Ok((answer.status == 200).then_some(()))
    })
    .await
}

#[tokio::test]
async fn the_admin_api_tells_metrics_and_background_work() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let metrics = admin.get("/metrics").expect(200).await?;
    assert!(metrics.text().contains("kong_datastore_reachable 1"));
    let timers = admin.get("/timers").expect(200).await?.json();
    assert!(timers["stats"]["sys"]["total"].as_u64().unwrap() > 0);
    Ok(())
}
