//! Which configuration of a plugin counts for a request.

use serde_json::json;
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

/// A node with key-auth on every service, and one configuration of `request-termination` for each scope named.
async fn node(upstream: &Upstream, scopes: &[&str]) -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    gateway.service("s", upstream).paths(["/"]).create().await?;
    gateway.plugin("", "key-auth", json!({})).await?;
    gateway.consumer("c", "k").await?;
    let admin = gateway.admin();
    let mut ids = std::collections::HashMap::new();
    for (kind, path) in [
        ("service", "/services/s"),
        ("route", "/routes/s"),
        ("consumer", "/consumers/c"),
    ] {
        let row = admin.get(path).expect(200).await?.json();
        ids.insert(kind, row["id"].clone());
    }
    for scope in scopes {
        let mut plugin = json!({
            "name": "request-termination",
            "config": {"status_code": 418, "message": scope},
        });
        for kind in scope.split('+').filter(|kind| *kind != "global") {
            plugin[kind] = json!({"id": ids[kind]});
        }
        admin.post("/plugins", &plugin).expect(201).await?;
    }
    Ok(gateway)
}

#[tokio::test]
async fn the_most_specific_configuration_wins() -> Outcome {
    let upstream = Upstream::start().await?;
    // In Kong's order: each wins over all that follow.
    let order = [
        "route+service+consumer",
        "route+consumer",
        "service+consumer",
        "route+service",
        "consumer",
        "route",
        "service",
        "global",
    ];
    let gateway = node(&upstream, &order).await?;
    let admin = gateway.admin();
    let rows = admin.get("/plugins?size=100").expect(200).await?.json();
    for scope in order {
        let answer = gateway.get("/").header("apikey", "k").expect(418).await?;
        assert_eq!(answer.json()["message"], scope);
        let row = rows["data"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["config"]["message"] == scope)
            .unwrap();
        let id = row["id"].as_str().unwrap();
        admin.delete(&format!("/plugins/{id}")).expect(204).await?;
    }
    gateway.get("/").header("apikey", "k").expect(200).await?;
    Ok(())
}

#[tokio::test]
async fn who_is_not_known_gets_no_configuration_of_a_consumer() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = node(&upstream, &["consumer", "global"]).await?;
    gateway.consumer("d", "other").await?;
    let known = gateway.get("/").header("apikey", "k").expect(418).await?;
    assert_eq!(known.json()["message"], "consumer");
    let other = gateway
        .get("/")
        .header("apikey", "other")
        .expect(418)
        .await?;
    assert_eq!(other.json()["message"], "global");
    // key-auth comes before request-termination: without a key nothing else decides.
    gateway.get("/").expect(401).await?;
    Ok(())
}

#[tokio::test]
async fn a_disabled_configuration_hides_nothing() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = node(&upstream, &["route", "service"]).await?;
    let admin = gateway.admin();
    let rows = admin.get("/routes/s/plugins").expect(200).await?.json();
    let id = rows["data"][0]["id"].as_str().unwrap();
    let call = gateway.get("/").header("apikey", "k");
    assert_eq!(call.clone().expect(418).await?.json()["message"], "route");
    admin
        .patch(&format!("/plugins/{id}"), &json!({"enabled": false}))
        .expect(200)
        .await?;
    assert_eq!(call.expect(418).await?.json()["message"], "service");
    Ok(())
}

#[tokio::test]
async fn response_phases_run_on_refusals_too() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = node(&upstream, &[]).await?;
    gateway
        .plugin(
            "",
            "correlation-id",
            json!({"header_name": "X-Id", "echo_downstream": true}),
        )
        .await?;
    let refused = gateway.get("/").expect(401).await?;
    assert!(refused.header("X-Id").is_some());
    let nowhere = Gateway::start().await?;
    nowhere
        .plugin(
            "",
            "correlation-id",
            json!({"header_name": "X-Id", "echo_downstream": true}),
        )
        .await?;
    assert!(nowhere.get("/").expect(404).await?.header("X-Id").is_some());
    Ok(())
}
