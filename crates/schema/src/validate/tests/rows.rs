//! References, what the server fills, changes, shorthands, variants.

use super::*;

#[test]
fn foreign_keys_have_an_id() {
    let f = || foreign("services");
    taken(f(), json!({ "id": ID }));
    taken(f(), Value::Null);
    assert_eq!(
        one(f(), json!({ "id": ID.to_uppercase(), "name": "x" })),
        Ok(json!({ "id": ID }))
    );
    for odd in [json!("x"), json!(1), json!({}), json!([])] {
        assert_eq!(one(f(), odd), Err(json!({ "id": "missing primary key" })));
    }
    assert_eq!(
        one(f(), json!({ "id": "x" })),
        Err(json!({ "id": "expected a valid UUID" }))
    );
    assert_eq!(
        one(f(), json!({ "id": null })),
        Err(json!({ "id": "required field missing" }))
    );
    assert_eq!(one(f(), json!({ "name": "x" })), Ok(json!({ "name": "x" })));
}

#[test]
fn foreign_keys_are_checked_against_their_entity_when_it_is_known() {
    static SERVICES: std::sync::LazyLock<EntityDef> = std::sync::LazyLock::new(|| {
        EntityDef::new(
            "services",
            vec![
                ("id", id()),
                ("name", string().unique()),
                ("port", integer()),
            ],
        )
        .endpoint_key("name")
    });
    let def = EntityDef::new("x", vec![("service", foreign("services"))])
        .catalogue(|name| (name == "services").then(|| &*SERVICES));
    let got = |v: Value| insert(&def, json!({ "service": v }));
    assert_eq!(
        got(json!({ "name": "a", "port": 1 })),
        Ok(json!({ "service": { "name": "a" } }))
    );
    assert_eq!(
        got(json!({ "foo": 1 })),
        Err(json!({ "service": { "foo": "unknown field" } }))
    );
    assert_eq!(
        got(json!({ "name": 5 })),
        Err(json!({ "service": { "name": "expected a string" } }))
    );
    assert_eq!(
        got(json!({ "port": 5 })),
        Err(json!({ "service": { "id": "missing primary key" } }))
    );
    assert_eq!(
        got(json!({ "id": "x" })),
        Err(json!({ "service": { "id": "expected a valid UUID" } }))
    );
}

#[test]
fn the_server_fills_ids_times_and_keys() {
    let fields = || {
        vec![
            ("id", id()),
            ("created_at", timestamp()),
            ("updated_at", timestamp()),
            ("key", string().auto().optional()),
        ]
    };
    let def = EntityDef::new("x", fields());
    let row = insert(&def, json!({ "id": null })).unwrap();
    assert!(uuid::Uuid::parse_str(row["id"].as_str().unwrap()).is_ok());
    assert_eq!(
        (&row["created_at"], &row["updated_at"]),
        (&json!(NOW), &json!(NOW))
    );
    let key = row["key"].as_str().unwrap();
    assert!(
        key.len() == 32 && key.bytes().all(|b| b.is_ascii_alphanumeric()),
        "{key}"
    );
    let given = insert(
        &def,
        json!({ "id": ID, "created_at": 1, "updated_at": 1, "key": "k" }),
    )
    .unwrap();
    assert_eq!(
        given,
        json!({ "id": ID, "created_at": 1, "updated_at": NOW, "key": "k" })
    );
    let later = patch(
        &def,
        &object(given),
        object(json!({ "id": "other", "key": "l" })),
        NOW + 1,
    )
    .unwrap();
    assert_eq!(
        Value::Object(later),
        json!({ "id": ID, "created_at": 1, "updated_at": NOW + 1, "key": "l" })
    );
}

#[test]
fn a_change_merges_records_and_replaces_lists() {
    let redis = inner(vec![
        ("host", string()),
        ("port", integer().required().default(6379)),
    ])
    .required();
    let config = inner(vec![
        ("redis", redis),
        ("names", array(string())),
        ("n", integer().default(1)),
    ])
    .required();
    let def = EntityDef::new(
        "x",
        vec![
            ("config", config),
            ("enabled", boolean().required().default(true)),
        ],
    );
    let old = insert(
        &def,
        json!({ "config": { "redis": { "host": "h" }, "names": ["a", "b"] } }),
    )
    .unwrap();
    let new = update(
        &def,
        old.clone(),
        json!({ "config": { "redis": { "port": 1 }, "names": ["c"], "n": null } }),
    )
    .unwrap();
    assert_eq!(
        new,
        json!({ "config": { "redis": { "host": "h", "port": 1 }, "names": ["c"], "n": null }, "enabled": true })
    );
    assert_eq!(
        update(
            &def,
            old,
            json!({ "config": { "redis": { "port": null } }, "enabled": null })
        ),
        Err(
            json!({ "config": { "redis": { "port": "required field missing" } }, "enabled": "required field missing" })
        )
    );
}

#[test]
fn a_row_older_than_its_definition_can_be_changed() {
    let def = EntityDef::new(
        "x",
        vec![("a", string()), ("new", boolean().required().default(true))],
    );
    assert_eq!(
        update(&def, json!({ "a": "b", "gone": 1 }), json!({})),
        Ok(json!({ "a": "b", "new": true }))
    );
    assert_eq!(
        update(&def, json!({ "new": null }), json!({})),
        Ok(json!({ "a": null, "new": true }))
    );
}

#[test]
fn ttl_is_taken_where_rows_expire() {
    let def = EntityDef::new("x", vec![("a", string())]).with_ttl();
    assert_eq!(
        insert(&def, json!({ "ttl": 60.0 })),
        Ok(json!({ "a": null, "ttl": 60 }))
    );
    assert_eq!(
        insert(&def, json!({})),
        Ok(json!({ "a": null, "ttl": null }))
    );
    assert_eq!(
        insert(&def, json!({ "ttl": -1 })),
        Err(json!({ "ttl": "must be an integer between 0 and 100000000" }))
    );
    assert_eq!(
        update(&def, json!({ "a": "b" }), json!({})),
        Ok(json!({ "a": "b" }))
    );
    for (said, kept) in [
        (json!({ "ttl": null }), json!({ "a": "b" })),
        (json!({ "ttl": 0 }), json!({ "a": "b", "ttl": 0 })),
    ] {
        assert_eq!(update(&def, json!({ "a": "b", "ttl": 60 }), said), Ok(kept));
    }
    assert_eq!(
        ttl_violation(&json!("x")).unwrap(),
        "must be an integer between 0 and 100000000"
    );
    let without = EntityDef::new("x", vec![]);
    assert_eq!(
        insert(&without, json!({ "ttl": 1 })),
        Err(json!({ "ttl": "unknown field" }))
    );
}

#[test]
fn a_deprecated_shorthand_yields_to_what_it_stands_for() {
    let def = EntityDef::new(
        "x",
        vec![("redis", inner(vec![("host", string())]).required())],
    )
    .shorthand(Shorthand {
        name: "redis_host",
        field: string(),
        translate: redis_host,
        shown_from: Some("redis.host"),
        wins: false,
    });
    assert_eq!(
        insert(&def, json!({ "redis_host": "h" })),
        Ok(json!({ "redis": { "host": "h" } }))
    );
    assert_eq!(
        insert(&def, json!({ "redis_host": "h", "redis": { "host": "h" } })),
        Ok(json!({ "redis": { "host": "h" } }))
    );
    assert_eq!(
        insert(
            &def,
            json!({ "redis_host": null, "redis": { "host": "h" } })
        ),
        Ok(json!({ "redis": { "host": "h" } }))
    );
    assert_eq!(
        insert(&def, json!({ "redis_host": "h", "redis": { "host": "i" } })),
        Err(json!({
            "redis_host": "both deprecated and new field are used but their values mismatch: redis_host = h vs redis.host = i"
        }))
    );
    assert_eq!(
        insert(&def, json!({ "redis_host": 1, "zz": 1 })),
        Err(json!({ "redis_host": "expected a string" })),
        "only shorthands are reported"
    );
}

#[test]
fn a_winning_shorthand_replaces_what_it_stands_for() {
    let def =
        EntityDef::new("x", vec![("host", string()), ("path", string())]).shorthand(Shorthand {
            name: "url",
            field: string(),
            translate: |v| object(json!({ "host": v, "path": null })),
            shown_from: None,
            wins: true,
        });
    assert_eq!(
        insert(&def, json!({ "url": "a", "host": "b", "path": "c" })),
        Ok(json!({ "host": "a", "path": null }))
    );
    assert_eq!(
        update(
            &def,
            json!({ "host": "b", "path": "c" }),
            json!({ "url": "a" })
        ),
        Ok(json!({ "host": "a", "path": null }))
    );
}

#[test]
fn a_variant_fills_its_defaults_and_may_refuse_the_row() {
    let def = EntityDef::new("x", vec![("kind", string()), ("n", integer().default(1))]).variant(
        Variant {
            defaults: |row| {
                if row.get("kind") == Some(&"b".into()) {
                    row.insert("n".into(), 2.into());
                }
            },
            gate: |row| {
                if row["kind"].is_null() {
                    Err(CustomViolation::Field("kind", "unknown".into()))
                } else {
                    Ok(())
                }
            },
        },
    );
    assert_eq!(
        insert(&def, json!({ "kind": "a" })),
        Ok(json!({ "kind": "a", "n": 1 }))
    );
    assert_eq!(
        insert(&def, json!({ "kind": "b" })),
        Ok(json!({ "kind": "b", "n": 2 }))
    );
    assert_eq!(
        insert(&def, json!({ "n": "x" })),
        Err(json!({ "kind": "unknown" }))
    );
}

#[test]
fn null_says_nothing_about_what_the_server_makes_up() {
    let def = EntityDef::new("x", vec![("id", id()), ("key", string().auto())]);
    let row = complete(&def, Map::new(), Op::Insert, 1).unwrap();
    let change = json!({ "id": null, "key": null });
    let changed = patch(&def, &row, change.as_object().unwrap().clone(), 2).unwrap();
    assert_eq!(changed, row);
}
