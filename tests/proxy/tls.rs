//! TLS, and HTTP/2 over it.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use silverback_testkit::gateway::{Endpoint, Gateway, Setup};
use silverback_testkit::upstream::{Answer, Upstream};

use crate::Outcome;

async fn through(upstream: &Upstream) -> anyhow::Result<Gateway> {
    let gateway = Setup::new().tls().start().await?;
    gateway.service("s", upstream).paths(["/"]).create().await?;
    gateway.settle().await?;
    Ok(gateway)
}

async fn h2(endpoint: Endpoint) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    h2_for(endpoint).await
}

/// An HTTP/2 connection over TLS, for requests with that kind of body.
pub(crate) async fn h2_for<B>(endpoint: Endpoint) -> anyhow::Result<SendRequest<B>>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: std::error::Error + Send + Sync,
{
    let stream = endpoint
        .sni("api.test")
        .protocols(b"\x02h2\x08http/1.1")
        .connect_tls()
        .await?;
    assert_eq!(
        stream.ssl().selected_alpn_protocol(),
        Some(b"h2".as_slice())
    );
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn json(response: http::Response<hyper::body::Incoming>) -> anyhow::Result<Value> {
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&bytes)?)
}

#[tokio::test]
async fn https_is_served_and_told_to_the_upstream() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    let mut connection = gateway.tls().sni("api.test").connect().await?;
    for _ in 0..2 {
        let call = gateway.tls().get("/t").host("api.test");
        assert_eq!(connection.send(&call).await?.status, 200);
    }
    let seen = upstream.seen().pop().unwrap();
    let port = gateway.tls().addr().port().to_string();
    assert_eq!(seen.headers.get("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.headers.get("x-forwarded-port"), Some(port.as_str()));
    Ok(())
}

#[tokio::test]
async fn http2_is_spoken_to_those_who_offer_it() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    let mut sender = h2(gateway.tls()).await?;
    let request = Request::post("https://api.test/h2?x=1")
        .header("x-mine", "1")
        .body(Full::from("body"))?;
    let response = sender.send_request(request).await?;
    assert_eq!(response.status(), 200);
    assert!(response.headers().get("x-kong-proxy-latency").is_some());
    let answer = json(response).await?;
    assert_eq!(
        (&answer["method"], &answer["path"], &answer["body"]),
        (&"POST".into(), &"/h2?x=1".into(), &"body".into())
    );
    let seen = &upstream.seen()[0];
    assert_eq!(seen.headers.get("x-forwarded-host"), Some("api.test"));
    assert_eq!(seen.headers.get("x-mine"), Some("1"));
    assert!(seen.headers.get("via").unwrap().starts_with("2 "));
    Ok(())
}

#[tokio::test]
async fn many_http2_streams_share_a_connection() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    let sender = h2(gateway.tls()).await?;
    let calls = (0..40).map(|n| {
        let mut sender = sender.clone();
        async move {
            let request = Request::get(format!("https://api.test/{n}")).body(Full::default())?;
            let answer = json(sender.send_request(request).await?).await?;
            assert_eq!(answer["path"], format!("/{n}"));
            anyhow::Ok(())
        }
    });
    futures::future::try_join_all(calls).await?;
    Ok(())
}

#[tokio::test]
async fn large_bodies_flow_both_ways_over_http2() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    let body = Bytes::from(vec![b'x'; 5 << 20]);
    upstream.answer(Answer::status(200).body(body.clone()));
    let mut sender = h2(gateway.tls()).await?;
    let request = Request::put("https://api.test/").body(Full::from(body.clone()))?;
    let response = sender.send_request(request).await?;
    let received = response.into_body().collect().await?.to_bytes();
    assert!(received == body);
    assert!(upstream.seen()[0].body == body);
    Ok(())
}

#[tokio::test]
async fn an_http2_answer_of_our_own_has_its_body() -> Outcome {
    let gateway = Setup::new().tls().start().await?;
    let mut sender = h2(gateway.tls()).await?;
    let request = Request::get("https://api.test/nowhere").body(Full::default())?;
    let response = sender.send_request(request).await?;
    assert_eq!(response.status(), 404);
    let answer = json(response).await?;
    assert_eq!(answer["message"], "no Route matched with those values");
    Ok(())
}

#[tokio::test]
async fn a_host_that_contradicts_the_authority_is_refused() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(&upstream).await?;
    let mut sender = h2(gateway.tls()).await?;
    let request = Request::get("https://api.test/")
        .header("host", "other.test")
        .body(Full::default())?;
    assert_eq!(sender.send_request(request).await?.status(), 400);
    assert_eq!(upstream.requests(), 0);
    Ok(())
}
