//! Rows that end by themselves: what writes and rollbacks do with the moment at which they end.

use serde_json::{Value, json};

use super::credentials::with_consumers;
use super::harness::Api;

/// When a key ends, in seconds since 1970; empty when it does not.
fn end_of(api: &Api, key: &str) -> String {
    let sql = format!(
        "select floor(extract(epoch from expires_at)) from keyauth_credentials where key = '{key}'"
    );
    sql_of(api, &sql)
}

fn sql_of(api: &Api, sql: &str) -> String {
    api.db.as_ref().unwrap().sql(sql).unwrap().trim().to_owned()
}

async fn key(api: &Api, key: &str, ttl: u64) -> Value {
    let body = json!({ "key": key, "ttl": ttl });
    api.post("/consumers/alice/key-auth", body)
        .await
        .expect(201)
}

#[tokio::test]
async fn a_change_that_does_not_name_the_ttl_leaves_it_alone() {
    let api = with_consumers().await;
    key(&api, "k", 3600).await;
    key(&api, "forever", 0).await;
    let end = end_of(&api, "k");
    for body in [json!({ "tags": ["x"] }), json!({ "ttl": null }), json!({})] {
        let changed = api.patch("/key-auths/k", body.clone()).await.expect(200);
        assert!(changed["ttl"].as_i64().unwrap() > 3500, "{body}: {changed}");
        assert_eq!(end_of(&api, "k"), end, "{body}");
    }
    let batch = json!([
        { "method": "PATCH", "path": "/consumers/alice/key-auth/k", "body": { "tags": ["y"] } },
        { "method": "PUT", "path": "/key-auths/k/consumer", "body": { "username": "alice2" } }
    ]);
    api.post("/batch", batch).await.expect(200);
    assert_eq!(end_of(&api, "k"), end);
    assert_eq!(
        api.get("/key-auths/k").await.expect(200)["tags"],
        json!(["y"])
    );
    // The history says so as well.
    let newest = api.get("/revisions?size=1").await.expect(200);
    let n = &newest["data"][0]["revision"];
    let said = api.get(&format!("/revisions/{n}")).await.expect(200);
    let of_key = said["changes"][0].clone();
    assert_eq!(of_key["entity"], "keyauth_credentials");
    for document in ["before", "after"] {
        assert_eq!(of_key[document]["expires_at"].to_string(), end, "{of_key}");
    }
    let longer = api.patch("/key-auths/k", json!({ "ttl": 7200 })).await;
    assert!(longer.expect(200)["ttl"].as_i64().unwrap() > 7100);
    let ended = api.patch("/key-auths/k", json!({ "ttl": 0 })).await;
    assert_eq!(ended.expect(200)["ttl"], Value::Null);
    api.patch("/key-auths/forever", json!({ "tags": ["x"] }))
        .await
        .expect(200);
    assert_eq!(end_of(&api, "forever"), "");
}

#[tokio::test]
async fn a_session_keeps_its_end_too() {
    let api = Api::new().await;
    let made = api.post(
        "/sessions",
        json!({ "session_id": "abc", "expires": 9, "ttl": 600 }),
    );
    let id = made.await.expect(201)["id"].as_str().unwrap().to_owned();
    let path = format!("/sessions/{id}");
    let changed = api.patch(&path, json!({ "data": "x" })).await.expect(200);
    assert!(changed["ttl"].as_i64().unwrap() > 500, "{changed}");
}

#[tokio::test]
async fn undoing_an_extension_ends_what_would_have_ended() {
    let api = with_consumers().await;
    key(&api, "k", 3600).await;
    let longer = api.patch("/key-auths/k", json!({ "ttl": 7200 })).await;
    let n = longer.header("silverback-revision").to_owned();
    longer.expect(200);
    // What it was before has ended meanwhile.
    let sql = format!(
        "update config_changes set before = jsonb_set(before, '{{expires_at}}', '5') where revision = {n}"
    );
    sql_of(&api, &sql);
    let undone = api
        .post(&format!("/revisions/{n}/rollback"), json!({}))
        .await;
    assert_eq!(undone.expect(200)["changes"], 1);
    assert_eq!(api.get("/key-auths/k").await.status, 404);
}

#[tokio::test]
async fn what_ended_meanwhile_is_not_in_the_way_of_a_rollback() {
    let api = with_consumers().await;
    key(&api, "k", 3600).await;
    key(&api, "other", 3600).await;
    assert_eq!(api.delete("/key-auths/k").await, 204);
    let newest = api.get("/revisions?size=1").await.expect(200);
    let n = newest["data"][0]["revision"].as_i64().unwrap();
    sql_of(
        &api,
        "update keyauth_credentials set expires_at = now() - interval '1 second' where key = 'other'",
    );
    let undone = api
        .post(&format!("/revisions/{n}/rollback"), json!({}))
        .await;
    assert_eq!(undone.expect(200)["changes"], 1);
    api.get("/key-auths/k").await.expect(200);
}
