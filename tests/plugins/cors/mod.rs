//! `cors`.

use serde_json::json;
use silverback_testkit::gateway::{Call, Gateway};
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

const PAGE: &str = "https://shop.test";

fn from_the_page(call: Call<'_>) -> Call<'_> {
    call.header("Origin", PAGE)
}

fn preflight<'a>(gateway: &'a Gateway, path: &str) -> Call<'a> {
    from_the_page(gateway.call("OPTIONS", path)).header("Access-Control-Request-Method", "PUT")
}

#[tokio::test]
async fn a_preflight_request_is_answered_before_anybody_asks_who_calls() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin(
            "cors",
            json!({"origins": [PAGE, "https://other.test"], "credentials": true}),
        )
        .plugin("key-auth", json!({}))
        .create()
        .await?;
    let answer = preflight(&gateway, "/").expect(200).await?;
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some(PAGE));
    assert_eq!(answer.header("Content-Length"), Some("0"));
    assert_eq!(answer.header("Content-Type"), None);
    assert_eq!(upstream.requests(), 0);
    // The page may read why it was refused.
    let refused = from_the_page(gateway.get("/")).expect(401).await?;
    assert_eq!(refused.header("Access-Control-Allow-Origin"), Some(PAGE));
    assert_eq!(
        refused.header("Access-Control-Allow-Credentials"),
        Some("true")
    );
    // One that no plugin of the route answers is an ordinary request.
    gateway.call("OPTIONS", "/").expect(401).await?;
    Ok(())
}

#[tokio::test]
async fn a_preflight_request_needs_a_route_that_takes_options() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    for (path, methods) in [
        ("/put", json!(["PUT"])),
        ("/both", json!(["PUT", "OPTIONS"])),
    ] {
        gateway
            .service(&path[1..], &upstream)
            .paths([path])
            .route("methods", methods)
            .plugin("cors", json!({}))
            .create()
            .await?;
    }
    preflight(&gateway, "/put").expect(404).await?;
    preflight(&gateway, "/both").expect(200).await?;
    let global = json!({"name": "cors"});
    gateway
        .admin()
        .post("/plugins", &global)
        .expect(201)
        .await?;
    let answer = preflight(&gateway, "/put").expect(404).await?;
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"));
    Ok(())
}

#[tokio::test]
async fn a_refusal_that_comes_first_is_readable_too() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("cors", json!({}))
        .plugin("bot-detection", json!({}))
        .create()
        .await?;
    let bot = preflight(&gateway, "/").header("User-Agent", "Twitterbot");
    let refused = bot.expect(403).await?;
    assert_eq!(refused.header("Access-Control-Allow-Origin"), Some("*"));
    assert_eq!(refused.header("Access-Control-Allow-Methods"), None);
    Ok(())
}
