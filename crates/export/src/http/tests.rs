use std::time::Duration;

use bytes::Bytes;
use http::Request;
use silverback_testkit::upstream::{Answer, Upstream};

use super::{HttpClient, HttpError, basic_authorization};

const LIMIT: Duration = Duration::from_secs(10);

fn client() -> HttpClient {
    HttpClient::new(LIMIT, LIMIT, false).unwrap()
}

fn request(url: &str, body: &'static str) -> Request<Bytes> {
    let request = Request::post(url).header("x-log", "1");
    request.body(Bytes::from_static(body.as_bytes())).unwrap()
}

#[tokio::test]
async fn requests_share_a_connection() {
    let server = Upstream::start().await.unwrap();
    let client = client();
    let url = format!("{}/logs", server.url());
    for body in ["one", "two"] {
        let answer = client.send(request(&url, body)).await.unwrap();
        assert_eq!(answer.status, 200);
        let echo: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(echo["body"], body);
    }
    assert_eq!(server.connections(), 1);
    let seen = &server.seen()[0];
    let header = |name| seen.headers.get(name).unwrap().to_owned();
    assert_eq!(header("X-Log"), "1");
    assert_eq!(header("Content-Length"), "3");
    assert_eq!(header("Host"), server.addr().to_string());
    assert!(header("User-Agent").starts_with("silverback/"));
}

#[tokio::test]
async fn a_status_is_an_answer_and_no_server_is_none() {
    let mut server = Upstream::start().await.unwrap();
    server.answer(Answer::status(503));
    let url = server.url();
    assert_eq!(client().send(request(&url, "")).await.unwrap().status, 503);
    server.stop().await;
    let failed = client().send(request(&url, "")).await.unwrap_err();
    assert!(failed.to_string().contains("refused"), "{failed}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let server = Upstream::start().await.unwrap();
    server.answer(Answer::hang());
    let client = HttpClient::new(Duration::from_millis(20), LIMIT, false).unwrap();
    let failed = client.send(request(&server.url(), "")).await.unwrap_err();
    assert!(matches!(failed, HttpError::Timeout), "{failed}");
}

#[test]
fn who_calls_is_encoded() {
    let value = basic_authorization("bob:secret").unwrap();
    assert_eq!(value, "Basic Ym9iOnNlY3JldA==");
    assert!(value.is_sensitive());
}
