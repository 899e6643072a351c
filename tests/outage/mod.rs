//! Postgres goes away and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use silverback_testkit::gateway::{Endpoint, Gateway, Setup, eventually};
use silverback_testkit::postgres::Server;
use silverback_testkit::process;
use silverback_testkit::upstream::Upstream;
use tokio::task::{JoinHandle, block_in_place};

use crate::Outcome;

/// Requests without a pause over kept connections until told to stop; the task answers with how many were not 200.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<anyhow::Result<u64>>>,
}

impl Load {
    fn start(proxy: &Endpoint) -> Self {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let tasks = (0..4)
            .map(|_| {
                let (proxy, stop, sent) = (proxy.clone(), stop.clone(), sent.clone());
                tokio::spawn(async move {
                    let mut connection = proxy.connect().await?;
                    let call = proxy.get("/load").header("apikey", "k");
                    let mut failed = 0;
                    while !stop.load(Ordering::SeqCst) {
                        failed += u64::from(connection.send(&call).await?.status != 200);
                        sent.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(failed)
                })
            })
            .collect();
        Self { stop, sent, tasks }
    }

    /// Waits until so many more requests were answered.
    async fn more(&self, count: u64) -> Outcome {
        let goal = self.sent.load(Ordering::SeqCst) + count;
        eventually("requests are answered", Duration::from_secs(30), || async {
            Ok((self.sent.load(Ordering::SeqCst) >= goal).then_some(()))
        })
        .await
    }

    async fn failed(self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::SeqCst);
        let mut failed = 0;
        for task in self.tasks {
            failed += task.await??;
        }
        Ok(failed)
    }
}

async fn serving(gateway: &Gateway, upstream: &Upstream) -> Outcome {
    gateway
        .service("s", upstream)
        .paths(["/load"])
        .plugin("key-auth", json!({}))
        .plugin("rate-limiting", json!({"year": 1_000_000_000}))
        .create()
        .await?;
    gateway.consumer("c", "k").await?;
    gateway.settle().await
}

async fn admin_works(gateway: &Gateway) -> Outcome {
    let limit = Duration::from_secs(2);
    eventually("the Admin API works again", limit, || async {
        let answer = gateway.admin().get("/services/s").send().await?;
        Ok((answer.status == 200).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_killed_under_load_costs_no_request() -> Outcome {
    let mut postgres = Server::start()?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new().on(&postgres).await?.start().await?;
    let other = gateway.another().await?;
    serving(&gateway, &upstream).await?;
    let load = Load::start(&gateway.proxy());
    load.more(200).await?;

    block_in_place(|| postgres.kill());
    load.more(200).await?;
    let name = json!({"username": "nobody"});
    for call in [
        gateway.admin().get("/services"),
        gateway.admin().get("/services/s"),
        gateway.admin().post("/consumers", &name),
        gateway.admin().patch("/services/s", &json!({"retries": 1})),
        gateway.admin().delete("/services/s"),
    ] {
        let answer = call.expect(503).await?;
        assert_eq!(
            answer.header("content-type"),
            Some("application/json; charset=utf-8")
        );
        assert!(answer.json()["message"].is_string(), "{}", answer.text());
    }
    let status = gateway.admin().get("/status").expect(200).await?.json();
    assert_eq!(status["database"]["reachable"], false);
    load.more(200).await?;

    block_in_place(|| postgres.restart())?;
    admin_works(&gateway).await?;
    admin_works(&other).await?;
    // What another node changes now reaches this one, which lost its connection for notifications.
    other
        .service("late", &upstream)
        .paths(["/late"])
        .create()
        .await?;
    gateway.get("/late").expect(200).await?;
    let status = gateway.admin().get("/status").expect(200).await?.json();
    assert_eq!(status["database"]["reachable"], true);
    load.more(200).await?;
    assert_eq!(load.failed().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_never_notified_arrives() -> Outcome {
    let mut postgres = Server::start()?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new().on(&postgres).await?.start().await?;
    serving(&gateway, &upstream).await?;
    let row = gateway.admin().get("/routes/s").expect(200).await?.json();
    let id = row["id"].as_str().unwrap();
    // As another node would, but without NOTIFY: what a pooler that swallows notifications leaves.
    let change = format!(
        "begin; update routes set paths = '[\"/moved\"]' where id = '{id}'; \
         update config_revision set revision = revision + 1; \
         insert into config_changes (revision, entity, entity_id, op) \
           select revision, 'routes', '{id}', 'update' from config_revision; commit;"
    );
    block_in_place(|| gateway.database().sql(&change))?;
    gateway.serves(gateway.revision().await?).await?;
    let moved = gateway.get("/moved").header("apikey", "k");
    moved.expect(200).await?;

    // And once more while the node cannot hear anything: it is told by the revision when it is back.
    block_in_place(|| postgres.kill());
    block_in_place(|| postgres.restart())?;
    let back = change.replace("/moved", "/again");
    block_in_place(|| gateway.database().sql(&back))?;
    gateway.serves(gateway.revision().await?).await?;
    gateway
        .get("/again")
        .header("apikey", "k")
        .expect(200)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_started_while_postgres_is_away_serves_from_its_file() -> Outcome {
    let mut postgres = Server::start()?;
    let upstream = Upstream::start().await?;
    let prefix = process::temporary("silverback-outage-");
    let setup = Setup::new().on(&postgres).await?.prefix(&prefix);
    let gateway = setup.start().await?;
    serving(&gateway, &upstream).await?;
    let setup = gateway.setup();
    gateway.stop(Duration::from_secs(5)).await?;

    block_in_place(|| postgres.kill());
    let gateway = setup.start().await?;
    let open = gateway.proxy().get("/load").header("apikey", "k");
    open.expect(200).await?;
    gateway.proxy().get("/load").expect(401).await?;
    gateway.admin().get("/services").expect(503).await?;
    let ready = gateway.status().get("/status/ready").send().await?;
    assert_eq!(ready.status, 200);

    block_in_place(|| postgres.restart())?;
    admin_works(&gateway).await?;
    gateway
        .service("late", &upstream)
        .paths(["/late"])
        .create()
        .await?;
    gateway.get("/late").expect(200).await?;
    drop(gateway);
    std::fs::remove_dir_all(prefix)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_started_while_postgres_is_there_does_not_serve_from_an_old_file() -> Outcome {
    let upstream = Upstream::start().await?;
    let prefix = process::temporary("silverback-outage-");
    let gateway = Setup::new().prefix(&prefix).start().await?;
    let other = gateway.another().await?;
    serving(&gateway, &upstream).await?;
    let setup = gateway.setup();
    gateway.stop(Duration::ZERO).await?;
    for n in 0..3 {
        a_fresh_start_sees(&setup, &other, n).await?;
    }
    std::fs::remove_dir_all(prefix)?;
    Ok(())
}

/// Changes something, starts a node on a file that is older, and asks at once.
async fn a_fresh_start_sees(setup: &Setup, other: &Gateway, n: u32) -> Outcome {
    let before = setup.clone().start().await?;
    before.stop(Duration::ZERO).await?;
    let paths = json!({"paths": ["/load", format!("/n{n}")]});
    other.admin().patch("/routes/s", &paths).expect(200).await?;
    let after = setup.clone().start().await?;
    let call = after.proxy().get(&format!("/n{n}")).header("apikey", "k");
    call.expect(200).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_snapshot_file_is_for_its_owner_only() -> Outcome {
    use std::os::unix::fs::PermissionsExt as _;
    let upstream = Upstream::start().await?;
    let gateway = Gateway::start().await?;
    serving(&gateway, &upstream).await?;
    let revision = gateway.revision().await?;
    eventually("the file is written", Duration::from_secs(10), || async {
        Ok((gateway.node().engine().saved() >= revision).then_some(()))
    })
    .await?;
    let file = gateway.prefix().join("snapshot");
    let mode = std::fs::metadata(&file)?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_file_says_why_it_does_not_start() -> Outcome {
    let mut postgres = Server::start()?;
    let setup = Setup::new().on(&postgres).await?;
    block_in_place(|| postgres.kill());
    let Err(error) = setup.start().await else {
        panic!("it started")
    };
    assert!(
        format!("{error:#}").contains("Postgres is out of reach and there is no snapshot file"),
        "{error:#}"
    );
    Ok(())
}

#[tokio::test]
async fn an_empty_database_is_told_from_one_that_is_away() -> Outcome {
    let database = Server::shared()?.database()?;
    let Err(error) = Setup::new().database(database).start().await else {
        panic!("it started")
    };
    let text = format!("{error:#}");
    assert!(text.contains("silverback migrations bootstrap"), "{text}");
    Ok(())
}
