use serde_json::{Value, json};

use super::{consumer, def, id_of, key, now, store};
use crate::{Key, ListQuery, Row, Store};

async fn expire(store: &Store) {
    store
        .pool()
        .query("update keyauth_credentials set expires_at = now() - interval '1 second' where expires_at is not null", &[])
        .await
        .unwrap();
}

#[tokio::test]
async fn rows_show_what_is_left_of_their_time() {
    let store = store().await;
    let c = store
        .insert(&def("consumers"), consumer(json!({"username": "a"})))
        .await
        .unwrap();
    let d = def("keyauth_credentials");
    let k = store
        .insert(&d, key(&c, json!({"key": "k", "ttl": 60})))
        .await
        .unwrap();
    let left = k["ttl"].as_i64().unwrap();
    assert!((55..60).contains(&left), "{left}");
    let forever = store
        .insert(&d, key(&c, json!({"key": "f", "ttl": 0})))
        .await
        .unwrap();
    assert_eq!(forever["ttl"], Value::Null);
    let tables = store.load().await.unwrap();
    let expires = tables.credentials[d.name][&id_of(&k)].expires_at.unwrap();
    assert!((expires - now() - 60).abs() <= 5);

    // Writing back what was read does not move the end.
    for _ in 0..5 {
        store
            .update_with(&d, &Key::Id(id_of(&k)), None, |old: &Row| {
                Ok::<_, ()>(old.clone())
            })
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!(
        store.load().await.unwrap().credentials[d.name][&id_of(&k)].expires_at,
        Some(expires)
    );
    let longer = |old: &Row| {
        let mut new = old.clone();
        new.insert("ttl".into(), json!(3600));
        Ok::<_, ()>(new)
    };
    let k = store
        .update_with(&d, &Key::Id(id_of(&k)), None, longer)
        .await
        .unwrap()
        .unwrap();
    assert!(
        (3590..=3600).contains(&k["ttl"].as_i64().unwrap()),
        "{}",
        k["ttl"]
    );
}

#[tokio::test]
async fn expired_rows_are_not_there() {
    let store = store().await;
    let c = store
        .insert(&def("consumers"), consumer(json!({"username": "a"})))
        .await
        .unwrap();
    let d = def("keyauth_credentials");
    let k = store
        .insert(&d, key(&c, json!({"key": "k", "ttl": 60, "tags": ["t"]})))
        .await
        .unwrap();
    expire(&store).await;
    assert_eq!(store.get(&d, &Key::Id(id_of(&k))).await.unwrap(), None);
    assert_eq!(store.resolve(&d, "k").await.unwrap(), None);
    assert_eq!(
        store
            .list(
                &d,
                &ListQuery {
                    size: 10,
                    ..ListQuery::default()
                }
            )
            .await
            .unwrap()
            .rows,
        Vec::<Row>::new()
    );
    assert_eq!(store.tags(None, 10, None).await.unwrap().rows, []);
    assert_eq!(store.update(&d, id_of(&k), k.clone()).await.unwrap(), None);
    assert!(!store.delete(&d, &Key::Id(id_of(&k))).await.unwrap());
    assert!(store.load().await.unwrap().credentials[d.name].is_empty());
}

#[tokio::test]
async fn an_expired_row_is_not_in_the_way_of_a_new_one() {
    let store = store().await;
    let c = store
        .insert(&def("consumers"), consumer(json!({"username": "a"})))
        .await
        .unwrap();
    let d = def("keyauth_credentials");
    let old = store
        .insert(&d, key(&c, json!({"key": "k", "ttl": 60})))
        .await
        .unwrap();
    expire(&store).await;
    let new = store
        .insert(&d, key(&c, json!({"key": "k"})))
        .await
        .unwrap();
    assert_eq!(store.resolve(&d, "k").await.unwrap(), Some(id_of(&new)));
    let gone = (d.name.to_owned(), id_of(&old), "delete".to_owned());
    assert!(super::log(&store).await.contains(&gone));
}

#[tokio::test]
async fn housekeeping_removes_what_expired_and_says_so() {
    let store = store().await;
    let c = store
        .insert(&def("consumers"), consumer(json!({"username": "a"})))
        .await
        .unwrap();
    let d = def("keyauth_credentials");
    let k = store
        .insert(&d, key(&c, json!({"key": "k", "ttl": 60})))
        .await
        .unwrap();
    store
        .insert(&d, key(&c, json!({"key": "stays"})))
        .await
        .unwrap();
    store.keep_house().await.unwrap();
    assert_eq!(super::revision(&store).await, 3);
    expire(&store).await;
    store.keep_house().await.unwrap();
    assert_eq!(
        super::log(&store).await.last(),
        Some(&(d.name.to_owned(), id_of(&k), "delete".to_owned()))
    );
    let left: i64 = store
        .pool()
        .query("select count(*) from keyauth_credentials", &[])
        .await
        .unwrap()[0]
        .get(0);
    assert_eq!(left, 1);
}
