use std::time::{Duration, Instant};

use serde_json::json;

use super::watching::{NEVER, Node, assert_same};
use super::{def, on, service};
use crate::testpg::Server;
use crate::{Key, StoreError, migrate};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postgres_fails_at_once_and_all_works_again_when_it_returns() {
    let mut server = Server::start(true);
    let cfg = server.cfg("postgres");
    migrate::up(&cfg).await.unwrap();
    let (store, other) = (on(cfg.clone()), on(cfg));
    let d = def("services");
    let s = store
        .insert(&d, service(json!({"name": "before"})))
        .await
        .unwrap();
    let key = Key::Unique("name", "before");
    let mut node = Node::start(&store, NEVER);
    node.until(1).await;

    server.kill();
    let at = Instant::now();
    let answers = [
        store.get(&d, &key).await.map(drop),
        store.insert(&d, service(json!({}))).await.map(drop),
        store.delete(&d, &key).await.map(drop),
        store.ping().await.map(drop),
        store
            .counters()
            .add(&[crate::Increment {
                key: "k",
                window: 1,
                expires: 1,
                amount: 1,
            }])
            .await
            .map(drop),
    ];
    for a in answers {
        assert!(matches!(a, Err(StoreError::Unavailable(_))), "{a:?}");
    }
    assert!(at.elapsed() < Duration::from_secs(1), "{:?}", at.elapsed());
    node.next().await;
    assert_eq!(node.seen, ["loaded", "lost"]);

    server.again();
    let at = Instant::now();
    assert_eq!(store.get(&d, &key).await.unwrap(), Some(s));
    // A node that was away as well writes; the watcher hears of it although it was not there.
    other
        .insert(&d, service(json!({"name": "after"})))
        .await
        .unwrap();
    node.until(2).await;
    assert!(at.elapsed() < Duration::from_secs(2), "{:?}", at.elapsed());
    assert_eq!(node.seen[2], "back");
    assert!(!node.seen[2..].contains(&"loaded"), "{:?}", node.seen);
    assert_same(&node.tables, &store.load().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_confirmed_is_lost_when_postgres_is_killed_while_writing() {
    let mut server = Server::start(true);
    let cfg = server.cfg("postgres");
    migrate::up(&cfg).await.unwrap();
    let store = on(cfg);
    let writers: Vec<_> = (0..8)
        .map(|w| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut done = Vec::new();
                for i in 0.. {
                    match store
                        .insert(
                            &def("services"),
                            service(json!({"name": format!("{w}-{i}")})),
                        )
                        .await
                    {
                        Ok(row) => done.push(super::id_of(&row)),
                        Err(StoreError::Unavailable(_)) => return done,
                        Err(e) => panic!("{e:?}"),
                    }
                }
                done
            })
        })
        .collect();
    while super::revision(&store).await < 50 {}
    server.kill();
    let confirmed = futures::future::try_join_all(writers)
        .await
        .unwrap()
        .concat();
    server.again();
    let there = store
        .exists_many(&def("services"), &confirmed)
        .await
        .unwrap();
    assert!(
        confirmed.len() >= 50 && there.len() == confirmed.len(),
        "{} of {}",
        there.len(),
        confirmed.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_does_not_answer_does_not_hang_anyone() {
    let server = Server::start(false);
    let half = Duration::from_millis(500);
    let cfg = crate::PgConfig {
        statement_timeout: half,
        connect_timeout: half,
        ..server.cfg("postgres")
    };
    migrate::up(&cfg).await.unwrap();
    let store = on(cfg);
    let d = def("services");
    store.insert(&d, service(json!({}))).await.unwrap();
    // Someone holds what everybody needs.
    let lock = store.pool().get().await.unwrap();
    lock.batch_execute(
        "begin; set local idle_in_transaction_session_timeout = 0; lock table services",
    )
    .await
    .unwrap();
    let at = Instant::now();
    let got = store.insert(&d, service(json!({}))).await;
    assert!(matches!(got, Err(StoreError::Unavailable(_))), "{got:?}");
    assert!(at.elapsed() < Duration::from_secs(2), "{:?}", at.elapsed());
    lock.batch_execute("rollback").await.unwrap();
    store.insert(&d, service(json!({}))).await.unwrap();
}
