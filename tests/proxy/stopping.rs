//! Stopping gracefully.

use std::time::Duration;

use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::{Answer, Upstream};

use crate::Outcome;

#[tokio::test]
async fn requests_in_flight_are_finished_and_new_ones_refused() -> Outcome {
    let upstream = Upstream::start().await?;
    upstream.answer(Answer::echo().delay(Duration::from_millis(700)));
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .create()
        .await?;
    gateway.settle().await?;
    let mut connections = Vec::new();
    for _ in 0..10 {
        let mut connection = gateway.proxy().connect().await?;
        connection
            .write(b"GET /f HTTP/1.1\r\nHost: a\r\n\r\n")
            .await?;
        connections.push(connection);
    }
    upstream.wait_for(10).await;
    let proxy = gateway.proxy();
    let stopping = tokio::spawn(gateway.stop(Duration::from_secs(20)));
    for mut connection in connections {
        assert_eq!(connection.response("GET").await?.status, 200);
    }
    stopping.await??;
    assert!(proxy.connect().await.is_err());
    assert_eq!(upstream.requests(), 10);
    Ok(())
}

#[tokio::test]
async fn stopping_does_not_wait_for_idle_connections() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .create()
        .await?;
    let mut idle = gateway.proxy().connect().await?;
    assert_eq!(idle.send(&gateway.get("/")).await?.status, 200);
    let start = std::time::Instant::now();
    gateway.stop(Duration::from_secs(20)).await?;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    Ok(())
}
