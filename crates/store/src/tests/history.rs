use serde_json::{Value, json};

use super::{consumer, def, id_of, key, log, now, revision, route, service, store};
use crate::{Change, Key, Op, Row, Store, StoreError, UpdateError};

async fn of(store: &Store, n: i64) -> (Option<String>, Vec<Change>) {
    let (head, changes) = store.revision(n).await.unwrap().unwrap();
    (head.actor, changes)
}

/// A change's document and the row it is of, without what they say differently.
fn same(document: &Option<Row>, row: &Row) -> bool {
    let mut document = document.clone().unwrap();
    document.remove("expires_at");
    let mut row = row.clone();
    row.remove("ttl");
    document == row
}

#[tokio::test]
async fn every_write_leaves_who_and_what_was_before_and_after() {
    let store = store().await;
    let (alice, bob) = (store.acting_as("alice"), store.acting_as("bob"));
    let d = def("services");
    let one = alice
        .insert(&d, service(json!({"name": "a", "tags": ["x", "y"]})))
        .await
        .unwrap();
    assert_eq!(alice.last_revision(), Some(1));
    assert_eq!(bob.last_revision(), None);
    let mut put = one.clone();
    put.insert("port".into(), json!(81));
    let two = bob.upsert(&d, put).await.unwrap();
    let three = bob
        .update_with(&d, &Key::Unique("name", "a"), None, |old| {
            let mut new = old.clone();
            new.insert("host".into(), json!("z.test"));
            Ok::<_, ()>(new)
        })
        .await
        .unwrap()
        .unwrap();
    let mut by_name = service(json!({"name": "a"}));
    by_name.remove("id");
    let four = alice.upsert_by(&d, "name", by_name).await.unwrap();
    assert!(store.delete(&d, &Key::Unique("name", "a")).await.unwrap());
    assert_eq!(bob.last_revision(), Some(3));

    let rows = [&one, &two, &three, &four];
    for (n, who, op) in [
        (1, Some("alice"), Op::Insert),
        (2, Some("bob"), Op::Update),
        (3, Some("bob"), Op::Update),
        (4, Some("alice"), Op::Update),
        (5, None, Op::Delete),
    ] {
        let (actor, changes) = of(&store, n).await;
        let [change] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        assert_eq!(
            (actor.as_deref(), change.op, change.id),
            (who, op, id_of(&one)),
            "{n}"
        );
        let at = n as usize;
        match op {
            Op::Insert => assert_eq!(change.before, None),
            _ => assert!(
                same(&change.before, rows[at - 2]),
                "{n}: {:?}",
                change.before
            ),
        }
        match op {
            Op::Delete => assert_eq!(change.after, None),
            _ => assert!(same(&change.after, rows[at - 1]), "{n}: {:?}", change.after),
        }
    }
    let page = store.revisions(2, None).await.unwrap();
    assert_eq!(
        page.rows.iter().map(|r| r.revision).collect::<Vec<_>>(),
        [5, 4]
    );
    let next = store.revisions(3, page.next.as_deref()).await.unwrap();
    assert_eq!(
        next.rows.iter().map(|r| r.revision).collect::<Vec<_>>(),
        [3, 2, 1]
    );
    assert_eq!((next.next, next.rows[2].inserted), (None, 1));
    assert_eq!(next.rows[0].entities, ["services"]);
    assert!((next.rows[0].at - now() as f64).abs() < 60.0);
    let bad = store.revisions(1, Some("nonsense")).await.unwrap_err();
    assert!(matches!(bad, StoreError::BadOffset { .. }));
    assert_eq!(store.revision(99).await.unwrap(), None);
}

#[tokio::test]
async fn what_a_delete_takes_with_it_is_kept_as_well() {
    let store = store().await;
    let c = store
        .insert(&def("consumers"), consumer(json!({"username": "c"})))
        .await
        .unwrap();
    let k = store
        .insert(
            &def("keyauth_credentials"),
            key(&c, json!({"key": "k", "ttl": 1000})),
        )
        .await
        .unwrap();
    store
        .delete(&def("consumers"), &Key::Id(id_of(&c)))
        .await
        .unwrap();
    let (_, changes) = of(&store, 3).await;
    assert_eq!(changes.len(), 2);
    assert_eq!((changes[0].id, changes[1].id), (id_of(&k), id_of(&c)));
    assert!(same(&changes[0].before, &k) && same(&changes[1].before, &c));
    let expires = changes[0].before.as_ref().unwrap()["expires_at"]
        .as_i64()
        .unwrap();
    assert!((expires - now() - 1000).abs() < 30, "{expires}");
    // As when it was made.
    assert_eq!(
        of(&store, 2).await.1[0].after.as_ref().unwrap()["expires_at"],
        expires
    );
}

#[tokio::test]
async fn writes_that_share_a_transaction_have_revisions_of_their_own() {
    let store = store().await;
    let d = def("services");
    let writers: Vec<Store> = (0..40).map(|i| store.acting_as(&format!("w{i}"))).collect();
    // Some of them are refused, some change nothing.
    let each = writers.iter().enumerate().map(|(i, s)| {
        let d = &d;
        async move {
            if i % 10 == 3 {
                s.delete(d, &Key::Unique("name", "nobody")).await.map(drop)
            } else {
                let name = format!("n{}", if i % 10 == 4 { 0 } else { i });
                s.insert(d, service(json!({ "name": name })))
                    .await
                    .map(drop)
            }
        }
    });
    let done = futures::future::join_all(each).await;
    assert_eq!(done.iter().filter(|r| r.is_err()).count(), 4);
    assert_eq!(revision(&store).await, 32);
    for (i, s) in writers.iter().enumerate() {
        let Some(n) = s.last_revision() else {
            assert!([3, 4].contains(&(i % 10)), "{i}");
            continue;
        };
        let (actor, changes) = of(&store, n).await;
        assert_eq!(actor, Some(format!("w{i}")));
        assert_eq!(
            changes[0].after.as_ref().unwrap()["name"],
            json!(format!("n{i}"))
        );
    }
}

#[tokio::test]
async fn a_transaction_is_one_revision_or_nothing() {
    let store = store().await;
    let (services, routes) = (def("services"), def("routes"));
    for commit in [false, true] {
        let t = store.acting_as("me").begin().await.unwrap();
        let s = t
            .store()
            .insert(&services, service(json!({"name": "s"})))
            .await
            .unwrap();
        assert_eq!(
            t.store().resolve(&services, "s").await.unwrap(),
            Some(id_of(&s))
        );
        assert_eq!(store.resolve(&services, "s").await.unwrap(), None);
        let r = route(json!({"service": {"id": s["id"]}, "paths": ["/"]}));
        let r = t.store().insert(&routes, r).await.unwrap();
        t.store()
            .update_with(&routes, &Key::Id(id_of(&r)), None, |old| {
                let mut new = old.clone();
                new.insert("name".into(), json!("r"));
                Ok::<_, ()>(new)
            })
            .await
            .unwrap();
        assert_eq!(t.changed().await.len(), 3);
        if commit {
            let me = t.store().clone();
            assert_eq!(t.commit().await.unwrap(), Some(1));
            assert_eq!(me.last_revision(), Some(1));
        } else {
            t.rollback().await;
            assert_eq!(revision(&store).await, 0);
        }
    }
    assert!(store.resolve(&routes, "r").await.unwrap().is_some());
    let (actor, changes) = of(&store, 1).await;
    assert_eq!((actor.as_deref(), changes.len()), (Some("me"), 3));
    assert_eq!(changes[2].before.as_ref().unwrap()["name"], Value::Null);
    assert_eq!(changes[2].after.as_ref().unwrap()["name"], "r");
    let nothing = store.begin().await.unwrap();
    assert_eq!(nothing.commit().await.unwrap(), None);
}

#[tokio::test]
async fn errors_within_a_transaction_are_those_outside_and_leave_nothing() {
    let store = store().await;
    let d = def("services");
    store
        .insert(&d, service(json!({"name": "s"})))
        .await
        .unwrap();
    let t = store.begin().await.unwrap();
    t.store()
        .insert(&d, service(json!({"name": "new"})))
        .await
        .unwrap();
    let refused = t
        .store()
        .insert(&d, service(json!({"name": "s"})))
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        StoreError::Unique {
            fields: vec![("name", json!("s"))]
        }
    );
    assert!(!t.may_be_repeated());
    t.rollback().await;
    let t = store.begin().await.unwrap();
    let refused = t
        .store()
        .update_with(&d, &Key::Unique("name", "s"), None, |_| Err("no"))
        .await
        .unwrap_err();
    assert_eq!(refused, UpdateError::Rejected("no"));
    drop(t);
    assert_eq!(log(&store).await.len(), 1);
    assert_eq!(store.resolve(&d, "new").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_transactions_in_each_others_way_one_may_be_repeated() {
    let store = store().await;
    let d = def("services");
    let mut ids = Vec::new();
    for name in ["a", "b"] {
        ids.push(id_of(
            &store
                .insert(&d, service(json!({ "name": name })))
                .await
                .unwrap(),
        ));
    }
    let (one, two) = (store.begin().await.unwrap(), store.begin().await.unwrap());
    one.locking().get(&d, &Key::Id(ids[0])).await.unwrap();
    two.locking().get(&d, &Key::Id(ids[1])).await.unwrap();
    let (a, b) = (one.locking(), two.locking());
    let both = tokio::join!(
        async {
            let got = a.get(&d, &Key::Id(ids[1])).await;
            if got.is_err() {
                one.rollback().await;
                true
            } else {
                one.commit().await.unwrap();
                false
            }
        },
        async {
            let got = b.get(&d, &Key::Id(ids[0])).await;
            let again = two.may_be_repeated();
            assert_eq!(again, got.is_err());
            if got.is_err() {
                two.rollback().await
            } else {
                two.commit().await.map(drop).unwrap()
            }
            again
        },
    );
    assert_ne!(both.0, both.1);
}

#[tokio::test]
async fn without_a_history_the_log_only_says_what_changed() {
    let store = store().await;
    store.keep_history(0);
    let d = def("services");
    let s = store.insert(&d, service(json!({}))).await.unwrap();
    store.delete(&d, &Key::Id(id_of(&s))).await.unwrap();
    for n in [1, 2] {
        let (_, changes) = of(&store, n).await;
        assert_eq!((&changes[0].before, &changes[0].after), (&None, &None));
    }
    store.keep_history(1);
    store.insert(&d, service(json!({}))).await.unwrap();
    assert!(of(&store, 3).await.1[0].after.is_some());
}

#[tokio::test]
async fn the_oldest_revisions_are_forgotten_whole() {
    let store = store().await;
    let d = def("services");
    for _ in 0..3 {
        let t = store.begin().await.unwrap();
        for _ in 0..4 {
            t.store().insert(&d, service(json!({}))).await.unwrap();
        }
        t.commit().await.unwrap();
    }
    store.prune(12).await.unwrap();
    assert_eq!(log(&store).await.len(), 12);
    store.prune(10).await.unwrap();
    let left = store.revisions(10, None).await.unwrap();
    assert_eq!(
        left.rows.iter().map(|r| r.revision).collect::<Vec<_>>(),
        [3, 2]
    );
    let ids: Vec<_> = of(&store, 3).await.1.iter().map(|c| c.id).collect();
    assert_eq!(store.changed_after(2, &ids).await.unwrap().unwrap().2, 3);
    assert_eq!(store.changed_after(3, &ids).await.unwrap(), None);
}
