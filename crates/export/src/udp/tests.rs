use std::time::Duration;

use tokio::net::UdpSocket;

use super::UdpSender;

#[tokio::test]
async fn each_is_a_datagram_of_its_own() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let sender = UdpSender::new("localhost", port, Duration::from_secs(5));
    sender.send(["one", "two"]).await.unwrap();
    sender.send(["three"]).await.unwrap();
    for expected in ["one", "two", "three"] {
        let mut got = [0; 100];
        let n = server.recv(&mut got).await.unwrap();
        assert_eq!(&got[..n], expected.as_bytes());
    }
}

#[tokio::test]
async fn a_server_that_was_away_gets_the_next_one() {
    let first = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = first.local_addr().unwrap();
    let sender = UdpSender::new("127.0.0.1", at.port(), Duration::from_secs(5));
    drop(first);
    sender.send(["lost"]).await.unwrap();
    let server = UdpSocket::bind(at).await.unwrap();
    sender.send(["there"]).await.unwrap();
    let mut got = [0; 100];
    let n = server.recv(&mut got).await.unwrap();
    assert_eq!(&got[..n], b"there");
}

#[tokio::test]
async fn a_name_without_address_fails() {
    let sender = UdpSender::new("nothing.invalid", 1, Duration::from_secs(5));
    sender.send(["x"]).await.unwrap_err();
}
