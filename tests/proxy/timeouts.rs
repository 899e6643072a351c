//! Upstreams that are slow, away or broken.

use std::time::{Duration, Instant};

use serde_json::json;
use silverback_testkit::gateway::Gateway;
use silverback_testkit::ports::free_port;
use silverback_testkit::upstream::{Answer, Upstream};

use crate::Outcome;

#[tokio::test]
async fn an_upstream_that_does_not_answer_in_time_is_504() -> Outcome {
    let upstream = Upstream::start().await?;
    upstream.answer(Answer::hang());
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .with("read_timeout", json!(150))
        .with("retries", json!(0))
        .paths(["/"])
        .create()
        .await?;
    gateway.settle().await?;
    let start = Instant::now();
    let answer = gateway.get("/").header("Accept", "*/*").expect(504).await?;
    let took = start.elapsed();
    assert_eq!(
        answer.json()["message"],
        "The upstream server is timing out"
    );
    assert!(
        took >= Duration::from_millis(150) && took < Duration::from_secs(5),
        "{took:?}"
    );
    assert_eq!(upstream.requests(), 1);
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_refuses_connections_is_502() -> Outcome {
    let gateway = Gateway::start().await?;
    let url = format!("http://127.0.0.1:{}", free_port()?);
    gateway
        .service_at("s", &url)
        .with("retries", json!(1))
        .paths(["/"])
        .create()
        .await?;
    let answer = gateway.get("/").header("Accept", "*/*").expect(502).await?;
    assert_eq!(
        answer.json()["message"],
        "An invalid response was received from the upstream server"
    );
    Ok(())
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_503() -> Outcome {
    let gateway = Gateway::start().await?;
    gateway
        .service_at("s", "http://no-such-name.invalid")
        .paths(["/"])
        .create()
        .await?;
    let answer = gateway.get("/").header("Accept", "*/*").expect(503).await?;
    assert_eq!(answer.json()["message"], "name resolution failed");
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_does_not_speak_http_is_502() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .with("retries", json!(0))
        .paths(["/"])
        .create()
        .await?;
    for broken in [
        Answer::raw("garbage\r\n\r\n"),
        Answer::close_before_header(),
        Answer::reset(),
        Answer::status(200).then_close_after(10),
    ] {
        upstream.answer(broken.clone());
        let answer = gateway.get("/").send().await?;
        assert_eq!(answer.status, 502, "{broken:?}");
    }
    upstream.answer(Answer::echo());
    gateway.get("/").expect(200).await?;
    Ok(())
}

#[tokio::test]
async fn one_slow_upstream_does_not_hold_up_others() -> Outcome {
    let (slow, quick) = (Upstream::start().await?, Upstream::start().await?);
    slow.answer(Answer::hang());
    let gateway = Gateway::start().await?;
    gateway
        .service("slow", &slow)
        .paths(["/slow"])
        .create()
        .await?;
    gateway
        .service("quick", &quick)
        .paths(["/quick"])
        .create()
        .await?;
    gateway.settle().await?;
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let mut connection = gateway.proxy().connect().await?;
        connection
            .write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            .await?;
        waiting.push(connection);
    }
    slow.wait_for(50).await;
    for _ in 0..50 {
        gateway.get("/quick").expect(200).await?;
    }
    Ok(())
}
