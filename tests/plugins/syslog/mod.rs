//! `syslog`. What reaches a daemon is tested beside the plugin, with a daemon of the test's own.

use serde_json::json;
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

#[tokio::test]
async fn clients_are_answered_whether_there_is_a_daemon_or_not() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    let config = json!({ "facility": "local3", "log_level": "debug" });
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("syslog", config)
        .create()
        .await?;
    for _ in 0..3 {
        gateway.get("/").expect(200).await?;
    }
    Ok(())
}
