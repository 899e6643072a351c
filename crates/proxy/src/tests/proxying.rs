use super::*;
use silverback_testkit::upstream::{Answer, Upstream};

#[tokio::test(flavor = "multi_thread")]
async fn requests_carry_kongs_headers_upstream_and_back() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(
        vec![
            service(1, up.addr(), json!({})),
            route(2, "/r", 1, json!({})),
        ],
        ProxyConfig::default(),
    );
    let reply = rig
        .get(
            "/r/x?q=1",
            "X-Custom: a\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Host: evil\r\n",
        )
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    for name in [
        "X-Kong-Upstream-Latency",
        "X-Kong-Proxy-Latency",
        "X-Kong-Request-Id",
    ] {
        assert!(reply.header(name).is_some(), "{name}: {reply:?}");
    }
    assert_eq!(
        reply.header("via"),
        Some(format!("1.1 {}", crate::PRODUCT).as_str())
    );
    let seen = &up.seen()[0];
    assert_eq!(seen.target, "/x?q=1");
    let get = |n: &str| seen.headers.get(n).map(str::to_owned).unwrap_or_default();
    assert_eq!(get("Host"), up.addr().to_string());
    assert_eq!(get("X-Forwarded-For"), "9.9.9.9, 127.0.0.1");
    assert_eq!(get("X-Forwarded-Proto"), "http");
    assert_eq!(get("X-Forwarded-Host"), "h.test");
    assert_eq!(get("X-Forwarded-Port"), rig.address.port().to_string());
    assert_eq!(get("X-Forwarded-Path"), "/r/x");
    assert_eq!(get("X-Forwarded-Prefix"), "/r");
    assert_eq!(get("X-Real-IP"), "127.0.0.1");
    assert_eq!(
        get("X-Kong-Request-Id"),
        reply.header("x-kong-request-id").unwrap()
    );
    assert!(
        seen.headers.0.iter().any(|(n, _)| n == "X-Custom"),
        "spelling is kept: {seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_on_both_sides() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(
        vec![
            service(1, up.addr(), json!({})),
            route(2, "/", 1, json!({})),
        ],
        ProxyConfig::default(),
    );
    let two =
        "GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let text = rig.raw(two).await;
    assert_eq!(
        text.matches("HTTP/1.1 200 OK").count(),
        2,
        "pipelined requests are both answered: {text}"
    );
    assert_eq!(
        up.seen()
            .iter()
            .map(|r| r.target.clone())
            .collect::<Vec<_>>(),
        ["/1", "/2"]
    );
    assert_eq!(up.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_go_both_ways_however_framed() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(
        vec![
            service(1, up.addr(), json!({})),
            route(2, "/", 1, json!({})),
        ],
        ProxyConfig::default(),
    );
    let big = vec![b'x'; 3 << 20];
    assert_eq!(rig.post("/", "", &big).await.status, 200);
    assert_eq!(up.seen()[0].body.len(), big.len());
    let reply = rig.raw("POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert_eq!(up.seen()[1].body, b"hello");
    let reply = rig.post("/", "Expect: 100-continue\r\n", b"abc").await;
    assert_eq!(reply.status, 100);
    assert_eq!(up.seen()[2].body, b"abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_10_clients_are_served() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(
        vec![
            service(1, up.addr(), json!({})),
            route(2, "/", 1, json!({})),
        ],
        ProxyConfig::default(),
    );
    let reply = Reply::parse(&rig.raw("GET / HTTP/1.0\r\n\r\n").await);
    assert_eq!(reply.status, 200);
    assert_eq!(up.seen()[0].headers.get("X-Forwarded-Host"), Some("kong"));
    assert_eq!(
        up.seen()[0].headers.get("Via"),
        Some(format!("1 {}", crate::PRODUCT).as_str())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_tunnelled() {
    let up = Upstream::start().await.unwrap();
    up.answer(Answer::raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfrom upstream"));
    let rig = serve(
        vec![
            service(1, up.addr(), json!({})),
            route(2, "/", 1, json!({})),
        ],
        ProxyConfig::default(),
    );
    let text = rig
        .raw("GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        .await;
    assert!(text.starts_with("HTTP/1.1 101"), "{text}");
    assert!(text.ends_with("\r\n\r\nfrom upstream"), "{text}");
    assert_eq!(up.seen()[0].headers.get("Upgrade"), Some("websocket"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_behind_a_refused_upgrade_are_a_request_of_their_own() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(
        vec![
            service(1, up.addr(), json!({})),
            route(2, "/", 1, json!({})),
        ],
        ProxyConfig::default(),
    );
    let text = rig
        .raw("GET /1 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
    assert_eq!(up.seen()[1].target, "/2");
    assert_eq!(
        up.seen()[1].headers.get("X-Forwarded-Path"),
        Some("/2"),
        "it went through the gateway, not around it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_requests_end_and_closes_idle_connections() {
    let up = Upstream::start().await.unwrap();
    up.answer(Answer::echo().delay(Duration::from_millis(300)));
    let rig = serve(
        vec![
            service(1, up.addr(), json!({})),
            route(2, "/", 1, json!({})),
        ],
        ProxyConfig::default(),
    );
    let address = rig.address;
    let idle = TcpStream::connect(address).unwrap();
    let busy = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    up.wait_for(1).await;
    let server = rig.server;
    tokio::task::spawn_blocking(move || server.stop(Duration::from_secs(10)))
        .await
        .unwrap();
    assert!(busy.await.unwrap().starts_with("HTTP/1.1 200"));
    let mut idle = idle;
    assert_eq!(idle.read(&mut [0; 8]).unwrap(), 0);
    assert!(TcpStream::connect(address).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_proxies_are_believed() {
    let up = Upstream::start().await.unwrap();
    let mut config = ProxyConfig::default();
    config.real_ip.trusted = crate::TrustedIps::parse(["127.0.0.1"]).unwrap();
    let rig = serve(
        vec![
            service(1, up.addr(), json!({})),
            route(2, "/", 1, json!({})),
        ],
        config,
    );
    rig.get("/", "X-Real-IP: 8.8.8.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: outer\r\nX-Forwarded-Port: 99\r\n").await;
    let seen = &up.seen()[0];
    for (name, value) in [
        ("X-Real-IP", "8.8.8.8"),
        ("X-Forwarded-For", "8.8.8.8"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "outer"),
        ("X-Forwarded-Port", "99"),
    ] {
        assert_eq!(seen.headers.get(name), Some(value), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_are_right_again_when_requests_are_over() {
    let up = Upstream::start().await.unwrap();
    let rig = serve(
        vec![
            service(1, up.addr(), json!({})),
            route(2, "/", 1, json!({})),
        ],
        ProxyConfig::default(),
    );
    for _ in 0..3 {
        assert_eq!(rig.get("/", "").await.status, 200);
    }
    let server = rig.server;
    tokio::task::spawn_blocking(move || server.stop(Duration::from_secs(10)))
        .await
        .unwrap();
    let text = rig.metrics.render(&[]);
    assert!(
        text.contains("code=\"200\"") && text.contains(" 3\n"),
        "{text}"
    );
    let reading = text
        .lines()
        .filter(|l| l.starts_with("kong_nginx_connections_total") && l.contains("active"));
    assert!(reading.into_iter().all(|l| l.ends_with(" 0")), "{text}");
}
