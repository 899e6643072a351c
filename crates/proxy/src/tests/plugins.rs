use super::*;
use silverback_testkit::upstream::Upstream;

fn rows(up: &Upstream, config: Value) -> Vec<Change> {
    vec![
        service(1, up.addr(), json!({})),
        route(2, "/", 1, json!({})),
        plugin(3, 2, config),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn response_phases_run_for_the_upstreams_responses() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(rows(&up, json!({})), ProxyConfig::default());
    let reply = rig.get("/", "").await;
    assert_eq!((reply.status, reply.header("X-Probe")), (200, Some("seen")));
    assert!(reply.body.ends_with("}!"), "{reply:?}");
    assert_eq!(rig.logged(1).await, [200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn response_phases_run_for_a_plugins_own_response() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(rows(&up, json!({"access": "exit"})), ProxyConfig::default());
    let reply = rig.get("/", "").await;
    assert_eq!((reply.status, reply.header("X-Probe")), (418, Some("seen")));
    assert_eq!(
        reply.header("Content-Length"),
        Some(reply.body.len().to_string().as_str())
    );
    assert!(reply.body.ends_with("}!"), "{reply:?}");
    assert_eq!(rig.logged(1).await, [418]);
    assert_eq!(up.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_answers_for_a_route_without_service() {
    for (access, expected) in [("exit", 418), ("", 503)] {
        let config = json!({ "access": access });
        let rows = vec![route(2, "/", 0, json!({})), plugin(3, 2, config)];
        let rig = serve(rows, ProxyConfig::default());
        let reply = rig.get("/", "").await;
        assert_eq!(reply.status, expected);
        assert_eq!(reply.header("X-Probe"), Some("seen"));
        assert_eq!(rig.logged(1).await, [expected]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_fails_or_panics_gives_500_and_one_log() {
    let up = Upstream::start().await.unwrap();
    for access in ["error", "panic"] {
        let rig = serve(rows(&up, json!({"access": access})), ProxyConfig::default());
        let reply = rig.get("/", "").await;
        assert_eq!(reply.status, 500);
        assert_eq!(reply.json()["message"], "An unexpected error occurred");
        assert_eq!(reply.header("X-Probe"), Some("seen"));
        assert_eq!(rig.logged(1).await, [500]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_was_read_still_reaches_the_upstream() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(rows(&up, json!({"access": "read"})), ProxyConfig::default());
    for (n, length) in [0, 5, 64 * 1024, 64 * 1024 + 1, 3 << 20]
        .into_iter()
        .enumerate()
    {
        let body: Vec<u8> = (0..length).map(|i| b'a' + (i % 23) as u8).collect();
        let reply = rig.post("/", "", &body).await;
        assert_eq!(reply.status, 200, "{length}: {}", reply.head);
        let seen = &up.seen()[n];
        assert!(
            seen.body == body,
            "{length}: {} bytes arrived",
            seen.body.len()
        );
        assert_eq!(seen.headers.get("X-Length").unwrap(), length.to_string());
    }
    up.forget();
    let chunk = vec![b'z'; 100_000];
    let mut request =
        b"POST /chunked HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..3 {
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(&chunk);
        request.extend_from_slice(b"\r\n");
    }
    request
        .extend_from_slice(b"0\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let text = rig.raw(request).await;
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
    assert_eq!(up.seen()[0].body.len(), 300_000);
    assert_eq!(up.seen()[1].target, "/next");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_kept_is_refused_rather_than_lost() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(
        rows(&up, json!({"access": "read", "max": 1000})),
        ProxyConfig::default(),
    );
    // The length is known: nothing was read, all of it goes on.
    assert_eq!(rig.post("/", "", &[b'x'; 2000]).await.status, 200);
    assert_eq!(up.seen()[0].body.len(), 2000);
    // It is not known: what was read cannot be put back.
    let mut request =
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n".to_vec();
    request.extend_from_slice(&[b'x'; 2000]);
    request.extend_from_slice(b"\r\n0\r\n\r\n");
    assert_eq!(Reply::parse(&rig.raw(request).await).status, 413);
    assert_eq!(up.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_body_is_what_the_upstream_gets() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(
        rows(&up, json!({"access": "replace"})),
        ProxyConfig::default(),
    );
    assert_eq!(rig.post("/", "", &vec![b'x'; 200_000]).await.status, 200);
    assert_eq!(rig.get("/", "").await.status, 200);
    for seen in up.seen() {
        assert_eq!(seen.body, b"replaced");
        assert_eq!(seen.headers.get("Content-Length"), Some("8"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_a_plugins_limit_is_broken_off() {
    let up = Upstream::start().await.unwrap();
    let limit = |access| {
        serve(
            rows(&up, json!({"access": access, "max": 10})),
            ProxyConfig::default(),
        )
    };
    let rig = limit("limit");
    assert_eq!(rig.post("/", "", &[b'x'; 10]).await.status, 200);
    let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n";
    for reply in [
        rig.post("/", "", &[b'x'; 11]).await,
        Reply::parse(&rig.raw(chunked).await),
    ] {
        assert_eq!(reply.status, 413);
        assert_eq!(reply.json()["message"], "told to");
        assert_eq!(reply.header("X-Probe"), Some("seen"));
    }
    assert_eq!(rig.logged(3).await, [200, 413, 413]);
    assert_eq!(up.seen().len(), 1);
    // What goes upstream is measured, not what it replaces.
    let rig = limit("replace and limit");
    assert_eq!(rig.post("/", "", &[b'x'; 100]).await.status, 200);
    assert_eq!(up.seen()[1].body, b"replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_have_no_type() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(
        rows(&up, json!({"access": "untyped"})),
        ProxyConfig::default(),
    );
    let reply = rig.get("/", "").await;
    assert_eq!(reply.header("Content-Type"), None);
    assert_eq!(
        (reply.header("Content-Length"), reply.body.as_str()),
        (Some("5"), "bare!")
    );
}
