//! `http-log`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use silverback_testkit::gateway::{Gateway, eventually};
use silverback_testkit::h1::{self, Parsed};
use silverback_testkit::upstream::{Answer, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Outcome;
use crate::plugins::tls::TlsServer;

/// What one call to an entry's server carried.
fn body(request: &h1::Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// A gateway with one route for everything that logs to that server.
async fn logging(upstream: &Upstream, server: &Upstream, more: Value) -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    let mut config = json!({ "http_endpoint": format!("{}/in?x=1", server.url()) });
    let more = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    let service = gateway.service("s", upstream).paths(["/"]);
    service.plugin("http-log", config).create().await?;
    Ok(gateway)
}

/// A server that takes what it is sent.
async fn server() -> anyhow::Result<Upstream> {
    let server = Upstream::start().await?;
    server.answer(Answer::status(200));
    Ok(server)
}

/// Fields by their path, with a placeholder where values differ between any two exchanges or gateways.
fn flat(value: &Value, path: &str, into: &mut BTreeMap<String, Value>) {
    const ANY: [&str; 22] = [
        "size",
        "created_at",
        "updated_at",
        "ws_id",
        "workspace",
        "started_at",
        "kong",
        "proxy",
        "receive",
        "date",
        "content-length",
        "x-kong-request-id",
        "via",
        "server",
        "x-kong-proxy-latency",
        "x-kong-upstream-latency",
        "x-kong-response-latency",
        "balancer_start",
        "balancer_start_ns",
        "balancer_latency",
        "balancer_latency_ns",
        "x-credential-identifier",
    ];
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                flat(value, &format!("{path}.{name}"), into);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (n, value) in list.iter().enumerate() {
                flat(value, &format!("{path}.{n}"), into);
            }
        }
        leaf => {
            let name = path.rsplit('.').next().unwrap_or_default();
            let masked = ANY.contains(&name)
                || path.ends_with(".id")
                || path.ends_with(".x-consumer-id")
                || path.ends_with(".traceparent")
                || path.ends_with("latencies.request")
                || path.starts_with(".service.port")
                || path.ends_with(".0.port");
            let kind = match leaf {
                Value::Number(_) => "a number",
                _ => "a text",
            };
            let shown = if masked { kind.into() } else { leaf.clone() };
            into.insert(path.to_owned(), shown);
        }
    }
}

#[tokio::test]
async fn entries_are_those_that_kong_sends() -> Outcome {
    let (upstream, server) = (Upstream::start().await?, server().await?);
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    gateway
        .service("s", &upstream)
        .route("name", json!("log"))
        .hosts(["log.test"])
        .create()
        .await?;
    let alice = json!({ "username": "alice", "custom_id": "c-alice", "tags": ["t"] });
    admin.post("/consumers", &alice).expect(201).await?;
    admin
        .post("/consumers/alice/key-auth", &json!({ "key": "a" }))
        .expect(201)
        .await?;
    let config = json!({ "http_endpoint": format!("{}/_log/http?x=1", server.url()), "headers": { "X-L": "v" } });
    gateway.plugin("/routes/log", "http-log", config).await?;
    gateway.plugin("/routes/log", "key-auth", json!({})).await?;
    gateway.settle().await?;
    for (n, line) in include_str!("recorded.jsonl").lines().enumerate() {
        let recorded: Value = serde_json::from_str(line)?;
        let request = recorded["request"].as_str().unwrap();
        let mut connection = gateway.proxy().connect().await?;
        connection.write(request.as_bytes()).await?;
        connection.response("GET").await?;
        server.wait_for(n as u64 + 1).await;
        let sent = &server.seen()[n];
        assert_eq!(
            (sent.method.as_str(), sent.target.as_str()),
            ("POST", "/_log/http")
        );
        assert_eq!(sent.headers.get("X-L"), Some("v"));
        assert_eq!(sent.headers.get("Content-Type"), Some("application/json"));
        let (mut kong, mut ours) = (BTreeMap::new(), BTreeMap::new());
        flat(&recorded["entry"], "", &mut kong);
        flat(&body(sent), "", &mut ours);
        // nginx adds `Date` to its own answers, and `Connection` to all, elsewhere than we do.
        for name in ["date", "connection"] {
            for entry in [&mut kong, &mut ours] {
                entry.remove(&format!(".response.headers.{name}"));
            }
        }
        // The recording gateway listened elsewhere.
        let port = format!(":{}", gateway.proxy_addr().port());
        for value in ours.values_mut() {
            if let Some(text) = value.as_str() {
                *value = text.replace(&port, ":18020").into();
            }
        }
        assert_eq!(ours, kong, "{request}");
        let size = &body(sent)["request"]["size"];
        assert_eq!(*size, request.len());
    }
    Ok(())
}

#[tokio::test]
async fn entries_are_sent_in_batches_on_a_kept_connection() -> Outcome {
    let (upstream, server) = (Upstream::start().await?, server().await?);
    let batches =
        json!({ "queue": { "max_batch_size": 3, "max_coalescing_delay": 3600 }, "method": "PUT" });
    let gateway = logging(&upstream, &server, batches).await?;
    for n in 1..=6 {
        gateway.get(&format!("/{n}")).expect(200).await?;
    }
    server.wait_for(2).await;
    let mut uris = Vec::new();
    for request in server.seen() {
        assert_eq!(
            (request.method.as_str(), request.target.as_str()),
            ("PUT", "/in")
        );
        let batch = body(&request);
        let batch = batch.as_array().unwrap();
        assert_eq!(batch.len(), 3);
        uris.extend(
            batch
                .iter()
                .map(|e| e["request"]["uri"].as_str().unwrap().to_owned()),
        );
    }
    uris.sort_unstable();
    assert_eq!(uris, ["/1", "/2", "/3", "/4", "/5", "/6"]);
    assert_eq!(server.connections(), 1);
    Ok(())
}

#[tokio::test]
async fn what_the_server_refuses_comes_again() -> Outcome {
    let (upstream, server) = (Upstream::start().await?, server().await?);
    server.fail(3, &Answer::status(500));
    let gateway = logging(
        &upstream,
        &server,
        json!({ "headers": { "Authorization": "x" } }),
    )
    .await?;
    gateway.get("/again").expect(200).await?;
    server.wait_for(4).await;
    for request in server.seen() {
        assert_eq!(body(&request)["request"]["uri"], "/again");
        assert_eq!(request.headers.get("Authorization"), Some("x"));
    }
    Ok(())
}

#[tokio::test]
async fn clients_do_not_wait_for_a_server_that_hangs() -> Outcome {
    let (upstream, server) = (Upstream::start().await?, server().await?);
    server.fail(1, &Answer::hang());
    let gateway = logging(&upstream, &server, json!({ "queue": { "max_entries": 2 } })).await?;
    gateway.get("/0").expect(200).await?;
    server.wait_for(1).await;
    for n in 1..=20 {
        gateway.get(&format!("/{n}")).expect(200).await?;
    }
    assert_eq!(server.requests(), 1);
    Ok(())
}

#[tokio::test]
async fn what_waits_is_sent_when_the_node_stops() -> Outcome {
    let (upstream, server) = (Upstream::start().await?, server().await?);
    let late = json!({ "queue": { "max_batch_size": 100, "max_coalescing_delay": 3600 } });
    let gateway = logging(&upstream, &server, late).await?;
    gateway.get("/one").expect(200).await?;
    gateway.get("/two").expect(200).await?;
    gateway.stop(Duration::from_secs(5)).await?;
    let sent = body(&server.seen()[0]);
    let uris: Vec<_> = sent
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["request"]["uri"])
        .collect();
    assert_eq!(uris.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_queue_outlives_a_change_and_the_end_of_its_configuration() -> Outcome {
    let (upstream, server) = (Upstream::start().await?, server().await?);
    let late = json!({ "queue": { "max_batch_size": 3, "max_coalescing_delay": 3600 } });
    let gateway = logging(&upstream, &server, late).await?;
    gateway.get("/one").expect(200).await?;
    let admin = gateway.admin();
    let plugins = admin.get("/plugins").expect(200).await?.json();
    let path = format!("/plugins/{}", plugins["data"][0]["id"].as_str().unwrap());
    let smaller = json!({ "config": { "queue": { "max_batch_size": 2 } } });
    admin.patch(&path, &smaller).expect(200).await?;
    gateway.get("/two").expect(200).await?;
    server.wait_for(1).await;
    assert_eq!(body(&server.seen()[0]).as_array().unwrap().len(), 2);
    gateway.get("/three").expect(200).await?;
    let soon = json!({ "config": { "queue": { "max_coalescing_delay": 0 } } });
    admin.patch(&path, &soon).expect(200).await?;
    admin.delete(&path).expect(204).await?;
    let limit = Duration::from_secs(10);
    let all = eventually("the last entry", limit, || async {
        Ok((server.requests() == 2).then(|| server.seen()))
    });
    assert_eq!(body(&all.await?[1])[0]["request"]["uri"], "/three");
    Ok(())
}

#[tokio::test]
async fn what_other_plugins_say_is_logged() -> Outcome {
    let (upstream, server) = (Upstream::start().await?, server().await?);
    let gateway = logging(&upstream, &server, json!({})).await?;
    gateway
        .plugin("", "correlation-id", json!({ "header_name": "X-Id" }))
        .await?;
    gateway.get("/").header("X-Id", "mine").expect(200).await?;
    server.wait_for(1).await;
    assert_eq!(body(&server.seen()[0])["correlation_id"], "mine");
    gateway.get("/").expect(200).await?;
    server.wait_for(2).await;
    let entry = body(&server.seen()[1]);
    assert_eq!(entry["correlation_id"], entry["request"]["headers"]["x-id"]);
    Ok(())
}

#[tokio::test]
async fn attempts_that_failed_are_told() -> Outcome {
    let (upstream, server) = (Upstream::start().await?, server().await?);
    upstream.fail(1, &Answer::reset());
    let gateway = logging(&upstream, &server, json!({})).await?;
    gateway.get("/").expect(200).await?;
    server.wait_for(1).await;
    let entry = body(&server.seen()[0]);
    assert_eq!(entry["upstream_status"], "502, 200");
    let tries = entry["tries"].as_array().unwrap();
    assert_eq!(
        (&tries[0]["state"], &tries[0]["code"]),
        (&json!("failed"), &json!(502))
    );
    assert_eq!((tries.len(), tries[1].get("state")), (2, None));
    Ok(())
}

#[tokio::test]
async fn entries_are_encrypted_for_https() -> Outcome {
    let upstream = Upstream::start().await?;
    let server = TlsServer::start().await?;
    let gateway = Gateway::start().await?;
    let config =
        json!({ "http_endpoint": format!("https://bob:pw@localhost:{}/in", server.port()) });
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("http-log", config)
        .create()
        .await?;
    gateway.get("/secret").expect(200).await?;
    let mut accepted = server.accept().await?;
    assert_eq!(accepted.server_name.as_deref(), Some("localhost"));
    let mut bytes = Vec::new();
    let request = loop {
        match h1::request(&bytes) {
            Parsed::Complete(request, _) => break request,
            Parsed::Partial => assert!(accepted.stream.read_buf(&mut bytes).await? > 0),
            Parsed::Invalid(why) => panic!("{why}"),
        }
    };
    accepted
        .stream
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .await?;
    assert_eq!(request.headers.get("Authorization"), Some("Basic Ym9iOnB3"));
    assert_eq!(body(&request)["request"]["uri"], "/secret");
    Ok(())
}

#[tokio::test]
async fn over_tls_the_entry_says_so() -> Outcome {
    let (upstream, server) = (Upstream::start().await?, server().await?);
    let gateway = silverback_testkit::gateway::Setup::new()
        .tls()
        .start()
        .await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .create()
        .await?;
    gateway
        .plugin("", "http-log", json!({ "http_endpoint": server.url() }))
        .await?;
    gateway.settle().await?;
    gateway.tls().get("/secret").expect(200).await?;
    server.wait_for(1).await;
    let entry = body(&server.seen()[0]);
    let tls = &entry["request"]["tls"];
    assert!(
        tls["version"].as_str().unwrap().starts_with("TLSv1."),
        "{tls}"
    );
    assert_eq!(tls["client_verify"], "NONE");
    assert!(
        entry["request"]["url"]
            .as_str()
            .unwrap()
            .starts_with("https://")
    );
    // No route is logged by global plugins as well.
    gateway
        .admin()
        .delete("/services/s/routes/s")
        .expect(204)
        .await?;
    gateway.get("/nothing").expect(404).await?;
    server.wait_for(2).await;
    let entry = body(&server.seen()[1]);
    assert_eq!(
        (&entry["source"], entry.get("route")),
        (&json!("kong"), None)
    );
    assert_eq!(entry["upstream_uri"], "");
    Ok(())
}
