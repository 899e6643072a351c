use std::time::Duration;

use serde_json::json;

use super::{consumer, def, id_of, revision, service, store};
use crate::{Key, Store, StoreError};

#[tokio::test]
async fn writes_at_the_same_time_share_a_transaction() {
    let store = store().await;
    let d = def("services");
    let done =
        futures::future::join_all((0..50).map(|_| store.insert(&d, service(json!({}))))).await;
    assert!(done.iter().all(Result::is_ok));
    // `at` is when the transaction began.
    let sql = "select count(distinct at) from config_changes";
    let n: i64 = store.pool().query(sql, &[]).await.unwrap()[0].get(0);
    assert!(n < 10, "{n} transactions");
    assert_eq!(super::log(&store).await.len(), 50);
    assert_eq!(revision(&store).await, 50);
}

#[tokio::test]
async fn a_write_whose_caller_went_away_is_carried_out_whole() {
    let store = store().await;
    let d = def("services");
    let row = service(json!({"name": "s"}));
    let gone = tokio::time::timeout(Duration::ZERO, store.insert(&d, row.clone())).await;
    assert!(gone.is_err());
    // Writes are carried out in their order, so this one comes after.
    store.insert(&d, service(json!({}))).await.unwrap();
    assert_eq!(
        store.get(&d, &Key::Id(id_of(&row))).await.unwrap(),
        Some(row)
    );
    assert_eq!(super::log(&store).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_keeps_nobody_waiting_but_who_wants_it() {
    let store = store().await;
    let d = def("consumers");
    let row = consumer(json!({"username": "a"}));
    store.insert(&d, row.clone()).await.unwrap();
    let holder = store.begin().await.unwrap();
    let held = holder.locking().get(&d, &Key::Id(id_of(&row))).await;
    assert!(held.unwrap().is_some());
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let (store, d, id) = (store.clone(), d.clone(), id_of(&row));
            tokio::spawn(async move { store.delete(&d, &Key::Id(id)).await })
        })
        .collect();
    until_somebody_waits(&store).await;
    for i in 0..20 {
        let other = store.insert(&d, consumer(json!({"username": format!("b{i}")})));
        let done = tokio::time::timeout(Duration::from_secs(3), other).await;
        done.expect("it waits for nobody's row").unwrap();
    }
    holder.rollback().await;
    let mut gone = 0;
    for one in waiting {
        gone += usize::from(one.await.unwrap().unwrap());
    }
    assert_eq!(gone, 1);
    assert_eq!(revision(&store).await, 22);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_waits_for_a_name_keeps_nobody_else_waiting() {
    let store = store().await;
    let d = def("consumers");
    let named = || consumer(json!({"username": "a"}));
    let holder = store.begin().await.unwrap();
    holder.store().insert(&d, named()).await.unwrap();
    let waiting = {
        let (store, d, row) = (store.clone(), d.clone(), named());
        tokio::spawn(async move { store.insert(&d, row).await })
    };
    until_somebody_waits(&store).await;
    for i in 0..5 {
        let other = store.insert(&d, consumer(json!({"username": format!("b{i}")})));
        let done = tokio::time::timeout(Duration::from_secs(3), other).await;
        done.expect("it waits for nobody's row").unwrap();
    }
    holder.rollback().await;
    waiting.await.unwrap().unwrap();
    assert_eq!(revision(&store).await, 6);
    // The name is taken now: nothing is logged, and the connection can be used again.
    let taken = store.insert(&d, named()).await.unwrap_err();
    assert!(matches!(taken, StoreError::Unique { .. }), "{taken:?}");
    assert_eq!(revision(&store).await, 6);
    assert_eq!(super::log(&store).await.len(), 6);
}

/// Until a session waits for a lock that another one holds.
async fn until_somebody_waits(store: &Store) {
    let sql = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    while store.pool().query(sql, &[]).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_store_outlives_the_runtime_it_wrote_in() {
    let rt = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let d = def("services");
    let first = rt();
    let store = first.block_on(store());
    first
        .block_on(async {
            tokio::time::timeout(Duration::ZERO, store.insert(&d, service(json!({})))).await
        })
        .unwrap_err();
    drop(first);
    rt().block_on(store.insert(&d, service(json!({"name": "s"}))))
        .unwrap();
}
