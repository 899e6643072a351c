//! `bot-detection`.

use serde_json::json;
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

#[tokio::test]
async fn lists_may_look_around() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("bot-detection", json!({"deny": ["^(?!Mozilla)"]}))
        .create()
        .await?;
    let by = |agent: &'static str| gateway.get("/").header("User-Agent", agent);
    by("Mozilla/5.0").expect(200).await?;
    by("curl/8").expect(403).await?;
    by("Mozilla/5.0 (compatible; Googlebot/2.1)")
        .expect(403)
        .await?;
    gateway.get("/").expect(200).await?;
    assert_eq!(upstream.requests(), 2);
    Ok(())
}

#[tokio::test]
async fn two_agents_are_one_too_many() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("bot-detection", json!({}))
        .create()
        .await?;
    let call = gateway.get("/").header("User-Agent", "a");
    let refused = call.header("User-Agent", "b").expect(400).await?;
    let message = "Only one User-Agent header allowed";
    assert_eq!(refused.json()["message"], message);
    Ok(())
}
