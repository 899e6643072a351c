//! Endpoints that a plugin brings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use silverback_plugin::env::shared;
use silverback_plugin::exchange::FakeServices;
use silverback_plugin::schema::record;
use silverback_plugin::{
    AdminAnswer, AdminCall, AdminEndpoint, AdminOperation, ConfigError, Handler, Phases, Plugin,
    PluginEnv,
};

use super::access::{TOKEN, ask, closed};
use super::harness::Api;

record! {
    /// Nothing.
    pub(super) struct Nothing {}
}

/// A plugin that says what it was asked, and counts.
pub(super) struct Chatty;

impl Plugin for Chatty {
    const NAME: &'static str = "chatty";
    const PRIORITY: i32 = 1;
    const VERSION: &'static str = "0.0.1";
    const PHASES: Phases = Phases::ACCESS;
    type Config = Nothing;

    fn endpoints() -> Vec<AdminEndpoint> {
        let object = || json!({ "type": "object" });
        let of = AdminOperation::new;
        vec![
            AdminEndpoint::new("/chatty")
                .on(of(Method::POST, "Say it again", again).answers(201, object()))
                .on(of(Method::DELETE, "Forget", forget).also(&[204])),
            AdminEndpoint::new("/chatty/{what}/of/{whom}")
                .parameter("what", "What.")
                .parameter("whom", "Whom.")
                .on(of(Method::GET, "Say it again", again)
                    .answers(201, object())
                    .also(&[404])),
        ]
    }

    fn compile(_: Nothing, _: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        Ok(Chatty)
    }
}

impl Handler for Chatty {}

fn calls(call: &AdminCall<'_>) -> Arc<AtomicU64> {
    shared(call.services, "calls", AtomicU64::default)
}

fn again(call: &AdminCall<'_>) -> AdminAnswer {
    if call.parameter("what") == "nothing" {
        return AdminAnswer::empty(StatusCode::NOT_FOUND);
    }
    let parameters: Vec<_> = call.parameters.iter().map(|(n, v)| json!([n, v])).collect();
    let said = json!({
        "parameters": parameters, "argument": call.argument("a"), "body": call.body,
        "calls": calls(call).fetch_add(1, Ordering::Relaxed),
    });
    AdminAnswer::json(StatusCode::CREATED, said)
}

fn forget(call: &AdminCall<'_>) -> AdminAnswer {
    calls(call).store(0, Ordering::Relaxed);
    AdminAnswer::empty(StatusCode::NO_CONTENT).telling("forget")
}

async fn chatting() -> (Api, Arc<AtomicU64>) {
    let services = Arc::new(FakeServices::default());
    let calls = shared(&*services, "calls", AtomicU64::default);
    (Api::with(|b| b.services(services)).await, calls)
}

#[tokio::test]
async fn an_endpoint_gets_the_call_and_the_nodes_services() {
    let (api, calls) = chatting().await;
    calls.store(5, Ordering::Relaxed);
    let said = api.get("/chatty/a%20b/of/c/?a=1&a=2").await.expect(201);
    assert_eq!(
        said,
        json!({ "parameters": [["what", "a b"], ["whom", "c"]], "argument": "1", "body": {}, "calls": 5 })
    );
    let said = api.post("/chatty", json!({ "x": [1] })).await.expect(201);
    assert_eq!(said["body"], json!({ "x": [1] }));
    let form = api.form(Method::POST, "/chatty", "x=1").await.expect(201);
    assert_eq!(form["body"], json!({ "x": "1" }));
    assert_eq!(calls.load(Ordering::Relaxed), 8);
    assert_eq!(api.delete("/chatty").await, 204);
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn without_a_body_an_error_is_a_page() {
    let (api, _) = chatting().await;
    let page = api.get("/chatty/nothing/of/it").await;
    assert_eq!(page.header("content-type"), "text/html; charset=UTF-8");
    assert_eq!(
        page.expect(404),
        "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n<center><h1>404 Not Found</h1></center>\r\n</body>\r\n</html>\r\n"
    );
}

#[tokio::test]
async fn it_is_an_endpoint_like_any_other() {
    let (api, _) = chatting().await;
    let one = "/chatty/a/of/b";
    let head = api.bare(Method::HEAD, one).await;
    assert_eq!((head.status, head.body), (201, Value::Null));
    for (path, allow) in [
        (one, "GET, HEAD, OPTIONS"),
        ("/chatty", "DELETE, OPTIONS, POST"),
    ] {
        let options = api.bare(Method::OPTIONS, path).await;
        assert_eq!(options.header("allow"), allow);
    }
    for (method, path) in [(Method::GET, "/chatty"), (Method::DELETE, one)] {
        assert_eq!(
            api.bare(method, path).await.expect(405),
            json!({ "message": "Method not allowed" })
        );
    }
    api.get("/chatty/a").await.expect(404);
    api.get("/chatty//of/b").await.expect(404);
    let bad = api.send(Method::POST, "/chatty", json!([1])).await;
    bad.expect(400);
    let tried = api.bare(Method::DELETE, "/chatty?dry_run=true").await;
    tried.expect(400);
    let endpoints = api.get("/endpoints").await.expect(200);
    let endpoints = endpoints["data"].as_array().unwrap();
    assert!(endpoints.contains(&"/chatty/{what}/of/{whom}".into()));
    let document = api.get("/openapi.json").await.expect(200);
    let post = &document["paths"]["/chatty"]["post"];
    assert_eq!(post["tags"], json!(["chatty"]));
    assert_eq!(post["summary"], "Say it again");
    let batch = json!([{ "method": "DELETE", "path": "/chatty" }]);
    api.post("/batch", batch).await.expect(400);
}

#[tokio::test]
async fn tokens_and_their_roles_hold_for_it() {
    let (api, _, reader, writer) = closed().await;
    let status = async |method: &Method, path: &str, token: &str| {
        let got = ask(&api, method.clone(), path, (TOKEN, token), json!({}));
        got.await.status
    };
    let (get, delete) = (Method::GET, Method::DELETE);
    assert_eq!(status(&get, "/chatty/a/of/b", "none").await, 401);
    assert_eq!(status(&get, "/chatty/a/of/b", &reader).await, 201);
    assert_eq!(status(&delete, "/chatty", &reader).await, 403);
    assert_eq!(status(&delete, "/chatty", &writer).await, 204);
}
