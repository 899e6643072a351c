use super::*;
use openssl::nid::Nid;
use openssl::ssl::{SslAcceptor, SslConnector, SslFiletype, SslMethod, SslStream, SslVerifyMode};
use silverback_testkit::upstream::Upstream;

fn certificate(dir: &std::path::Path) -> crate::Certificate {
    let made = rcgen::generate_simple_self_signed(["gateway.test".to_owned()]).unwrap();
    let (chain, key) = (dir.join("chain.pem"), dir.join("key.pem"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    crate::Certificate { chain, key }
}

fn connect(address: SocketAddr, alpn: &[u8]) -> SslStream<TcpStream> {
    let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    if !alpn.is_empty() {
        builder.set_alpn_protos(alpn).unwrap();
    }
    builder
        .build()
        .connect("sni.test", TcpStream::connect(address).unwrap())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_served_with_http1_and_offers_http2() {
    let dir = tempfile::tempdir().unwrap();
    let up = Upstream::start().await.unwrap();
    let rows = vec![
        service(1, up.addr(), json!({})),
        route(2, "/", 1, json!({"snis": ["sni.test"]})),
    ];
    let rig = serve(rows, ProxyConfig::default());
    let listeners = Listeners::bind(&[Listen::https("127.0.0.1:0".parse().unwrap())], 1).unwrap();
    let server = listeners
        .serve(&rig.shared, &[certificate(dir.path())])
        .unwrap();
    let address = server.addresses()[0];
    let text = tokio::task::spawn_blocking(move || {
        let mut stream = connect(address, b"");
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let h2 = connect(address, b"\x08http/1.1\x02h2");
        assert_eq!(h2.ssl().selected_alpn_protocol(), Some(&b"h2"[..]));
        text
    });
    assert!(text.await.unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(up.seen()[0].headers.get("X-Forwarded-Proto"), Some("https"));
}

/// Serves with short limits, and what comes of a client that speaks HTTP/2, sends these frames and then nothing.
async fn until_closed(rows: Vec<Change>, limits: [u64; 2], frames: &'static [u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let [read, keepalive] = limits.map(Duration::from_millis);
    let config = ProxyConfig {
        client_read_timeout: read,
        client_keepalive: keepalive,
        ..ProxyConfig::default()
    };
    let rig = serve(rows, config);
    let listeners = Listeners::bind(&[Listen::https("127.0.0.1:0".parse().unwrap())], 1).unwrap();
    let server = listeners
        .serve(&rig.shared, &[certificate(dir.path())])
        .unwrap();
    let address = server.addresses()[0];
    let work = move || {
        let mut stream = connect(address, b"\x02h2");
        stream
            .get_ref()
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(frames).unwrap();
        let mut all = Vec::new();
        // However it is closed, it is closed before the client loses patience.
        if let Err(e) = stream.read_to_end(&mut all) {
            assert_ne!(e.kind(), std::io::ErrorKind::WouldBlock);
        }
        all
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

const LONG: u64 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_client_that_never_speaks_is_closed() {
    assert!(until_closed(vec![], [100, LONG], b"").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_http2_client_is_closed() {
    let frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answer = until_closed(vec![], [LONG, 100], frames).await;
    // The server's own settings and its word on the client's.
    assert_eq!(answer[3], 4, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_body_that_does_not_come_is_given_up() {
    // Settings, then the head of `POST / ` without an end of the stream.
    let frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x06\x01\x04\0\0\0\x01\x83\x87\x84\x41\x01h";
    let rows = vec![
        service(1, "127.0.0.1:1".parse().unwrap(), json!({})),
        route(2, "/", 1, json!({})),
        plugin(3, 2, json!({"access": "read"})),
    ];
    let answer = until_closed(rows, [100, 100], frames).await;
    let heads = answer
        .windows(9)
        .filter(|w| w[3] == 1 && w[5..] == [0, 0, 0, 1]);
    assert!(heads.count() > 0, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_of_http2_are_joined() {
    // Settings, then the head of `GET /` with two fields `cookie`.
    let frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x10\x01\x05\0\0\0\x01\x82\x87\x84\x41\x01h\x60\x03a=1\x60\x03b=2";
    let up = Upstream::start().await.unwrap();
    let rows = vec![
        service(1, up.addr(), json!({})),
        route(2, "/", 1, json!({})),
    ];
    until_closed(rows, [LONG, 100], frames).await;
    let seen = up.seen();
    let cookies: Vec<_> = seen[0].headers.all("Cookie").collect();
    assert_eq!(cookies, ["a=1; b=2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_on_a_tls_port_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let rig = serve(vec![], ProxyConfig::default());
    let listeners = Listeners::bind(&[Listen::https("127.0.0.1:0".parse().unwrap())], 1).unwrap();
    let server = listeners
        .serve(&rig.shared, &[certificate(dir.path())])
        .unwrap();
    let address = server.addresses()[0];
    let text = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let text = text.await.unwrap();
    assert!(
        text.starts_with("HTTP/1.1 400")
            && text.contains("The plain HTTP request was sent to HTTPS port"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_listener_without_certificate_is_an_error() {
    let rig = serve(vec![], ProxyConfig::default());
    let listeners = Listeners::bind(&[Listen::https("127.0.0.1:0".parse().unwrap())], 1).unwrap();
    assert!(matches!(
        listeners.serve(&rig.shared, &[]),
        Err(crate::StartError::NoCertificate)
    ));
}

/// An upstream that speaks TLS, asks for a certificate and answers with the name in it, one connection after the other.
fn asking_upstream(dir: &std::path::Path) -> SocketAddr {
    let own = certificate(dir);
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    builder
        .set_private_key_file(&own.key, SslFiletype::PEM)
        .unwrap();
    builder.set_certificate_chain_file(&own.chain).unwrap();
    builder.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
    let acceptor = builder.build();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = acceptor.accept(stream.unwrap()) else {
                continue;
            };
            let name = stream
                .ssl()
                .peer_certificate()
                .and_then(|c| {
                    let name = c.subject_name().entries_by_nid(Nid::COMMONNAME).next()?;
                    Some(String::from_utf8_lossy(name.data().as_slice()).into_owned())
                })
                .unwrap_or_else(|| "nobody".to_owned());
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let length = name.len();
            let text = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{name}"
            );
            // Whoever asked may be gone.
            let _ = stream.write_all(text.as_bytes());
            let _ = stream.shutdown();
        }
    });
    address
}

fn client_certificate(n: u128, name: &str) -> Change {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let subject = &mut params.distinguished_name;
    subject.push(rcgen::DnType::CommonName, name);
    let cert = params.self_signed(&key).unwrap().pem();
    let row = json!({"id": id(n), "created_at": 1, "updated_at": 1, "cert": cert, "key": key.serialize_pem()});
    Change {
        entity: "certificates".into(),
        id: id(n),
        row: Some(Row::Certificate(serde_json::from_value(row).unwrap())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_shows_its_certificate_to_an_upstream_that_asks() {
    let dir = tempfile::tempdir().unwrap();
    let up = asking_upstream(dir.path());
    let shown = json!({"protocol": "https", "client_certificate": {"id": id(7)}});
    let rows = vec![
        client_certificate(7, "alice"),
        service(1, up, shown),
        service(2, up, json!({"protocol": "https"})),
        route(3, "/alice", 1, json!({})),
        route(4, "/nobody", 2, json!({})),
    ];
    let rig = serve(rows, ProxyConfig::default());
    for path in ["/alice", "/nobody", "/alice"] {
        let reply = rig.get(path, "").await;
        assert_eq!((reply.status, reply.body.as_str()), (200, &path[1..]));
    }
}
