use super::*;
use silverback_testkit::upstream::{Answer, Upstream};

fn rows(up: &Upstream, retries: u32, config: Value) -> Vec<Change> {
    vec![
        service(1, up.addr(), json!({"retries": retries})),
        route(2, "/", 1, json!({})),
        plugin(3, 2, config),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotent_requests_are_tried_again_after_a_reset() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(rows(&up, 5, json!({})), ProxyConfig::default());
    up.fail(2, &Answer::close_before_header());
    assert_eq!(rig.get("/", "").await.status, 200);
    assert_eq!(up.requests(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_requests_are_not_unless_they_carry_a_key() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(rows(&up, 5, json!({})), ProxyConfig::default());
    up.fail(1, &Answer::close_before_header());
    assert_eq!(rig.post("/", "", b"x").await.status, 502);
    assert_eq!(up.requests(), 1);
    up.fail(1, &Answer::close_before_header());
    assert_eq!(
        rig.post("/", "Idempotency-Key: 1\r\n", b"x").await.status,
        200
    );
    assert_eq!(up.requests(), 3);
    assert_eq!(
        up.seen().last().unwrap().body,
        b"x",
        "the body is sent again"
    );
    assert_eq!(
        up.seen().last().unwrap().headers.get("X-Retry-Attempt"),
        Some("2")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_as_many_as_the_service_allows() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(rows(&up, 2, json!({})), ProxyConfig::default());
    up.answer(Answer::close_before_header());
    assert_eq!(rig.get("/", "").await.status, 502);
    assert_eq!(up.requests(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_are_tried_again_on_a_plugins_terms() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(
        rows(&up, 5, json!({"access": "terms"})),
        ProxyConfig::default(),
    );
    up.fail(2, &Answer::status(503));
    assert_eq!(rig.get("/", "").await.status, 200);
    assert_eq!(up.requests(), 3);
    up.answer(Answer::status(503).body("own"));
    let reply = rig.get("/", "").await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (503, "own!"),
        "the last answer is the upstream's own"
    );
    assert_eq!(up.requests(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_budget_denies_retries_and_says_so_when_asked() {
    let up = Upstream::start().await.unwrap();
    let config = ProxyConfig {
        debug_header: true,
        ..ProxyConfig::default()
    };
    let rig = serve(rows(&up, 5, json!({})), config);
    up.answer(Answer::close_before_header());
    let mut exhausted = false;
    // The floor is worth 100 retries at the most.
    for _ in 0..100 {
        let reply = rig.get("/", "Kong-Debug: 1\r\n").await;
        assert_eq!(reply.status, 502);
        exhausted |= reply.header("X-Retry-Budget") == Some("exhausted");
    }
    assert!(exhausted);
    assert!(up.requests() < 350, "{} attempts", up.requests());
    assert!(
        rig.metrics
            .render(&[])
            .contains("outcome=\"denied_budget\"")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_hops_retry_is_paid_for_before_it_is_sent() {
    let up = Upstream::start().await.unwrap();
    let mut config = ProxyConfig::default();
    config.real_ip.trusted = crate::TrustedIps::parse(["127.0.0.1"]).unwrap();
    let rig = serve(rows(&up, 5, json!({})), config);
    let mut statuses = std::collections::HashMap::new();
    for _ in 0..200 {
        *statuses
            .entry(rig.get("/", "X-Retry-Attempt: 2\r\n").await.status)
            .or_insert(0) += 1;
    }
    // The floor is worth 100 retries, and a little more while time passes.
    assert!(
        statuses[&200] >= 100 && statuses[&503] >= 50,
        "{statuses:?}"
    );
    assert_eq!(up.requests(), statuses[&200]);
    assert_eq!(
        rig.get("/", "").await.status,
        200,
        "first attempts are never denied"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_counted_once_however_often_it_is_sent() {
    let up = Upstream::start().await.unwrap();
    let config = ProxyConfig {
        client_max_body_size: 10,
        ..ProxyConfig::default()
    };
    let rig = serve(rows(&up, 5, json!({})), config);
    up.fail(2, &Answer::close_before_header());
    let chunked = "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nIdempotency-Key: 1\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n0\r\n\r\n";
    let reply = Reply::parse(&rig.raw(chunked).await);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(up.requests(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_body_that_was_not_kept_is_not_waited_for_again() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(
        rows(&up, 5, json!({"access": "replace"})),
        ProxyConfig::default(),
    );
    up.fail(
        1,
        &Answer::close_before_header().delay(Duration::from_millis(300)),
    );
    let body = vec![b'x'; 1 << 20];
    let reply = rig.post("/", "Idempotency-Key: 1\r\n", &body).await;
    assert_eq!(reply.status, 502, "{reply:?}");
    assert_eq!(up.requests(), 1);
}
