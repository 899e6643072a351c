use super::*;
use silverback_testkit::upstream::{Answer, Upstream};

fn nobody() -> SocketAddr {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    // Bound for as long as the test runs, and never listening: given back, the port would soon be another test's.
    let socket = Box::leak(Box::new(socket));
    socket.local_addr().unwrap().as_socket().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_route_gets_404_in_the_wanted_format() {
    let rig = serve(vec![], ProxyConfig::default());
    let reply = rig.get("/", "").await;
    assert_eq!(reply.status, 404);
    assert_eq!(
        reply.json()["message"],
        "no Route matched with those values"
    );
    assert_eq!(
        reply.json()["request_id"],
        reply.header("X-Kong-Request-Id").unwrap()
    );
    assert_eq!(reply.header("Server"), Some(crate::PRODUCT));
    assert!(reply.header("X-Kong-Response-Latency").is_some());
    let reply = rig.get("/", "Accept: text/html\r\n").await;
    assert!(
        reply
            .body
            .contains("<p>no Route matched with those values.</p>"),
        "{reply:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_without_service_gets_503() {
    let rig = serve(vec![route(2, "/", 0, json!({}))], ProxyConfig::default());
    let reply = rig.get("/", "").await;
    assert_eq!(
        (reply.status, reply.json()["message"].as_str().unwrap()),
        (503, "no Service found with those values")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_for_tls_ask_for_it() {
    let up = Upstream::start().await.unwrap();
    let https = json!({"protocols": ["https"]});
    let redirect = json!({"protocols": ["https"], "https_redirect_status_code": 301});
    let rig = serve(
        vec![
            service(1, up.addr(), json!({})),
            route(2, "/a", 1, https),
            route(3, "/b", 1, redirect),
        ],
        ProxyConfig::default(),
    );
    let reply = rig.get("/a", "").await;
    assert_eq!(
        (reply.status, reply.header("Upgrade")),
        (426, Some("TLS/1.2, HTTP/1.1"))
    );
    let reply = rig.get("/b?x", "").await;
    assert_eq!(
        (reply.status, reply.header("Location")),
        (301, Some("https://h.test/b?x"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_failures_have_kongs_texts() {
    let up = Upstream::start().await.unwrap();
    up.answer_path("/close", Answer::close_before_header());
    up.answer_path("/slow", Answer::hang());
    let rig = serve(
        vec![
            service(1, up.addr(), json!({"read_timeout": 150, "retries": 0})),
            service(2, nobody(), json!({"retries": 0})),
            route(3, "/", 1, json!({"strip_path": false})),
            route(4, "/refused", 2, json!({})),
        ],
        ProxyConfig::default(),
    );
    for (path, status, text) in [
        (
            "/close",
            502,
            "An invalid response was received from the upstream server\nrequest_id: ",
        ),
        (
            "/refused",
            502,
            "An invalid response was received from the upstream server\nrequest_id: ",
        ),
        (
            "/slow",
            504,
            "The upstream server is timing out\nrequest_id: ",
        ),
    ] {
        let reply = rig.get(path, "").await;
        assert_eq!(reply.status, status, "{path}: {reply:?}");
        assert!(reply.body.starts_with(text), "{path}: {reply:?}");
        assert_eq!(
            reply.header("Content-Type"),
            Some("text/plain; charset=utf-8")
        );
        assert!(
            reply.header("Via").is_some() && reply.header("X-Kong-Proxy-Latency").is_some(),
            "{reply:?}"
        );
    }
    assert_eq!(
        rig.get("/refused", "Accept: application/json\r\n")
            .await
            .json()["message"],
        crate::errors::text_of(502)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_answered_and_cut_off() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(
        vec![
            service(1, up.addr(), json!({})),
            route(2, "/", 1, json!({})),
        ],
        ProxyConfig::default(),
    );
    for head in [
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let reply = Reply::parse(&rig.raw(head).await);
        assert_eq!(reply.status, 400, "{head:?}: {reply:?}");
        assert!(
            reply.body.starts_with("Bad request\nrequest_id: "),
            "{head:?}: {reply:?}"
        );
        assert_eq!(reply.header("Connection"), Some("close"));
    }
    assert!(up.seen().iter().all(|r| r.target != "/smuggled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_long_get_413() {
    let up = Upstream::start().await.unwrap();
    let config = ProxyConfig {
        client_max_body_size: 10,
        ..ProxyConfig::default()
    };
    let rig = serve(
        vec![
            service(1, up.addr(), json!({})),
            route(2, "/", 1, json!({})),
        ],
        config,
    );
    assert_eq!(rig.post("/", "", &[b'x'; 10]).await.status, 200);
    assert_eq!(rig.post("/", "", &[b'x'; 11]).await.status, 413);
    let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n";
    assert_eq!(Reply::parse(&rig.raw(chunked).await).status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_do_not_resolve_get_503() {
    let rig = serve(
        vec![
            service(1, nobody(), json!({"host": "does-not-exist.invalid"})),
            route(2, "/", 1, json!({})),
        ],
        ProxyConfig::default(),
    );
    let reply = rig.get("/", "").await;
    assert_eq!(
        (reply.status, reply.json()["message"].as_str().unwrap()),
        (503, "name resolution failed")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_still_sending_sees_the_refusal() {
    let up = Upstream::start().await.unwrap();
    let config = ProxyConfig {
        client_max_body_size: 10,
        ..ProxyConfig::default()
    };
    let rig = serve(
        vec![
            service(1, up.addr(), json!({})),
            route(2, "/", 1, json!({})),
        ],
        config,
    );
    for _ in 0..5 {
        assert_eq!(rig.post("/", "", &vec![b'x'; 900_000]).await.status, 413);
    }
}
