//! Several nodes on one database.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use serde_json::json;
use silverback_testkit::gateway::Gateway;
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

async fn three() -> anyhow::Result<[Gateway; 3]> {
    let first = Gateway::start().await?;
    let (second, third) = (first.another().await?, first.another().await?);
    Ok([first, second, third])
}

#[tokio::test]
async fn what_is_changed_on_one_node_is_served_by_all() -> Outcome {
    let upstream = Upstream::start().await?;
    let nodes = three().await?;
    for (n, writer) in nodes.iter().enumerate() {
        let (name, path) = (format!("s{n}"), format!("/p{n}"));
        let service = writer
            .service(&name, &upstream)
            .route("paths", json!([path]));
        service.create().await?;
        for node in &nodes {
            node.get(&path).expect(200).await?;
        }
    }
    // A third node changes and deletes what another made.
    let admin = nodes[2].admin();
    let paths = json!({"paths": ["/moved"]});
    admin.patch("/routes/s0", &paths).expect(200).await?;
    for node in &nodes {
        node.get("/p0").expect(404).await?;
        node.get("/moved").expect(200).await?;
    }
    admin.delete("/routes/s0").expect(204).await?;
    for node in &nodes {
        node.get("/moved").expect(404).await?;
    }
    Ok(())
}

#[tokio::test]
async fn writers_at_once_lose_nothing() -> Outcome {
    const EACH: usize = 30;
    let upstream = Upstream::start().await?;
    let nodes = three().await?;
    nodes[0]
        .service("s", &upstream)
        .paths(["/none"])
        .create()
        .await?;
    let write = nodes.iter().enumerate().map(|(n, node)| async move {
        for m in 0..EACH {
            let route = json!({"name": format!("r{n}-{m}"), "paths": [format!("/r{n}-{m}")]});
            node.admin()
                .post("/services/s/routes", &route)
                .expect(201)
                .await?;
        }
        anyhow::Ok(())
    });
    try_join_all(write).await?;
    for node in &nodes {
        for n in 0..nodes.len() {
            for m in 0..EACH {
                node.get(&format!("/r{n}-{m}")).expect(200).await?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_change_arrives_without_waiting_for_a_poll() -> Outcome {
    let upstream = Upstream::start().await?;
    let nodes = [silverback_testkit::gateway::Setup::new()
        .set("db_update_frequency", "60")
        .start()
        .await?];
    let other = nodes[0].another().await?;
    nodes[0]
        .service("s", &upstream)
        .paths(["/"])
        .create()
        .await?;
    let mut slowest = Duration::ZERO;
    for n in 0..10 {
        let start = Instant::now();
        let paths = json!({"paths": [format!("/n{n}")]});
        nodes[0]
            .admin()
            .patch("/routes/s", &paths)
            .expect(200)
            .await?;
        other.settle().await?;
        slowest = slowest.max(start.elapsed());
        other.get(&format!("/n{n}")).expect(200).await?;
    }
    // Notifications take milliseconds; this is far from the poll and leaves room for a busy machine.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    Ok(())
}

#[tokio::test]
async fn a_node_that_joins_later_serves_everything() -> Outcome {
    let upstream = Upstream::start().await?;
    let first = Gateway::start().await?;
    first
        .service("s", &upstream)
        .paths(["/"])
        .plugin("key-auth", json!({}))
        .create()
        .await?;
    first.consumer("c", "k").await?;
    let later = first.another().await?;
    later.get("/").expect(401).await?;
    later.get("/").header("apikey", "k").expect(200).await?;
    Ok(())
}

#[tokio::test]
async fn roles_divide_the_work() -> Outcome {
    let upstream = Upstream::start().await?;
    let control = Gateway::start().await?;
    let data = control.setup().set("role", "data_plane").start().await?;
    assert!(data.node().admin_addrs().is_empty());
    control
        .service("s", &upstream)
        .paths(["/"])
        .create()
        .await?;
    data.get("/").expect(200).await?;
    let only_admin = control.setup().set("role", "control_plane").start().await?;
    assert!(only_admin.node().proxy_addrs().is_empty());
    only_admin.admin().delete("/routes/s").expect(204).await?;
    data.get("/").expect(404).await?;
    Ok(())
}
