//! `oauth2`.

use serde_json::{Value, json};
use silverback_testkit::gateway::{Endpoint, Gateway, Setup};
use silverback_testkit::h1::Response;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

async fn guarded(upstream: &Upstream) -> anyhow::Result<Gateway> {
    let gateway = Setup::new().tls().start().await?;
    let config = json!({
        "scopes": ["email"], "provision_key": "prov", "enable_authorization_code": true, "enable_client_credentials": true
    });
    let service = gateway.service("s", upstream).paths(["/"]);
    service.plugin("oauth2", config).create().await?;
    gateway.consumer("alice", "k").await?;
    let application = json!({
        "name": "app", "client_id": "cid", "client_secret": "sec", "redirect_uris": ["https://app.test/cb"]
    });
    let admin = gateway.admin();
    admin
        .post("/consumers/alice/oauth2", &application)
        .expect(201)
        .await?;
    gateway.settle().await?;
    Ok(gateway)
}

/// Without waiting until the node has heard of what was written.
async fn post(node: &Endpoint, path: &str, form: &str) -> anyhow::Result<Response> {
    node.call("POST", path).form(form).send().await
}

async fn token(node: &Endpoint) -> anyhow::Result<String> {
    let form = "grant_type=client_credentials&client_id=cid&client_secret=sec&scope=email";
    let answer = post(node, "/oauth2/token", form).await?.json();
    Ok(answer["access_token"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn a_token_is_good_on_all_nodes_at_once() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = guarded(&upstream).await?;
    let other = gateway.another().await?;
    for _ in 0..20 {
        let token = bearer(&token(&gateway.tls()).await?);
        let call = other.proxy().get("/").header("authorization", &token);
        call.expect(200).await?;
    }
    let seen = upstream.seen();
    assert_eq!(seen[0].headers.get("X-Consumer-Username"), Some("alice"));
    assert_eq!(seen[0].headers.get("X-Authenticated-Scope"), Some("email"));
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_deleted_is_good_no_more() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = guarded(&upstream).await?;
    let token = token(&gateway.tls()).await?;
    let call = || gateway.get("/").header("authorization", &bearer(&token));
    call().expect(200).await?;
    let admin = gateway.admin();
    admin
        .delete(&format!("/oauth2_tokens/{token}"))
        .expect(204)
        .await?;
    let refused = call().expect(401).await?;
    assert_eq!(refused.json()["error"], "invalid_token");

    // With the application all its tokens go.
    let token = self::token(&gateway.tls()).await?;
    let call = || gateway.get("/").header("authorization", &bearer(&token));
    call().expect(200).await?;
    admin.delete("/oauth2/cid").expect(204).await?;
    call().expect(401).await?;
    Ok(())
}

#[tokio::test]
async fn a_token_follows_its_consumer() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = guarded(&upstream).await?;
    let token = bearer(&token(&gateway.tls()).await?);
    let call = || gateway.get("/").header("authorization", &token);
    call().expect(200).await?;
    let renamed = json!({ "username": "bob" });
    let admin = gateway.admin();
    admin
        .patch("/consumers/alice", &renamed)
        .expect(200)
        .await?;
    call().expect(200).await?;
    let seen = upstream.seen();
    let names: Vec<_> = seen
        .iter()
        .filter_map(|s| s.headers.get("X-Consumer-Username"))
        .collect();
    assert_eq!(names, ["alice", "bob"]);
    admin.delete("/consumers/bob").expect(204).await?;
    call().expect(401).await?;
    Ok(())
}

#[tokio::test]
async fn a_code_is_changed_once_over_all_nodes() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = guarded(&upstream).await?;
    let other = gateway.another().await?;
    let nodes = [gateway.tls(), other.tls()];
    for _ in 0..10 {
        let form = "response_type=code&client_id=cid&scope=email&provision_key=prov&authenticated_userid=u";
        let sent = post(&nodes[0], "/oauth2/authorize", form).await?.json();
        let uri = sent["redirect_uri"].as_str().unwrap_or_default();
        let (_, code) = uri.split_once("code=").unwrap_or_default();
        let form =
            format!("grant_type=authorization_code&client_id=cid&client_secret=sec&code={code}");
        let (a, b) = tokio::join!(
            post(&nodes[0], "/oauth2/token", &form),
            post(&nodes[1], "/oauth2/token", &form)
        );
        let mut statuses = [a?.status, b?.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 400]);
    }
    // Codes have no paths in the Admin API, and what is given out is in the log of changes.
    let admin = gateway.admin();
    admin.get("/oauth2_authorization_codes").expect(404).await?;
    let log = admin.get("/revisions?size=100").expect(200).await?.json();
    let rows = log["data"].as_array().cloned().unwrap_or_default();
    let by_proxy = rows.iter().filter(|r| r["who"] == "proxy").count();
    assert_eq!(by_proxy, 30, "{log}");
    Ok(())
}

#[tokio::test]
async fn without_a_database_given_tokens_are_good_and_none_are_made() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Setup::new().set("database", "off").tls().start().await?;
    let url = format!("http://{}", upstream.addr());
    let file = json!({
        "_format_version": "3.0",
        "services": [{
            "name": "s", "url": url, "routes": [{ "name": "r", "paths": ["/"] }],
            "plugins": [{ "name": "oauth2", "config": { "enable_client_credentials": true, "global_credentials": true } }],
        }],
        "consumers": [{
            "username": "alice",
            "oauth2_credentials": [{
                "name": "app", "client_id": "cid", "client_secret": "sec",
                "oauth2_tokens": [{ "access_token": "tok", "expires_in": 0 }],
            }],
        }],
    });
    let admin = gateway.admin();
    admin.post("/config", &file).expect(201).await?;
    gateway
        .get("/")
        .header("authorization", "Bearer tok")
        .expect(200)
        .await?;
    gateway
        .get("/")
        .header("authorization", "Bearer no")
        .expect(401)
        .await?;
    let form = "grant_type=client_credentials&client_id=cid&client_secret=sec";
    let answer = post(&gateway.tls(), "/oauth2/token", form).await?;
    assert_eq!(answer.status, 500);
    let message: Value = answer.json();
    assert_eq!(message["message"], "An unexpected error occurred");
    Ok(())
}
