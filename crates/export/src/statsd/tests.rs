use std::sync::Arc;

use silverback_plugin::exchange::consumer;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UdpSocket};

use super::sender::datagrams;
use super::*;
use crate::Deliver;

#[test]
fn the_rate_is_said_unless_it_is_1() {
    assert_eq!(StatType::Counter.suffix(Some(1.0)), "|c");
    assert_eq!(StatType::Counter.suffix(Some(0.25)), "|c|@0.25");
    assert_eq!(StatType::Gauge.suffix(Some(2.0)), "|g|@2");
    let others = [
        (StatType::Histogram, "|h"),
        (StatType::Meter, "|m"),
        (StatType::Set, "|s"),
        (StatType::Timer, "|ms"),
        (StatType::Distribution, "|d"),
    ];
    for (kind, suffix) in others {
        assert_eq!(kind.suffix(None), suffix);
    }
}

#[test]
fn a_consumer_is_shown_by_what_it_has() {
    let alice = consumer(3, "alice");
    let shown = |by: ConsumerIdentifier| by.of(&alice).map(|i| i.to_string());
    assert_eq!(
        shown(ConsumerIdentifier::ConsumerId).as_deref(),
        Some("00000000-0000-0000-0000-000000000003")
    );
    assert_eq!(
        shown(ConsumerIdentifier::Username).as_deref(),
        Some("alice")
    );
    assert_eq!(shown(ConsumerIdentifier::CustomId), None);
}

#[test]
fn characters_are_replaced() {
    assert_eq!(
        Replaced("127.0.0.1", '.', '_').to_string(),
        "127_0_0_1".to_owned()
    );
    assert_eq!(Replaced("plain", '.', '_').to_string(), "plain");
}

#[test]
fn metrics_share_a_datagram_as_long_as_they_fit() {
    let batch = ["a:1|c\nb:1|c\n", "c:1|c\n", "long:12345|ms\nd:1|c\n"].map(str::to_owned);
    let all = ["a:1|c", "b:1|c", "c:1|c", "long:12345|ms", "d:1|c"];
    assert_eq!(datagrams(&batch, 0), all);
    assert_eq!(datagrams(&batch, 5), all);
    assert_eq!(
        datagrams(&batch, 11),
        ["a:1|c\nb:1|c", "c:1|c", "long:12345|ms", "d:1|c"]
    );
    assert_eq!(datagrams(&batch, 1000), [all.join("\n")]);
}

#[tokio::test]
async fn over_udp_a_metric_is_a_datagram() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let sender = StatsdSender::udp("127.0.0.1", port, 0);
    sender.deliver(&["a:1|c\nb:2|ms\n".into()]).await.unwrap();
    for expected in ["a:1|c", "b:2|ms"] {
        let mut got = [0; 100];
        let n = server.recv(&mut got).await.unwrap();
        assert_eq!(&got[..n], expected.as_bytes());
    }
}

#[tokio::test]
async fn over_tcp_a_metric_is_a_line() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let sender = Arc::new(StatsdSender::tcp("127.0.0.1", port));
    sender.deliver(&["a:1|c\n".into()]).await.unwrap();
    let (mut stream, _) = server.accept().await.unwrap();
    sender.deliver(&["b:1|c\n".into()]).await.unwrap();
    let mut got = [0; 12];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"a:1|c\nb:1|c\n");
}

#[tokio::test]
async fn what_has_no_server_is_tried_again_and_what_may_have_arrived_is_not() {
    let nowhere = StatsdSender::udp("nothing.invalid", 1, 0);
    let failed = nowhere.deliver(&["a:1|c\n".into()]).await.unwrap_err();
    assert!(failed.starts_with("failed to connect: "), "{failed}");
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let sender = StatsdSender::udp("127.0.0.1", port, 0);
    // Longer than a datagram may be.
    let too_long = format!("{}:1|c\n", "a".repeat(70_000));
    sender.deliver(&[too_long]).await.unwrap();
}
