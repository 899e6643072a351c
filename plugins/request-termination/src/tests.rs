#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use silverback_plugin::exchange::{Exchange, config, schema_without_descriptions};

use crate::RequestTermination;

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<RequestTermination>(), facts);
}

#[test]
fn fields_that_exclude_each_other_are_refused_together() {
    let refused = |given: Value| config::<RequestTermination>(given).unwrap_err().message();
    let text = |t: &str| format!("schema violation (config: {t})");
    let both = "message cannot be used with content_type or body";
    assert_eq!(refused(json!({ "message": "a", "body": "b" })), text(both));
    assert_eq!(
        refused(json!({ "message": "a", "content_type": "b" })),
        text(both)
    );
    assert_eq!(
        refused(json!({ "content_type": "text/html" })),
        text("content_type requires a body")
    );
    let echo = json!({ "echo": true, "body": "b" });
    assert_eq!(
        refused(echo),
        text("echo cannot be used with content_type and body")
    );
    assert_eq!(
        refused(json!({ "status_code": 99 })),
        text("status_code: value should be between 100 and 599").replace("config: ", "config.")
    );
}

#[tokio::test]
async fn answers_in_the_usual_words() {
    let done = Exchange::get("/")
        .header("accept", "text/html")
        .run::<RequestTermination>(json!({}))
        .await;
    done.exit_status(503);
    assert_eq!(done.body_text(), r#"{"message":"Service unavailable"}"#);
    assert_eq!(
        done.header("content-type"),
        Some("application/json; charset=utf-8")
    );
    let done = Exchange::get("/")
        .run::<RequestTermination>(json!({ "status_code": 418 }))
        .await;
    assert_eq!(done.exit_status(418).body_text(), "");
    let done = Exchange::get("/")
        .run::<RequestTermination>(json!({ "status_code": 403, "message": "nope" }))
        .await;
    assert_eq!(done.exit_status(403).body_text(), r#"{"message":"nope"}"#);
}

#[tokio::test]
async fn a_body_is_sent_as_it_is() {
    let html = json!({ "status_code": 200, "content_type": "text/html", "body": "<h1>x</h1>" });
    let done = Exchange::get("/").run::<RequestTermination>(html).await;
    assert_eq!(done.exit_status(200).body_text(), "<h1>x</h1>");
    assert_eq!(
        done.header("content-type"),
        Some("text/html; charset=UTF-8")
    );
    let other = json!({ "content_type": "text/csv", "body": "a,b" });
    let done = Exchange::get("/").run::<RequestTermination>(other).await;
    assert_eq!(done.header("content-type"), Some("text/csv"));
}

#[tokio::test]
async fn a_trigger_is_a_header_or_an_argument() {
    let run = |e: Exchange| {
        e.run::<RequestTermination>(
            json!({ "trigger": "X-Stop", "status_code": 418, "message": "teapot" }),
        )
    };
    run(Exchange::get("/")).await.passed();
    run(Exchange::get("/?x-stop=1")).await.passed();
    run(Exchange::get("/").header("x-stop", ""))
        .await
        .exit_status(418);
    run(Exchange::get("/?a&X-Stop")).await.exit_status(418);
    let done = run(Exchange::get("/?X%2DStop=1")).await;
    assert_eq!(
        done.exit_status(418).body_json(),
        json!({ "message": "teapot" })
    );
}

#[tokio::test]
async fn echo_describes_the_request() {
    let exchange = Exchange::post("/e/%7e?x=1&y&x=2", "text/plain", "hi")
        .header("x-a", "b")
        .host("term4.test");
    let done = exchange
        .run::<RequestTermination>(json!({ "status_code": 201, "echo": true }))
        .await;
    let answer = done.exit_status(201).body_json();
    assert_eq!(
        answer["request"],
        json!({
            "scheme": "http", "host": "term4.test", "port": 8000, "method": "POST", "path": "/e/~", "raw_body": "hi",
            "headers": { "content-type": "text/plain", "x-a": "b" }, "query": { "x": ["1", "2"], "y": true },
            "uri_captures": { "unnamed": [], "named": {} }
        })
    );
    assert_eq!(answer["kong"]["worker_pid"], std::process::id());
    assert_eq!(
        answer["matched_route"],
        json!({ "id": "00000000-0000-0000-0000-000000000002", "name": "r" })
    );
    assert_eq!(answer["matched_service"]["name"], "s");
    assert_eq!(answer.get("message"), None);
}

#[tokio::test]
async fn echo_shows_the_fields_of_a_body() {
    let run = |e: Exchange| e.run::<RequestTermination>(json!({ "echo": true, "message": "m" }));
    let done = run(Exchange::post("/", "application/json", r#"{"a": [1]}"#)).await;
    let answer = done.exit_status(503).body_json();
    assert_eq!(answer["request"]["body"], json!({ "a": [1] }));
    assert_eq!(answer["message"], "m");
    let done = run(Exchange::post(
        "/",
        "application/x-www-form-urlencoded",
        "a=b+c",
    ))
    .await;
    assert_eq!(done.body_json()["request"]["body"], json!({ "a": "b c" }));
}
