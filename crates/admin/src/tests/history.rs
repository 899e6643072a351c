//! The history of changes, and undoing them.

use http::Method;
use serde_json::json;

use super::changes::with_match;
use super::harness::Api;

pub(super) async fn newest(api: &Api) -> i64 {
    api.get("/revisions?size=1").await.expect(200)["data"][0]["revision"]
        .as_i64()
        .unwrap()
}

#[tokio::test]
async fn the_history_tells_what_was_and_hides_secrets() {
    let api = Api::furnished().await;
    let key = api
        .post("/consumers/alice/key-auth", json!({ "key": "very-secret" }))
        .await;
    let made: i64 = key.header("silverback-revision").parse().unwrap();
    let id = key.expect(201)["id"].as_str().unwrap().to_owned();
    let changed = api
        .patch(
            &format!("/key-auths/{id}"),
            json!({ "key": "other-secret" }),
        )
        .await;
    assert_eq!(
        changed.header("silverback-revision"),
        (made + 1).to_string()
    );
    api.patch("/services/svc", json!({ "retries": 3 }))
        .await
        .expect(200);

    let page = api.get("/revisions?size=2").await.expect(200);
    assert_eq!(page["data"].as_array().unwrap().len(), 2);
    assert_eq!(page["data"][0]["revision"], made + 2);
    assert_eq!(page["data"][0]["who"], "unknown");
    let next = page["next"].as_str().unwrap();
    assert!(next.starts_with("/revisions?offset=") && next.ends_with("&size=2"));
    assert_eq!(api.get(next).await.expect(200)["data"][0]["revision"], made);
    assert_eq!(api.get("/revisions?size=0").await.status, 400);
    assert_eq!(api.get("/revisions?offset=x").await.expect(400)["code"], 7);
    for path in ["/revisions/99999", "/revisions/x", "/revisions/0"] {
        assert_eq!(api.get(path).await.status, 404);
    }

    let service = api
        .get(&format!("/revisions/{}", made + 2))
        .await
        .expect(200);
    let change = &service["changes"][0];
    assert_eq!(change["operation"], "update");
    assert_eq!(
        (&change["before"]["retries"], &change["after"]["retries"]),
        (&json!(5), &json!(3))
    );
    assert!(
        change["fields"]
            .as_array()
            .unwrap()
            .contains(&json!("retries"))
    );
    assert!(
        !change["fields"]
            .as_array()
            .unwrap()
            .contains(&json!("port"))
    );

    let all = api
        .get(&format!("/revisions/{}", made + 1))
        .await
        .expect(200);
    assert_eq!(all["changes"][0]["fields"], json!(["key"]));
    assert_eq!(all["changes"][0]["before"]["key"], "***");
    for n in 1..=made + 2 {
        let text = api
            .get(&format!("/revisions/{n}"))
            .await
            .expect(200)
            .to_string();
        assert!(!text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn a_revision_is_undone_by_a_new_one() {
    let api = Api::furnished().await;
    api.post(
        "/consumers/alice/key-auth",
        json!({ "key": "k1", "ttl": 3600 }),
    )
    .await
    .expect(201);
    let before = api.get("/consumers/alice").await.expect(200);
    let key = api.get("/key-auths/k1").await.expect(200);
    assert_eq!(api.delete("/consumers/alice").await, 204);
    assert_eq!(api.get("/key-auths/k1").await.status, 404);
    let deleted = newest(&api).await;

    let back = api
        .post(&format!("/revisions/{deleted}/rollback"), json!({}))
        .await;
    assert_eq!(
        back.expect(200),
        json!({ "rolled_back": deleted, "revision": deleted + 1, "changes": 2 })
    );
    assert_eq!(api.get("/consumers/alice").await.expect(200), before);
    let again = api.get("/key-auths/k1").await.expect(200);
    assert_eq!(again["id"], key["id"]);
    let drift = again["ttl"].as_i64().unwrap() - key["ttl"].as_i64().unwrap();
    assert!((-60..=1).contains(&drift), "{drift}");

    // Undone once.
    let twice = api
        .post(&format!("/revisions/{deleted}/rollback"), json!({}))
        .await;
    let text = twice.message().to_owned();
    assert_eq!(
        (twice.status, &twice.body["name"]),
        (409, &json!("conflict"))
    );
    assert!(
        text.contains(&format!("was changed again by revision {}", deleted + 1)),
        "{text}"
    );
    // Undoing it deletes again.
    api.post(&format!("/revisions/{}/rollback", deleted + 1), json!({}))
        .await
        .expect(200);
    assert_eq!(api.get("/consumers/alice").await.status, 404);

    let old = api.get("/services/svc").await;
    let put = api
        .put("/services/svc", json!({ "host": "else.test" }))
        .await;
    let n: i64 = put.header("silverback-revision").parse().unwrap();
    api.post(&format!("/revisions/{n}/rollback"), json!({}))
        .await
        .expect(200);
    let now = api.get("/services/svc").await;
    assert_eq!(
        (now.header("etag"), &now.body),
        (old.header("etag"), &old.body)
    );
    assert_eq!(
        api.post("/revisions/99999/rollback", json!({}))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn what_cannot_be_undone_says_why_and_changes_nothing() {
    let api = Api::new().await;
    let made = api
        .post("/services", json!({ "name": "s", "host": "a.test" }))
        .await;
    let inserted: i64 = made.header("silverback-revision").parse().unwrap();
    api.post("/services/s/routes", json!({ "name": "r", "paths": ["/"] }))
        .await
        .expect(201);
    let undo = async |n: i64| {
        let got = api
            .post(&format!("/revisions/{n}/rollback"), json!({}))
            .await;
        assert_eq!(got.status, 409, "{}", got.body);
        got.message().to_owned()
    };
    let text = undo(inserted).await;
    assert!(
        text.contains("cannot go: routes refer to it by now"),
        "{text}"
    );
    assert_eq!(api.delete("/routes/r").await, 204);
    let route_gone = newest(&api).await;
    assert_eq!(api.delete("/services/s").await, 204);
    let service_gone = newest(&api).await;
    let text = undo(route_gone).await;
    assert!(
        text.contains("its service") && text.contains("is gone"),
        "{text}"
    );
    api.post("/services", json!({ "name": "s", "host": "b.test" }))
        .await
        .expect(201);
    let text = undo(service_gone).await;
    assert!(
        text.contains("another row has the same name by now"),
        "{text}"
    );

    // What hangs on a row that would go is newer.
    let consumer = api.post("/consumers", json!({ "username": "c" })).await;
    let n: i64 = consumer.header("silverback-revision").parse().unwrap();
    api.post("/consumers/c/key-auth", json!({ "key": "k" }))
        .await
        .expect(201);
    let text = undo(n).await;
    assert!(text.contains("which is newer, would go with it"), "{text}");
    assert_eq!(api.get("/key-auths/k").await.status, 200);
    let store = newest(&api).await;
    assert_eq!(store, n + 1);
}

#[tokio::test]
async fn certificates_and_their_names_move_together() {
    let api = Api::new().await;
    let pem = super::certificates::pair(false);
    let made = api
        .post(
            "/batch",
            json!([
                { "name": "c", "method": "POST", "path": "/certificates", "body": { "cert": pem.0, "key": pem.1, "snis": ["a.test"] } },
                { "method": "POST", "path": "/certificates/{c}/snis", "body": { "name": "b.test" } }
            ]),
        )
        .await
        .expect(200);
    let id = made["data"][0]["body"]["id"].as_str().unwrap();
    let path = format!("/certificates/{id}");
    let one = api.get(&path).await;
    assert_eq!(one.body["snis"], json!(["a.test", "b.test"]));
    // A name more is another version.
    let etag = one.header("etag").to_owned();
    assert_eq!(api.delete("/snis/b.test").await, 204);
    let moved = with_match(&api, Method::PATCH, &path, &etag, json!({ "tags": ["x"] })).await;
    assert_eq!(moved.status, 412);
    assert_eq!(api.delete(&path).await, 204);
    let gone = newest(&api).await;
    api.post(&format!("/revisions/{gone}/rollback"), json!({}))
        .await
        .expect(200);
    assert_eq!(api.get(&path).await.expect(200)["snis"], json!(["a.test"]));
    let text = api
        .get(&format!("/revisions/{gone}"))
        .await
        .expect(200)
        .to_string();
    assert!(!text.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn one_request_is_one_revision() {
    let api = Api::furnished().await;
    let (cert, key) = super::certificates::pair(false);
    let made = json!({ "cert": cert, "key": key, "snis": ["a.test"] });
    let id = api.post("/certificates", made).await.expect(201)["id"].clone();
    let path = format!("/certificates/{}", id.as_str().unwrap());
    for (method, path, body, changes) in [
        (
            Method::PATCH,
            path.as_str(),
            json!({ "tags": ["t"], "snis": ["b.test", "c.test"] }),
            4,
        ),
        (
            Method::PUT,
            "/routes/free/service",
            json!({ "name": "made", "host": "c.test" }),
            2,
        ),
    ] {
        let before = newest(&api).await;
        let got = api.send(method, path, body).await;
        assert_eq!(
            got.header("silverback-revision"),
            (before + 1).to_string(),
            "{}",
            got.body
        );
        assert_eq!(got.status, 200);
        assert_eq!(newest(&api).await, before + 1);
        let said = api.get(&format!("/revisions/{}", before + 1)).await;
        let said = said.expect(200)["changes"].as_array().unwrap().len();
        assert_eq!(said, changes, "{path}");
    }
    let route = api.get("/routes/free").await.expect(200);
    let made = api.get("/services/made").await.expect(200);
    assert_eq!(route["service"]["id"], made["id"]);
}

#[tokio::test]
async fn undoing_an_authority_waits_for_those_who_trust_it() {
    let api = Api::new().await;
    let (cert, _) = super::certificates::pair(true);
    let made = api.post("/ca_certificates", json!({ "cert": cert })).await;
    let n = made.header("silverback-revision").to_owned();
    let id = made.expect(201)["id"].as_str().unwrap().to_owned();
    let service = json!({ "name": "s", "url": "https://s.test", "ca_certificates": [id] });
    api.post("/services", service).await.expect(201);
    let path = format!("/revisions/{n}/rollback");
    let refused = api.post(&path, json!({})).await;
    let text = refused.message().to_owned();
    assert_eq!(
        (refused.status, &refused.body["name"]),
        (409, &json!("conflict"))
    );
    assert!(
        text.contains("cannot go: services refer to it by now"),
        "{text}"
    );
    api.get(&format!("/ca_certificates/{id}")).await.expect(200);
    assert_eq!(api.delete("/services/s").await, 204);
    api.post(&path, json!({})).await.expect(200);
    assert_eq!(api.get(&format!("/ca_certificates/{id}")).await.status, 404);
}
