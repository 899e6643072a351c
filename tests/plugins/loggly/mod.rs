//! `loggly`.

use serde_json::{Value, json};
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;
use tokio::net::UdpSocket;

use crate::Outcome;

#[tokio::test]
async fn entries_are_messages_as_kong_sends_them() -> Outcome {
    let upstream = Upstream::start().await?;
    let server = UdpSocket::bind("127.0.0.1:0").await?;
    let gateway = Gateway::start().await?;
    let config = json!({
        "key": "loggly-key", "host": "127.0.0.1", "port": server.local_addr()?.port(), "client_errors_severity": "debug"
    });
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("loggly", config)
        .create()
        .await?;
    // A client's error is less grave than what is sent.
    gateway.get("/_status/404").expect(404).await?;
    gateway.get("/fine").expect(200).await?;
    let mut datagram = vec![0; 65536];
    let length = server.recv(&mut datagram).await?;
    let message = std::str::from_utf8(&datagram[..length])?;
    let (head, entry) = message.split_at(message.find('{').unwrap());
    let words: Vec<_> = head.split(' ').collect();
    assert_eq!(words[0], "<14>1");
    assert_eq!(
        words[3..],
        ["kong", "-", "-", "[loggly-key@41058", "tag=\"kong\"]", ""]
    );
    let entry: Value = serde_json::from_str(entry)?;
    assert_eq!(entry["request"]["uri"], "/fine");
    Ok(())
}
