use serde_json::{Value, json};
use silverback_entities::Uuid;

use super::{consumer, def, id_of, plugin, route, service, store};
use crate::{Key, Row, StoreError, UpdateError};

#[tokio::test]
async fn a_taken_name_is_named() {
    let store = store().await;
    let d = def("services");
    let a = store
        .insert(&d, service(json!({"name": "a"})))
        .await
        .unwrap();
    let b = store
        .insert(&d, service(json!({"name": "b"})))
        .await
        .unwrap();
    let taken = StoreError::Unique {
        fields: vec![("name", json!("a"))],
    };
    assert_eq!(
        store.insert(&d, service(json!({"name": "a"}))).await,
        Err(taken.clone())
    );
    assert_eq!(
        store
            .update(&d, id_of(&b), service(json!({"name": "a"})))
            .await,
        Err(taken.clone())
    );
    assert_eq!(
        store.upsert(&d, service(json!({"name": "a"}))).await,
        Err(taken.clone())
    );
    let rename = |old: &Row| {
        let mut new = old.clone();
        new.insert("name".into(), json!("a"));
        Ok::<_, ()>(new)
    };
    let patched = store
        .update_with(&d, &Key::Id(id_of(&b)), None, rename)
        .await;
    assert_eq!(patched, Err(UpdateError::Store(taken)));
    let same_id = store.insert(&d, service(json!({"id": a["id"]}))).await;
    assert_eq!(
        same_id,
        Err(StoreError::Unique {
            fields: vec![("id", a["id"].clone())]
        })
    );
    assert_eq!(super::revision(&store).await, 2);
}

#[tokio::test]
async fn no_name_is_not_a_taken_name() {
    let store = store().await;
    store
        .insert(&def("services"), service(json!({})))
        .await
        .unwrap();
    store
        .insert(&def("services"), service(json!({})))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_plugin_is_unique_among_its_scopes() {
    let store = store().await;
    let d = def("plugins");
    let c = store
        .insert(&def("consumers"), consumer(json!({"username": "a"})))
        .await
        .unwrap();
    let on = json!({"id": c["id"]});
    store.insert(&d, plugin(json!({}))).await.unwrap();
    store
        .insert(&d, plugin(json!({"consumer": on})))
        .await
        .unwrap();
    store
        .insert(&d, plugin(json!({"name": "other"})))
        .await
        .unwrap();
    for scope in [Value::Null, on] {
        let fields = vec![
            ("name", json!("key-auth")),
            ("route", Value::Null),
            ("service", Value::Null),
            ("consumer", scope.clone()),
        ];
        assert_eq!(
            store.insert(&d, plugin(json!({"consumer": scope}))).await,
            Err(StoreError::Unique { fields })
        );
    }
}

#[tokio::test]
async fn references_must_point_at_something() {
    let store = store().await;
    let id = json!(Uuid::new_v4().to_string());
    let missing = |field, entity| StoreError::ForeignMissing {
        field,
        entity,
        id: id.clone(),
    };
    let there = json!({"id": id});
    let r = store
        .insert(&def("routes"), route(json!({"service": there})))
        .await;
    assert_eq!(r, Err(missing("service", "services")));
    let p = store
        .insert(&def("plugins"), plugin(json!({"route": there})))
        .await;
    assert_eq!(p, Err(missing("route", "routes")));
    // An entity without a table.
    let s = store
        .insert(
            &def("services"),
            service(json!({"client_certificate": there})),
        )
        .await;
    assert_eq!(s, Err(missing("client_certificate", "certificates")));
}

#[tokio::test]
async fn a_row_that_others_point_at_stays() {
    let store = store().await;
    let s = store
        .insert(&def("services"), service(json!({"name": "s"})))
        .await
        .unwrap();
    store
        .insert(&def("routes"), route(json!({"service": {"id": s["id"]}})))
        .await
        .unwrap();
    let p = store
        .insert(&def("plugins"), plugin(json!({"service": {"id": s["id"]}})))
        .await
        .unwrap();
    let refused = store
        .delete(&def("services"), &Key::Unique("name", "s"))
        .await;
    assert_eq!(
        refused,
        Err(StoreError::Referenced {
            entity: "services",
            by_entity: "routes"
        })
    );
    assert_eq!(
        store
            .get(&def("plugins"), &Key::Id(id_of(&p)))
            .await
            .unwrap(),
        Some(p)
    );
}

#[tokio::test]
async fn what_postgres_cannot_hold_is_the_clients_fault() {
    let store = store().await;
    let d = def("services");
    for bad in [
        json!({"name": "a\u{0}b"}),
        json!({"port": 1e300}),
        json!({"name": random_text(20_000)}),
    ] {
        let got = store.insert(&d, service(bad)).await;
        assert!(matches!(got, Err(StoreError::Invalid(_))), "{got:?}");
    }
    let config = store
        .insert(&def("plugins"), plugin(json!({"config": {"a": "\u{0}"}})))
        .await;
    assert!(matches!(config, Err(StoreError::Invalid(_))), "{config:?}");
    let asked = store.get(&d, &Key::Unique("name", "a\u{0}")).await;
    assert!(matches!(asked, Err(StoreError::Invalid(_))), "{asked:?}");
}

/// Text that does not get shorter when it is compressed, too long for an index.
fn random_text(n: usize) -> String {
    std::iter::repeat_with(|| Uuid::new_v4().simple().to_string())
        .take(n / 32)
        .collect()
}

#[tokio::test]
async fn one_writes_error_does_not_hurt_the_others() {
    let store = store().await;
    let d = def("services");
    store
        .insert(&d, service(json!({"name": "taken"})))
        .await
        .unwrap();
    let writes = (0..200).map(|i| {
        let name = if i % 3 == 0 {
            "taken".to_owned()
        } else {
            format!("n{i}")
        };
        store.insert(&d, service(json!({"name": name})))
    });
    let done = futures::future::join_all(writes).await;
    for (i, r) in done.iter().enumerate() {
        assert_eq!(r.is_err(), i % 3 == 0, "{i}: {r:?}");
    }
    assert_eq!(
        super::log(&store).await.len(),
        1 + done.iter().filter(|r| r.is_ok()).count()
    );
}

#[tokio::test]
async fn a_database_that_was_never_migrated_is_unavailable() {
    let (server, name) = crate::testpg::empty();
    let store = super::on(server.cfg(&name));
    let got = store.get(&def("services"), &Key::Id(Uuid::new_v4())).await;
    assert!(
        matches!(&got, Err(StoreError::Unavailable(t)) if t.contains("migrations")),
        "{got:?}"
    );
}
