use std::collections::BTreeSet;

use serde_json::json;
use silverback_entities::Uuid;

use super::{consumer, def, id_of, key, log, plugin, revision, route, service, store};
use crate::Key;

#[tokio::test]
async fn everything_a_delete_takes_with_it_is_logged_under_one_revision() {
    let store = store().await;
    let c = store
        .insert(&def("consumers"), consumer(json!({"username": "a"})))
        .await
        .unwrap();
    let k1 = store
        .insert(&def("keyauth_credentials"), key(&c, json!({"key": "1"})))
        .await
        .unwrap();
    let k2 = store
        .insert(&def("keyauth_credentials"), key(&c, json!({"key": "2"})))
        .await
        .unwrap();
    let p = store
        .insert(
            &def("plugins"),
            plugin(json!({"consumer": {"id": c["id"]}})),
        )
        .await
        .unwrap();
    let (before, logged) = (revision(&store).await, log(&store).await.len());

    assert!(
        store
            .delete(&def("consumers"), &Key::Unique("username", "a"))
            .await
            .unwrap()
    );
    assert_eq!(revision(&store).await, before + 1);
    let gone: BTreeSet<_> = log(&store).await.split_off(logged).into_iter().collect();
    let wanted: BTreeSet<_> = [
        ("consumers", &c),
        ("keyauth_credentials", &k1),
        ("keyauth_credentials", &k2),
        ("plugins", &p),
    ]
    .into_iter()
    .map(|(e, r)| (e.to_owned(), id_of(r), "delete".to_owned()))
    .collect();
    assert_eq!(gone, wanted);
    assert!(store.load().await.unwrap().plugins.is_empty());
}

#[tokio::test]
async fn deleting_nothing_changes_nothing() {
    let store = store().await;
    assert!(
        !store
            .delete(&def("services"), &Key::Id(Uuid::new_v4()))
            .await
            .unwrap()
    );
    assert!(
        !store
            .delete(&def("services"), &Key::Unique("name", "x"))
            .await
            .unwrap()
    );
    assert_eq!(revision(&store).await, 0);
}

#[tokio::test]
async fn a_row_hung_on_one_that_goes_is_either_refused_or_goes_with_it_and_is_logged() {
    let store = store().await;
    for round in 0..20 {
        let s = store
            .insert(&def("services"), service(json!({})))
            .await
            .unwrap();
        let r = store
            .insert(&def("routes"), route(json!({"service": {"id": s["id"]}})))
            .await
            .unwrap();
        let (node, rid) = (super::on(store.cfg().clone()), id_of(&r));
        let hang = tokio::spawn(async move {
            let mut ids = Vec::new();
            for i in 0..20 {
                let p = plugin(json!({"route": {"id": rid.to_string()}, "name": format!("p{i}")}));
                match node.insert(&def("plugins"), p).await {
                    Ok(p) => ids.push(id_of(&p)),
                    Err(e) => assert!(
                        matches!(e, crate::StoreError::ForeignMissing { .. }),
                        "{e:?}"
                    ),
                }
            }
            ids
        });
        tokio::time::sleep(std::time::Duration::from_millis(round)).await;
        assert!(store.delete(&def("routes"), &Key::Id(rid)).await.unwrap());
        let log = log(&store).await;
        for id in hang.await.unwrap() {
            assert!(log.contains(&("plugins".into(), id, "delete".into())));
        }
    }
}
