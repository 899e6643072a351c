//! Bodies in both directions.

use std::time::Duration;

use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::{Answer, Upstream};

use crate::Outcome;

const FIVE_MEGABYTES: usize = 5 << 20;

/// Bytes that no two places of have in common for long, so that lost or doubled pieces show.
fn bytes(count: usize) -> Vec<u8> {
    (0..count as u32 / 4 + 1)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
        .take(count)
        .collect()
}

async fn through(upstream: &Upstream) -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    gateway.service("s", upstream).paths(["/"]).create().await?;
    gateway.settle().await?;
    Ok(gateway)
}

#[tokio::test]
async fn every_method_reaches_the_upstream() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    for method in [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "LINK",
    ] {
        let answer = gateway.call(method, "/m").send().await?;
        assert_eq!(answer.status, 200, "{method}");
        assert_eq!(upstream.seen().last().unwrap().method, method);
        if method == "HEAD" {
            assert!(answer.body.is_empty());
        } else {
            assert_eq!(answer.json()["method"], method);
        }
    }
    for method in ["TRACE", "CONNECT"] {
        assert_eq!(gateway.call(method, "/m").send().await?.status, 405);
    }
    assert_eq!(upstream.requests(), 9);
    Ok(())
}

#[tokio::test]
async fn a_sized_body_arrives_as_it_was_sent() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    for count in [0, 1, 100, 70_000, FIVE_MEGABYTES] {
        let sent = bytes(count);
        let call = gateway.call("POST", "/up").body(sent.clone());
        call.expect(200).await?;
        let seen = upstream.seen().pop().unwrap();
        assert!(seen.body == sent, "{count} bytes");
        let length = count.to_string();
        assert_eq!(seen.headers.get("content-length"), Some(length.as_str()));
        assert_eq!(seen.headers.get("transfer-encoding"), None);
    }
    Ok(())
}

#[tokio::test]
async fn a_chunked_body_arrives_as_it_was_sent() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    for count in [0, 1, 70_000, FIVE_MEGABYTES] {
        let sent = bytes(count);
        let call = gateway.call("PUT", "/up").chunked(sent.clone());
        call.expect(200).await?;
        assert!(upstream.seen().pop().unwrap().body == sent, "{count} bytes");
    }
    Ok(())
}

#[tokio::test]
async fn a_large_answer_arrives_whole() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    let body = bytes(FIVE_MEGABYTES);
    upstream.answer(Answer::status(200).body(body.clone()));
    let answer = gateway.get("/down").send().await?;
    assert_eq!(
        answer.header("content-length"),
        Some(FIVE_MEGABYTES.to_string().as_str())
    );
    assert!(answer.body == body);
    Ok(())
}

#[tokio::test]
async fn a_slow_answer_is_passed_on_as_it_comes() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    upstream.answer(Answer::slow_body("piece", 40, Duration::from_millis(10)));
    let mut connection = gateway.proxy().connect().await?;
    let start = std::time::Instant::now();
    connection
        .write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await?;
    connection.bytes(1).await?;
    let first = start.elapsed();
    let mut connection_rest = Vec::from(*b"H");
    while !connection_rest.ends_with(b"0\r\n\r\n") {
        connection_rest.extend(connection.bytes(1).await?);
    }
    let text = String::from_utf8_lossy(&connection_rest);
    assert_eq!(text.matches("piece").count(), 40);
    assert!(
        first < start.elapsed() / 2,
        "the head came after {first:?} of {:?}",
        start.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_complete() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    upstream.answer(Answer::status(200).body("0123456789").then_close_after(60));
    let mut connection = gateway.proxy().connect().await?;
    connection
        .write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await?;
    // The length was promised, the connection is closed before: the client can tell.
    assert!(connection.response("GET").await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_413_and_not_sent_on() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = silverback_testkit::gateway::Setup::new()
        .set("client_max_body_size", "1k")
        .start()
        .await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .create()
        .await?;
    let fits = gateway.call("POST", "/").body(bytes(1024));
    fits.expect(200).await?;
    let sized = gateway.call("POST", "/").body(bytes(1025));
    sized.expect(413).await?;
    assert_eq!(upstream.requests(), 1);
    let chunked = gateway.call("POST", "/").chunked(bytes(100_000));
    assert_eq!(chunked.send().await?.status, 413);
    // Whoever replaces it afterwards.
    let before = upstream.requests();
    let config = serde_json::json!({"remove": {"body": ["x"]}});
    let transformer = "request-transformer";
    gateway.plugin("/services/s", transformer, config).await?;
    let chunked = gateway
        .call("POST", "/")
        .chunked(format!("x={}", "x".repeat(1023)));
    let form = "application/x-www-form-urlencoded";
    let chunked = chunked.header("Content-Type", form).send().await?;
    assert_eq!(chunked.status, 413);
    // Whoever answers itself.
    let echo = serde_json::json!({"echo": true, "status_code": 200});
    let service = gateway.service("echo", &upstream).paths(["/echo"]);
    service.plugin("request-termination", echo).create().await?;
    let call = |length| gateway.call("POST", "/echo").chunked(bytes(length));
    call(1024).expect(200).await?;
    call(1025).expect(413).await?;
    assert_eq!(upstream.requests(), before);
    Ok(())
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    let mut connection = gateway.proxy().connect().await?;
    connection
        .write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await?;
    let interim = connection.bytes(25).await?;
    assert!(
        interim.starts_with(b"HTTP/1.1 100 Continue\r\n"),
        "{interim:?}"
    );
    connection.write(b"body").await?;
    assert_eq!(connection.response("POST").await?.status, 200);
    assert_eq!(upstream.seen()[0].body, b"body");
    Ok(())
}
