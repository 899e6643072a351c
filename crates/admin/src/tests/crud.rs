//! Rows of all entities by all their paths.

use http::Method;
use serde_json::{Value, json};

use super::harness::Api;

const ID: &str = "00000001-0000-4000-8000-000000000001";
const NOBODY: &str = "00000009-0000-4000-8000-000000000009";

#[tokio::test]
async fn a_row_lives_by_id_and_by_name() {
    let api = Api::new().await;
    let made = api
        .post(
            "/services",
            json!({ "id": ID, "name": "a", "host": "h.test" }),
        )
        .await
        .expect(201);
    assert_eq!(
        (&made["port"], &made["retries"], &made["path"]),
        (&json!(80), &json!(5), &Value::Null)
    );
    assert_eq!(api.get("/services/a").await.expect(200), made);
    assert_eq!(api.get(&format!("/services/{ID}")).await.expect(200), made);
    assert_eq!(
        api.get("/services/b").await.expect(404),
        json!({ "message": "Not found" })
    );

    let changed = api
        .patch("/services/a", json!({ "retries": 3, "id": NOBODY }))
        .await
        .expect(200);
    assert_eq!(
        (&changed["retries"], &changed["host"], &changed["id"]),
        (&json!(3), &json!("h.test"), &json!(ID))
    );

    let replaced = api
        .put(
            "/services/a",
            json!({ "name": "ignored", "url": "https://x.test/p" }),
        )
        .await
        .expect(200);
    assert_eq!(
        (&replaced["id"], &replaced["name"], &replaced["port"]),
        (&json!(ID), &json!("a"), &json!(443))
    );
    assert_eq!(replaced["retries"], 5);

    let by_id = api
        .put(&format!("/services/{ID}"), json!({ "host": "y.test" }))
        .await
        .expect(200);
    assert_eq!(by_id["name"], Value::Null);
    assert_eq!(api.delete(&format!("/services/{ID}")).await, 204);
    assert_eq!(api.delete(&format!("/services/{ID}")).await, 204);
    assert_eq!(
        api.get("/services").await.expect(200),
        json!({ "data": [], "next": null })
    );
}

#[tokio::test]
async fn changes_of_rows_that_are_not_there_name_their_key() {
    let api = Api::new().await;
    let by_name = api
        .patch("/services/nope", json!({ "retries": 1 }))
        .await
        .expect(404);
    assert_eq!(
        by_name["message"],
        "could not find the entity with '{name=\"nope\"}'"
    );
    assert_eq!(
        (&by_name["code"], &by_name["fields"]),
        (&json!(6), &json!({ "name": "nope" }))
    );
    let by_id = api
        .patch(&format!("/services/{NOBODY}"), json!({}))
        .await
        .expect(404);
    assert_eq!(
        by_id["message"],
        format!("could not find the entity with primary key '{{id=\"{NOBODY}\"}}'")
    );
}

#[tokio::test]
async fn rows_below_others_belong_to_them() {
    let api = Api::furnished().await;
    let svc = api.get("/services/svc").await.body["id"].clone();
    let other = api.get("/services/other").await.body["id"].clone();
    let made = api.post(
        "/services/svc/routes",
        json!({ "name": "r2", "paths": ["/2"], "service": { "id": other } }),
    );
    assert_eq!(made.await.expect(201)["service"]["id"], svc);

    assert_eq!(
        api.get("/services/svc/routes").await.body["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(api.get("/services/svc/routes/r").await.status, 200);
    for method in [Method::GET, Method::DELETE, Method::HEAD] {
        assert_eq!(
            api.bare(method.clone(), "/services/other/routes/r")
                .await
                .status,
            404,
            "{method}"
        );
        assert_eq!(
            api.bare(method, "/services/nope/routes/r").await.status,
            404
        );
    }
    assert_eq!(
        api.patch("/services/other/routes/r", json!({}))
            .await
            .expect(404),
        json!({ "message": "Not found" })
    );
    assert_eq!(
        api.post("/services/nope/routes", json!({ "paths": ["/x"] }))
            .await
            .status,
        404
    );
    assert_eq!(
        api.patch("/services/svc/routes/r", json!({ "strip_path": false }))
            .await
            .expect(200)["strip_path"],
        false
    );
    assert_eq!(
        api.put("/services/other/routes/r2", json!({ "paths": ["/3"] }))
            .await
            .expect(200)["service"]["id"],
        other
    );
    assert_eq!(api.delete("/services/svc/routes/nope").await, 404);
    assert_eq!(api.delete("/services/svc/routes/r").await, 204);
}

#[tokio::test]
async fn references_can_be_followed_and_made() {
    let api = Api::furnished().await;
    assert_eq!(
        api.get("/routes/r/service").await.expect(200)["name"],
        "svc"
    );
    assert_eq!(
        api.patch("/routes/r/service", json!({ "retries": 9 }))
            .await
            .expect(200)["retries"],
        9
    );
    assert_eq!(api.get("/routes/free/service").await.status, 404);
    assert_eq!(
        api.patch("/routes/free/service", json!({})).await.status,
        404
    );
    assert_eq!(api.delete("/routes/free/service").await, 404);
    assert_eq!(api.get("/routes/nope/service").await.status, 404);

    let made = api
        .put("/routes/free/service", json!({ "host": "new.test" }))
        .await
        .expect(200);
    assert_eq!(api.get("/routes/free/service").await.expect(200), made);
    let refused = api.bare(Method::DELETE, "/routes/free/service").await;
    assert_eq!(refused.status, 405);
}

#[tokio::test]
async fn references_may_say_a_name() {
    let api = Api::furnished().await;
    let svc = api.get("/services/svc").await.body["id"].clone();
    let made = api
        .post(
            "/routes",
            json!({ "paths": ["/x"], "service": { "name": "svc" } }),
        )
        .await
        .expect(201);
    assert_eq!(made["service"], json!({ "id": svc }));
    let patched = api
        .patch("/routes/free", json!({ "service": { "name": "other" } }))
        .await
        .expect(200);
    assert_eq!(
        patched["service"]["id"],
        api.get("/services/other").await.body["id"]
    );

    let unresolved = api
        .post(
            "/routes",
            json!({ "paths": ["/x"], "service": { "name": "nope" } }),
        )
        .await
        .expect(400);
    assert_eq!(
        (&unresolved["code"], &unresolved["name"]),
        (&json!(13), &json!("foreign keys unresolved"))
    );
    let missing = api
        .post(
            "/routes",
            json!({ "paths": ["/x"], "service": { "id": NOBODY } }),
        )
        .await
        .expect(400);
    assert_eq!(missing["code"], 4);
    let wrong = api
        .post("/routes", json!({ "paths": ["/x"], "service": "svc" }))
        .await
        .expect(400);
    assert_eq!(
        wrong["fields"],
        json!({ "service": { "id": "missing primary key" } })
    );
}

#[tokio::test]
async fn taken_values_and_needed_rows_are_refused() {
    let api = Api::furnished().await;
    let taken = api
        .post("/services", json!({ "name": "svc", "host": "h" }))
        .await
        .expect(409);
    assert_eq!(
        taken["message"],
        "UNIQUE violation detected on '{name=\"svc\"}'"
    );
    let id = api.get("/services/svc").await.body["id"].clone();
    let same = api
        .post("/services", json!({ "id": id, "host": "h" }))
        .await
        .expect(400);
    assert_eq!(
        (&same["code"], &same["fields"]),
        (&json!(3), &json!({ "id": id }))
    );
    assert_eq!(
        api.patch("/services/svc", json!({ "name": "other" }))
            .await
            .status,
        409
    );
    let needed = api.bare(Method::DELETE, "/services/svc").await.expect(400);
    assert_eq!(needed["fields"], json!({ "@referenced_by": "routes" }));
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_kept() {
    let api = Api::furnished().await;
    let fields = [
        "retries",
        "port",
        "connect_timeout",
        "write_timeout",
        "read_timeout",
    ];
    let all = fields
        .iter()
        .map(|f| api.patch("/services/svc", json!({ *f: 77 })));
    for got in futures::future::join_all(all).await {
        assert_eq!(got.status, 200, "{}", got.body);
    }
    let row = api.get("/services/svc").await.expect(200);
    for f in fields {
        assert_eq!(row[f], 77, "{f}");
    }
}

#[tokio::test]
async fn pages_lead_from_one_to_the_next() {
    let api = Api::new().await;
    for i in 0..5 {
        api.post(
            "/services",
            json!({ "name": format!("s{i}"), "host": "h", "tags": ["t", "x"] }),
        )
        .await
        .expect(201);
    }
    let mut path = "/services?size=2&tags=t,x".to_owned();
    let mut sizes = Vec::new();
    loop {
        let page = api.get(&path).await.expect(200);
        sizes.push(page["data"].as_array().unwrap().len());
        match page["next"].as_str() {
            Some(next) => {
                assert!(next.ends_with("&tags=t%2Cx&size=2"), "{next}");
                assert!(page["offset"].is_string());
                path = next.to_owned();
            }
            None => break,
        }
    }
    assert_eq!(sizes, [2, 2, 1]);
    assert_eq!(api.get("/services?tags=nope").await.body["data"], json!([]));
    assert_eq!(api.get("/services?offset=bad").await.expect(400)["code"], 7);
    assert_eq!(api.get("/services?size=0").await.expect(400)["code"], 9);
    assert_eq!(api.get("/services/s1?size=0&foo=bar").await.status, 200);
}

#[tokio::test]
async fn consumers_are_found_by_custom_id() {
    let api = Api::furnished().await;
    assert_eq!(
        api.get("/consumers?custom_id=a1").await.body["data"][0]["username"],
        "alice"
    );
    assert_eq!(
        api.get("/consumers?custom_id=nope").await.expect(200),
        json!({ "data": [], "next": null })
    );
    assert_eq!(
        api.get("/consumers?custom_id=").await.expect(400)["message"],
        "custom_id must be an unempty string"
    );
    assert_eq!(api.get("/services?custom_id=").await.status, 200);
}

#[tokio::test]
async fn names_in_paths_are_decoded_and_checked() {
    let api = Api::new().await;
    api.post("/consumers", json!({ "username": "Ünï cödé/x" }))
        .await
        .expect(201);
    assert_eq!(
        api.get("/consumers/%C3%9Cn%C3%AF%20c%C3%B6d%C3%A9%2Fx")
            .await
            .status,
        200
    );
    let bad = api.get("/services/..%2Froutes").await.expect(400);
    assert_eq!(
        (&bad["code"], &bad["name"]),
        (&json!(10), &json!("invalid unique name"))
    );
    assert_eq!(api.get("/services/%ff").await.status, 400);
    assert_eq!(api.get("/consumers/%00").await.status, 400);
    assert_eq!(api.get("/%73ervices").await.status, 404);
}

#[tokio::test]
async fn credentials_live_below_their_consumer() {
    let api = Api::furnished().await;
    let made = api
        .post(
            "/consumers/alice/key-auth",
            json!({ "key": "k", "ttl": 60 }),
        )
        .await
        .expect(201);
    assert!(
        made["ttl"].as_i64().is_some_and(|t| (50..=60).contains(&t)),
        "{made}"
    );
    assert_eq!(
        api.post("/consumers/alice/key-auth", json!({}))
            .await
            .expect(201)["key"]
            .as_str()
            .unwrap()
            .len(),
        32
    );
    assert_eq!(api.get("/consumers/alice/key-auth/k").await.status, 200);
    assert_eq!(
        api.get("/key-auths/k/consumer").await.expect(200)["username"],
        "alice"
    );
    assert_eq!(
        api.get("/key-auths").await.body["data"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let bad = api
        .post("/consumers/alice/key-auth", json!({ "ttl": -1 }))
        .await
        .expect(400);
    assert_eq!(
        (&bad["code"], &bad["name"]),
        (&json!(11), &json!("invalid options"))
    );
    assert_eq!(
        api.post("/consumers/alice/key-auth", json!({ "ttl": null }))
            .await
            .status,
        201
    );
    let alone = api
        .post("/key-auths", json!({ "key": "z" }))
        .await
        .expect(400);
    assert_eq!(
        alone["fields"],
        json!({ "consumer": "required field missing" })
    );
    assert_eq!(api.delete("/consumers/alice").await, 204);
    assert_eq!(api.get("/key-auths").await.body["data"], json!([]));
}

#[tokio::test]
async fn tags_are_read_over_all_entities_and_never_written() {
    let api = Api::new().await;
    api.post("/services", json!({ "host": "h", "tags": ["a", "b"] }))
        .await
        .expect(201);
    api.post("/consumers", json!({ "username": "u", "tags": ["a"] }))
        .await
        .expect(201);
    assert_eq!(
        api.get("/tags").await.body["data"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let one = api.get("/tags/a?size=1").await.expect(200);
    assert_eq!(one["data"][0]["tag"], "a");
    assert!(one["next"].as_str().unwrap().starts_with("/tags/a?offset="));
    assert_eq!(
        api.get("/tags/a%2Cb").await.expect(400)["name"],
        "invalid unique tag"
    );
    for (method, path) in [
        (Method::POST, "/tags"),
        (Method::PUT, "/tags/a"),
        (Method::PATCH, "/tags/a"),
    ] {
        assert_eq!(
            api.send(method, path, json!({})).await.expect(400)["code"],
            2
        );
    }
    assert_eq!(api.delete("/tags/a").await, 400);
}

#[tokio::test]
async fn forms_are_typed_by_the_definition() {
    let api = Api::furnished().await;
    let made = api.form(
        Method::POST,
        "/services",
        "name=f&host=h&port=8080&enabled=false&retries=&tags[]=a&tags[]=b",
    );
    let made = made.await.expect(201);
    assert_eq!(
        (&made["port"], &made["enabled"], &made["retries"]),
        (&json!(8080), &json!(false), &Value::Null)
    );
    assert_eq!(made["tags"], json!(["a", "b"]));
    let route = api
        .form(
            Method::POST,
            "/routes",
            "paths[]=/s&service.name=svc&headers.x-a=1&headers.x-a=2",
        )
        .await;
    assert_eq!(route.expect(201)["headers"], json!({ "x-a": ["1", "2"] }));
    assert_eq!(
        api.form(Method::PATCH, "/services/f", "path=&retries=7")
            .await
            .expect(200)["retries"],
        7
    );
}

#[tokio::test]
async fn what_the_gateway_cannot_serve_is_not_stored() {
    let api = Api::new().await;
    let refused = api
        .post("/routes", json!({ "name": "unbuildable", "paths": ["/x"] }))
        .await
        .expect(400);
    assert_eq!(
        refused["message"],
        "schema violation (paths: no router can be built)"
    );
    let fine = api
        .post("/routes", json!({ "name": "fine", "paths": ["/x"] }))
        .await;
    fine.expect(201);
    assert_eq!(
        api.patch("/routes/fine", json!({ "name": "unbuildable" }))
            .await
            .status,
        400
    );
    assert_eq!(api.get("/routes/fine").await.status, 200);
}
