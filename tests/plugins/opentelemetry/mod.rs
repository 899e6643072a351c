//! `opentelemetry`.

use serde_json::json;
use silverback_testkit::gateway::{Gateway, Setup};
use silverback_testkit::upstream::{Answer, Upstream};

use crate::Outcome;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Whether these bytes stand somewhere in the body.
fn has(body: &[u8], bytes: &[u8]) -> bool {
    body.windows(bytes.len()).any(|w| w == bytes)
}

#[tokio::test]
async fn spans_reach_the_collector_and_the_upstream_is_told_the_attempts() -> Outcome {
    let (upstream, collector) = (Upstream::start().await?, Upstream::start().await?);
    collector.answer(Answer::status(200));
    let setup = Setup::new().set("tracing_instrumentations", "all");
    let gateway = setup.start().await?;
    let service = gateway.service("s", &upstream).paths(["/traced"]);
    let config = json!({
        "traces_endpoint": format!("{}/v1/traces?x=1", collector.url()),
        "headers": { "X-Token": "t" },
        "sampling_rate": 1,
        "queue": { "max_batch_size": 2, "max_coalescing_delay": 10 },
    });
    service.plugin("opentelemetry", config).create().await?;
    gateway.settle().await?;
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let request = gateway.proxy().get("/traced/a?b=1");
    request.header("traceparent", &parent).expect(200).await?;
    collector.wait_for(1).await;
    let sent = &collector.seen()[0];
    assert_eq!(
        (sent.method.as_str(), sent.target.as_str()),
        ("POST", "/v1/traces?x=1")
    );
    assert_eq!(sent.headers.get("X-Token"), Some("t"));
    assert_eq!(
        sent.headers.get("Content-Type"),
        Some("application/x-protobuf")
    );
    let told = upstream.seen()[0]
        .headers
        .get("traceparent")
        .unwrap()
        .to_owned();
    let parts: Vec<&str> = told.split('-').collect();
    assert_eq!((parts[1], parts[3]), (TRACE, "01"));
    for text in [
        "kong",
        "kong.balancer",
        "net.peer.port",
        "/traced/a?b=1",
        "/traced",
    ] {
        assert!(has(&sent.body, text.as_bytes()), "{text}");
    }
    let id = |digits: &str| -> Vec<u8> {
        let digits = digits.as_bytes().chunks(2);
        let text = digits.map(|d| std::str::from_utf8(d).unwrap());
        text.map(|d| u8::from_str_radix(d, 16).unwrap()).collect()
    };
    for digits in [TRACE, "b7ad6b7169203331", parts[2]] {
        assert!(has(&sent.body, &id(digits)), "{digits}");
    }
    Ok(())
}

#[tokio::test]
async fn without_instrumentations_the_trace_passes_and_nothing_is_sent() -> Outcome {
    let (upstream, collector) = (Upstream::start().await?, Upstream::start().await?);
    let gateway = Gateway::start().await?;
    let service = gateway.service("s", &upstream).paths(["/"]);
    let config = json!({
        "traces_endpoint": collector.url(),
        "http_response_header_for_traceid": "X-Trace",
    });
    service.plugin("opentelemetry", config).create().await?;
    gateway.settle().await?;
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let request = gateway.proxy().get("/").header("traceparent", &parent);
    let answer = request.expect(200).await?;
    assert_eq!(answer.header("x-trace"), Some(TRACE));
    let told = upstream.seen()[0]
        .headers
        .get("traceparent")
        .unwrap()
        .to_owned();
    assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00"));
    assert_eq!(collector.requests(), 0);
    Ok(())
}
