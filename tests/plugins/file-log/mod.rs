//! `file-log`.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use silverback_testkit::gateway::{Gateway, eventually};
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

/// The entries in a file, as soon as there are so many.
async fn entries(path: &Path, count: usize) -> anyhow::Result<Vec<Value>> {
    eventually("lines", Duration::from_secs(10), || async {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() < count || !text.ends_with('\n') {
            return Ok(None);
        }
        let parsed: Result<Vec<_>, _> = text.lines().map(serde_json::from_str).collect();
        Ok(Some(parsed?))
    })
    .await
}

#[tokio::test]
async fn requests_at_the_same_time_are_whole_lines() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    let path = gateway.prefix().join("requests.log");
    let config = json!({ "path": path });
    gateway
        .service("a", &upstream)
        .paths(["/a"])
        .plugin("file-log", config.clone())
        .create()
        .await?;
    gateway
        .service("b", &upstream)
        .paths(["/b"])
        .plugin("file-log", config)
        .create()
        .await?;
    gateway.settle().await?;
    let call = |n: usize| {
        let path = if n.is_multiple_of(2) { "/a" } else { "/b" };
        gateway.proxy().get(path).expect(200)
    };
    for answer in futures::future::join_all((0..50).map(call)).await {
        answer?;
    }
    let lines = entries(&path, 50).await?;
    assert_eq!(lines.len(), 50);
    for name in ["a", "b"] {
        let of = lines
            .iter()
            .filter(|e| e["service"]["name"] == name)
            .count();
        assert_eq!(of, 25);
    }
    Ok(())
}

#[tokio::test]
async fn with_reopen_a_file_can_be_moved_away() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    let path = gateway.prefix().join("moved.log");
    let config = json!({ "path": path, "reopen": true });
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("file-log", config)
        .create()
        .await?;
    gateway.get("/one").expect(200).await?;
    assert_eq!(entries(&path, 1).await?[0]["request"]["uri"], "/one");
    std::fs::rename(&path, path.with_extension("1"))?;
    gateway.get("/two").expect(200).await?;
    assert_eq!(entries(&path, 1).await?[0]["request"]["uri"], "/two");
    Ok(())
}

#[tokio::test]
async fn lines_are_written_before_the_node_is_gone() -> Outcome {
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    let path = std::env::temp_dir().join(format!(
        "silverback-last-{}.log",
        gateway.proxy_addr().port()
    ));
    let config = json!({ "path": path });
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .plugin("file-log", config)
        .create()
        .await?;
    gateway.get("/last").expect(200).await?;
    gateway.stop(Duration::from_secs(5)).await?;
    let text = std::fs::read_to_string(&path)?;
    std::fs::remove_file(&path)?;
    assert_eq!(
        serde_json::from_str::<Value>(&text)?["request"]["uri"],
        "/last"
    );
    Ok(())
}
