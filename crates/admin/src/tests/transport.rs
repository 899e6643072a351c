//! HTTP itself: methods, headers, bad bodies, a database that is away.

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::{Value, json};
use silverback_testkit::postgres::Server;

use super::harness::{Api, builder, config};
use silverback_store::migrate;

#[tokio::test]
async fn every_answer_has_cors_and_says_who_we_are() {
    let api = Api::new().await;
    let bad = Request::post("/services")
        .header(header::CONTENT_TYPE, "text/plain")
        .body(Body::from("x"))
        .unwrap();
    for got in [
        api.get("/services").await,
        api.get("/nope").await,
        api.bare(Method::PUT, "/services").await,
        api.post("/services", json!({})).await,
        api.raw(bad).await,
        api.bare(Method::OPTIONS, "/nope").await,
        api.bare(Method::DELETE, "/services/x").await,
    ] {
        assert_eq!(got.header("access-control-allow-origin"), "*");
        assert_eq!(got.header("access-control-allow-credentials"), "true");
        assert_eq!(got.header("server"), "silverback/1.2.3");
        assert!(got.header("x-kong-admin-latency").parse::<u64>().is_ok());
    }
    let from = Request::get("/nope")
        .header(header::ORIGIN, "http://gui.test")
        .body(Body::empty())
        .unwrap();
    assert_eq!(
        api.raw(from).await.header("access-control-allow-origin"),
        "http://gui.test"
    );
}

#[tokio::test]
async fn methods_are_those_of_the_path() {
    let api = Api::new().await;
    let got = api.bare(Method::OPTIONS, "/services/does-not-exist").await;
    assert_eq!(
        (got.status, got.header("allow")),
        (204, "DELETE, GET, HEAD, OPTIONS, PATCH, PUT")
    );
    assert_eq!(
        got.header("access-control-allow-methods"),
        got.header("allow")
    );
    assert_eq!(got.header("access-control-allow-headers"), "Content-Type");
    for (method, path) in [
        (Method::PUT, "/services"),
        (Method::POST, "/"),
        (Method::from_bytes(b"FOO").unwrap(), "/services"),
        (Method::TRACE, "/services/x"),
        (Method::GET, "/schemas/services/validate"),
    ] {
        let got = api.bare(method, path).await;
        // As Kong: without Allow, which only OPTIONS has.
        assert_eq!((got.status, got.header("allow")), (405, ""), "{path}");
        assert_eq!(got.body, json!({ "message": "Method not allowed" }));
    }
    let head = api.bare(Method::HEAD, "/services").await;
    assert_eq!(
        (head.status, head.header("content-type"), &head.body),
        (200, "application/json; charset=utf-8", &Value::Null)
    );
}

#[tokio::test]
async fn one_slash_at_the_end_is_as_good_as_none() {
    let api = Api::new().await;
    assert_eq!(api.get("/services/").await.status, 200);
    assert_eq!(
        api.post("/services/", json!({ "name": "a", "host": "h" }))
            .await
            .status,
        201
    );
    assert_eq!(api.get("/services/a/").await.status, 200);
    assert_eq!(api.get("/plugins/enabled/").await.status, 200);
    for path in [
        "//services",
        "/services//",
        "/services//routes",
        "/services/a/b/c",
        "/Services",
    ] {
        assert_eq!(api.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn bad_bodies_change_nothing() {
    let api = Api::new().await;
    for (content_type, body, status) in [
        (Some("application/json"), "{\"host\":", 400),
        (Some("application/json"), "[1,2]", 400),
        (Some("application/json"), "null", 400),
        (Some("application/json"), "{\"host\":\"a\\u0000\"}", 400),
        (Some("application/x-www-form-urlencoded"), "host=%ff", 400),
        (Some("application/xml"), "<a/>", 415),
        (None, "{\"host\":\"h\"}", 415),
    ] {
        let mut request = Request::post("/services");
        if let Some(t) = content_type {
            request = request.header(header::CONTENT_TYPE, t);
        }
        let got = api.raw(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(got.status, status, "{body}");
        if status == 415 {
            assert_eq!(got.header("content-type"), "text/html; charset=UTF-8");
        }
    }
    let none = api.bare(Method::POST, "/services").await.expect(400);
    assert_eq!(
        none["message"],
        "schema violation (host: required field missing)"
    );
    assert_eq!(api.get("/services").await.body["data"], json!([]));
}

#[tokio::test]
async fn arguments_of_a_write_are_no_fields() {
    let api = Api::new().await;
    assert_eq!(
        api.post("/services?host=qs.test", json!({})).await.status,
        400
    );
    // Some clients send a body with everything.
    let get = Request::get("/services")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from("{"))
        .unwrap();
    assert_eq!(api.raw(get).await.status, 200);
}

#[tokio::test]
async fn the_root_says_what_clients_look_for() {
    let api = Api::new().await;
    api.post("/plugins", json!({ "name": "key-auth" }))
        .await
        .expect(201);
    let root = api.get("/?connection_id=1").await.expect(200);
    assert_eq!(
        (&root["version"], &root["silverback_version"]),
        (&json!("3.9.1"), &json!("1.2.3"))
    );
    assert_eq!(
        (&root["hostname"], &root["edition"]),
        (&json!("here"), &json!("community"))
    );
    assert_eq!(root["plugins"]["enabled_in_cluster"], json!(["key-auth"]));
    assert_eq!(
        root["plugins"]["available_on_server"]["key-auth"]["priority"],
        1250
    );
    assert_eq!(root["configuration"], json!({ "role": "traditional" }));
    assert!(root["timers"]["running"].is_u64() && root["timers"]["pending"].is_u64());
    let status = api.get("/status?size=1000").await.expect(200);
    assert_eq!(status["database"], json!({ "reachable": true }));
    assert_eq!(
        status["server"]
            .as_object()
            .unwrap()
            .values()
            .filter(|v| v.is_u64())
            .count(),
        7
    );
    let endpoints = api.get("/endpoints").await.expect(200);
    assert!(
        endpoints["data"]
            .as_array()
            .unwrap()
            .contains(&json!("/consumers/{consumers}/key-auth"))
    );
    assert_eq!(
        api.get("/plugins/enabled").await.expect(200),
        json!({ "enabled_plugins": ["chatty", "correlation-id", "key-auth", "picky", "request-termination"] })
    );
    assert_eq!(
        api.get("/retry-budgets").await.expect(200),
        json!({ "data": [], "next": null })
    );
}

#[tokio::test]
async fn a_panic_is_answered_and_the_next_request_too() {
    let api = Api::new().await;
    let got = api
        .post("/services", json!({ "name": "boom", "host": "h" }))
        .await;
    assert_eq!(
        (got.status, got.message()),
        (500, "An unexpected error occurred")
    );
    assert_eq!(got.header("access-control-allow-origin"), "*");
    assert_eq!(
        api.post("/services", json!({ "name": "calm", "host": "h" }))
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn without_database_the_api_says_so_and_comes_back_by_itself() {
    let mut server = Server::start().unwrap();
    let cfg = config(&server.url("postgres"));
    migrate::up(&cfg).await.unwrap();
    let api = Api {
        router: builder(cfg).bind().unwrap().router(),
        db: None,
    };
    api.post("/services", json!({ "name": "a", "host": "h" }))
        .await
        .expect(201);

    server.kill();
    for got in [
        api.get("/services").await,
        api.get("/services/a").await,
        api.post("/services", json!({ "host": "h" })).await,
        api.patch("/services/a", json!({ "retries": 1 })).await,
        api.put("/services/b", json!({ "host": "h" })).await,
        api.bare(Method::DELETE, "/services/a").await,
        api.get("/tags").await,
        api.get("/").await,
    ] {
        let body = got.expect(503);
        assert_eq!(
            (&body["name"], &body["code"]),
            (&json!("database error"), &json!(8))
        );
        assert!(body["message"].is_string());
    }
    assert_eq!(
        api.get("/status").await.expect(200)["database"],
        json!({ "reachable": false })
    );
    assert_eq!(api.get("/endpoints").await.status, 200);
    assert_eq!(
        api.post("/schemas/services/validate", json!({ "host": "h" }))
            .await
            .status,
        200
    );

    server.restart().unwrap();
    assert_eq!(api.get("/services/a").await.expect(200)["retries"], 5);
    api.patch("/services/a", json!({ "retries": 1 }))
        .await
        .expect(200);
}
