//! How fast it is, with numbers that hold for an ordinary machine and a release build: `cargo test --release -- --ignored speed`.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{def, on, route, service};
use crate::testpg::Server;
use crate::{Store, migrate};

async fn durable() -> (Server, Store) {
    let server = Server::start(true);
    let cfg = server.cfg("postgres");
    migrate::up(&cfg).await.unwrap();
    (server, on(cfg))
}

async fn writes_per_second(store: &Store, clients: usize, each: usize) -> f64 {
    let s = store
        .insert(&def("services"), service(json!({})))
        .await
        .unwrap();
    let at = Instant::now();
    let tasks = (0..clients).map(|_| {
        let (store, id) = (store.clone(), s["id"].clone());
        tokio::spawn(async move {
            let d = def("routes");
            for i in 0..each {
                let r = route(
                    json!({"service": {"id": id}, "paths": [format!("/p{i}")], "tags": ["t"]}),
                );
                store.insert(&d, r).await.unwrap();
            }
        })
    });
    futures::future::try_join_all(tasks).await.unwrap();
    (clients * each) as f64 / at.elapsed().as_secs_f64()
}

#[ignore = "measures"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_clients_write_more_than_a_thousand_rows_per_second() {
    let (_server, store) = durable().await;
    for (clients, each) in [(1, 1000), (4, 2500), (16, 1000), (64, 500)] {
        let rate = writes_per_second(&store, clients, each).await;
        println!("{clients} clients: {rate:.0} writes/s");
        assert!(clients < 4 || rate > 1000.0, "{rate}");
    }
}

#[ignore = "measures"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_costs_writes_little() {
    let (_server, store) = durable().await;
    for clients in [1, 16] {
        let mut rates = [0.0, 0.0];
        // In turns, so that neither has the better hour.
        for round in 0..6 {
            store.keep_history(if round % 2 == 0 { 0 } else { 100_000 });
            rates[round % 2] += writes_per_second(&store, clients, 2000 / clients).await / 3.0;
        }
        let [without, with] = rates;
        println!("{clients} clients: {without:.0} writes/s without a history, {with:.0} with one");
        assert!(with > without * 0.8);
    }
}

#[ignore = "measures"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_configuration_is_loaded_within_two_seconds() {
    let (server, store) = durable().await;
    server.psql(
        "postgres",
        "insert into services (id, created_at, updated_at, protocol, host, port, enabled, name) \
           select gen_random_uuid(), now(), now(), 'http', 'h', 80, true, 's' || i from generate_series(1, 100) i; \
         insert into routes (id, created_at, updated_at, name, protocols, https_redirect_status_code, strip_path, preserve_host, \
             request_buffering, response_buffering, service_id, paths, hosts, regex_priority, path_handling) \
           select gen_random_uuid(), now(), now(), 'r' || i, '[\"http\",\"https\"]', 426, true, false, true, true, \
             (select id from services limit 1), jsonb_build_array('/r' || i), '[\"a.test\"]', 0, 'v0' from generate_series(1, 10000) i; \
         insert into consumers (id, created_at, updated_at, username) \
           select gen_random_uuid(), now(), now(), 'c' || i from generate_series(1, 100000) i; \
         insert into keyauth_credentials (id, created_at, consumer_id, key) \
           select gen_random_uuid(), now(), id, md5(id::text) from consumers; analyze",
    );
    for _ in 0..3 {
        let at = Instant::now();
        let tables = store.load().await.unwrap();
        let took = at.elapsed();
        println!("loaded in {took:?}");
        assert_eq!(
            (tables.routes.len(), tables.consumers.len()),
            (10_000, 100_000)
        );
        assert_eq!(tables.credentials["keyauth_credentials"].len(), 100_000);
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

#[ignore = "measures"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_seen_within_milliseconds() {
    let (_server, store) = durable().await;
    let mut node = super::watching::Node::start(&store, super::watching::NEVER);
    node.next().await;
    let mut took = Vec::new();
    for i in 1..=200 {
        store
            .insert(&def("services"), service(json!({})))
            .await
            .unwrap();
        let at = Instant::now();
        node.until(i).await;
        took.push(at.elapsed());
    }
    took.sort();
    println!("seen after {:?}, p99 {:?}", took[100], took[198]);
    assert!(took[198] < Duration::from_millis(50));
}
