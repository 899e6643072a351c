//! `request-transformer`.

use serde_json::{Value, json};
use silverback_testkit::gateway::{Gateway, Setup};
use silverback_testkit::upstream::{Answer, Upstream};

use crate::Outcome;

const PLUGIN: &str = "request-transformer";

/// A gateway whose only service has the plugin, and the upstream behind it.
async fn with(config: Value) -> anyhow::Result<(Gateway, Upstream)> {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin(PLUGIN, config)
        .create()
        .await?;
    Ok((gateway, upstream))
}

#[tokio::test]
async fn a_path_is_made_of_what_the_route_matched() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    let captures = [
        "n:$(uri_captures[1])",
        "whole:$(uri_captures[0])",
        "none:$(uri_captures[3] or '-')",
    ];
    gateway
        .service("s", &upstream)
        .with("path", json!("/base"))
        .paths(["~/u/(?<user>\\w+)/(?P<rest>.+?)(x)?$"])
        .plugin(
            PLUGIN,
            json!({
                "replace": { "uri": "/$(uri_captures.rest)/of/$(uri_captures['user'])" },
                "add": { "headers": captures },
            }),
        )
        .create()
        .await?;
    gateway
        .service("plain", &upstream)
        .paths(["/plain"])
        .plugin(
            PLUGIN,
            json!({ "add": { "querystring": ["u:$(uri_captures.user or 'nobody')"] } }),
        )
        .create()
        .await?;
    gateway.get("/u/ann/a%20b%2Fc?q=1&z").expect(200).await?;
    gateway.get("/plain/x?b=%2F").expect(200).await?;
    let seen = upstream.seen();
    assert_eq!(seen[0].target, "/a%20b%2Fc/of/ann?q=1&z");
    assert_eq!(seen[0].headers.get("n"), Some("ann"));
    assert_eq!(seen[0].headers.get("whole"), Some("/u/ann/a b%2Fc"));
    assert_eq!(seen[0].headers.get("none"), Some("-"));
    assert_eq!(
        seen[0].headers.get("x-forwarded-path"),
        Some("/u/ann/a%20b%2Fc")
    );
    assert_eq!(seen[1].target, "/x?b=%2F&u=nobody");
    Ok(())
}

#[tokio::test]
async fn the_host_is_replaced_whatever_the_route_preserves() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    for (name, preserve) in [("a", true), ("b", false)] {
        gateway
            .service(name, &upstream)
            .hosts([&*format!("{name}.test")])
            .route("preserve_host", json!(preserve))
            .plugin(
                PLUGIN,
                json!({
                    "remove": { "headers": ["host"] },
                    "replace": { "headers": ["host:$(headers['x-to'])"] },
                }),
            )
            .create()
            .await?;
        let host = format!("{name}.test");
        let call = gateway.get("/").host(&host).header("X-To", "up.test:81");
        call.expect(200).await?;
        let seen = upstream.seen().pop().unwrap();
        assert_eq!(seen.headers.all("host").collect::<Vec<_>>(), ["up.test:81"]);
        assert_eq!(seen.headers.get("x-forwarded-host"), Some(&*host));
        // Without a value the host is the one that routing gives.
        gateway.get("/").host(&host).expect(200).await?;
        let seen = upstream.seen().pop().unwrap();
        let expected = if preserve {
            host
        } else {
            upstream.addr().to_string()
        };
        assert_eq!(seen.headers.get("host"), Some(&*expected));
    }
    Ok(())
}

#[tokio::test]
async fn tls_to_the_upstream_names_the_replaced_host() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Setup::new().tls().start().await?;
    // The upstream of the first service is the gateway's own TLS listener, where a route asks for the name.
    gateway
        .service_at("outer", &format!("https://{}", gateway.tls().addr()))
        .hosts(["outer.test"])
        .plugin(
            PLUGIN,
            json!({ "replace": { "headers": ["host:up.test"] } }),
        )
        .create()
        .await?;
    gateway
        .service("inner", &upstream)
        .hosts(["up.test"])
        .route("snis", json!(["up.test"]))
        .create()
        .await?;
    gateway.get("/").host("outer.test").expect(200).await?;
    let seen = upstream.seen().pop().unwrap();
    assert_eq!(seen.headers.get("x-forwarded-host"), Some("up.test"));
    Ok(())
}

#[tokio::test]
async fn a_new_body_is_framed_anew() -> Outcome {
    let (gateway, upstream) =
        with(json!({ "remove": { "body": ["gone"] }, "add": { "body": ["more:1"] } })).await?;
    let long = "x".repeat(200_000);
    for text in ["1", &*long] {
        let sent = format!("{{\"gone\":1,\"kept\":\"{text}\"}}");
        let expected = format!("{{\"kept\":\"{text}\",\"more\":\"1\"}}");
        for chunked in [false, true] {
            let call = gateway
                .call("POST", "/")
                .header("Content-Type", "application/json");
            let call = match chunked {
                true => call.chunked(sent.clone()),
                false => call.body(sent.clone()),
            };
            call.expect(200).await?;
            let seen = upstream.seen().pop().unwrap();
            assert!(
                seen.body == expected.as_bytes(),
                "{} bytes",
                seen.body.len()
            );
            let length = expected.len().to_string();
            assert_eq!(seen.headers.get("content-length"), Some(&*length));
            assert_eq!(seen.headers.get("transfer-encoding"), None);
        }
    }
    // One is made where there was none.
    let call = gateway.get("/").header("Content-Type", "application/json");
    call.expect(200).await?;
    let seen = upstream.seen().pop().unwrap();
    assert_eq!(seen.body, b"{\"more\":\"1\"}");
    assert_eq!(seen.headers.get("content-length"), Some("12"));
    Ok(())
}

#[tokio::test]
async fn each_attempt_has_all_changes() -> Outcome {
    let (gateway, upstream) = with(json!({
        "http_method": "PUT",
        "replace": { "uri": "/new", "headers": ["host:up.test"] },
        "add": { "headers": ["x-a:1"], "querystring": ["q:1"], "body": ["more:1"] },
        "append": { "headers": ["x-a:2"] },
    }))
    .await?;
    upstream.fail(2, &Answer::close_before_header());
    let call = gateway
        .call("POST", "/old?a=1")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body("k=v");
    call.expect(200).await?;
    let seen = upstream.seen();
    assert_eq!(seen.len(), 3);
    for request in seen {
        assert_eq!(
            (&*request.method, &*request.target),
            ("PUT", "/new?a=1&q=1")
        );
        assert_eq!(request.headers.get("host"), Some("up.test"));
        let values: Vec<_> = request.headers.all("x-a").collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(request.body, b"k=v&more=1");
        assert_eq!(request.headers.get("content-length"), Some("10"));
    }
    Ok(())
}

#[tokio::test]
async fn the_method_that_the_upstream_sees_decides_about_attempts() -> Outcome {
    let (gateway, upstream) = with(json!({ "http_method": "POST" })).await?;
    upstream.fail(1, &Answer::close_before_header());
    gateway.get("/").expect(502).await?;
    assert_eq!(upstream.requests(), 1);
    Ok(())
}

#[tokio::test]
async fn a_connection_survives_methods_with_and_without_bodies() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    for (path, method) in [("/head", "HEAD"), ("/get", "GET")] {
        gateway
            .service(&path[1..], &upstream)
            .paths([path])
            .plugin(PLUGIN, json!({ "http_method": method }))
            .create()
            .await?;
    }
    gateway.settle().await?;
    let mut connection = gateway.proxy().connect().await?;
    for _ in 0..2 {
        let answer = connection.send(&gateway.get("/head")).await?;
        assert_eq!((answer.status, answer.text()), (200, String::new()));
        assert_eq!(answer.header("Content-Length"), Some("0"));
        assert_eq!(upstream.seen().pop().unwrap().method, "HEAD");
        let answer = connection.send(&gateway.call("HEAD", "/get")).await?;
        assert_eq!((answer.status, answer.text()), (200, String::new()));
        assert_eq!(upstream.seen().pop().unwrap().method, "GET");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_gateway_says_itself_stays() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    let own = [
        "connection:close",
        "content-length:1",
        "transfer-encoding:chunked",
        "te:trailers",
        "upgrade:h2c",
        "via:me",
        "x-forwarded-for:9.9.9.9",
        "x-forwarded-proto:https",
        "x-real-ip:9.9.9.9",
        "x-kong-request-id:mine",
    ];
    let removed = own.map(|pair| pair.split_once(':').unwrap().0);
    gateway
        .service("set", &upstream)
        .paths(["/set"])
        .plugin(
            PLUGIN,
            json!({ "replace": { "headers": own }, "add": { "headers": own } }),
        )
        .create()
        .await?;
    gateway
        .service("removed", &upstream)
        .paths(["/removed"])
        .plugin(PLUGIN, json!({ "remove": { "headers": removed } }))
        .create()
        .await?;
    for path in ["/set", "/removed"] {
        let call = gateway.call("POST", path).body("four");
        call.header("X-Forwarded-For", "8.8.8.8")
            .expect(200)
            .await?;
        let seen = upstream.seen().pop().unwrap();
        let header = |name| seen.headers.get(name);
        assert_eq!(seen.body, b"four", "{path}");
        assert_eq!(header("connection"), Some("keep-alive"));
        assert_eq!(header("content-length"), Some("4"));
        assert_eq!((header("transfer-encoding"), header("te")), (None, None));
        assert_eq!(header("upgrade"), None);
        assert!(header("via").unwrap().starts_with("1.1 silverback/"));
        assert_eq!(header("x-forwarded-for"), Some("8.8.8.8, 127.0.0.1"));
        assert_eq!(header("x-forwarded-proto"), Some("http"));
        assert_eq!(header("x-real-ip"), Some("127.0.0.1"));
        assert_eq!(header("x-kong-request-id").unwrap().len(), 32);
    }
    Ok(())
}

#[tokio::test]
async fn what_earlier_plugins_left_is_what_is_changed() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin(
            "key-auth",
            json!({ "hide_credentials": true, "key_in_body": true }),
        )
        .plugin(
            PLUGIN,
            json!({
                "rename": { "headers": ["X-Consumer-Username:X-Who"] },
                "add": {
                    "querystring": ["who:$(headers['x-consumer-username'])", "key:$(query_params.apikey or 'hidden')"],
                    "body": ["more:1"],
                },
            }),
        )
        .create()
        .await?;
    gateway.consumer("ann", "secret").await?;
    let form = "application/x-www-form-urlencoded";
    let call = gateway.call("POST", "/?apikey=secret&b=1");
    call.header("Content-Type", form)
        .body("apikey=secret&c=1")
        .expect(200)
        .await?;
    let seen = upstream.seen().pop().unwrap();
    assert_eq!(seen.target, "/?b=1&key=hidden&who=");
    assert_eq!(seen.headers.get("x-who"), Some("ann"));
    assert_eq!(seen.headers.get("x-consumer-username"), None);
    assert_eq!(seen.body, b"c=1&more=1");
    Ok(())
}

#[tokio::test]
async fn a_header_that_is_replaced_keeps_its_spelling() -> Outcome {
    let (gateway, upstream) = with(json!({
        "rename": { "headers": ["old:Renamed", "case:CASE"] },
        "replace": { "headers": ["x-there:2"] },
        "add": { "headers": ["X-aDDed:1"] },
    }))
    .await?;
    let call = gateway.get("/").header("X-THERE", "1");
    call.header("Old", "o")
        .header("case", "c")
        .expect(200)
        .await?;
    let seen = upstream.seen().pop().unwrap();
    for name in ["X-THERE", "renamed", "CASE", "X-aDDed"] {
        assert!(
            seen.headers.0.iter().any(|(n, _)| n == name),
            "{name}: {seen:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_template_that_fails_is_an_error_and_one_that_cannot_be_parsed_is_refused() -> Outcome {
    let (gateway, upstream) =
        with(json!({ "add": { "headers": ["a:$(headers.none .. 'x')"] } })).await?;
    let answer = gateway.get("/").expect(500).await?;
    assert_eq!(answer.json()["message"], "An unexpected error occurred");
    assert_eq!(upstream.requests(), 0);
    let bad = |config| json!({ "name": PLUGIN, "config": config });
    let admin = gateway.admin();
    for (config, message) in [
        (
            json!({ "add": { "headers": ["a:$(foo())"] } }),
            "value '$(foo())' is not in supported format",
        ),
        (json!({ "http_method": "BREW" }), "invalid method: BREW"),
        (
            json!({ "replace": { "uri": "x" } }),
            "path must start with /",
        ),
    ] {
        let answer = admin
            .call("POST", "/plugins")
            .json(&bad(config))
            .expect(400)
            .await?;
        let text = answer.text();
        assert!(text.contains(message), "{text}");
    }
    Ok(())
}
