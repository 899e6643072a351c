//! `acl`.

use serde_json::json;
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

/// A gateway with two doors, for those in the group `staff` and for those not in it, and alice, who has a key.
async fn doors(upstream: &Upstream) -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    for (name, config) in [
        ("in", json!({"allow": ["staff"]})),
        ("out", json!({"deny": ["staff"]})),
    ] {
        gateway
            .service(name, upstream)
            .paths([format!("/{name}").as_str()])
            .plugin("key-auth", json!({}))
            .plugin("acl", config)
            .create()
            .await?;
    }
    gateway.consumer("alice", "open").await?;
    Ok(gateway)
}

#[tokio::test]
async fn groups_count_from_joining_to_leaving() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = doors(&upstream).await?;
    let admin = gateway.admin();
    let at = |path: &'static str| gateway.get(path).header("apikey", "open");
    let refused = at("/in").expect(403).await?;
    assert_eq!(refused.json()["message"], "You cannot consume this service");
    at("/out").expect(200).await?;

    let groups = "/consumers/alice/acls";
    for group in ["staff", "night"] {
        admin
            .post(groups, &json!({"group": group}))
            .expect(201)
            .await?;
    }
    at("/in").expect(200).await?;
    at("/out").expect(403).await?;
    let seen = upstream.seen();
    assert_eq!(seen[0].headers.get("X-Consumer-Groups"), Some(""));
    let mut told: Vec<_> = seen[1]
        .headers
        .get("X-Consumer-Groups")
        .unwrap()
        .split(", ")
        .collect();
    told.sort_unstable();
    assert_eq!(told, ["night", "staff"]);

    let renamed = json!({"group": "crew"});
    admin
        .patch("/consumers/alice/acls/staff", &renamed)
        .expect(200)
        .await?;
    at("/in").expect(403).await?;
    admin
        .put("/consumers/alice/acls/staff", &json!({}))
        .expect(200)
        .await?;
    at("/in").expect(200).await?;
    admin
        .delete("/consumers/alice/acls/staff")
        .expect(204)
        .await?;
    at("/in").expect(403).await?;
    Ok(())
}

#[tokio::test]
async fn a_stranger_is_asked_by_whoever_authenticates() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = doors(&upstream).await?;
    let refused = gateway.get("/in").expect(401).await?;
    assert_eq!(refused.json()["message"], "No API key found in request");
    let admin = gateway.admin();
    let plugins = admin.get("/services/in/plugins").expect(200).await?.json();
    let keys = plugins["data"].as_array().unwrap().iter();
    let key_auth = keys.clone().find(|p| p["name"] == "key-auth").unwrap();
    let path = format!("/plugins/{}", key_auth["id"].as_str().unwrap());
    admin.delete(&path).expect(204).await?;
    let refused = gateway.get("/in").expect(401).await?;
    assert_eq!(refused.json()["message"], "Unauthorized");
    assert_eq!(refused.header("WWW-Authenticate"), None);
    Ok(())
}
