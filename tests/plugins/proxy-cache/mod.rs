//! `proxy-cache`.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use silverback_testkit::gateway::{Gateway, eventually};
use silverback_testkit::h1::Response;
use silverback_testkit::upstream::{Answer, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::Outcome;

const ID: &str = "00000004-0000-4000-8000-000000000001";

/// A node that keeps what this upstream answers.
async fn caching(upstream: &Upstream, config: Value) -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    gateway.service("s", upstream).paths(["/"]).create().await?;
    let mut whole = json!({"strategy": "memory"});
    for (name, value) in config.as_object().into_iter().flatten() {
        whole[name] = value.clone();
    }
    let plugin = json!({"id": ID, "name": "proxy-cache", "config": whole});
    gateway
        .admin()
        .post("/plugins", &plugin)
        .expect(201)
        .await?;
    gateway.settle().await?;
    Ok(gateway)
}

fn text(body: &str) -> Answer {
    Answer::status(200)
        .header("Content-Type", "text/plain")
        .body(body)
}

#[track_caller]
fn is(answer: &Response, status: &str) {
    assert_eq!(answer.header("X-Cache-Status"), Some(status));
}

fn key(answer: &Response) -> String {
    answer.header("X-Cache-Key").unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_answer_comes_again_as_if_from_the_upstream() -> Outcome {
    let upstream = Upstream::start().await?;
    upstream.answer(
        text("hello")
            .header("X-SpeLLed", "so")
            .header("Date", "Mon, 12 Jan 1970 13:46:40 GMT"),
    );
    let gateway = caching(&upstream, json!({})).await?;
    let first = gateway.get("/a").expect(200).await?;
    is(&first, "Miss");
    let again = gateway.get("/a").expect(200).await?;
    is(&again, "Hit");
    assert_eq!(upstream.requests(), 1);
    assert_eq!(
        (again.text(), again.header("Content-Length")),
        ("hello".to_owned(), Some("5"))
    );
    for name in ["Server", "Via", "Content-Type", "X-Cache-Key", "Date"] {
        assert!(first.header(name).is_some(), "{name}");
        assert_eq!(again.header(name), first.header(name), "{name}");
        assert!(again.headers.all(name).count() <= 1, "{name}");
    }
    assert!(again.headers.0.iter().any(|(name, _)| name == "X-SpeLLed"));
    for name in ["X-Kong-Upstream-Latency", "X-Kong-Proxy-Latency", "age"] {
        assert!(again.header(name).is_some(), "{name}");
    }
    assert_eq!(again.header("X-Kong-Response-Latency"), None);
    is(&gateway.get("/a").http10().expect(200).await?, "Miss");
    Ok(())
}

#[tokio::test]
async fn a_body_is_not_held_back_while_it_is_being_kept() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (go_on, wait) = oneshot::channel::<()>();
    // Gives the second piece when it is told that the first has arrived.
    let upstream = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let first = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        stream.write_all(first.as_bytes()).await?;
        wait.await?;
        stream.write_all(b"4\r\nlast\r\n0\r\n\r\n").await?;
        // The gateway may want it again.
        stream.read_u8().await.ok();
        anyhow::Ok(())
    });
    let gateway = Gateway::start().await?;
    gateway
        .service_at("s", &url)
        .paths(["/"])
        .plugin("proxy-cache", json!({"strategy": "memory"}))
        .create()
        .await?;
    gateway.settle().await?;
    let mut connection = gateway.proxy().connect().await?;
    connection
        .write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await?;
    let mut seen = Vec::new();
    while !seen.ends_with(b"first") {
        seen.extend(connection.bytes(1).await?);
    }
    assert!(String::from_utf8_lossy(&seen).contains("X-Cache-Status: Miss"));
    go_on.send(()).ok().context("the upstream is there")?;
    while !seen.ends_with(b"0\r\n\r\n") {
        seen.extend(connection.bytes(1).await?);
    }
    let again = gateway.get("/").expect(200).await?;
    is(&again, "Hit");
    assert_eq!(again.text(), "firstlast");
    assert_eq!(again.header("Content-Length"), Some("9"));
    upstream.abort();
    Ok(())
}

#[tokio::test]
async fn an_answer_without_body_is_kept() -> Outcome {
    let upstream = Upstream::start().await?;
    upstream.answer(text("").header("X-Own", "1"));
    let gateway = caching(&upstream, json!({})).await?;
    let first = gateway.get("/").expect(200).await?;
    is(&first, "Miss");
    assert_eq!(first.header("Content-Length"), Some("0"));
    let again = gateway.get("/").expect(200).await?;
    is(&again, "Hit");
    assert_eq!(again.header("Content-Length"), Some("0"));
    assert_eq!(again.header("X-Own"), Some("1"));
    assert_eq!(upstream.requests(), 1);
    Ok(())
}

#[tokio::test]
async fn half_an_answer_is_not_kept() -> Outcome {
    let upstream = Upstream::start().await?;
    upstream.answer(text("whole"));
    upstream.script([text(&"x".repeat(1000)).then_close_after(500)]);
    let gateway = caching(&upstream, json!({})).await?;
    let broken = gateway.get("/").send().await;
    assert!(broken.is_err() || broken?.body.len() < 1000);
    let whole = gateway.get("/").expect(200).await?;
    is(&whole, "Miss");
    assert_eq!(whole.text(), "whole");
    is(&gateway.get("/").expect(200).await?, "Hit");
    Ok(())
}

#[tokio::test]
async fn only_if_cached_is_answered_as_the_gateway_answers() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = caching(&upstream, json!({"cache_control": true})).await?;
    let asking = || gateway.get("/").header("Cache-Control", "only-if-cached");
    let plain = asking().expect(504).await?;
    assert_eq!(
        plain.header("Content-Type"),
        Some("text/plain; charset=utf-8")
    );
    assert!(
        plain
            .text()
            .starts_with("The upstream server is timing out\nrequest_id: ")
    );
    assert_eq!(key(&plain).len(), 64);
    let html = asking().header("Accept", "text/html").expect(504).await?;
    assert_eq!(
        html.header("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(upstream.requests(), 0);
    Ok(())
}

#[tokio::test]
async fn a_kept_answer_is_seen_and_forgotten_over_the_admin_api() -> Outcome {
    let upstream = Upstream::start().await?;
    upstream.answer(text("hello"));
    let gateway = caching(&upstream, json!({})).await?;
    let admin = gateway.admin();
    let key = key(&gateway.get("/").expect(200).await?);
    let paths = [
        format!("/proxy-cache/{key}"),
        format!("/proxy-cache/{ID}/caches/{key}/"),
    ];
    for path in &paths {
        let shown = admin.get(path).expect(200).await?.json();
        assert_eq!(shown["body"], "hello");
        assert_eq!(shown["headers"]["X-Cache-Key"], key.as_str());
        assert!(admin.call("HEAD", path).expect(200).await?.body.is_empty());
        admin.delete(path).expect(204).await?;
        let gone = admin.get(path).expect(404).await?;
        assert_eq!(
            gone.header("Content-Type"),
            Some("text/html; charset=UTF-8")
        );
        is(&gateway.get("/").expect(200).await?, "Miss");
        is(&gateway.get("/").expect(200).await?, "Hit");
    }
    admin.delete("/proxy-cache").expect(204).await?;
    is(&gateway.get("/").expect(200).await?, "Miss");

    let other = format!("/proxy-cache/00000004-0000-4000-8000-000000000009/caches/{key}");
    admin.get(&other).expect(404).await?;
    admin.get("/proxy-cache").expect(405).await?;
    admin.post(&paths[0], &json!({})).expect(405).await?;
    let options = admin.call("OPTIONS", &paths[0]).expect(204).await?;
    assert_eq!(options.header("Allow"), Some("DELETE, GET, HEAD, OPTIONS"));
    let endpoints = admin.get("/endpoints").expect(200).await?.json();
    let endpoints = endpoints["data"].as_array().unwrap();
    assert!(endpoints.contains(&"/proxy-cache/{plugin_id}/caches/{cache_key}".into()));
    Ok(())
}

#[tokio::test]
async fn what_one_node_forgets_all_nodes_forget() -> Outcome {
    let upstream = Upstream::start().await?;
    upstream.answer(text("hello"));
    let first = caching(&upstream, json!({})).await?;
    let second = first.another().await?;
    second.settle().await?;
    let keep = async |path: &str| {
        is(&second.get(path).expect(200).await?, "Miss");
        let kept = second.get(path).expect(200).await?;
        is(&kept, "Hit");
        anyhow::Ok(key(&kept))
    };
    let forgets = async |path: &str| {
        let what = format!("the other node forgets {path}");
        eventually(&what, Duration::from_secs(10), || async {
            let answer = second.get(path).expect(200).await?;
            Ok((answer.header("X-Cache-Status") == Some("Miss")).then_some(()))
        })
        .await
    };
    keep("/all").await?;
    first.admin().delete("/proxy-cache").expect(204).await?;
    forgets("/all").await?;
    let (one, other) = (keep("/one").await?, keep("/other").await?);
    let path = format!("/proxy-cache/{ID}/caches/{one}");
    // The node that is asked does not have it.
    first.admin().delete(&path).expect(404).await?;
    forgets("/one").await?;
    first
        .admin()
        .delete(&format!("/proxy-cache/{other}"))
        .expect(404)
        .await?;
    forgets("/other").await?;
    is(&second.get("/all").expect(200).await?, "Hit");
    Ok(())
}

#[tokio::test]
async fn keys_differ_with_consumer_and_route() -> Outcome {
    let upstream = Upstream::start().await?;
    upstream.answer(text("hello"));
    let gateway = caching(&upstream, json!({})).await?;
    gateway.plugin("/services/s", "key-auth", json!({})).await?;
    gateway.consumer("alice", "a").await?;
    gateway.consumer("bob", "b").await?;
    let of = |who: &'static str| gateway.get("/").header("apikey", who);
    is(&of("a").expect(200).await?, "Miss");
    is(&of("b").expect(200).await?, "Miss");
    is(&of("a").expect(200).await?, "Hit");
    let refused = gateway.get("/").expect(401).await?;
    assert_eq!(refused.header("X-Cache-Status"), None);
    Ok(())
}
