//! What is added to messages on their way.

use serde_json::{Value, json};
use silverback_testkit::gateway::{Gateway, Setup};
use silverback_testkit::h1::Headers;
use silverback_testkit::upstream::{Answer, Upstream};

use crate::Outcome;

async fn seen(
    gateway: &Gateway,
    upstream: &Upstream,
    headers: &[(&str, &str)],
) -> anyhow::Result<Headers> {
    let mut call = gateway.get("/p/x?q=1");
    for (name, value) in headers {
        call = call.header(name, value);
    }
    call.expect(200).await?;
    Ok(upstream.seen().pop().unwrap().headers)
}

async fn through(setup: Setup, upstream: &Upstream, route: Value) -> anyhow::Result<Gateway> {
    let gateway = setup.start().await?;
    let mut service = gateway.service("s", upstream).paths(["/p"]);
    for (name, value) in route.as_object().unwrap() {
        service = service.route(name, value.clone());
    }
    service.create().await?;
    Ok(gateway)
}

#[tokio::test]
async fn the_upstream_learns_who_asked_and_for_what() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(Setup::new(), &upstream, json!({})).await?;
    let headers = seen(&gateway, &upstream, &[("Host", "api.test:81")]).await?;
    let port = gateway.proxy_addr().port().to_string();
    let address = upstream.addr().to_string();
    for (name, value) in [
        ("Host", address.as_str()),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "api.test"),
        ("X-Forwarded-Port", &port),
        ("X-Forwarded-Path", "/p/x"),
        ("X-Forwarded-Prefix", "/p"),
        ("X-Real-IP", "127.0.0.1"),
        ("Connection", "keep-alive"),
    ] {
        assert_eq!(headers.get(name), Some(value), "{name}");
    }
    assert!(headers.get("Via").unwrap().starts_with("1.1 silverback/"));
    assert_eq!(headers.get("X-Kong-Request-Id").unwrap().len(), 32);
    assert_eq!(upstream.seen()[0].target, "/x?q=1");
    Ok(())
}

#[tokio::test]
async fn a_stranger_cannot_forge_where_it_comes_from() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(Setup::new(), &upstream, json!({})).await?;
    let forged = [
        ("Host", "real.test"),
        ("X-Forwarded-For", "9.9.9.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.test"),
        ("X-Forwarded-Port", "99"),
        ("X-Real-IP", "8.8.8.8"),
    ];
    let headers = seen(&gateway, &upstream, &forged).await?;
    assert_eq!(headers.get("X-Forwarded-For"), Some("9.9.9.9, 127.0.0.1"));
    assert_eq!(headers.get("X-Forwarded-Proto"), Some("http"));
    assert_eq!(headers.get("X-Forwarded-Host"), Some("real.test"));
    assert_eq!(headers.get("X-Real-IP"), Some("127.0.0.1"));
    Ok(())
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() -> Outcome {
    let upstream = Upstream::start().await?;
    let setup = Setup::new().set("trusted_ips", "127.0.0.0/8");
    let gateway = through(setup, &upstream, json!({})).await?;
    let told = [
        ("Host", "inner.test"),
        ("X-Forwarded-For", "9.9.9.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "outer.test"),
        ("X-Forwarded-Port", "443"),
        ("X-Real-IP", "8.8.8.8"),
    ];
    let headers = seen(&gateway, &upstream, &told).await?;
    assert_eq!(headers.get("X-Forwarded-Proto"), Some("https"));
    assert_eq!(headers.get("X-Forwarded-Host"), Some("outer.test"));
    assert_eq!(headers.get("X-Forwarded-Port"), Some("443"));
    assert_eq!(headers.get("X-Real-IP"), Some("8.8.8.8"));
    Ok(())
}

#[tokio::test]
async fn hop_by_hop_headers_stay_behind() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(Setup::new(), &upstream, json!({})).await?;
    let sent = [
        ("Connection", "X-Mine"),
        ("X-Mine", "1"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "gzip"),
        ("X-Other", "2"),
    ];
    let headers = seen(&gateway, &upstream, &sent).await?;
    assert_eq!(headers.get("X-Mine"), None);
    assert_eq!(headers.get("Keep-Alive"), None);
    assert_eq!(headers.get("TE"), None);
    assert_eq!(headers.get("X-Other"), Some("2"));
    Ok(())
}

#[tokio::test]
async fn preserve_host_keeps_the_clients_host() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(
        Setup::new(),
        &upstream,
        json!({"preserve_host": true, "strip_path": false}),
    )
    .await?;
    let headers = seen(&gateway, &upstream, &[("Host", "api.test:81")]).await?;
    assert_eq!(headers.get("Host"), Some("api.test:81"));
    assert_eq!(upstream.seen()[0].target, "/p/x?q=1");
    Ok(())
}

#[tokio::test]
async fn the_client_learns_how_long_it_took_and_through_what() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(Setup::new(), &upstream, json!({})).await?;
    let proxied = gateway.get("/p").expect(200).await?;
    assert!(proxied.header("X-Kong-Upstream-Latency").is_some());
    assert!(proxied.header("X-Kong-Proxy-Latency").is_some());
    assert!(proxied.header("Via").unwrap().contains("silverback/"));
    assert_eq!(proxied.header("Server"), Some("echo/1.0"));
    let own = gateway.get("/nowhere").expect(404).await?;
    assert!(own.header("X-Kong-Response-Latency").is_some());
    assert!(own.header("Server").unwrap().starts_with("silverback/"));
    assert_eq!(
        own.json()["request_id"].as_str(),
        own.header("X-Kong-Request-Id")
    );
    Ok(())
}

#[tokio::test]
async fn headers_can_be_switched_off() -> Outcome {
    let upstream = Upstream::start().await?;
    let setup = Setup::new()
        .set("headers", "off")
        .set("headers_upstream", "off");
    let gateway = through(setup, &upstream, json!({})).await?;
    let answer = gateway.get("/p").expect(200).await?;
    for name in [
        "Via",
        "X-Kong-Request-Id",
        "X-Kong-Upstream-Latency",
        "X-Kong-Proxy-Latency",
    ] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(upstream.seen()[0].headers.get("X-Kong-Request-Id"), None);
    Ok(())
}

#[tokio::test]
async fn errors_come_in_the_format_that_was_asked_for() -> Outcome {
    let gateway = Gateway::start().await?;
    for (accept, content_type) in [
        ("application/json", "application/json; charset=utf-8"),
        ("text/html", "text/html; charset=utf-8"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("application/xml", "application/xml; charset=utf-8"),
        ("image/png", "application/json; charset=utf-8"),
    ] {
        let answer = gateway
            .get("/")
            .header("Accept", accept)
            .expect(404)
            .await?;
        assert_eq!(answer.header("Content-Type"), Some(content_type));
        assert!(answer.text().contains("no Route matched with those values"));
    }
    Ok(())
}

#[tokio::test]
async fn repeated_response_headers_all_arrive() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = through(Setup::new(), &upstream, json!({})).await?;
    upstream.answer(
        Answer::status(200)
            .header("Set-Cookie", "a=1")
            .header("Set-Cookie", "b=2"),
    );
    let answer = gateway.get("/p").expect(200).await?;
    let cookies: Vec<_> = answer.headers.all("set-cookie").collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    Ok(())
}
