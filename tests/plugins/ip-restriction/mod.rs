//! `ip-restriction`.

use serde_json::json;
use silverback_testkit::gateway::{Gateway, Setup};
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

#[tokio::test]
async fn a_trusted_proxy_says_who_the_client_is() -> Outcome {
    let upstream = Upstream::start().await?;
    let setup = Setup::new().set("trusted_ips", "127.0.0.1");
    let gateway = setup.start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("ip-restriction", json!({"allow": ["10.0.0.0/8"]}))
        .create()
        .await?;
    let by = |ip: &'static str| gateway.get("/").header("X-Real-IP", ip);
    by("10.1.2.3").expect(200).await?;
    let refused = by("192.0.2.7").expect(403).await?;
    let message = "IP address not allowed: 192.0.2.7";
    assert_eq!(refused.json()["message"], message);
    gateway.get("/").expect(403).await?;
    Ok(())
}

#[tokio::test]
async fn what_a_stranger_says_of_itself_does_not_count() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin(
            "ip-restriction",
            json!({"deny": ["127.0.0.0/8"], "status": 404}),
        )
        .create()
        .await?;
    let call = gateway.get("/").header("X-Real-IP", "10.1.2.3");
    let refused = call
        .header("X-Forwarded-For", "10.1.2.3")
        .expect(404)
        .await?;
    let message = "IP address not allowed: 127.0.0.1";
    assert_eq!(refused.json()["message"], message);
    assert_eq!(upstream.requests(), 0);
    Ok(())
}

#[tokio::test]
async fn consumers_may_have_lists_of_their_own() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("key-auth", json!({}))
        .plugin("ip-restriction", json!({"deny": ["127.0.0.1"]}))
        .create()
        .await?;
    for name in ["alice", "bob"] {
        gateway.consumer(name, name).await?;
    }
    let config = json!({"allow": ["127.0.0.1", "::1"]});
    let at = "/consumers/alice";
    gateway.plugin(at, "ip-restriction", config).await?;
    gateway
        .get("/")
        .header("apikey", "alice")
        .expect(200)
        .await?;
    gateway.get("/").header("apikey", "bob").expect(403).await?;
    Ok(())
}

#[tokio::test]
async fn a_status_that_is_none_is_refused_when_it_is_configured() -> Outcome {
    let gateway = Gateway::start().await?;
    let row = json!({"name": "ip-restriction", "config": {"deny": ["1.2.3.4"], "status": 99}});
    let refused = gateway.admin().post("/plugins", &row).expect(400).await?;
    assert_eq!(
        refused.json()["fields"]["config"]["status"],
        "is no HTTP status"
    );
    Ok(())
}
