use super::*;
use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode};
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
