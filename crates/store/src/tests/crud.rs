use serde_json::{Value, json};
use silverback_entities::{PluginRow, Route, Service, Uuid};

use super::{consumer, def, id_of, key, plugin, route, service, store};
use crate::{Key, Row, Store, UpdateError};

/// A row of each entity, with all kinds of values.
async fn one_of_each(store: &Store) -> Vec<(&'static str, Row)> {
    let s = service(
        json!({"name": "svc", "path": "/a", "tags": ["x", "y"], "tls_verify": true, "tls_verify_depth": 3,
        "ca_certificates": ["00000001-0000-4000-8000-000000000001"]}),
    );
    let r = route(
        json!({"name": "rt", "service": {"id": s["id"]}, "paths": ["/p", "~/q\\d+"], "hosts": ["a.test"],
        "methods": ["GET"], "headers": {"x-a": ["1", "2"]}, "snis": [], "tags": [],
        "sources": [{"ip": "10.0.0.0/8", "port": null}], "regex_priority": -3}),
    );
    let c = consumer(json!({"username": "alïce", "custom_id": "1"}));
    let p = plugin(
        json!({"consumer": {"id": c["id"]}, "route": {"id": r["id"]},
        "config": {"n": 1, "f": 0.5, "deep": {"list": [null, {"a": "b"}]}, "s": "ü\"\\"}}),
    );
    let k = key(&c, json!({"key": "secret", "tags": ["k"]}));
    let mut out = Vec::new();
    for (entity, row) in [
        ("services", s),
        ("routes", r),
        ("consumers", c),
        ("plugins", p),
        ("keyauth_credentials", k),
    ] {
        assert_eq!(store.insert(&def(entity), row.clone()).await.unwrap(), row);
        out.push((entity, row));
    }
    out
}

#[tokio::test]
async fn every_entity_comes_back_as_it_was_written() {
    let store = store().await;
    for (entity, row) in one_of_each(&store).await {
        let d = def(entity);
        assert_eq!(
            store.get(&d, &Key::Id(id_of(&row))).await.unwrap().as_ref(),
            Some(&row)
        );
        if let Some(name) = d.endpoint_key.and_then(|k| row[k].as_str()) {
            let by_name = Key::Unique(d.endpoint_key.unwrap(), name);
            assert_eq!(store.get(&d, &by_name).await.unwrap().as_ref(), Some(&row));
            assert_eq!(store.resolve(&d, name).await.unwrap(), Some(id_of(&row)));
        }
        assert_eq!(store.get(&d, &Key::Id(Uuid::new_v4())).await.unwrap(), None);
        let there = store
            .exists_many(&d, &[id_of(&row), Uuid::new_v4()])
            .await
            .unwrap();
        assert_eq!(there.into_iter().collect::<Vec<_>>(), [id_of(&row)]);
    }
}

#[tokio::test]
async fn typed_entities_are_what_the_json_rows_are() {
    let store = store().await;
    let rows = one_of_each(&store).await;
    let tables = store.load().await.unwrap();
    assert_eq!(tables.revision, rows.len() as i64);
    let value = |i: usize| Value::Object(rows[i].1.clone());
    let id = |i: usize| id_of(&rows[i].1);
    let same = |typed: Value, row: Value| assert_eq!(typed, row);
    same(
        serde_json::to_value(&*tables.services[&id(0)]).unwrap(),
        value(0),
    );
    same(
        serde_json::to_value(&*tables.routes[&id(1)]).unwrap(),
        value(1),
    );
    same(
        serde_json::to_value(&*tables.consumers[&id(2)]).unwrap(),
        value(2),
    );
    same(
        serde_json::to_value(&*tables.plugins[&id(3)]).unwrap(),
        value(3),
    );
    // The same through JSON, so that both ways agree.
    let _: Service = serde_json::from_value(value(0)).unwrap();
    let _: Route = serde_json::from_value(value(1)).unwrap();
    let _: PluginRow = serde_json::from_value(value(3)).unwrap();
    let k = &tables.credentials["keyauth_credentials"][&id(4)];
    assert_eq!(
        (&*k.lookup, k.consumer, k.expires_at, k.extra.len()),
        ("secret", id(2), None, 0)
    );
}

#[tokio::test]
async fn update_replaces_all_but_the_id() {
    let store = store().await;
    let d = def("services");
    let old = store
        .insert(&d, service(json!({"name": "a", "path": "/x"})))
        .await
        .unwrap();
    let new = service(json!({"name": "b"}));
    let got = store
        .update(&d, id_of(&old), new.clone())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (got["id"].clone(), got["name"].clone(), got["path"].clone()),
        (old["id"].clone(), json!("b"), Value::Null)
    );
    assert_eq!(store.update(&d, Uuid::new_v4(), new).await.unwrap(), None);
}

#[tokio::test]
async fn upsert_inserts_or_replaces_by_id_and_by_name() {
    let store = store().await;
    let d = def("services");
    let first = store
        .upsert(&d, service(json!({"name": "a"})))
        .await
        .unwrap();
    let mut again = service(json!({"name": "a2"}));
    again.insert("id".into(), first["id"].clone());
    assert_eq!(store.upsert(&d, again.clone()).await.unwrap(), again);

    let by_name = store
        .upsert_by(
            &d,
            "name",
            service(json!({"name": "a2", "host": "other.test"})),
        )
        .await
        .unwrap();
    assert_eq!(
        (&by_name["id"], &by_name["host"]),
        (&first["id"], &json!("other.test"))
    );
    let fresh = store
        .upsert_by(&d, "name", service(json!({"name": "b"})))
        .await
        .unwrap();
    assert_ne!(fresh["id"], first["id"]);
    let ops: Vec<String> = super::log(&store)
        .await
        .into_iter()
        .map(|(_, _, op)| op)
        .collect();
    assert_eq!(ops, ["insert", "update", "update", "insert"]);
    assert!(
        store
            .upsert_by(&d, "host", service(json!({})))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn concurrent_changes_of_different_fields_are_all_kept() {
    let store = store().await;
    let d = def("services");
    let id = id_of(
        &store
            .insert(&d, service(json!({"name": "s"})))
            .await
            .unwrap(),
    );
    const FIELDS: [&str; 6] = [
        "connect_timeout",
        "read_timeout",
        "write_timeout",
        "port",
        "retries",
        "tls_verify_depth",
    ];
    let changes = FIELDS.iter().enumerate().map(|(i, f)| {
        let (store, d) = (store.clone(), d.clone());
        tokio::spawn(async move {
            for n in 0..10 {
                let change = |old: &Row| {
                    let mut new = old.clone();
                    new.insert((*f).into(), json!(i * 10 + n));
                    Ok::<_, ()>(new)
                };
                store
                    .update_with(&d, &Key::Id(id), None, change)
                    .await
                    .unwrap()
                    .unwrap();
            }
        })
    });
    futures::future::try_join_all(changes).await.unwrap();
    let row = store.get(&d, &Key::Id(id)).await.unwrap().unwrap();
    for (i, f) in FIELDS.iter().enumerate() {
        assert_eq!(row[*f], json!(i * 10 + 9), "{f}");
    }
    assert_eq!(super::revision(&store).await, 61);
}

#[tokio::test]
async fn update_with_refuses_without_a_trace() {
    let store = store().await;
    let (sd, rd) = (def("services"), def("routes"));
    let s = store
        .insert(&sd, service(json!({"name": "s"})))
        .await
        .unwrap();
    let r = store
        .insert(&rd, route(json!({"name": "r", "service": {"id": s["id"]}})))
        .await
        .unwrap();
    let name = Key::Unique("name", "r");
    let refused = store
        .update_with(&rd, &name, None, |_| Err::<Row, _>("no"))
        .await;
    assert_eq!(refused, Err(UpdateError::Rejected("no")));
    let keep = |old: &Row| Ok::<_, ()>(old.clone());
    assert_eq!(
        store
            .update_with(&rd, &name, Some(("service", Uuid::new_v4())), keep)
            .await,
        Ok(None)
    );
    assert_eq!(
        store
            .update_with(&rd, &Key::Unique("name", "x"), None, keep)
            .await,
        Ok(None)
    );
    assert_eq!(super::revision(&store).await, 2);
    let same = store
        .update_with(&rd, &name, Some(("service", id_of(&s))), keep)
        .await
        .unwrap();
    assert_eq!(same, Some(r));
    assert_eq!(super::revision(&store).await, 3);
}

#[tokio::test]
async fn what_the_server_fills_is_filled() {
    let store = store().await;
    let mut r = service(json!({}));
    for f in ["id", "created_at", "updated_at"] {
        r.insert(f.into(), Value::Null);
    }
    let got = store.insert(&def("services"), r).await.unwrap();
    assert!(got["id"].as_str().unwrap().parse::<Uuid>().is_ok());
    assert!((got["created_at"].as_i64().unwrap() - super::now()).abs() < 60);
}

#[tokio::test]
async fn ping_tells_the_version() {
    let version = store().await.ping().await.unwrap().version;
    assert!(
        version
            .split('.')
            .next()
            .unwrap()
            .trim()
            .parse::<u32>()
            .is_ok_and(|v| v >= 13),
        "{version}"
    );
}
