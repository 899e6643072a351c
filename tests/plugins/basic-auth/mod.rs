//! `basic-auth`.

use serde_json::json;
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

/// `al:pa:ss`
const GOOD: &str = "Basic YWw6cGE6c3M=";
/// `al:new`
const NEW: &str = "Basic YWw6bmV3";

/// A gateway that asks for a password, and alice, who has one.
async fn guarded(upstream: &Upstream, config: serde_json::Value) -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    gateway
        .service("s", upstream)
        .paths(["/"])
        .plugin("basic-auth", config)
        .create()
        .await?;
    let admin = gateway.admin();
    let alice = json!({"username": "alice", "custom_id": "c-alice"});
    admin.post("/consumers", &alice).expect(201).await?;
    let login = json!({"username": "al", "password": "pa:ss"});
    admin
        .post("/consumers/alice/basic-auth", &login)
        .expect(201)
        .await?;
    Ok(gateway)
}

#[tokio::test]
async fn a_password_opens_and_tells_the_upstream_who_it_is() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = guarded(&upstream, json!({})).await?;
    let refused = gateway.get("/").expect(401).await?;
    assert_eq!(refused.json()["message"], "Unauthorized");
    let challenge = refused.header("WWW-Authenticate");
    assert_eq!(challenge, Some("Basic realm=\"service\""));
    let call = gateway.get("/").header("Authorization", NEW);
    call.expect(401).await?;
    assert_eq!(upstream.requests(), 0);

    for header in ["Authorization", "Proxy-Authorization"] {
        let call = gateway.get("/").header(header, GOOD);
        call.expect(200).await?;
    }
    for (seen, header) in upstream
        .seen()
        .iter()
        .zip(["Authorization", "Proxy-Authorization"])
    {
        assert_eq!(seen.headers.get("X-Consumer-Username"), Some("alice"));
        assert_eq!(seen.headers.get("X-Consumer-Custom-ID"), Some("c-alice"));
        assert_eq!(seen.headers.get("X-Credential-Identifier"), Some("al"));
        assert_eq!(seen.headers.get("X-Anonymous-Consumer"), None);
        assert_eq!(seen.headers.get(header), Some(GOOD));
    }
    Ok(())
}

#[tokio::test]
async fn a_password_counts_from_its_change_to_its_deletion() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = guarded(&upstream, json!({"hide_credentials": true})).await?;
    let admin = gateway.admin();
    let one = "/consumers/alice/basic-auth/al";
    admin
        .patch(one, &json!({"password": "new"}))
        .expect(200)
        .await?;
    let with = |value: &'static str| gateway.get("/").header("Authorization", value);
    with(NEW).expect(200).await?;
    with(GOOD).expect(401).await?;
    assert_eq!(upstream.seen()[0].headers.get("Authorization"), None);
    admin
        .patch(one, &json!({"username": "other"}))
        .expect(200)
        .await?;
    with(NEW).expect(401).await?;
    // `other:new`
    with("Basic b3RoZXI6bmV3").expect(200).await?;
    admin.delete("/consumers/alice").expect(204).await?;
    with("Basic b3RoZXI6bmV3").expect(401).await?;
    Ok(())
}
