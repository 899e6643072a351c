//! `standard-webhooks`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

/// Of `hello` with the id `msg_1`, sent in 2026, with the secret `whsecret`.
const SIGNATURE: &str = "v1,ITQl0uRHaoUswF9MupNmzHgWUvMLpHAraXWrJxExvIE=";
const SENT: u64 = 1_795_342_266;

#[tokio::test]
async fn signed_messages_reach_the_upstream() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    for (name, tolerance) in [("lenient", now), ("strict", 0)] {
        gateway
            .service(name, &upstream)
            .paths([format!("/{name}").as_str()])
            .plugin(
                "standard-webhooks",
                json!({"secret_v1": "whsecret", "tolerance_second": tolerance}),
            )
            .create()
            .await?;
    }
    let send = |path: &str, signatures: &str| {
        let call = gateway.call("POST", path).body("hello");
        call.header("webhook-id", "msg_1")
            .header("webhook-timestamp", &SENT.to_string())
            .header("webhook-signature", signatures)
    };
    send("/lenient", SIGNATURE).expect(200).await?;
    let several = format!("v1,b2xk {SIGNATURE}");
    send("/lenient", &several).expect(200).await?;
    for seen in upstream.seen() {
        assert_eq!(seen.body, b"hello");
    }
    let refused = send("/lenient", "v1,b2xk").expect(400).await?;
    assert_eq!(refused.json()["message"], "Bad request");
    send("/strict", SIGNATURE).expect(400).await?;
    gateway.get("/lenient").expect(400).await?;
    assert_eq!(upstream.requests(), 2);
    Ok(())
}
