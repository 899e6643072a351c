//! `tcp-log`.

use serde_json::{Value, json};
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpListener;

use crate::Outcome;
use crate::plugins::tls::TlsServer;

/// A gateway that logs everything like this.
async fn logging(upstream: &Upstream, config: Value) -> anyhow::Result<Gateway> {
    let gateway = Gateway::start().await?;
    let service = gateway.service("s", upstream).paths(["/"]);
    service.plugin("tcp-log", config).create().await?;
    gateway.settle().await?;
    Ok(gateway)
}

async fn entry(stream: &mut BufReader<impl AsyncRead + Unpin>) -> anyhow::Result<Value> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok(serde_json::from_str(&line)?)
}

#[tokio::test]
async fn entries_are_lines_on_one_connection_until_it_breaks() -> Outcome {
    let upstream = Upstream::start().await?;
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let at = server.local_addr()?;
    let gateway = logging(&upstream, json!({ "host": "127.0.0.1", "port": at.port() })).await?;
    gateway.get("/one").expect(200).await?;
    let mut stream = BufReader::new(server.accept().await?.0);
    assert_eq!(entry(&mut stream).await?["request"]["uri"], "/one");
    gateway.get("/two").expect(200).await?;
    let second = entry(&mut stream).await?;
    assert_eq!(second["request"]["uri"], "/two");
    assert_eq!(second["service"]["name"], "s");
    drop(stream);
    gateway.get("/three").expect(200).await?;
    let mut stream = BufReader::new(server.accept().await?.0);
    assert_eq!(entry(&mut stream).await?["request"]["uri"], "/three");
    Ok(())
}

#[tokio::test]
async fn entries_are_encrypted_when_they_are_to_be() -> Outcome {
    let upstream = Upstream::start().await?;
    let server = TlsServer::start().await?;
    let config =
        json!({ "host": "127.0.0.1", "port": server.port(), "tls": true, "tls_sni": "log.test" });
    let gateway = logging(&upstream, config).await?;
    gateway.get("/one").expect(200).await?;
    let mut accepted = server.accept().await?;
    assert_eq!(accepted.server_name.as_deref(), Some("log.test"));
    assert_eq!(entry(&mut accepted.stream).await?["request"]["uri"], "/one");
    gateway.get("/two").expect(200).await?;
    assert_eq!(entry(&mut accepted.stream).await?["request"]["uri"], "/two");
    Ok(())
}

#[tokio::test]
async fn clients_are_answered_though_nobody_takes_entries() -> Outcome {
    let upstream = Upstream::start().await?;
    let gone = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let gateway = logging(
        &upstream,
        json!({ "host": "127.0.0.1", "port": gone.port() }),
    )
    .await?;
    for _ in 0..5 {
        gateway.get("/").expect(200).await?;
    }
    Ok(())
}
