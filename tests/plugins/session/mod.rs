//! `session`.

use std::time::Duration;

use serde_json::{Value, json};
use silverback_testkit::gateway::{Gateway, eventually};
use silverback_testkit::h1::Response;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

/// `key-auth` with an anonymous consumer whose requests are refused, and sessions.
async fn guarded(upstream: &Upstream, mut config: Value) -> anyhow::Result<Gateway> {
    config["secret"] = "s".into();
    config["cookie_secure"] = false.into();
    let gateway = Gateway::start().await?;
    gateway.consumer("alice", "open").await?;
    let anon = gateway.consumer("anon", "none").await?;
    gateway
        .service("s", upstream)
        .paths(["/"])
        .plugin("key-auth", json!({ "anonymous": "anon" }))
        .plugin("session", config)
        .create()
        .await?;
    let refuse = json!({ "status_code": 403, "message": "who are you?" });
    let at = format!("/consumers/{anon}");
    gateway.plugin(&at, "request-termination", refuse).await?;
    Ok(gateway)
}

fn cookie(response: &Response) -> String {
    let set = response.header("Set-Cookie").unwrap_or_default();
    set.split(';').next().unwrap_or_default().to_owned()
}

async fn log_in(gateway: &Gateway) -> anyhow::Result<String> {
    let call = gateway.get("/").header("apikey", "open");
    Ok(cookie(&call.expect(200).await?))
}

async fn sessions(gateway: &Gateway) -> anyhow::Result<Vec<Value>> {
    let all = gateway.admin().get("/sessions").expect(200).await?.json();
    Ok(all["data"].as_array().cloned().unwrap_or_default())
}

/// The first session, when there is one: they are written in the background.
async fn kept(gateway: &Gateway) -> anyhow::Result<Value> {
    let first = || async { Ok(sessions(gateway).await?.into_iter().next()) };
    eventually("a session is kept", Duration::from_secs(10), first).await
}

#[tokio::test]
async fn a_cookie_stands_for_a_key_until_its_owner_logs_out() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = guarded(&upstream, json!({})).await?;
    let anonymous = gateway.get("/").expect(403).await?;
    assert_eq!(anonymous.header("Set-Cookie"), None);
    let first = gateway.get("/").header("apikey", "open");
    let browser = cookie(&first.expect(200).await?);
    let again = gateway.get("/").header("cookie", &browser);
    assert_eq!(again.expect(200).await?.header("Set-Cookie"), None);
    let seen = upstream.seen();
    assert_eq!(seen.len(), 2);
    for name in [
        "X-Consumer-ID",
        "X-Consumer-Username",
        "X-Credential-Identifier",
    ] {
        assert!(seen[0].headers.get(name).is_some());
        assert_eq!(
            seen[0].headers.get(name),
            seen[1].headers.get(name),
            "{name}"
        );
    }
    let out = gateway
        .call("POST", "/?session_logout=1")
        .header("cookie", &browser);
    let out = out.expect(200).await?;
    assert_eq!(out.text(), "");
    assert_eq!(
        out.header("Set-Cookie"),
        Some(
            "session=; Path=/; SameSite=Strict; HttpOnly; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0"
        )
    );
    assert_eq!(upstream.requests(), 2);
    let forged = format!("{}A", &browser[..browser.len() - 1]);
    let forged = gateway.get("/").header("cookie", &forged);
    forged.expect(403).await?;
    Ok(())
}

#[tokio::test]
async fn a_session_in_the_database_is_good_on_all_nodes_and_can_be_ended_by_others() -> Outcome {
    let upstream = Upstream::start().await?;
    let config = json!({ "storage": "kong", "read_body_for_logout": true });
    let gateway = guarded(&upstream, config).await?;
    let other = gateway.another().await?;
    let browser = log_in(&gateway).await?;
    let row = kept(&gateway).await?;
    assert!(browser.len() < 130, "{browser}");
    let call = || other.proxy().get("/").header("cookie", &browser);
    call().expect(200).await?;
    other.serves(other.revision().await?).await?;
    call().expect(200).await?;

    // By whoever operates the gateway.
    let path = format!(
        "/sessions/{}",
        row["session_id"].as_str().unwrap_or_default()
    );
    gateway.admin().delete(&path).expect(204).await?;
    other.settle().await?;
    call().expect(403).await?;

    // By its owner, on another node.
    let browser = log_in(&gateway).await?;
    kept(&gateway).await?;
    let out = other.call("POST", "/").header("cookie", &browser);
    out.form("session_logout=1").expect(200).await?;
    assert!(sessions(&gateway).await?.is_empty());
    gateway.serves(gateway.revision().await?).await?;
    gateway
        .get("/")
        .header("cookie", &browser)
        .expect(403)
        .await?;
    Ok(())
}
