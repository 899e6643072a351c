//! `udp-log`.

use serde_json::{Value, json};
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;
use tokio::net::UdpSocket;

use crate::Outcome;

#[tokio::test]
async fn entries_are_datagrams() -> Outcome {
    let upstream = Upstream::start().await?;
    let server = UdpSocket::bind("127.0.0.1:0").await?;
    let gateway = Gateway::start().await?;
    let config = json!({ "host": "localhost", "port": server.local_addr()?.port() });
    let service = gateway.service("s", &upstream).paths(["/"]);
    service.plugin("udp-log", config).create().await?;
    let mut datagram = vec![0; 65536];
    for path in ["/one", "/two"] {
        gateway.get(path).expect(200).await?;
        let length = server.recv(&mut datagram).await?;
        let entry: Value = serde_json::from_slice(&datagram[..length])?;
        assert_eq!(entry["request"]["uri"], path);
        assert_eq!(entry["tries"][0]["port"], upstream.addr().port());
    }
    Ok(())
}
