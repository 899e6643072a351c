//! What consumers have beside credentials: groups, tokens; and sessions, which nobody owns.

use http::Method;
use serde_json::{Value, json};

use super::credentials::{ALICE, ID, lasting, random, with_consumers};
use super::harness::Api;

#[tokio::test]
async fn tokens_hang_on_an_application_and_perhaps_a_service() {
    let api = with_consumers().await;
    let svc = api
        .post("/services", json!({ "name": "svc", "host": "h.test" }))
        .await
        .expect(201);
    let app = json!({ "name": "a", "client_id": "cid" });
    let app = api.post("/consumers/alice/oauth2", app).await.expect(201);
    let missing = api.post("/oauth2_tokens", json!({})).await.expect(400);
    assert_eq!(
        missing["message"],
        "2 schema violations (credential: required field missing; expires_in: required field missing)"
    );
    let body = json!({
        "id": ID, "credential": { "id": app["id"] }, "expires_in": 3600, "access_token": "at", "service": { "name": "svc" }
    });
    let token = api.post("/oauth2_tokens", body).await.expect(201);
    assert_eq!(
        lasting(token.clone()),
        json!({
            "id": ID, "credential": { "id": app["id"] }, "service": { "id": svc["id"] }, "access_token": "at",
            "refresh_token": null, "expires_in": 3600, "authenticated_userid": null, "token_type": "bearer", "scope": null,
            "ttl": null
        })
    );
    for list in [
        "/oauth2_tokens",
        "/oauth2/cid/oauth2_tokens",
        "/services/svc/oauth2_tokens",
    ] {
        assert_eq!(
            api.get(list).await.expect(200)["data"],
            json!([token]),
            "{list}"
        );
    }
    assert_eq!(
        api.get("/oauth2/cid/oauth2_tokens/at").await.expect(200),
        token
    );
    assert_eq!(
        api.get("/oauth2_tokens/at/credential").await.expect(200),
        app
    );
    assert_eq!(api.get("/oauth2_tokens/at/service").await.expect(200), svc);
    let shorter = api
        .patch("/oauth2_tokens/at", json!({ "expires_in": 10 }))
        .await
        .expect(200);
    assert_eq!(
        (&shorter["expires_in"], &shorter["ttl"]),
        (&json!(10), &Value::Null)
    );

    let short = json!({ "expires_in": 60, "ttl": 60 });
    let short = api
        .post("/oauth2/cid/oauth2_tokens", short)
        .await
        .expect(201);
    assert!(
        (50..=60).contains(&short["ttl"].as_i64().unwrap()),
        "{short}"
    );
    assert!(random(&short["access_token"]));
    assert_eq!(api.delete("/services/svc").await, 204);
    // What is left of its time may be a second less by now.
    let mut left = api.get("/oauth2_tokens").await.expect(200)["data"].clone();
    let ttl = left[0]["ttl"].take();
    assert!((50..=60).contains(&ttl.as_i64().unwrap()), "{ttl}");
    let mut short = short;
    short["ttl"] = Value::Null;
    assert_eq!(left, json!([short]));
}

#[tokio::test]
async fn groups_are_named_within_their_consumer() {
    let api = with_consumers().await;
    let admins = api
        .post("/consumers/alice/acls", json!({ "group": "admins" }))
        .await
        .expect(201);
    let taken = api
        .post("/consumers/alice/acls", json!({ "group": "admins" }))
        .await
        .expect(409);
    assert_eq!(
        taken["message"],
        format!("UNIQUE violation detected on '{{consumer={{id=\"{ALICE}\"}},group=\"admins\"}}'")
    );
    assert_eq!(
        taken["fields"],
        json!({ "consumer": { "id": ALICE }, "group": "admins" })
    );
    let bobs = api
        .post("/consumers/bob/acls", json!({ "group": "admins" }))
        .await
        .expect(201);
    assert_eq!(
        api.get("/consumers/alice/acls/admins").await.expect(200),
        admins
    );
    assert_eq!(
        api.get("/consumers/bob/acls/admins").await.expect(200),
        bobs
    );
    let by_id = format!("/consumers/bob/acls/{}", admins["id"].as_str().unwrap());
    assert_eq!(api.get(&by_id).await.status, 404, "of another");

    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        let missing = api
            .bare(method, "/consumers/alice/acls/nope")
            .await
            .expect(404);
        assert_eq!(missing["message"], "Not found");
        assert_eq!(missing["request_id"].as_str().unwrap().len(), 32);
    }
    assert_eq!(
        api.get("/acls/admins").await.status,
        400,
        "no name for all consumers"
    );

    let put = api
        .put("/consumers/alice/acls/a%20group", json!({}))
        .await
        .expect(200);
    assert_eq!(
        (&put["group"], &put["consumer"]),
        (&json!("a group"), &json!({ "id": ALICE }))
    );
    let same = api
        .put("/consumers/alice/acls/a%20group", json!({ "tags": ["t"] }))
        .await
        .expect(200);
    assert_eq!((&same["id"], &same["tags"]), (&put["id"], &json!(["t"])));
    let renamed = api
        .patch("/consumers/alice/acls/a%20group", json!({ "group": "g" }))
        .await
        .expect(200);
    assert_eq!(
        (&renamed["id"], &renamed["group"]),
        (&put["id"], &json!("g"))
    );
    assert_eq!(api.delete("/consumers/alice/acls/g").await, 204);
    assert_eq!(
        api.get("/consumers/alice/acls").await.expect(200)["data"],
        json!([admins])
    );
}

#[tokio::test]
async fn sessions_expire() {
    let api = Api::new().await;
    let made = api
        .post("/sessions", json!({ "session_id": "abc", "id": ID }))
        .await
        .expect(201);
    assert_eq!(
        lasting(made.clone()),
        json!({ "id": ID, "session_id": "abc", "expires": null, "data": null, "ttl": null })
    );
    assert_eq!(api.get("/sessions/abc").await.expect(200), made);
    let short = api
        .put("/sessions/short", json!({ "data": "d", "ttl": 100 }))
        .await
        .expect(200);
    assert!(
        (90..=100).contains(&short["ttl"].as_i64().unwrap()),
        "{short}"
    );
    let bad = api
        .post("/sessions", json!({ "session_id": "x", "ttl": -1 }))
        .await
        .expect(400);
    assert_eq!(
        bad["message"],
        "invalid option (ttl: must be an integer between 0 and 100000000)"
    );
    assert_eq!(api.delete("/sessions/abc").await, 204);
    assert_eq!(
        api.get("/sessions").await.expect(200)["data"][0]["session_id"],
        "short"
    );
}
