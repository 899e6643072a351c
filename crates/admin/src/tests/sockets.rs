//! Listeners: plain and TLS, HTTP/1.0, connections kept, stopping.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use silverback_store::PgConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::harness::builder;
use crate::{AdminError, Certificate, Listen};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

struct Running {
    addrs: Vec<SocketAddr>,
    stop: oneshot::Sender<()>,
    done: JoinHandle<Result<(), AdminError>>,
}

/// `/endpoints` needs no database.
fn start() -> Running {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let certificate = Certificate {
        chain: made.cert.pem().into_bytes(),
        key: made.signing_key.serialize_pem().into_bytes(),
    };
    let server = builder(PgConfig {
        port: 1,
        ..PgConfig::default()
    })
    .listen(Listen {
        reuse_port: true,
        ..Listen::plain(ANY)
    })
    .listen(Listen {
        tls: true,
        http2: true,
        ..Listen::plain(ANY)
    })
    .certificate(certificate)
    .bind()
    .unwrap();
    let addrs = server.addrs().to_vec();
    let (stop, stopped) = oneshot::channel();
    let done = tokio::spawn(server.run(async move {
        let _ = stopped.await;
    }));
    Running { addrs, stop, done }
}

async fn say(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn http_1_0_gets_a_length_and_is_closed() {
    let running = start();
    let mut stream = TcpStream::connect(running.addrs[0]).await.unwrap();
    let answer = say(&mut stream, "GET /endpoints HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{head}"
    );
}

#[tokio::test]
async fn connections_are_kept() {
    let running = start();
    let mut stream = TcpStream::connect(running.addrs[0]).await.unwrap();
    let both = "HEAD /endpoints HTTP/1.1\r\nHost: x\r\n\r\nGET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = say(&mut stream, both).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    assert!(answer.ends_with("{\"message\":\"Not found\"}"), "{answer}");
}

#[tokio::test]
async fn bodies_that_nobody_wants_are_not_in_the_way() {
    let running = start();
    let mut stream = TcpStream::connect(running.addrs[0]).await.unwrap();
    for (line, status) in [
        ("PUT /endpoints", "405"),
        ("POST /nope", "404"),
        ("GET /endpoints", "200"),
        ("OPTIONS /endpoints", "204"),
        ("POST /services", "415"),
    ] {
        // The body comes after the head has been seen.
        stream
            .write_all(
                format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n").as_bytes(),
            )
            .await
            .unwrap();
        tokio::task::yield_now().await;
        stream.write_all(b"{}").await.unwrap();
        let head = head(&mut stream).await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{line}: {head}"
        );
    }
}

/// Reads an answer and gives its head.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "))
        .map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    head
}

#[tokio::test]
async fn tls_listeners_offer_http_2() {
    let running = start();
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    let connector = connector.build();
    for (offered, wanted) in [
        (&b"\x08http/1.1"[..], &b"http/1.1"[..]),
        (b"\x02h2\x08http/1.1", b"h2"),
    ] {
        let mut ssl = connector
            .configure()
            .unwrap()
            .into_ssl("localhost")
            .unwrap();
        ssl.set_alpn_protos(offered).unwrap();
        let stream = TcpStream::connect(running.addrs[1]).await.unwrap();
        let mut stream = tokio_openssl::SslStream::new(ssl, stream).unwrap();
        Pin::new(&mut stream).connect().await.unwrap();
        assert_eq!(stream.ssl().selected_alpn_protocol(), Some(wanted));
        if wanted == b"http/1.1" {
            let answer = say(
                &mut stream,
                "GET /endpoints HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            )
            .await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
    }
}

#[tokio::test]
async fn stopping_closes_idle_connections_and_ends() {
    let running = start();
    let mut stream = TcpStream::connect(running.addrs[0]).await.unwrap();
    stream
        .write_all(b"HEAD /endpoints HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    running.stop.send(()).unwrap();
    running.done.await.unwrap().unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(TcpStream::connect(running.addrs[0]).await.is_err());
}

#[tokio::test]
async fn taken_addresses_and_missing_certificates_are_reported() {
    let taken = std::net::TcpListener::bind(ANY).unwrap();
    let addr = taken.local_addr().unwrap();
    let bind = |l: Listen| {
        builder(PgConfig::default())
            .listen(l)
            .bind()
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    };
    assert!(
        bind(Listen::plain(addr)).starts_with(&format!("the Admin API cannot listen on {addr}: "))
    );
    assert!(
        bind(Listen {
            tls: true,
            ..Listen::plain(ANY)
        })
        .contains("certificate")
    );
}
