//! WebSocket.

use silverback_testkit::gateway::{Connection, Gateway};
use silverback_testkit::upstream::Upstream;
use silverback_testkit::websocket::{BINARY, CLOSE, TEXT, accept_key, frame, take_frame};

use crate::Outcome;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

async fn open(gateway: &Gateway) -> anyhow::Result<Connection> {
    gateway.settle().await?;
    let mut connection = gateway.proxy().connect().await?;
    let call = gateway
        .get("/ws?x=1")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", KEY);
    let answer = connection.send(&call).await?;
    assert_eq!(answer.status, 101);
    assert_eq!(
        answer.header("sec-websocket-accept"),
        Some(accept_key(KEY).as_str())
    );
    Ok(connection)
}

async fn next(connection: &mut Connection) -> anyhow::Result<(u8, Vec<u8>)> {
    let mut received = Vec::new();
    loop {
        received.extend(connection.bytes(1).await?);
        if let Some(frame) = take_frame(&mut received) {
            return Ok(frame);
        }
    }
}

#[tokio::test]
async fn frames_flow_both_ways_until_one_closes() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .create()
        .await?;
    let mut connection = open(&gateway).await?;
    let (opcode, first) = next(&mut connection).await?;
    assert_eq!(opcode, TEXT);
    let first: serde_json::Value = serde_json::from_slice(&first)?;
    assert_eq!(first["path"], "/ws?x=1");
    for (opcode, payload) in [
        (TEXT, b"hello".to_vec()),
        (BINARY, vec![0; 300]),
        (BINARY, vec![7; 70_000]),
    ] {
        connection.write(&frame(opcode, &payload, true)).await?;
        assert!(next(&mut connection).await? == (opcode, payload));
    }
    connection.write(&frame(CLOSE, &[3, 232], true)).await?;
    assert_eq!(next(&mut connection).await?, (CLOSE, vec![3, 232]));
    assert_eq!(connection.rest().await?, b"");
    Ok(())
}

#[tokio::test]
async fn the_upstream_closing_closes_the_client() -> Outcome {
    let mut upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .create()
        .await?;
    let mut connection = open(&gateway).await?;
    next(&mut connection).await?;
    upstream.stop().await;
    assert_eq!(connection.rest().await?, b"");
    Ok(())
}

#[tokio::test]
async fn plugins_run_before_the_upgrade() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("key-auth", serde_json::json!({}))
        .create()
        .await?;
    let call = gateway
        .get("/ws")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", KEY);
    call.expect(401).await?;
    assert_eq!(upstream.requests(), 0);
    Ok(())
}
