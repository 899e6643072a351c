//! Connections: kept, closed, old.

use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

async fn through(upstream: &Upstream) -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    gateway.service("s", upstream).paths(["/"]).create().await?;
    gateway.settle().await?;
    Ok(gateway)
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    let mut connection = gateway.proxy().connect().await?;
    for n in 0..20 {
        let method = if n % 2 == 0 { "GET" } else { "POST" };
        let answer = connection
            .send(&gateway.call(method, "/k").body("x"))
            .await?;
        assert_eq!(answer.status, 200);
    }
    assert_eq!((upstream.requests(), upstream.connections()), (20, 1));
    Ok(())
}

#[tokio::test]
async fn answers_of_our_own_keep_the_connection() -> Outcome {
    let gateway = Gateway::start().await?;
    let mut connection = gateway.proxy().connect().await?;
    for _ in 0..3 {
        let answer = connection.send(&gateway.get("/nowhere")).await?;
        assert_eq!(answer.status, 404);
        assert_eq!(
            answer.json()["message"],
            "no Route matched with those values"
        );
    }
    Ok(())
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    let mut connection = gateway.proxy().connect().await?;
    let one = |n: u32| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n");
    let all: String = (0..5).map(one).collect();
    connection.write(all.as_bytes()).await?;
    for n in 0..5 {
        let answer = connection.response("GET").await?;
        assert_eq!(answer.json()["path"], format!("/{n}"));
    }
    Ok(())
}

#[tokio::test]
async fn connection_close_closes() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    let mut connection = gateway.proxy().connect().await?;
    let call = gateway.get("/").header("Connection", "close");
    assert_eq!(connection.send(&call).await?.status, 200);
    assert_eq!(connection.rest().await?, b"");
    Ok(())
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    let mut connection = gateway.proxy().connect().await?;
    connection
        .write(b"GET /old HTTP/1.0\r\nHost: a\r\nX-Echo-Chunked: 1\r\n\r\n")
        .await?;
    let bytes = connection.rest().await?;
    let text = String::from_utf8(bytes)?;
    // Such a client knows no chunks: the body ends with the connection.
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        !head.to_ascii_lowercase().contains("transfer-encoding"),
        "{text}"
    );
    let answer: serde_json::Value = serde_json::from_str(body)?;
    assert_eq!(answer["path"], "/old");
    assert_eq!(answer["http_version"], "HTTP/1.1");
    Ok(())
}

#[tokio::test]
async fn http_1_0_may_keep_its_connection() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    let mut connection = gateway.proxy().connect().await?;
    let call = gateway.get("/").http10().header("Connection", "keep-alive");
    assert_eq!(connection.send(&call).await?.status, 200);
    assert_eq!(connection.send(&call).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_meanwhile_costs_no_request() -> Outcome {
    let mut upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    for _ in 0..5 {
        gateway.get("/").expect(200).await?;
        // Closes the connections that the gateway keeps.
        upstream.restart().await?;
    }
    Ok(())
}
