use std::time::Duration;

use tokio::net::UdpSocket;

use super::{Peer, UdpSender};

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
    let failed = sender.send(["lost"]).await.unwrap_err();
    assert!(failed.to_string().contains("refused"), "{failed}");
    let server = UdpSocket::bind(at).await.unwrap();
    sender.send(["there"]).await.unwrap();
    let mut got = [0; 100];
    let n = server.recv(&mut got).await.unwrap();
    assert_eq!(&got[..n], b"there");
}

#[tokio::test]
async fn each_address_of_a_name_may_have_the_server() {
    for own in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(server) = UdpSocket::bind(own).await else {
            continue;
        };
        let at = server.local_addr().unwrap();
        let addresses =
            || ["[::1]", "127.0.0.1"].map(|a| format!("{a}:{}", at.port()).parse().unwrap());
        let sender = UdpSender::new("localhost", at.port(), Duration::from_secs(5));
        let peer = Peer::new(addresses().to_vec()).await.unwrap();
        *sender.peer.lock().await = Some(peer);
        sender.send(["one", "two"]).await.unwrap();
        for expected in ["one", "two"] {
            let mut got = [0; 100];
            let n = server.recv(&mut got).await.unwrap();
            assert_eq!(&got[..n], expected.as_bytes());
        }
    }
}

#[tokio::test]
async fn ipv4_comes_first() {
    let addresses = ["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1"];
    let addresses = addresses.map(|a| a.parse().unwrap()).to_vec();
    let peer = Peer::new(addresses).await.unwrap();
    let order = peer.addresses.iter().map(ToString::to_string);
    assert_eq!(
        order.collect::<Vec<_>>(),
        ["127.0.0.1:1", "127.0.0.2:1", "[::1]:1", "[::2]:1"]
    );
}

#[tokio::test]
async fn a_name_without_address_fails() {
    let sender = UdpSender::new("nothing.invalid", 1, Duration::from_secs(5));
    sender.send(["x"]).await.unwrap_err();
}
