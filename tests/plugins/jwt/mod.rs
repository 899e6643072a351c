//! `jwt`.

use serde_json::json;
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

/// `{"iss": "jk"}`, signed with `js`.
const TOKEN: &str = "eyJ0eXAiOiAiSldUIiwgImFsZyI6ICJIUzI1NiJ9.eyJpc3MiOiAiamsifQ.r6DTwt83Yg9edmJO0zCcSKAs19d0764D6crPuOCHerY";

#[tokio::test]
async fn a_token_counts_as_long_as_its_key() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("jwt", json!({"cookie_names": ["token"]}))
        .create()
        .await?;
    let admin = gateway.admin();
    let alice = json!({"username": "alice"});
    admin.post("/consumers", &alice).expect(201).await?;
    let refused = gateway.get("/").expect(401).await?;
    assert_eq!(refused.json(), json!({"message": "Unauthorized"}));
    assert_eq!(refused.header("WWW-Authenticate"), Some("Bearer"));

    let bearer = format!("Bearer {TOKEN}");
    let call = || gateway.get("/").header("Authorization", &bearer);
    let refused = call().expect(401).await?;
    let text = "No credentials found for given 'iss'";
    assert_eq!(refused.json()["message"], text);
    let keys = "/consumers/alice/jwt";
    let key = json!({"key": "jk", "secret": "js"});
    admin.post(keys, &key).expect(201).await?;
    call().expect(200).await?;
    gateway.get(&format!("/?jwt={TOKEN}")).expect(200).await?;
    let cookie = format!("a=b; token={TOKEN}");
    gateway
        .get("/")
        .header("Cookie", &cookie)
        .expect(200)
        .await?;
    for seen in upstream.seen() {
        assert_eq!(seen.headers.get("X-Consumer-Username"), Some("alice"));
        assert_eq!(seen.headers.get("X-Credential-Identifier"), Some("jk"));
    }
    let other = json!({"secret": "other"});
    admin
        .patch("/consumers/alice/jwt/jk", &other)
        .expect(200)
        .await?;
    let refused = call().expect(401).await?;
    assert_eq!(refused.json()["message"], "Invalid signature");
    Ok(())
}
