//! `key-auth`.

use serde_json::json;
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

async fn guarded(
    upstream: &Upstream,
    config: serde_json::Value,
) -> anyhow::Result<(Gateway, String)> {
    let gateway = Gateway::start().await?;
    gateway
        .service("s", upstream)
        .paths(["/"])
        .plugin("key-auth", config)
        .create()
        .await?;
    let consumer = gateway.consumer("alice", "open").await?;
    Ok((gateway, consumer))
}

#[tokio::test]
async fn a_key_opens_and_tells_the_upstream_who_it_is() -> Outcome {
    let upstream = Upstream::start().await?;
    let (gateway, consumer) = guarded(&upstream, json!({})).await?;
    let refused = gateway.get("/").expect(401).await?;
    assert_eq!(refused.json()["message"], "No API key found in request");
    assert_eq!(refused.header("WWW-Authenticate"), Some("Key"));
    let wrong = gateway
        .get("/")
        .header("apikey", "shut")
        .expect(401)
        .await?;
    assert_eq!(wrong.json()["message"], "Unauthorized");
    assert_eq!(upstream.requests(), 0);

    gateway
        .get("/")
        .header("apikey", "open")
        .expect(200)
        .await?;
    gateway.get("/?apikey=open").expect(200).await?;
    for seen in upstream.seen() {
        assert_eq!(seen.headers.get("X-Consumer-ID"), Some(consumer.as_str()));
        assert_eq!(seen.headers.get("X-Consumer-Username"), Some("alice"));
        assert!(seen.headers.get("X-Credential-Identifier").is_some());
        assert_eq!(seen.headers.get("X-Anonymous-Consumer"), None);
    }
    Ok(())
}

#[tokio::test]
async fn who_somebody_is_cannot_be_forged() -> Outcome {
    let upstream = Upstream::start().await?;
    let (gateway, _) = guarded(&upstream, json!({})).await?;
    let call = gateway
        .get("/")
        .header("apikey", "open")
        .header("X-Consumer-Username", "root")
        .header("X-Consumer-Custom-ID", "root")
        .header("X-Anonymous-Consumer", "true");
    call.expect(200).await?;
    let seen = &upstream.seen()[0].headers;
    let names: Vec<_> = seen.all("X-Consumer-Username").collect();
    assert_eq!(names, ["alice"]);
    assert_eq!(seen.get("X-Consumer-Custom-ID"), None);
    assert_eq!(seen.get("X-Anonymous-Consumer"), None);
    Ok(())
}

#[tokio::test]
async fn hidden_credentials_do_not_reach_the_upstream() -> Outcome {
    let upstream = Upstream::start().await?;
    let config = json!({"hide_credentials": true, "key_in_body": true});
    let (gateway, _) = guarded(&upstream, config).await?;
    gateway
        .get("/")
        .header("apikey", "open")
        .expect(200)
        .await?;
    gateway.get("/x?a=1&apikey=open&b=2").expect(200).await?;
    let form = gateway.call("POST", "/").form("a=1&apikey=open&b=2");
    form.expect(200).await?;
    let seen = upstream.seen();
    assert_eq!(seen[0].headers.get("apikey"), None);
    assert_eq!(seen[1].target, "/x?a=1&b=2");
    let body = String::from_utf8_lossy(&seen[2].body);
    assert!(!body.contains("open") && body.contains("a=1") && body.contains("b=2"));
    Ok(())
}

#[tokio::test]
async fn anonymous_lets_strangers_in_as_that_consumer() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let guest = admin.post("/consumers", &json!({"username": "guest"}));
    let guest = guest.expect(201).await?.json()["id"].clone();
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("key-auth", json!({"anonymous": guest}))
        .create()
        .await?;
    gateway.consumer("alice", "open").await?;
    gateway.get("/").expect(200).await?;
    gateway
        .get("/")
        .header("apikey", "shut")
        .expect(200)
        .await?;
    gateway
        .get("/")
        .header("apikey", "open")
        .expect(200)
        .await?;
    let seen = upstream.seen();
    for stranger in &seen[..2] {
        assert_eq!(stranger.headers.get("X-Consumer-Username"), Some("guest"));
        assert_eq!(stranger.headers.get("X-Anonymous-Consumer"), Some("true"));
    }
    assert_eq!(seen[2].headers.get("X-Consumer-Username"), Some("alice"));
    assert_eq!(seen[2].headers.get("X-Anonymous-Consumer"), None);
    Ok(())
}

#[tokio::test]
async fn keys_are_looked_for_where_the_configuration_says() -> Outcome {
    let upstream = Upstream::start().await?;
    let config = json!({
        "key_names": ["x-key", "k"], "key_in_header": true, "key_in_query": false, "key_in_body": true,
    });
    let (gateway, _) = guarded(&upstream, config).await?;
    gateway.get("/").header("X-Key", "open").expect(200).await?;
    gateway.get("/").header("K", "open").expect(200).await?;
    gateway.get("/?k=open").expect(401).await?;
    gateway
        .get("/")
        .header("apikey", "open")
        .expect(401)
        .await?;
    let json = gateway.call("POST", "/").json(&json!({"k": "open"}));
    json.expect(200).await?;
    assert_eq!(
        upstream.seen().last().unwrap().body,
        br#"{"k":"open"}"#.as_slice()
    );
    Ok(())
}

#[tokio::test]
async fn a_key_counts_from_its_creation_to_its_deletion() -> Outcome {
    let upstream = Upstream::start().await?;
    let (gateway, consumer) = guarded(&upstream, json!({})).await?;
    let admin = gateway.admin();
    gateway.get("/").header("apikey", "new").expect(401).await?;
    let path = format!("/consumers/{consumer}/key-auth");
    let made = admin
        .post(&path, &json!({"key": "new"}))
        .expect(201)
        .await?;
    gateway.get("/").header("apikey", "new").expect(200).await?;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    admin.delete(&format!("{path}/{id}")).expect(204).await?;
    gateway.get("/").header("apikey", "new").expect(401).await?;
    admin.delete("/consumers/alice").expect(204).await?;
    gateway
        .get("/")
        .header("apikey", "open")
        .expect(401)
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_key_with_a_time_to_live_expires() -> Outcome {
    let upstream = Upstream::start().await?;
    let (gateway, consumer) = guarded(&upstream, json!({})).await?;
    let path = format!("/consumers/{consumer}/key-auth");
    let short = json!({"key": "brief", "ttl": 2});
    gateway.admin().post(&path, &short).expect(201).await?;
    let call = gateway.get("/").header("apikey", "brief");
    call.clone().expect(200).await?;
    let limit = std::time::Duration::from_secs(10);
    silverback_testkit::gateway::eventually("the key expires", limit, || async {
        Ok((call.clone().send().await?.status == 401).then_some(()))
    })
    .await?;
    gateway
        .get("/")
        .header("apikey", "open")
        .expect(200)
        .await?;
    Ok(())
}

#[tokio::test]
async fn preflight_requests_pass_when_so_configured() -> Outcome {
    let upstream = Upstream::start().await?;
    let (gateway, _) = guarded(&upstream, json!({"run_on_preflight": false})).await?;
    gateway.call("OPTIONS", "/").expect(200).await?;
    gateway.get("/").expect(401).await?;
    Ok(())
}
