//! `request-termination`.

use serde_json::json;
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

#[tokio::test]
async fn requests_are_answered_and_never_sent_on() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin(
            "request-termination",
            json!({"status_code": 403, "message": "closed"}),
        )
        .create()
        .await?;
    let answer = gateway.get("/").expect(403).await?;
    assert_eq!(answer.json(), json!({"message": "closed"}));
    assert_eq!(upstream.requests(), 0);
    Ok(())
}

#[tokio::test]
async fn a_body_and_its_type_are_sent_as_configured() -> Outcome {
    let gateway = Gateway::start().await?;
    gateway
        .service_at("s", "http://127.0.0.1:1")
        .paths(["/"])
        .plugin(
            "request-termination",
            json!({"status_code": 200, "content_type": "text/csv", "body": "a,b\n"}),
        )
        .create()
        .await?;
    let answer = gateway.get("/").expect(200).await?;
    assert_eq!(answer.text(), "a,b\n");
    assert!(
        answer
            .header("Content-Type")
            .unwrap()
            .starts_with("text/csv")
    );
    let head = gateway.call("HEAD", "/").expect(200).await?;
    assert_eq!(
        (head.header("Content-Length"), head.body.len()),
        (Some("4"), 0)
    );
    Ok(())
}

#[tokio::test]
async fn a_trigger_decides_which_requests() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("request-termination", json!({"trigger": "x-stop"}))
        .create()
        .await?;
    gateway.get("/").expect(200).await?;
    gateway.get("/").header("X-Stop", "1").expect(503).await?;
    gateway.get("/?x-stop=1").expect(503).await?;
    assert_eq!(upstream.requests(), 1);
    Ok(())
}

#[tokio::test]
async fn taking_it_away_opens_the_service_again() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .create()
        .await?;
    for _ in 0..5 {
        let id = gateway
            .plugin("/services/s", "request-termination", json!({}))
            .await?;
        gateway.get("/").expect(503).await?;
        let path = format!("/plugins/{id}");
        let admin = gateway.admin();
        admin
            .patch(&path, &json!({"enabled": false}))
            .expect(200)
            .await?;
        gateway.get("/").expect(200).await?;
        admin
            .patch(&path, &json!({"enabled": true}))
            .expect(200)
            .await?;
        gateway.get("/").expect(503).await?;
        admin.delete(&path).expect(204).await?;
        gateway.get("/").expect(200).await?;
    }
    Ok(())
}
