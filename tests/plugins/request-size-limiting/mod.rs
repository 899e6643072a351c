//! `request-size-limiting`.

use std::convert::Infallible;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use silverback_testkit::gateway::{Gateway, Setup};
use silverback_testkit::upstream::Upstream;

use crate::Outcome;
use crate::proxy::tls::h2_for;

const MOST: usize = 100 * 1024;

async fn limited(setup: Setup, upstream: &Upstream) -> anyhow::Result<Gateway> {
    let gateway = setup.start().await?;
    gateway
        .service("s", upstream)
        .paths(["/"])
        .plugin(
            "request-size-limiting",
            json!({"allowed_payload_size": 100, "size_unit": "kilobytes"}),
        )
        .create()
        .await?;
    gateway.settle().await?;
    Ok(gateway)
}

#[tokio::test]
async fn a_length_that_is_told_is_judged_before_the_body_is_sent() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = limited(Setup::new(), &upstream).await?;
    let send = |length: usize| gateway.call("POST", "/").body(vec![b'x'; length]);
    send(MOST).expect(200).await?;
    let refused = send(MOST + 1).expect(413).await?;
    assert_eq!(refused.json()["message"], "Request size limit exceeded");
    assert_eq!(upstream.requests(), 1);

    let mut connection = gateway.proxy().connect().await?;
    let head =
        "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 200000\r\n\r\n";
    connection.write(head.as_bytes()).await?;
    assert_eq!(connection.response("POST").await?.status, 417);
    Ok(())
}

#[tokio::test]
async fn a_length_that_is_not_told_is_measured() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = limited(Setup::new(), &upstream).await?;
    let send = |length: usize| gateway.call("POST", "/").chunked(vec![b'x'; length]);
    send(MOST).expect(200).await?;
    assert_eq!(upstream.seen()[0].body.len(), MOST);
    for _ in 0..3 {
        let refused = send(MOST + 1).expect(413).await?;
        assert_eq!(refused.json()["message"], "Request size limit exceeded");
    }
    assert_eq!(upstream.seen().len(), 1, "no other body came to its end");
    Ok(())
}

#[tokio::test]
async fn a_body_that_an_earlier_plugin_read_is_measured_too() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = limited(Setup::new(), &upstream).await?;
    let config = json!({"key_in_body": true});
    gateway.plugin("/services/s", "key-auth", config).await?;
    gateway.consumer("alice", "open").await?;
    let send = |length: usize| {
        let body = format!("apikey=open&x={}", "x".repeat(length - 14));
        let call = gateway.call("POST", "/").chunked(body);
        call.header("Content-Type", "application/x-www-form-urlencoded")
    };
    send(MOST).expect(200).await?;
    send(MOST + 1).expect(413).await?;
    Ok(())
}

#[tokio::test]
async fn what_the_client_sent_is_measured_and_not_what_others_make_of_it() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = limited(Setup::new(), &upstream).await?;
    let config =
        json!({"remove": {"body": ["x"]}, "add": {"body": [format!("more:{}", "y".repeat(50))]}});
    let transformer = "request-transformer";
    gateway.plugin("/services/s", transformer, config).await?;
    let send = |length: usize| {
        let body = format!("k=1&x={}", "x".repeat(length - 6));
        let call = gateway.call("POST", "/").chunked(body);
        call.header("Content-Type", "application/x-www-form-urlencoded")
    };
    // What is left of it is short.
    let refused = send(MOST + 1).expect(413).await?;
    assert_eq!(refused.json()["message"], "Request size limit exceeded");
    send(MOST).expect(200).await?;
    // What is made of it is long.
    let long = "y".repeat(MOST);
    let config = json!({"add": {"body": [format!("more:{long}")]}});
    gateway
        .service("long", &upstream)
        .paths(["/long"])
        .plugin(
            "request-size-limiting",
            json!({"allowed_payload_size": 100, "size_unit": "kilobytes"}),
        )
        .plugin(transformer, config)
        .create()
        .await?;
    let call = gateway.call("POST", "/long").chunked("k=1");
    let form = "application/x-www-form-urlencoded";
    call.header("Content-Type", form).expect(200).await?;
    assert_eq!(upstream.seen().len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_plugin_that_answers_itself_does_not_see_a_longer_body() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = limited(Setup::new(), &upstream).await?;
    let config = json!({"echo": true, "status_code": 200});
    gateway
        .plugin("/services/s", "request-termination", config)
        .await?;
    let send = |length: usize| gateway.call("POST", "/").chunked(vec![b'x'; length]);
    send(MOST).expect(200).await?;
    let refused = send(MOST + 1).expect(413).await?;
    assert_eq!(refused.json()["message"], "Request size limit exceeded");
    Ok(())
}

#[tokio::test]
async fn bodies_over_http2_are_measured_too() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = limited(Setup::new().tls(), &upstream).await?;
    let mut sender = h2_for(gateway.tls()).await?;
    for (length, status) in [(MOST, 200), (MOST + 1, 413), (MOST, 200)] {
        // In pieces, so that no length is told.
        let body = vec![b'x'; length];
        let pieces: Vec<_> = body
            .chunks(10_000)
            .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        let body = StreamBody::new(futures::stream::iter(pieces));
        let request = Request::post("https://api.test/").body(body)?;
        let response = sender.send_request(request).await?;
        assert_eq!(response.status(), status, "{length}");
        if status == 413 {
            let answer = response.into_body().collect().await?.to_bytes();
            let answer: Value = serde_json::from_slice(&answer)?;
            assert_eq!(answer["message"], "Request size limit exceeded");
        }
    }
    Ok(())
}
