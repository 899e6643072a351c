use serde_json::json;
use silverback_entities::Uuid;

use super::{consumer, def, id_of, route, service, store};
use crate::{ListQuery, Row, Store, StoreError, TagFilter};

/// All pages, and how many there were.
async fn all(store: &Store, entity: &str, mut q: ListQuery) -> (Vec<Row>, usize) {
    let (mut rows, mut pages) = (Vec::new(), 0);
    loop {
        let page = store.list(&def(entity), &q).await.unwrap();
        assert!(page.rows.len() <= q.size as usize);
        pages += 1;
        rows.extend(page.rows);
        match page.next {
            Some(next) => q.offset = Some(next),
            None => return (rows, pages),
        }
    }
}

#[tokio::test]
async fn pages_cover_the_collection_in_the_order_of_ids() {
    let store = store().await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(id_of(
            &store
                .insert(&def("services"), service(json!({})))
                .await
                .unwrap(),
        ));
    }
    ids.sort();
    for (size, pages) in [(1, 10), (3, 4), (5, 2), (10, 1), (1000, 1)] {
        let (rows, n) = all(
            &store,
            "services",
            ListQuery {
                size,
                ..ListQuery::default()
            },
        )
        .await;
        assert_eq!(
            (rows.iter().map(id_of).collect::<Vec<_>>(), n),
            (ids.clone(), pages)
        );
    }
}

#[tokio::test]
async fn a_page_goes_on_where_it_was_when_rows_come_and_go() {
    let store = store().await;
    let ids: Vec<String> = (0..6)
        .map(|i| format!("0000000{i}-0000-4000-8000-000000000000"))
        .collect();
    for i in [1, 3, 5] {
        store
            .insert(&def("services"), service(json!({"id": ids[i]})))
            .await
            .unwrap();
    }
    let q = ListQuery {
        size: 2,
        ..ListQuery::default()
    };
    let next = store.list(&def("services"), &q).await.unwrap().next;
    store
        .delete(&def("services"), &crate::Key::Id(ids[3].parse().unwrap()))
        .await
        .unwrap();
    store
        .insert(&def("services"), service(json!({"id": ids[0]})))
        .await
        .unwrap();
    store
        .insert(&def("services"), service(json!({"id": ids[4]})))
        .await
        .unwrap();
    let rest = store
        .list(&def("services"), &ListQuery { offset: next, ..q })
        .await
        .unwrap();
    assert_eq!(
        rest.rows
            .iter()
            .map(|r| r["id"].clone())
            .collect::<Vec<_>>(),
        [json!(ids[4]), json!(ids[5])]
    );
    assert_eq!(rest.next, None);
}

#[tokio::test]
async fn only_children_of_the_parent_are_listed() {
    let store = store().await;
    let a = store
        .insert(&def("services"), service(json!({})))
        .await
        .unwrap();
    let b = store
        .insert(&def("services"), service(json!({})))
        .await
        .unwrap();
    for (of, n) in [(&a, 3), (&b, 1)] {
        for _ in 0..n {
            store
                .insert(
                    &def("routes"),
                    route(json!({"service": {"id": of["id"]}, "tags": ["t"]})),
                )
                .await
                .unwrap();
        }
    }
    let q = ListQuery {
        parent: Some(("service", id_of(&a))),
        size: 2,
        ..ListQuery::default()
    };
    let (rows, pages) = all(&store, "routes", q.clone()).await;
    assert_eq!((rows.len(), pages), (3, 2));
    assert!(rows.iter().all(|r| r["service"]["id"] == a["id"]));
    let tagged = ListQuery {
        tags: Some(TagFilter::All(vec!["t".into()])),
        ..q
    };
    assert_eq!(all(&store, "routes", tagged).await.0.len(), 3);
}

#[tokio::test]
async fn tags_filter_by_all_and_by_any() {
    let store = store().await;
    for tags in [json!(["a", "b"]), json!(["b"]), json!(["c"]), json!(null)] {
        store
            .insert(&def("services"), service(json!({"tags": tags})))
            .await
            .unwrap();
    }
    for (filter, n) in [
        (TagFilter::All(vec!["b".into()]), 2),
        (TagFilter::All(vec!["a".into(), "b".into()]), 1),
        (TagFilter::All(vec!["a".into(), "c".into()]), 0),
        (TagFilter::Any(vec!["a".into(), "c".into()]), 2),
    ] {
        let q = ListQuery {
            tags: Some(filter.clone()),
            size: 1,
            ..ListQuery::default()
        };
        assert_eq!(all(&store, "services", q).await.0.len(), n, "{filter:?}");
    }
}

#[tokio::test]
async fn unknown_offsets_are_refused() {
    let store = store().await;
    let q = ListQuery {
        size: 1,
        offset: Some("bad".into()),
        ..ListQuery::default()
    };
    let bad = StoreError::BadOffset {
        offset: "bad".into(),
        reason: "bad json encoding",
    };
    assert_eq!(store.list(&def("services"), &q).await, Err(bad.clone()));
    assert_eq!(store.tags(None, 1, Some("bad")).await, Err(bad));
}

#[tokio::test]
async fn tags_of_all_entities_are_paged_in_one_order() {
    let store = store().await;
    let id = "00000001-0000-4000-8000-000000000001";
    store
        .insert(
            &def("services"),
            service(json!({"id": id, "tags": ["a", "b", "c"]})),
        )
        .await
        .unwrap();
    // Nothing keeps two entities from having the same id.
    store
        .insert(
            &def("consumers"),
            consumer(json!({"id": id, "tags": ["a"]})),
        )
        .await
        .unwrap();
    store
        .insert(
            &def("consumers"),
            consumer(json!({"username": "x", "tags": ["b"]})),
        )
        .await
        .unwrap();
    let expected = store.tags(None, 100, None).await.unwrap();
    assert_eq!(expected.rows.len(), 5);
    assert_eq!(expected.next, None);
    for size in 1..5 {
        let (mut rows, mut offset) = (Vec::new(), None);
        loop {
            let page = store.tags(None, size, offset.as_deref()).await.unwrap();
            rows.extend(page.rows);
            offset = page.next;
            if offset.is_none() {
                break;
            }
        }
        assert_eq!(rows, expected.rows, "{size}");
    }
    let b = store.tags(Some("b"), 1, None).await.unwrap();
    assert_eq!(
        (
            b.rows[0].entity_name,
            b.rows[0].tag.as_str(),
            b.rows[0].entity_id
        ),
        ("services", "b", id.parse::<Uuid>().unwrap())
    );
    let rest = store.tags(Some("b"), 1, b.next.as_deref()).await.unwrap();
    assert_eq!((rest.rows[0].entity_name, rest.next), ("consumers", None));
    assert_eq!(store.tags(Some("none"), 1, None).await.unwrap().rows, []);
}
