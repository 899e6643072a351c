//! Credentials, and what was given out for them.

use super::*;

#[tokio::test]
async fn a_credential_touches_neither_router_nor_chains() {
    let mut b = Builder::new(registries());
    b.apply(
        1,
        vec![
            service(1),
            route(2, "/", 1),
            plugin(5, "mark", [2, 0, 0], mark("m")),
        ],
    );
    let before = b.build();
    b.apply(2, vec![consumer(3, "alice"), key(4, 3, "k")]);
    let after = b.build();
    assert!(
        Arc::ptr_eq(&before.router, &after.router)
            && before
                .routes
                .iter()
                .zip(after.routes.iter())
                .all(|(a, b)| a.same(b))
    );
    assert!(before.directory.credential("testkeys", "k").is_none());
    assert_eq!(
        after
            .directory
            .credential("testkeys", "k")
            .unwrap()
            .consumer
            .username
            .as_deref(),
        Some("alice")
    );
    assert_eq!(after.revision, 2);
}

#[tokio::test]
async fn a_renamed_consumer_reaches_its_credentials_and_a_deleted_one_is_gone() {
    let mut b = Builder::new(registries());
    b.apply(1, vec![key(4, 3, "k"), consumer(3, "alice")]);
    assert!(
        b.build().directory.credential("testkeys", "k").is_some(),
        "a credential may arrive before its consumer"
    );
    b.apply(2, vec![consumer(3, "bob")]);
    let s = b.build();
    assert_eq!(
        s.directory
            .credential("testkeys", "k")
            .unwrap()
            .consumer
            .username
            .as_deref(),
        Some("bob")
    );
    assert!(s.directory.consumer("alice").is_none() && s.directory.consumer("bob").is_some());
    b.apply(3, vec![key(4, 3, "k2")]);
    let s = b.build();
    assert!(
        s.directory.credential("testkeys", "k").is_none()
            && s.directory.credential("testkeys", "k2").is_some()
    );
    b.apply(
        4,
        vec![change("testkeys", 4, None), change("consumers", 3, None)],
    );
    let s = b.build();
    assert!(
        s.directory.credential("testkeys", "k2").is_none() && s.directory.consumer("bob").is_none()
    );
}

fn membership(n: u128, consumer: u128, group: &str) -> Change {
    let row = CredentialRow {
        id: id(n),
        consumer: id(consumer),
        lookup: group.into(),
        expires_at: None,
        extra: Map::new(),
    };
    change("testgroups", n, Some(Row::Credential(row)))
}

#[tokio::test]
async fn values_that_many_share_are_listed_by_consumer() {
    let mut b = Builder::new(registries());
    let of = |s: &Snapshot, n: u128| s.values_of("testgroups", id(n)).join(" ");
    b.apply(
        1,
        vec![
            membership(6, 3, "b"),
            membership(5, 3, "a"),
            membership(7, 4, "a"),
        ],
    );
    let before = b.build();
    assert_eq!((of(&before, 3), of(&before, 4)), ("a b".into(), "a".into()));
    b.apply(
        2,
        vec![membership(5, 3, "z"), change("testgroups", 7, None)],
    );
    let after = b.build();
    assert_eq!(
        (of(&after, 3), of(&after, 4)),
        ("z b".into(), String::new())
    );
    assert_eq!(of(&before, 3), "a b", "an older snapshot stays as it was");
    b.load(b.tables().clone());
    assert_eq!(of(&b.build(), 3), "z b");
}

fn issued(entity: &str, n: u128, lookup: &str, owner: Option<u128>) -> Change {
    let mut fields = Map::new();
    if let Some(owner) = owner {
        fields.insert("owner".to_owned(), json!({ "id": id(owner) }));
    }
    let row = IssuedRow {
        id: id(n),
        lookup: lookup.into(),
        expires_at: None,
        fields,
    };
    change(entity, n, Some(Row::Issued(row)))
}

#[tokio::test]
async fn what_was_given_out_is_found_with_the_credential_it_was_given_to() {
    let mut b = Builder::new(registries());
    let owner = |s: &Snapshot| {
        let credential = s.issued("testtokens", "t")?.credential.clone()?;
        Some((
            credential.lookup.to_vec(),
            credential.consumer.username.clone()?,
        ))
    };
    let is = |key: &str, name: &str| Some((key.as_bytes().to_vec(), name.into()));
    b.apply(
        1,
        vec![
            issued("testtokens", 5, "t", Some(4)),
            issued("testsessions", 6, "s", None),
        ],
    );
    let s = b.build();
    assert!(
        s.issued("testtokens", "t").is_none(),
        "its credential is not there yet"
    );
    assert!(s.issued("testsessions", "s").unwrap().credential.is_none());

    b.apply(2, vec![key(4, 3, "k"), consumer(3, "alice")]);
    assert_eq!(owner(&b.build()), is("k", "alice"));
    b.apply(3, vec![consumer(3, "bob")]);
    assert_eq!(owner(&b.build()), is("k", "bob"));
    b.apply(4, vec![key(4, 3, "k2")]);
    assert_eq!(owner(&b.build()), is("k2", "bob"));
    b.load(b.tables().clone());
    let before = b.build();
    assert_eq!(owner(&before), is("k2", "bob"));

    b.apply(5, vec![issued("testtokens", 5, "t2", Some(4))]);
    let s = b.build();
    assert!(s.issued("testtokens", "t").is_none() && s.issued("testtokens", "t2").is_some());
    b.apply(6, vec![change("testkeys", 4, None)]);
    assert!(
        b.build().issued("testtokens", "t2").is_none(),
        "gone with its credential"
    );
    b.apply(
        7,
        vec![
            change("testtokens", 5, None),
            change("testsessions", 6, None),
        ],
    );
    assert!(b.build().issued("testsessions", "s").is_none());
    assert_eq!(
        owner(&before),
        is("k2", "bob"),
        "an older snapshot stays as it was"
    );
}

#[tokio::test]
async fn an_expired_credential_is_not_found() {
    let mut b = Builder::new(registries());
    let row = CredentialRow {
        id: id(4),
        consumer: id(3),
        lookup: "k".into(),
        expires_at: Some(1),
        extra: Map::new(),
    };
    b.apply(
        1,
        vec![
            consumer(3, "alice"),
            change("testkeys", 4, Some(Row::Credential(row))),
        ],
    );
    let mut token = IssuedRow {
        id: id(5),
        lookup: "s".into(),
        expires_at: Some(1),
        fields: Map::new(),
    };
    let session = |row: &IssuedRow| change("testsessions", 5, Some(Row::Issued(row.clone())));
    b.apply(2, vec![session(&token)]);
    let s = b.build();
    assert!(s.credential("testkeys", "k").is_none() && s.issued("testsessions", "s").is_none());
    token.expires_at = Some(i64::MAX);
    b.apply(3, vec![session(&token)]);
    assert!(b.build().issued("testsessions", "s").is_some());
}
