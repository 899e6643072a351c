use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

struct Texts;
impl Refuse for Texts {
    fn refuse(&self, refusal: Refusal, _: Seen<'_>, _: Option<&SocketDigest>, _: bool) -> Bytes {
        Bytes::from(format!("{refusal:?}"))
    }
}

fn gate() -> (DuplexStream, Gate<DuplexStream>) {
    let (client, server) = duplex(1 << 20);
    (client, Gate::new(server, Arc::new(Texts)))
}

async fn read(gate: &mut Gate<DuplexStream>, want: &str) {
    let mut got = vec![0; want.len()];
    gate.read_exact(&mut got).await.unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), want);
}

/// Whether a read finds nothing for now.
async fn pending(gate: &mut Gate<DuplexStream>) -> bool {
    let mut byte = [0; 1];
    futures::poll!(Box::pin(gate.read(&mut byte))).is_pending()
}

const A: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const B: &str = "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
const C: &str =
    "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

#[tokio::test]
async fn pipelined_requests_come_one_at_a_time() {
    let (mut client, mut gate) = gate();
    client
        .write_all(format!("{A}{B}{C}{A}").as_bytes())
        .await
        .unwrap();
    for request in [A, B, C, A] {
        read(&mut gate, request).await;
        assert!(pending(&mut gate).await);
        gate.next_request();
    }
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let (mut client, mut gate) = gate();
    for request in [C, B] {
        for b in request.as_bytes() {
            client.write_all(&[*b]).await.unwrap();
            if !request.contains("hello") {
                assert!(pending(&mut gate).await);
            }
        }
        read(&mut gate, request).await;
        gate.next_request();
    }
}

#[tokio::test]
async fn empty_lines_before_a_request_are_dropped() {
    let (mut client, mut gate) = gate();
    for _ in 0..2 {
        client
            .write_all(format!("\r\n\n{A}\r\n").as_bytes())
            .await
            .unwrap();
        read(&mut gate, A).await;
        assert!(pending(&mut gate).await);
        gate.next_request();
    }
    client.write_all(b"\r\n").await.unwrap();
    assert!(pending(&mut gate).await);
    assert!(gate.held.is_empty());
}

#[tokio::test]
async fn endless_empty_lines_are_refused() {
    let (mut client, mut gate) = gate();
    // In pieces, as somebody sends them who wants them kept.
    for _ in 0..=EMPTY_LINES / 128 {
        client.write_all(&b"\r\n".repeat(64)).await.unwrap();
        if !matches!(gate.state, State::Head) {
            break;
        }
        assert!(pending(&mut gate).await);
        assert!(gate.held.is_empty());
    }
    let mut answer = [0; 10];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"BadRequest");
}

#[tokio::test]
async fn a_refused_request_is_answered_and_never_seen() {
    let (mut client, mut gate) = gate();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        .await
        .unwrap();
    let server = tokio::spawn(async move {
        let mut all = Vec::new();
        gate.read_to_end(&mut all).await.unwrap();
        all
    });
    let mut answer = [0; 10];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"BadRequest");
    drop(client);
    assert!(server.await.unwrap().is_empty());
}

#[tokio::test]
async fn a_malformed_chunk_is_an_error() {
    let (mut client, mut gate) = gate();
    client
        .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    read(
        &mut gate,
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    .await;
    client.write_all(b"5\nhello\r\n0\r\n\r\n").await.unwrap();
    let e = gate.read(&mut [0; 64]).await.unwrap_err();
    assert_eq!(e.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_malformed_chunk_is_no_better_when_it_is_read_again() {
    let (mut client, mut gate) = gate();
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    // Read on from where it fails, with the size of the second chunk, its beginning is an extension and the rest is data.
    let body = "1;a\r\nA\r\nf;\0xxxxxxxxx\r\n0\r\n\r\n";
    client
        .write_all(format!("{head}{body}").as_bytes())
        .await
        .unwrap();
    let mut first = [0; 256];
    let n = gate.read(&mut first).await.unwrap();
    assert_eq!(&first[..n], head.as_bytes());
    for _ in 0..3 {
        let mut again = [0; 64];
        let read = futures::poll!(Box::pin(gate.read(&mut again)));
        assert!(matches!(read, Poll::Ready(Err(_))), "{read:?}");
    }
}

#[tokio::test]
async fn bytes_behind_an_upgrade_wait_for_101() {
    let (mut client, mut gate) = gate();
    let head = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    client
        .write_all(format!("{head}frames").as_bytes())
        .await
        .unwrap();
    read(&mut gate, head).await;
    assert!(pending(&mut gate).await);
    gate.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        .await
        .unwrap();
    read(&mut gate, "frames").await;
    client.write_all(b"more").await.unwrap();
    read(&mut gate, "more").await;
}

#[tokio::test]
async fn bytes_behind_a_refused_upgrade_are_the_next_request() {
    let (mut client, mut gate) = gate();
    let head = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n";
    client
        .write_all(format!("{head}{A}").as_bytes())
        .await
        .unwrap();
    read(&mut gate, head).await;
    gate.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    assert!(pending(&mut gate).await);
    gate.next_request();
    read(&mut gate, A).await;
}

#[tokio::test]
async fn absolute_form_is_rewritten() {
    let (mut client, mut gate) = gate();
    client
        .write_all(b"GET http://abs.test/x HTTP/1.1\r\nHost: o\r\nContent-Length: 1\r\n\r\nxGET")
        .await
        .unwrap();
    read(
        &mut gate,
        "GET /x HTTP/1.1\r\nHost: abs.test\r\nContent-Length: 1\r\n\r\nx",
    )
    .await;
    assert!(pending(&mut gate).await);
}

#[tokio::test]
async fn short_writes_leave_together_and_long_ones_at_once() {
    let (mut client, mut gate) = gate();
    gate.write_all(b"head").await.unwrap();
    gate.write_all(b"body").await.unwrap();
    let mut got = [0; 8];
    assert!(futures::poll!(Box::pin(client.read(&mut got))).is_pending());
    gate.flush().await.unwrap();
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"headbody");
    gate.write_all(b"head").await.unwrap();
    let long = vec![b'x'; 10_000];
    gate.write_all(&long).await.unwrap();
    let mut got = vec![0; 10_004];
    client.read_exact(&mut got).await.unwrap();
    assert!(got.starts_with(b"headx") && got.ends_with(b"x"));
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed() {
    let (mut client, mut gate) = gate();
    client.write_all(A.as_bytes()).await.unwrap();
    read(&mut gate, A).await;
    drop(client);
    assert_eq!(gate.read(&mut [0; 8]).await.unwrap(), 0);
}
