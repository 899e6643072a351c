use std::pin::Pin;
use std::time::Duration;

use openssl::pkey::PKey;
use openssl::ssl::{NameType, Ssl, SslAcceptor, SslMethod};
use openssl::x509::X509;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_openssl::SslStream;

use super::TcpSender;
use crate::SendError;

const LIMIT: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn line(stream: &mut BufReader<impl AsyncRead + Unpin>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    line
}

async fn accept(listener: &TcpListener) -> BufReader<TcpStream> {
    BufReader::new(listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn a_connection_is_kept_while_it_is_good() {
    let (listener, port) = listener().await;
    let sender = TcpSender::new("localhost", port, LIMIT, MINUTE);
    sender.send(b"one\n").await.unwrap();
    sender.send(b"two\n").await.unwrap();
    let mut first = accept(&listener).await;
    assert_eq!(line(&mut first).await, "one\n");
    assert_eq!(line(&mut first).await, "two\n");
    drop(first);
    // The sender sees the end before it sends, or sends again.
    sender.send(b"three\n").await.unwrap();
    let mut second = accept(&listener).await;
    assert_eq!(line(&mut second).await, "three\n");
}

#[tokio::test]
async fn what_arrived_in_part_is_not_sent_again() {
    let (listener, port) = listener().await;
    let sender = TcpSender::new("127.0.0.1", port, LIMIT, MINUTE);
    sender.send(b"one\n").await.unwrap();
    let mut first = accept(&listener).await;
    assert_eq!(line(&mut first).await, "one\n");
    let broken_off = tokio::spawn(async move {
        assert_eq!(line(&mut first).await, "two\n");
    });
    // More than the system takes without a reader.
    let much = [b"two\n".as_slice(), &vec![b'x'; 32 << 20]].concat();
    let failed = sender.send(&much).await.unwrap_err();
    assert!(matches!(failed, SendError::Send(_)), "{failed}");
    broken_off.await.unwrap();
    sender.send(b"three\n").await.unwrap();
    assert_eq!(line(&mut accept(&listener).await).await, "three\n");
}

#[tokio::test]
async fn a_connection_is_not_kept_for_longer_than_configured() {
    let (listener, port) = listener().await;
    let sender = TcpSender::new("127.0.0.1", port, LIMIT, Duration::ZERO);
    sender.send(b"one\n").await.unwrap();
    sender.send(b"two\n").await.unwrap();
    assert_eq!(line(&mut accept(&listener).await).await, "one\n");
    assert_eq!(line(&mut accept(&listener).await).await, "two\n");
}

#[tokio::test]
async fn nobody_there_is_told() {
    let (listener, port) = listener().await;
    drop(listener);
    let sender = TcpSender::new("127.0.0.1", port, LIMIT, MINUTE);
    let failed = sender.send(b"x").await.unwrap_err();
    assert!(matches!(failed, SendError::Connect(_)), "{failed}");
}

/// A server's side of TLS, with a certificate that nobody would trust.
fn acceptor() -> SslAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["elsewhere.test".to_owned()]).unwrap();
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    let key = PKey::private_key_from_pem(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let certificate = X509::from_pem(made.cert.pem().as_bytes()).unwrap();
    acceptor.set_private_key(&key).unwrap();
    acceptor.set_certificate(&certificate).unwrap();
    acceptor.build()
}

#[tokio::test]
async fn tls_names_the_server_and_believes_it() {
    let (listener, port) = listener().await;
    let sender = TcpSender::new("127.0.0.1", port, LIMIT, MINUTE);
    let sender = sender.tls(Some("log.test".to_owned())).unwrap();
    let serving = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let ssl = Ssl::new(acceptor().context()).unwrap();
        let mut stream = SslStream::new(ssl, tcp).unwrap();
        Pin::new(&mut stream).accept().await.unwrap();
        let name = stream.ssl().servername(NameType::HOST_NAME);
        let name = name.map(str::to_owned);
        let mut stream = BufReader::new(stream);
        (name, line(&mut stream).await, line(&mut stream).await)
    });
    sender.send(b"one\n").await.unwrap();
    sender.send(b"two\n").await.unwrap();
    let seen = serving.await.unwrap();
    assert_eq!(
        seen,
        (
            Some("log.test".to_owned()),
            "one\n".to_owned(),
            "two\n".to_owned()
        )
    );
}

#[tokio::test]
async fn a_server_without_tls_is_told() {
    let (listener, port) = listener().await;
    let sender = TcpSender::new("127.0.0.1", port, LIMIT, MINUTE)
        .tls(None)
        .unwrap();
    let serving = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
    let failed = sender.send(b"x").await.unwrap_err();
    assert!(matches!(failed, SendError::Handshake(_)), "{failed}");
    serving.await.unwrap();
}
