//! What consumers prove who they are with, and what plugins keep about them.

use http::Method;
use serde_json::{Value, json};
use silverback_store::Store;

use super::harness::{Api, config, entities};

pub(super) const ALICE: &str = "00000003-0000-4000-8000-000000000001";
const BOB: &str = "00000003-0000-4000-8000-000000000002";
pub(super) const ID: &str = "00000012-0000-4000-8000-000000000011";

/// An API with the consumers alice and bob.
pub(super) async fn with_consumers() -> Api {
    let api = Api::new().await;
    for (id, name) in [(ALICE, "alice"), (BOB, "bob")] {
        let consumer = json!({ "id": id, "username": name });
        api.post("/consumers", consumer).await.expect(201);
    }
    api
}

/// A row without what differs each time.
pub(super) fn lasting(mut row: Value) -> Value {
    let fields = row.as_object_mut().unwrap();
    assert!(fields.remove("created_at").unwrap().is_i64());
    row
}

pub(super) fn random(v: &Value) -> bool {
    v.as_str()
        .is_some_and(|s| s.len() == 32 && s.bytes().all(|b| b.is_ascii_alphanumeric()))
}

#[tokio::test]
async fn their_tables_are_what_the_entities_say() {
    let api = Api::new().await;
    let cfg = config(api.db.as_ref().unwrap().url());
    let store = Store::new(cfg, entities()).unwrap();
    assert_eq!(store.check_schema().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn passwords_are_hashed_as_kong_does_and_never_twice() {
    let api = with_consumers().await;
    let made = api
        .post(
            "/consumers/alice/basic-auth",
            json!({ "id": ID, "username": "ab", "password": "pw" }),
        )
        .await
        .expect(201);
    assert_eq!(
        lasting(made.clone()),
        json!({
            "id": ID, "consumer": { "id": ALICE }, "username": "ab", "tags": null,
            "password": "13370b4e2a710391d07a4860b7990cd06e712f5c"
        })
    );
    assert_eq!(
        api.get("/consumers/alice/basic-auth/ab").await.expect(200),
        made
    );
    assert_eq!(
        api.get("/basic-auths").await.expect(200)["data"],
        json!([made])
    );

    let one = "/consumers/alice/basic-auth/ab";
    let changed = api
        .patch(one, json!({ "password": "pw2" }))
        .await
        .expect(200);
    assert_eq!(
        changed["password"],
        "3e6395010fee3ddf025d76479049cc4cb4245698"
    );
    let renamed = api
        .patch(one, json!({ "username": "ab2" }))
        .await
        .expect(200);
    assert_eq!(renamed["password"], changed["password"]);
    assert_eq!(renamed["username"], "ab2");

    let put = api
        .put(
            "/consumers/alice/basic-auth/ab3",
            json!({ "password": "x" }),
        )
        .await
        .expect(200);
    assert_eq!(put["password"], "fba5d07339011c4d460eca10a5f30022c6e7a225");
    let again = api
        .put(
            "/consumers/alice/basic-auth/ab3",
            json!({ "password": "pw" }),
        )
        .await
        .expect(200);
    assert_eq!(
        (&again["id"], &again["password"]),
        (&put["id"], &made["password"])
    );
}

#[tokio::test]
async fn a_password_is_told_with_whose_it_is() {
    let api = with_consumers().await;
    let row = json!({ "username": "ab", "password": "pw" });
    let made = api
        .post("/consumers/alice/basic-auth", row)
        .await
        .expect(201);
    let text =
        "schema violation (all or none of these fields must be set: 'password', 'consumer.id')";
    for part in [
        json!({ "password": "new" }),
        json!({ "consumer": { "id": BOB } }),
    ] {
        let refused = api.patch("/basic-auths/ab", part).await.expect(400);
        assert_eq!(refused["message"], text);
    }
    let both = json!({ "password": "pw", "consumer": { "username": "bob" } });
    let moved = api.patch("/basic-auths/ab", both).await.expect(200);
    assert_eq!(moved["consumer"], json!({ "id": BOB }));
    assert_ne!(moved["password"], made["password"]);
    assert_eq!(
        api.patch("/basic-auths/ab", json!({ "tags": ["t"] }))
            .await
            .expect(200)["password"],
        moved["password"]
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_credential_is_said_in_kongs_words() {
    let api = with_consumers().await;
    let post = |path: &str, body: Value| {
        let path = format!("/consumers/alice/{path}");
        let api = &api;
        async move { api.post(&path, body).await }
    };
    for (path, body, message) in [
        (
            "basic-auth",
            json!({}),
            "2 schema violations (password: required field missing; username: required field missing)",
        ),
        (
            "basic-auth",
            json!({ "username": "a", "password": "" }),
            "schema violation (password: length must be at least 1)",
        ),
        (
            "hmac-auth",
            json!({}),
            "schema violation (username: required field missing)",
        ),
        (
            "oauth2",
            json!({}),
            "schema violation (name: required field missing)",
        ),
        (
            "oauth2",
            json!({ "name": "a", "redirect_uris": ["nope"] }),
            "schema violation (redirect_uris.1: cannot parse 'nope')",
        ),
        (
            "acls",
            json!({}),
            "schema violation (group: required field missing)",
        ),
        (
            "jwt",
            json!({ "algorithm": "RS256" }),
            "2 schema violations (failed conditional validation given value of field 'algorithm'; \
             rsa_public_key: required field missing)",
        ),
        (
            "jwt",
            json!({ "algorithm": "EdDSA", "rsa_public_key": "x" }),
            "2 schema violations (failed conditional validation given value of field 'algorithm'; \
             rsa_public_key: invalid key)",
        ),
    ] {
        let refused = post(path, body).await.expect(400);
        assert_eq!(refused["message"], message, "{path}");
    }
    let nobody = "consumer: required field missing";
    let alone = format!("schema violation ({nobody})");
    let both = format!(
        "2 schema violations (all or none of these fields must be set: 'password', 'consumer.id'; {nobody})"
    );
    for (path, body, message) in [
        (
            "basic-auths",
            json!({ "username": "u", "password": "p" }),
            &both,
        ),
        ("hmac-auths", json!({ "username": "u" }), &alone),
        ("jwts", json!({}), &alone),
        ("oauth2", json!({ "name": "n" }), &alone),
        ("acls", json!({ "group": "g" }), &alone),
    ] {
        let refused = api.post(&format!("/{path}"), body).await.expect(400);
        assert_eq!(refused["message"], *message, "{path}");
    }
}

#[tokio::test]
async fn names_of_credentials_are_taken_once() {
    let api = with_consumers().await;
    for (path, body, key) in [
        (
            "basic-auth",
            json!({ "username": "n", "password": "p" }),
            "username",
        ),
        ("hmac-auth", json!({ "username": "n" }), "username"),
        ("jwt", json!({ "key": "n" }), "key"),
        (
            "oauth2",
            json!({ "name": "a", "client_id": "n" }),
            "client_id",
        ),
    ] {
        api.post(&format!("/consumers/alice/{path}"), body.clone())
            .await
            .expect(201);
        let refused = api
            .post(&format!("/consumers/bob/{path}"), body)
            .await
            .expect(409);
        assert_eq!(
            refused["message"],
            format!("UNIQUE violation detected on '{{{key}=\"n\"}}'")
        );
        assert_eq!(
            api.get(&format!("/consumers/bob/{path}/n")).await.status,
            404,
            "of another"
        );
        assert_eq!(
            api.get(&format!("/consumers/alice/{path}/n")).await.status,
            200
        );
    }
}

#[tokio::test]
async fn what_is_left_out_is_made_up() {
    let api = with_consumers().await;
    let hmac = api
        .post("/consumers/alice/hmac-auth", json!({ "username": "h" }))
        .await
        .expect(201);
    assert!(random(&hmac["secret"]), "{hmac}");
    let jwt = api
        .bare(Method::POST, "/consumers/alice/jwt")
        .await
        .expect(201);
    assert!(random(&jwt["key"]) && random(&jwt["secret"]), "{jwt}");
    assert_eq!(
        (&jwt["algorithm"], &jwt["rsa_public_key"]),
        (&json!("HS256"), &Value::Null)
    );
    let app = api
        .post("/consumers/alice/oauth2", json!({ "name": "a" }))
        .await
        .expect(201);
    assert!(
        random(&app["client_id"]) && random(&app["client_secret"]),
        "{app}"
    );
    assert_eq!(
        (&app["client_type"], &app["hash_secret"]),
        (&json!("confidential"), &json!(false))
    );

    let found = api
        .get(&format!("/jwts/{}", jwt["key"].as_str().unwrap()))
        .await
        .expect(200);
    assert_eq!(found, jwt);
    let owner = api.get("/hmac-auths/h/consumer").await.expect(200);
    assert_eq!(owner["username"], "alice");
    let put = api
        .put("/consumers/bob/jwt/named", json!({}))
        .await
        .expect(200);
    assert_eq!(
        (&put["key"], &put["consumer"]),
        (&json!("named"), &json!({ "id": BOB }))
    );
}

#[tokio::test]
async fn secrets_of_applications_are_hashed_when_asked_to() {
    let api = with_consumers().await;
    let body = json!({ "name": "a", "client_id": "c", "client_secret": "s", "hash_secret": true });
    let made = api.post("/consumers/alice/oauth2", body).await.expect(201);
    let kept = made["client_secret"].as_str().unwrap();
    assert!(kept.starts_with("$pbkdf2-sha512$i=10000,l=32$"), "{kept}");
    let renamed = api
        .patch("/oauth2/c", json!({ "name": "b" }))
        .await
        .expect(200);
    assert_eq!(renamed["client_secret"], made["client_secret"]);
    let text = "schema violation (all or none of these fields must be set: 'hash_secret', 'client_secret')";
    for part in [
        json!({ "client_secret": "t" }),
        json!({ "hash_secret": false }),
    ] {
        let refused = api
            .patch("/consumers/alice/oauth2/c", part)
            .await
            .expect(400);
        assert_eq!(refused["message"], text);
    }
    let form = "client_secret=t&hash_secret=false";
    let plain = api.form(Method::PATCH, "/oauth2/c", form).await.expect(200);
    assert_eq!(
        (&plain["client_secret"], &plain["hash_secret"]),
        (&json!("t"), &json!(false))
    );
}

#[tokio::test]
async fn everything_of_a_consumer_goes_with_it() {
    let api = with_consumers().await;
    for (path, body) in [
        ("basic-auth", json!({ "username": "n", "password": "p" })),
        ("hmac-auth", json!({ "username": "n" })),
        ("jwt", json!({})),
        ("oauth2", json!({ "name": "a", "client_id": "cid" })),
        ("acls", json!({ "group": "g" })),
    ] {
        api.post(&format!("/consumers/alice/{path}"), body)
            .await
            .expect(201);
    }
    api.post("/oauth2/cid/oauth2_tokens", json!({ "expires_in": 1 }))
        .await
        .expect(201);
    let all = [
        "basic-auths",
        "hmac-auths",
        "jwts",
        "oauth2",
        "oauth2_tokens",
        "acls",
    ];
    for path in all {
        assert_eq!(
            api.get(&format!("/{path}")).await.expect(200)["data"]
                .as_array()
                .unwrap()
                .len(),
            1,
            "{path}"
        );
    }
    assert_eq!(api.delete("/consumers/alice").await, 204);
    for path in all {
        assert_eq!(
            api.get(&format!("/{path}")).await.expect(200),
            json!({ "data": [], "next": null }),
            "{path}"
        );
    }
}

#[tokio::test]
async fn credentials_have_tags_and_pages() {
    let api = with_consumers().await;
    for n in 0..3 {
        let body = json!({ "username": format!("u{n}"), "tags": ["team", format!("n{n}")] });
        api.post("/consumers/alice/hmac-auth", body)
            .await
            .expect(201);
    }
    let first = api.get("/hmac-auths?size=2").await.expect(200);
    assert_eq!(first["data"].as_array().unwrap().len(), 2);
    let rest = api.get(first["next"].as_str().unwrap()).await.expect(200);
    assert_eq!(
        (rest["data"].as_array().unwrap().len(), &rest["next"]),
        (1, &Value::Null)
    );
    let tagged = api.get("/hmac-auths?tags=team,n1").await.expect(200);
    assert_eq!(tagged["data"][0]["username"], "u1");
    let all = api.get("/tags/n2").await.expect(200);
    assert_eq!(all["data"][0]["entity_name"], "hmacauth_credentials");
}
