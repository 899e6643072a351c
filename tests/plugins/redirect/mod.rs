//! `redirect`.

use serde_json::json;
use silverback_testkit::gateway::Gateway;

use crate::Outcome;

#[tokio::test]
async fn clients_are_sent_elsewhere_with_what_they_asked_for() -> Outcome {
    let gateway = Gateway::start().await?;
    gateway
        .service_at("s", "http://127.0.0.1:1")
        .paths(["/old"])
        .plugin(
            "redirect",
            json!({"location": "https://new.test/", "keep_incoming_path": true, "status_code": 308}),
        )
        .create()
        .await?;
    let answer = gateway.call("POST", "/old/a%20b?c=d&e").body("x");
    let answer = answer.expect(308).await?;
    let location = "https://new.test/old/a%20b?c=d&e";
    assert_eq!(answer.header("Location"), Some(location));
    assert_eq!(answer.text(), "redirecting");
    let head = gateway.call("HEAD", "/old").expect(308).await?;
    assert_eq!(head.header("Content-Length"), Some("11"));
    assert!(head.body.is_empty());
    Ok(())
}
