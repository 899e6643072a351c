//! Writes on terms: `/batch`, `dry_run`, `If-Match`, `/revisions`.

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::{Value, json};

use super::harness::{Api, Got};

async fn with_match(api: &Api, method: Method, path: &str, etag: &str, body: Value) -> Got {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::IF_MATCH, etag)
        .body(Body::from(body.to_string()))
        .unwrap();
    api.raw(request).await
}

async fn names(api: &Api, path: &str) -> Vec<String> {
    let page = api.get(path).await.expect(200);
    let rows = page["data"].as_array().unwrap();
    let mut names: Vec<String> = rows
        .iter()
        .map(|r| r["name"].as_str().unwrap_or_default().to_owned())
        .collect();
    names.sort();
    names
}

async fn newest(api: &Api) -> i64 {
    api.get("/revisions?size=1").await.expect(200)["data"][0]["revision"]
        .as_i64()
        .unwrap()
}

#[tokio::test]
async fn a_batch_is_one_revision_and_its_operations_build_on_each_other() {
    let api = Api::new().await;
    let got = api
        .post(
            "/batch",
            json!([
                { "name": "svc", "method": "POST", "path": "/services", "body": { "name": "s", "host": "a.test" } },
                { "method": "POST", "path": "/services/s/routes", "body": { "name": "by-path", "paths": ["/1"] } },
                { "method": "POST", "path": "/routes/", "body": { "name": "by-name", "paths": ["/2"], "service": { "name": "s" } } },
                { "name": "r", "method": "PUT", "path": "/routes/by-reference",
                  "body": { "paths": ["/3"], "service": { "$operation": "svc" } } },
                { "method": "PATCH", "path": "/services/{svc}", "body": { "retries": 1 } },
                { "method": "POST", "path": "/services/{svc.name}/plugins", "body": { "name": "picky", "route": null } },
                { "method": "DELETE", "path": "/routes/by-name" },
                { "method": "PUT", "path": "/routes/{r}/service", "body": { "name": "s", "host": "b.test" } }
            ]),
        )
        .await;
    assert_eq!(got.header("silverback-revision"), "1", "{}", got.body);
    let body = got.expect(200);
    let data = body["data"].as_array().unwrap();
    let statuses: Vec<_> = data.iter().map(|d| d["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 201, 201, 200, 200, 201, 204, 200]);
    assert_eq!(
        (&data[0]["name"], &data[6]["body"]),
        (&json!("svc"), &Value::Null)
    );
    assert_eq!(
        names(&api, "/services/s/routes").await,
        ["by-path", "by-reference"]
    );
    let service = api.get("/services/s").await;
    assert_eq!(data[7]["etag"], service.header("etag"));
    // The last replaced all.
    assert_eq!(
        (&service.body["host"], &service.body["retries"]),
        (&json!("b.test"), &json!(5))
    );
    let revision = api.get("/revisions/1").await.expect(200);
    assert_eq!(revision["changes"].as_array().unwrap().len(), 8);
    assert_eq!(
        (
            &revision["inserted"],
            &revision["updated"],
            &revision["deleted"]
        ),
        (&json!(5), &json!(2), &json!(1))
    );
    assert_eq!(newest(&api).await, 1);
}

#[tokio::test]
async fn a_batch_with_a_fault_changes_nothing_and_says_where_it_is() {
    let api = Api::furnished().await;
    let before = newest(&api).await;
    let first = json!({ "method": "POST", "path": "/services", "body": { "name": "new", "host": "a.test" } });
    let cases = [
        (
            json!({ "method": "POST", "path": "/services", "body": { "name": "svc", "host": "a.test" } }),
            409,
            5,
        ),
        (
            json!({ "method": "POST", "path": "/services", "body": { "name": "x", "port": "y" } }),
            400,
            2,
        ),
        (
            json!({ "method": "POST", "path": "/routes", "body": { "paths": ["/"], "service": { "name": "nope" } } }),
            400,
            13,
        ),
        (
            json!({ "method": "PATCH", "path": "/routes/nope", "body": { "paths": ["/"] } }),
            404,
            6,
        ),
        (
            json!({ "method": "DELETE", "path": "/services/svc" }),
            400,
            4,
        ),
        (
            json!({ "method": "POST", "path": "/routes", "body": { "service": { "$operation": "q" } } }),
            400,
            0,
        ),
        (json!({ "method": "POST", "path": "/nowhere" }), 404, 0),
        (json!({ "method": "DELETE", "path": "/services" }), 400, 0),
        (json!({ "method": "POST", "path": "/batch" }), 400, 0),
        (
            json!({ "method": "POST", "path": "/services?dry_run=true", "body": { "host": "h" } }),
            400,
            11,
        ),
        (
            json!({ "method": "PATCH", "path": "/services/svc", "if_match": "\"x\"", "body": {} }),
            412,
            100,
        ),
        (
            json!({ "method": "PATCH", "path": "/routes/r", "body": { "name": "unbuildable" } }),
            400,
            2,
        ),
    ];
    for (operation, status, code) in cases {
        let got = api
            .post("/batch", json!({ "operations": [first, operation] }))
            .await;
        assert_eq!(got.status, status, "{operation}: {}", got.body);
        let place = &got.body["operation"];
        assert_eq!(
            (&place["index"], &place["path"]),
            (&json!(1), &operation["path"])
        );
        assert!(got.message().starts_with("operation 1 ("), "{}", got.body);
        assert_eq!(got.body["code"].as_u64().unwrap_or(0), code, "{}", got.body);
    }
    assert_eq!(names(&api, "/services").await, ["other", "svc"]);
    assert_eq!(newest(&api).await, before);
    let malformed = api
        .post("/batch", json!([{ "method": "GET", "path": "/" }]))
        .await;
    assert_eq!(
        (malformed.status, &malformed.body["operation"]["index"]),
        (400, &json!(0))
    );
    assert_eq!(api.form(Method::POST, "/batch", "a=1").await.status, 415);
    assert_eq!(api.get("/batch").await.status, 405);
    let empty = api.post("/batch", json!([])).await.expect(200);
    assert_eq!(empty, json!({ "data": [], "revision": null }));
}

#[tokio::test]
async fn a_dry_run_checks_all_and_changes_nothing() {
    let api = Api::furnished().await;
    let before = newest(&api).await;
    let made = api
        .post(
            "/services?dry_run=true",
            json!({ "name": "new", "host": "a.test" }),
        )
        .await;
    assert_eq!(made.header("silverback-dry-run"), "true");
    assert_eq!(made.header("silverback-revision"), "");
    assert_eq!(made.expect(201)["name"], "new");
    let taken = api
        .post(
            "/services?dry_run=true",
            json!({ "name": "svc", "host": "a.test" }),
        )
        .await;
    assert_eq!((taken.status, &taken.body["code"]), (409, &json!(5)));
    let nothing =
        json!({ "paths": ["/"], "service": { "id": "00000001-0000-4000-8000-000000000001" } });
    assert_eq!(
        api.post("/routes?dry_run=1", nothing).await.expect(400)["code"],
        4
    );
    let patched = api
        .patch("/services/svc?dry_run=true", json!({ "retries": 1 }))
        .await;
    assert_eq!(patched.expect(200)["retries"], 1);
    let gone = api.bare(Method::DELETE, "/routes/r?dry_run=true").await;
    assert_eq!(
        (gone.status, gone.header("silverback-dry-run")),
        (204, "true")
    );
    let batch = json!([{ "method": "POST", "path": "/services", "body": { "host": "a.test", "name": "b" } }]);
    let batch = api.post("/batch?dry_run=true", batch).await;
    assert_eq!(batch.header("silverback-dry-run"), "true");
    assert_eq!(batch.expect(200)["revision"], Value::Null);
    let undone = api
        .post(
            &format!("/revisions/{before}/rollback?dry_run=true"),
            json!({}),
        )
        .await;
    assert_eq!(undone.expect(200)["changes"], 1);

    assert_eq!(names(&api, "/services").await, ["other", "svc"]);
    assert_eq!(names(&api, "/routes").await, ["free", "r"]);
    assert_eq!(newest(&api).await, before);
    let unclear = api
        .post("/services?dry_run=yes", json!({ "host": "a.test" }))
        .await;
    assert_eq!((unclear.status, &unclear.body["code"]), (400, &json!(11)));
    let real = api
        .post("/services?dry_run=false", json!({ "host": "a.test" }))
        .await;
    assert_eq!(real.status, 201);
    assert_eq!(newest(&api).await, before + 1);
}

#[tokio::test]
async fn a_change_with_a_version_happens_only_to_that_version() {
    let api = Api::furnished().await;
    let got = api.get("/services/svc").await;
    let first = got.header("etag").to_owned();
    assert!(first.starts_with('"'), "{first}");
    let path = format!("/services/{}", got.body["id"].as_str().unwrap());
    assert_eq!(api.get(&path).await.header("etag"), first);

    let change = json!({ "retries": 1 });
    let done = with_match(&api, Method::PATCH, "/services/svc", &first, change.clone()).await;
    let second = done.header("etag").to_owned();
    assert_ne!(second, first);
    assert!(!done.header("silverback-revision").is_empty());
    assert_eq!(done.expect(200)["retries"], 1);

    for (method, body) in [
        (Method::PATCH, json!({ "retries": 2 })),
        (Method::PUT, json!({ "host": "new.test" })),
        (Method::DELETE, json!({})),
    ] {
        let moved = with_match(&api, method, "/services/svc", &first, body).await;
        let said = moved.expect(412);
        assert_eq!(
            (&said["name"], &said["code"]),
            (&json!("precondition failed"), &json!(100))
        );
        assert!(said["message"].as_str().unwrap().contains(&second));
    }
    assert_eq!(api.get("/services/svc").await.header("etag"), second);

    let list = format!("\"x\", {second}");
    let put = with_match(
        &api,
        Method::PUT,
        &path,
        &list,
        json!({ "host": "new.test", "name": "svc" }),
    )
    .await;
    assert_eq!(put.status, 200);
    let any = with_match(&api, Method::PATCH, "/services/svc", "*", change.clone()).await;
    assert_eq!(any.status, 200);
    let below = format!("{path}/routes/r");
    let route = api.get(&below).await.header("etag").to_owned();
    let moved = with_match(&api, Method::DELETE, &below, &second, json!({})).await;
    assert_eq!(moved.status, 412);
    let gone = with_match(&api, Method::DELETE, &below, &route, json!({})).await;
    assert_eq!(gone.status, 204);

    // There is nothing that could be of that version.
    for (method, path, status) in [
        (Method::DELETE, "/routes/r", 412),
        (Method::PUT, "/routes/r", 412),
        (Method::PATCH, "/routes/r", 404),
        (Method::POST, "/routes", 412),
    ] {
        let got = with_match(
            &api,
            method.clone(),
            path,
            &route,
            json!({ "paths": ["/"] }),
        )
        .await;
        assert_eq!(got.status, status, "{method}");
    }
    let dry = with_match(
        &api,
        Method::PATCH,
        "/services/svc?dry_run=true",
        &first,
        change,
    )
    .await;
    assert_eq!(dry.status, 412);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_change_the_same_version_one_succeeds() {
    let api = Api::furnished().await;
    for _ in 0..5 {
        let etag = api.get("/services/svc").await.header("etag").to_owned();
        let each = (0..8).map(|i| {
            let (api, etag) = (&api, &etag);
            async move {
                let body = json!({ "tags": [format!("{etag}{i}").replace('"', "")] });
                with_match(api, Method::PATCH, "/services/svc", etag, body)
                    .await
                    .status
            }
        });
        let mut got = futures::future::join_all(each).await;
        got.sort_unstable();
        assert_eq!(got, [200, 412, 412, 412, 412, 412, 412, 412]);
    }
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
async fn a_batch_as_a_whole_has_no_version() {
    let api = Api::furnished().await;
    let operations =
        json!([{ "method": "PATCH", "path": "/services/svc", "body": { "retries": 1 } }]);
    let got = with_match(&api, Method::POST, "/batch", "\"x\"", operations).await;
    assert_eq!(got.expect(412)["code"], 100);
    assert_eq!(
        api.get("/services/svc").await.expect(200)["retries"],
        json!(5)
    );
}

#[tokio::test]
async fn a_membership_by_name_has_a_version() {
    let api = Api::furnished().await;
    let path = "/consumers/alice/acls/admins";
    api.post("/consumers/alice/acls", json!({ "group": "admins" }))
        .await
        .expect(201);
    let etag = api.get(path).await.header("etag").to_owned();
    let tagged = json!({ "tags": ["t"] });
    let done = with_match(&api, Method::PATCH, path, &etag, tagged.clone()).await;
    let next = done.header("etag").to_owned();
    assert_eq!(done.expect(200)["tags"], json!(["t"]));
    for method in [Method::PATCH, Method::PUT, Method::DELETE] {
        let moved = with_match(&api, method, path, &etag, tagged.clone()).await;
        assert_eq!(moved.status, 412, "{}", moved.body);
    }
    let gone = with_match(&api, Method::DELETE, path, &next, json!({})).await;
    assert_eq!(gone.status, 204);
    for (method, status) in [
        (Method::PATCH, 404),
        (Method::PUT, 412),
        (Method::DELETE, 412),
    ] {
        let got = with_match(&api, method.clone(), path, &next, tagged.clone()).await;
        assert_eq!(got.status, status, "{method}: {}", got.body);
    }
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
