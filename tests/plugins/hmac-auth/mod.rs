//! `hmac-auth`.

use std::time::SystemTime;

use serde_json::json;
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

#[tokio::test]
async fn a_signature_of_another_time_or_body_is_refused() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("hmac-auth", json!({"validate_request_body": true}))
        .create()
        .await?;
    let admin = gateway.admin();
    let alice = json!({"username": "alice"});
    admin.post("/consumers", &alice).expect(201).await?;
    let secret = json!({"username": "hm", "secret": "sec"});
    let path = "/consumers/alice/hmac-auth";
    admin.post(path, &secret).expect(201).await?;

    // Signed over one header only, so that it is good at any time: the date is looked at apart.
    let said = |signature: &str| {
        format!(
            r#"hmac username="hm", algorithm="hmac-sha256", headers="x-signed", signature="{signature}""#
        )
    };
    let good = said("v1RONjni+sxYNTMgDCVmrkNnsKcIADPKu8DQCdDHY6w=");
    let now = httpdate::fmt_http_date(SystemTime::now());
    let call = |method: &str, date: &str, signature: &str| {
        gateway
            .call(method, "/")
            .header("Date", date)
            .header("X-Signed", "yes")
            .header("Authorization", signature)
    };
    call("GET", &now, &good).expect(200).await?;
    let seen = upstream.seen();
    assert_eq!(seen[0].headers.get("X-Consumer-Username"), Some("alice"));
    assert_eq!(seen[0].headers.get("X-Credential-Identifier"), Some("hm"));
    let refused = call("GET", &now, &said("AAAA")).expect(401).await?;
    assert_eq!(refused.json()["message"], "HMAC signature does not match");
    assert_eq!(refused.header("WWW-Authenticate"), Some("hmac"));
    call("GET", "Mon, 01 Jan 2024 00:00:00 GMT", &good)
        .expect(401)
        .await?;

    let hello = "SHA-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    let post = |body: &'static str| call("POST", &now, &good).header("Digest", hello).body(body);
    post("hello").expect(200).await?;
    assert_eq!(upstream.seen()[1].body, b"hello".as_slice());
    post("hellx").expect(401).await?;
    Ok(())
}
