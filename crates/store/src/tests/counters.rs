use super::{now, on, store};
use crate::{Increment, Store};

#[tokio::test]
async fn additions_of_all_nodes_add_up() {
    let store = store().await;
    let other = on(store.cfg().clone());
    let end = now() + 60;
    let nodes = (0..8).map(|n| {
        let counters = if n % 2 == 0 {
            store.counters()
        } else {
            other.counters()
        };
        tokio::spawn(async move {
            for _ in 0..25 {
                // In different orders, and one counter twice.
                let mut list: Vec<_> = ["a", "b", "c", "a"]
                    .into_iter()
                    .map(|key| Increment {
                        key,
                        window: 1,
                        expires: end,
                        amount: 1,
                    })
                    .collect();
                if n % 3 == 0 {
                    list.reverse();
                }
                let totals = counters.add(&list).await.unwrap();
                assert_eq!(totals[0], totals[3].max(totals[0]));
            }
        })
    });
    futures::future::try_join_all(nodes).await.unwrap();
    let read = |key, window| Increment {
        key,
        window,
        expires: end,
        amount: 0,
    };
    let totals = store
        .counters()
        .add(&[read("c", 1), read("a", 1), read("b", 1), read("a", 2)])
        .await
        .unwrap();
    assert_eq!(totals, [200, 400, 200, 0]);
    assert_eq!(store.counters().add(&[]).await.unwrap(), Vec::<u64>::new());
}

#[tokio::test]
async fn counters_that_are_over_are_removed() {
    let store = store().await;
    let counters = store.counters();
    counters
        .add(&[Increment {
            key: "old",
            window: 1,
            expires: now() - 10,
            amount: 5,
        }])
        .await
        .unwrap();
    counters
        .add(&[Increment {
            key: "new",
            window: 1,
            expires: now() + 60,
            amount: 5,
        }])
        .await
        .unwrap();
    assert_eq!(counters.sweep().await.unwrap(), 1);
    let later = now() + 60;
    let again = [("old", later), ("new", later)].map(|(key, expires)| Increment {
        key,
        window: 1,
        expires,
        amount: 1,
    });
    assert_eq!(counters.add(&again).await.unwrap(), [1, 6]);
}

#[tokio::test]
async fn housekeeping_removes_all_counters_that_are_over() {
    let store = store().await;
    let many: Vec<_> = (0..2500).map(|n| n.to_string()).collect();
    let list: Vec<_> = many
        .iter()
        .map(|key| Increment {
            key,
            window: 1,
            expires: now() - 10,
            amount: 1,
        })
        .collect();
    store.counters().add(&list).await.unwrap();
    store.keep_house().await.unwrap();
    assert_eq!(stored(&store).await, 0);
}

#[tokio::test]
async fn what_is_only_read_is_not_written() {
    let store = store().await;
    let counters = store.counters();
    let of = |key, amount: u64| Increment {
        key,
        window: 1,
        expires: now() + 60 * amount.cast_signed(),
        amount,
    };
    assert_eq!(
        counters.add(&[of("a", 0), of("b", 0)]).await.unwrap(),
        [0, 0]
    );
    assert_eq!(stored(&store).await, 0);
    counters.add(&[of("a", 2)]).await.unwrap();
    let version = async || {
        let version = "select xmin::text from rate_limiting_counters where key = 'a'";
        let rows = store.pool().query(version, &[]).await.unwrap();
        rows[0].get::<_, String>(0)
    };
    let before = version().await;
    let list = [of("c", 0), of("a", 0), of("b", 3)];
    assert_eq!(counters.add(&list).await.unwrap(), [0, 2, 3]);
    assert_eq!(counters.add(&[of("a", 0)]).await.unwrap(), [2]);
    assert_eq!(version().await, before);
    assert_eq!(stored(&store).await, 2);
}

/// How many counters there are.
async fn stored(store: &Store) -> i64 {
    let count = "select count(*) from rate_limiting_counters";
    let rows = store.pool().query(count, &[]).await.unwrap();
    rows[0].get(0)
}
