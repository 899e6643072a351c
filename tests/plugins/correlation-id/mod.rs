//! `correlation-id`.

use serde_json::json;
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

#[tokio::test]
async fn upstream_and_client_see_the_same_id() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin(
            "correlation-id",
            json!({"header_name": "X-Id", "generator": "uuid", "echo_downstream": true}),
        )
        .create()
        .await?;
    let (first, second) = (
        gateway.get("/").expect(200).await?,
        gateway.get("/").expect(200).await?,
    );
    assert_ne!(first.header("X-Id"), second.header("X-Id"));
    assert_eq!(first.header("X-Id").unwrap().len(), 36);
    let seen = upstream.seen();
    assert_eq!(seen[0].headers.get("X-Id"), first.header("X-Id"));
    assert_eq!(seen[1].headers.get("X-Id"), second.header("X-Id"));
    Ok(())
}

#[tokio::test]
async fn an_id_of_the_client_is_kept() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("correlation-id", json!({"echo_downstream": true}))
        .create()
        .await?;
    let answer = gateway.get("/").header("Kong-Request-ID", "mine");
    let answer = answer.expect(200).await?;
    assert_eq!(answer.header("Kong-Request-ID"), Some("mine"));
    assert_eq!(
        upstream.seen()[0].headers.get("Kong-Request-ID"),
        Some("mine")
    );
    Ok(())
}

#[tokio::test]
async fn counted_ids_are_never_given_twice() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("correlation-id", json!({"generator": "uuid#counter"}))
        .create()
        .await?;
    gateway.settle().await?;
    let calls = (0..100).map(|_| gateway.get("/").expect(200));
    futures::future::try_join_all(calls).await?;
    let ids: std::collections::HashSet<_> = upstream
        .seen()
        .iter()
        .map(|r| r.headers.get("Kong-Request-ID").unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 100);
    Ok(())
}
