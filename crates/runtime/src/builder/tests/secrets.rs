//! References to secrets, in plugins' configurations and in certificates.

use super::*;

fn vault(n: u128, prefix: &str, config: Value) -> Change {
    let row = json!({"id": id(n), "prefix": prefix, "name": "env", "config": config, "created_at": 1, "updated_at": 1});
    change(
        "vaults",
        n,
        Some(Row::Vault(serde_json::from_value(row).unwrap())),
    )
}

#[tokio::test]
async fn references_are_resolved_and_a_changed_vault_changes_what_they_stand_for() {
    let mut b = Builder::new(registries());
    b.apply(
        1,
        vec![
            service(1),
            route(2, "/", 1),
            plugin(5, "mark", [2, 0, 0], mark("{vault://env/secret}")),
        ],
    );
    assert_eq!(ask(&b.build(), "/", "").await, "s3cr3t");
    assert_eq!(b.problems(), []);
    let stored = serde_json::to_string(b.tables()).unwrap();
    assert!(!stored.contains("s3cr3t"), "the file holds the reference");

    b.apply(
        2,
        vec![plugin(5, "mark", [2, 0, 0], mark("{vault://mine/ret}"))],
    );
    assert_eq!(ask(&b.build(), "/", "").await, "");
    let what = "mark: unable to resolve reference {vault://mine/ret} (could not find vault (mine))";
    assert_eq!(b.problems()[0].what, what);

    b.apply(3, vec![vault(6, "mine", json!({"prefix": "SEC"}))]);
    let before = b.build();
    assert_eq!(ask(&before, "/", "").await, "s3cr3t");
    assert_eq!(b.problems(), []);
    b.apply(4, vec![vault(7, "other", json!({}))]);
    let after = b.build();
    let of = |s: &Snapshot| find(s, "/").map(|r| r.chain.clone());
    assert!(
        Arc::ptr_eq(&of(&before).unwrap(), &of(&after).unwrap()),
        "a plugin whose secrets are the same stays"
    );
    b.apply(5, vec![change("vaults", 6, None)]);
    assert_eq!(ask(&b.build(), "/", "").await, "");
}

fn certificate(n: u128, cert: &str, key: &str) -> Change {
    let row = json!({"id": id(n), "cert": cert, "key": key, "created_at": 1, "updated_at": 1});
    change(
        "certificates",
        n,
        Some(Row::Certificate(serde_json::from_value(row).unwrap())),
    )
}

#[tokio::test]
async fn a_service_has_the_certificate_that_its_references_stand_for() {
    let mut b = Builder::new(registries());
    let mut with = service(1);
    if let Some(Row::Service(row)) = &mut with.row {
        row.client_certificate = Some(silverback_entities::Ref { id: id(9) });
    }
    b.apply(
        1,
        vec![with, service(2), route(3, "/", 1), route(4, "/other", 2)],
    );
    let shows = |s: &Snapshot, path: &str| {
        let service = find(s, path).unwrap().service.clone().unwrap();
        service.client_certificate.is_some()
    };
    assert!(!shows(&b.build(), "/"), "it is not there yet");
    b.apply(
        2,
        vec![certificate(
            9,
            "{vault://env/cert}",
            "{vault://env/cert-key}",
        )],
    );
    let before = b.build();
    assert!(shows(&before, "/") && !shows(&before, "/other"));
    assert_eq!(b.problems(), []);

    b.apply(3, vec![vault(7, "unrelated", json!({}))]);
    let after = b.build();
    let of = |s: &Snapshot| find(s, "/").unwrap().service.clone().unwrap();
    assert!(Arc::ptr_eq(&of(&before), &of(&after)));

    for (key, what) in [
        (
            "{vault://env/nope}",
            "client_certificate: unable to resolve reference {vault://env/nope} ",
        ),
        (
            "nonsense",
            "client_certificate: the private key cannot be used",
        ),
    ] {
        b.apply(4, vec![certificate(9, "{vault://env/cert}", key)]);
        assert!(!shows(&b.build(), "/"));
        assert!(b.problems()[0].what.starts_with(what), "{:?}", b.problems());
    }
}
