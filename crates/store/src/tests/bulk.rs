//! Many rows at once, in and out; and a store without a database.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use silverback_entities::Uuid;

use super::{def, defs, row, store};
use crate::{Imported, Key, Row, Store, StoreError};

fn id(n: u32) -> String {
    format!("00000001-0000-4000-8000-{n:012}")
}

fn service(n: u32, name: &str) -> Row {
    row(
        "services",
        json!({
            "id": id(n), "name": name, "host": "h", "protocol": "http", "port": 80, "retries": 5, "connect_timeout": 1,
            "write_timeout": 1, "read_timeout": 1, "enabled": true, "created_at": 7, "updated_at": 7, "tags": ["a", "b,c"]
        }),
    )
}

fn consumer(n: u32, name: &str) -> Row {
    row(
        "consumers",
        json!({ "id": id(n), "username": name, "created_at": 7, "updated_at": 7 }),
    )
}

fn key(n: u32, consumer: u32, key: &str) -> Row {
    let consumer = json!({ "id": id(consumer) });
    row(
        "keyauth_credentials",
        json!({ "id": id(n), "consumer": consumer, "key": key, "created_at": 7 }),
    )
}

async fn revision(store: &Store) -> i64 {
    store.load().await.unwrap().revision
}

#[tokio::test]
async fn an_import_is_one_revision_and_says_what_is_new() {
    let store = store().await;
    let (services, consumers, keys) = (
        def("services"),
        def("consumers"),
        def("keyauth_credentials"),
    );
    let before = revision(&store).await;
    let people: Vec<Row> = (100..1400).map(|n| consumer(n, &format!("c{n}"))).collect();
    let theirs: Vec<Row> = (100..1400)
        .map(|n| key(n + 5000, n, &format!("k{n}")))
        .collect();
    let one = [service(1, "a"), service(2, "b")];
    let mut told = Vec::new();
    let all = [
        (&services, &one[..]),
        (&consumers, &people[..]),
        (&keys, &theirs[..]),
    ];
    let done = store.import(&all, |n| told.push(n)).await.unwrap();
    assert_eq!(
        done,
        Imported {
            inserted: 2602,
            updated: 0
        }
    );
    assert_eq!(told.last(), Some(&2602));
    assert!(told.is_sorted());
    assert_eq!(revision(&store).await, before + 1);
    let stored = store
        .get(&services, &Key::Unique("name", "a"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored, one[0]);

    // Again, with one that is new: those that are there are replaced and keep what they are.
    let mut changed = service(1, "renamed");
    changed.insert("host".into(), "i".into());
    let two = [changed.clone(), service(3, "c")];
    let done = store
        .import(&[(&services, &two[..])], |_| {})
        .await
        .unwrap();
    assert_eq!(
        done,
        Imported {
            inserted: 1,
            updated: 1
        }
    );
    assert_eq!(revision(&store).await, before + 2);
    let stored = store
        .get(&services, &Key::Unique("name", "renamed"))
        .await
        .unwrap();
    assert_eq!(stored, Some(changed));

    let mut out = Vec::new();
    let sink = |def: &silverback_schema::EntityDef, row: Row| {
        out.push((def.name, row["id"].as_str().unwrap().to_owned()));
        Ok::<_, StoreError>(())
    };
    store.export(&[&services, &keys], sink).await.unwrap();
    assert_eq!(out.len(), 1303);
    assert_eq!(out[0], ("services", id(1)));
    assert!(
        out[3..]
            .iter()
            .all(|(name, _)| *name == "keyauth_credentials")
    );
    assert!(out[3..].is_sorted());
}

#[tokio::test]
async fn an_import_that_cannot_be_leaves_everything_as_it_was() {
    let store = store().await;
    let (services, keys) = (def("services"), def("keyauth_credentials"));
    store.insert(&services, service(1, "taken")).await.unwrap();
    let before = revision(&store).await;
    let rows = [service(2, "fine"), service(3, "taken")];
    let refused = store.import(&[(&services, &rows[..])], |_| {}).await;
    assert_eq!(
        refused,
        Err(StoreError::Unique {
            fields: vec![("name", json!("taken"))]
        })
    );
    let lost = [key(9, 8, "k")];
    let refused = store
        .import(&[(&services, &rows[..1]), (&keys, &lost[..])], |_| {})
        .await;
    assert_eq!(
        refused,
        Err(StoreError::ForeignMissing {
            field: "consumer",
            entity: "consumers",
            id: json!(id(8))
        })
    );
    assert_eq!(revision(&store).await, before);
    assert_eq!(
        store.get(&services, &Key::Unique("name", "fine")).await,
        Ok(None)
    );
    // Nothing to do is no revision.
    assert_eq!(store.import(&[], |_| {}).await, Ok(Imported::default()));
    assert_eq!(revision(&store).await, before);
}

#[tokio::test]
async fn without_a_database_the_rows_are_in_a_file_of_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("deep/declarative.json");
    let memory = || Store::memory_only(defs(), Some(file.clone())).unwrap();
    let store = memory();
    assert!(!store.has_database());
    assert_eq!(store.restore(), Ok(false));
    let mut void = key(9, 100, "void");
    void.insert("ttl".into(), 5.into());
    let rows = BTreeMap::from([
        ("services".to_owned(), vec![service(1, "a")]),
        ("consumers".to_owned(), vec![consumer(100, "c")]),
        (
            "keyauth_credentials".to_owned(),
            vec![key(8, 100, "k"), void],
        ),
    ]);
    store.replace(rows, "abc".into()).unwrap();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let again = memory();
    assert_eq!(again.restore(), Ok(true));
    assert_eq!(again.configuration_hash().as_deref(), Some("abc"));
    let tables = again.load().await.unwrap();
    assert_eq!(
        (
            tables.revision,
            tables.services.len(),
            tables.consumers.len()
        ),
        (1, 1, 1)
    );
    let keys = &tables.credentials["keyauth_credentials"];
    assert_eq!(keys.len(), 2);
    let void = &keys[&id(9).parse::<Uuid>().unwrap()];
    assert_eq!((&*void.lookup, void.expires_at), ("void", Some(12)));
    // Who reads rows does not see one that is over.
    let keys = def("keyauth_credentials");
    assert_eq!(
        again.get(&keys, &Key::Unique("key", "void")).await,
        Ok(None)
    );
    let found = again.get(&keys, &Key::Unique("key", "k")).await.unwrap();
    assert_eq!(found.unwrap()["consumer"]["id"], id(100));

    std::fs::write(&file, "{").unwrap();
    assert!(matches!(memory().restore(), Err(StoreError::Internal(_))));
}

#[tokio::test]
async fn what_is_exported_says_when_it_ends() {
    let store = store().await;
    let (consumers, keys) = (def("consumers"), def("keyauth_credentials"));
    let made = super::now() - 1800;
    let with = |n: u32, ttl: i64| {
        let mut row = key(n, 100, &format!("k{n}"));
        row.insert("created_at".into(), made.into());
        row.insert("ttl".into(), ttl.into());
        row
    };
    let theirs = [with(1, 3600), with(2, 0), with(3, 60)];
    let one = [consumer(100, "c")];
    let all = [(&consumers, &one[..]), (&keys, &theirs[..])];
    store.import(&all, |_| {}).await.unwrap();
    let memory = Store::memory_only(defs(), None).unwrap();
    let rows = BTreeMap::from([("keyauth_credentials".to_owned(), theirs.to_vec())]);
    memory.replace(rows, String::new()).unwrap();
    for store in [store, memory] {
        let mut out = Vec::new();
        let sink = |_: &silverback_schema::EntityDef, row: Row| {
            out.push((row["key"].clone(), row["ttl"].clone()));
            Ok::<_, StoreError>(())
        };
        store.export(&[&keys], sink).await.unwrap();
        assert_eq!(
            out,
            [
                (json!("k1"), json!(made + 3600)),
                (json!("k2"), json!(null))
            ]
        );
    }
}
