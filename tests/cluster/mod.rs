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

/// How long many writers are at the same few names; longer on request, with `SILVERBACK_STORM_SECONDS`.
fn storm() -> Duration {
    let told = std::env::var("SILVERBACK_STORM_SECONDS").ok();
    Duration::from_secs(told.and_then(|s| s.parse().ok()).unwrap_or(4))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_of_the_same_names_end_in_one_state_everywhere() -> Outcome {
    const WRITERS: usize = 16;
    const NAMES: usize = 5;
    let upstream = Upstream::start().await?;
    let nodes = three().await?;
    nodes[0]
        .service("s", &upstream)
        .paths(["/none"])
        .create()
        .await?;
    let end = Instant::now() + storm();
    let writers = (0..WRITERS).map(|n| {
        let node = &nodes[n % nodes.len()];
        async move {
            let admin = node.admin();
            let mut written = 0_usize;
            let mut turn = n;
            while Instant::now() < end {
                turn += 1;
                let name = format!("storm{}", turn % NAMES);
                let body = json!({"name": name, "paths": [format!("/{name}/{}", turn % 3)], "service": {"name": "s"}});
                let at = format!("/routes/{name}");
                let response = match turn % 4 {
                    0 => admin.post("/routes", &body).send().await?,
                    1 => admin.put(&at, &body).send().await?,
                    2 => admin.patch(&at, &json!({"paths": [format!("/{name}/{}", turn % 3)]})).send().await?,
                    _ => admin.delete(&at).send().await?,
                };
                let status = response.status;
                // Made, changed, gone; not there to be patched; there already; and never anything of the server's.
                anyhow::ensure!(matches!(status, 200 | 201 | 204 | 404 | 409), "{turn}: {status} {}", response.text());
                written += usize::from(status < 300);
            }
            anyhow::Ok(written)
        }
    });
    let written: usize = try_join_all(writers).await?.into_iter().sum();
    anyhow::ensure!(written > 50, "only {written} writes in all");
    for node in &nodes {
        node.settle().await?;
    }
    let mut states = Vec::new();
    for node in &nodes {
        let rows = node
            .admin()
            .get("/routes?size=1000")
            .expect(200)
            .await?
            .json();
        let mut rows: Vec<_> = rows["data"].as_array().cloned().unwrap_or_default();
        rows.sort_by_key(|r| r["id"].to_string());
        let paths: Vec<String> = rows
            .iter()
            .flat_map(|r| r["paths"].as_array().cloned().unwrap_or_default())
            .filter_map(|p| p.as_str().map(str::to_owned))
            .collect();
        for name in 0..NAMES {
            for variant in 0..3 {
                let path = format!("/storm{name}/{variant}");
                let status = if paths.contains(&path) { 200 } else { 404 };
                node.get(&path).expect(status).await?;
            }
        }
        states.push(rows);
    }
    assert!(states.windows(2).all(|s| s[0] == s[1]), "{states:#?}");
    Ok(())
}
