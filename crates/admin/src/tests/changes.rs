//! Writes on terms: `/batch`, `dry_run`, `If-Match`.

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::{Value, json};

use super::harness::{Api, Got};
use super::history::newest;

pub(super) async fn with_match(
    api: &Api,
    method: Method,
    path: &str,
    etag: &str,
    body: Value,
) -> Got {
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
