//! Every rule once, with Kong's words.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Op, complete, patch, ttl_violation};
use crate::check::{CustomViolation, EntityCheck, Shorthand};
use crate::entity::{EntityDef, Variant};
use crate::field::{
    Field, Kind, Named, RecordDef, array, boolean, foreign, id, integer, map, number, set, string,
    timestamp, uuid,
};

const NOW: i64 = 1_700_000_000;
const ID: &str = "00000001-0000-4000-8000-00000000000a";

fn object(v: Value) -> Map<String, Value> {
    v.as_object().unwrap().clone()
}

fn inner(fields: Vec<Named>) -> Field {
    Field::new(Kind::Record(RecordDef {
        fields,
        ..RecordDef::default()
    }))
}

fn insert(def: &EntityDef, v: Value) -> Result<Value, Value> {
    complete(def, object(v), Op::Insert, NOW)
        .map(Value::Object)
        .map_err(|e| Value::Object(e.0))
}

fn update(def: &EntityDef, old: Value, v: Value) -> Result<Value, Value> {
    patch(def, &object(old), object(v), NOW)
        .map(Value::Object)
        .map_err(|e| Value::Object(e.0))
}

/// The value of a field `f` after it was filled, or what is wrong with it.
fn one(f: Field, v: Value) -> Result<Value, Value> {
    let def = EntityDef::new("x", vec![("f", f)]);
    insert(&def, json!({ "f": v }))
        .map(|r| r["f"].clone())
        .map_err(|e| e["f"].clone())
}

#[track_caller]
fn refused(f: Field, v: Value, text: &str) {
    assert_eq!(one(f, v), Err(json!(text)));
}

#[track_caller]
fn taken(f: Field, v: Value) {
    assert_eq!(one(f, v.clone()), Ok(v));
}

#[test]
fn types_are_checked() {
    refused(string(), json!(1), "expected a string");
    refused(integer(), json!("1"), "expected an integer");
    refused(integer(), json!(1.5), "expected an integer");
    refused(integer(), json!(1e300), "expected an integer");
    refused(integer(), json!(u64::MAX), "expected an integer");
    refused(number(), json!("1"), "expected a number");
    refused(boolean(), json!("true"), "expected a boolean");
    refused(array(string()), json!("a"), "expected an array");
    refused(array(string()), json!({ "a": 1 }), "expected an array");
    refused(set(string()), json!(1), "expected a set");
    refused(map(string(), string()), json!("a"), "expected a map");
    refused(inner(vec![]), json!("a"), "expected a record");
    refused(string(), json!("a\0"), "must not contain a null character");
    taken(number(), json!(1.5));
    taken(Field::new(Kind::Abstract), json!({ "any": ["thing"] }));
}

#[test]
fn whole_numbers_lose_their_fraction() {
    assert_eq!(one(integer(), json!(80.0)).unwrap().to_string(), "80");
    assert_eq!(one(number(), json!(5.0)).unwrap().to_string(), "5");
    assert_eq!(
        one(array(integer()), json!([1.0])).unwrap().to_string(),
        "[1]"
    );
}

#[test]
fn empty_tables_fit_every_table() {
    assert_eq!(one(array(string()), json!({})), Ok(json!([])));
    assert_eq!(one(map(string(), string()), json!([])), Ok(json!({})));
    assert_eq!(
        one(inner(vec![("a", integer().default(1))]), json!([])),
        Ok(json!({ "a": 1 }))
    );
}

#[test]
fn presence_and_nulls() {
    let def = EntityDef::new(
        "x",
        vec![
            ("a", string().required()),
            ("b", integer().required().default(1)),
            ("c", string()),
        ],
    );
    assert_eq!(
        insert(&def, json!({})),
        Err(json!({ "a": "required field missing" }))
    );
    assert_eq!(
        insert(&def, json!({ "a": null })),
        Err(json!({ "a": "required field missing" }))
    );
    assert_eq!(
        insert(&def, json!({ "a": "x", "b": null })),
        Err(json!({ "b": "required field missing" }))
    );
    assert_eq!(
        insert(&def, json!({ "a": "x" })),
        Ok(json!({ "a": "x", "b": 1, "c": null }))
    );
    assert_eq!(one(integer().default(5), Value::Null), Ok(Value::Null));
    assert_eq!(
        one(array(string()), json!([null])),
        Err(json!(["required field missing"]))
    );
    assert_eq!(
        one(map(string(), string()), json!({ "a": null })),
        Err(json!("required field missing"))
    );
}

#[test]
fn unknown_and_hidden_fields_are_refused() {
    let def = EntityDef::new(
        "x",
        vec![("a", string()), ("h", string().hidden().default("s"))],
    );
    assert_eq!(
        insert(&def, json!({ "z": null })),
        Err(json!({ "z": "unknown field" }))
    );
    assert_eq!(
        insert(&def, json!({ "h": "mine" })),
        Err(json!({ "h": "unknown field" }))
    );
    assert_eq!(insert(&def, json!({})), Ok(json!({ "a": null, "h": "s" })));
    assert_eq!(
        update(&def, json!({ "h": "t" }), json!({ "a": "b" })),
        Ok(json!({ "a": "b", "h": "t" }))
    );
    assert_eq!(
        one(inner(vec![("a", string())]), json!({ "b": 1 })),
        Err(json!({ "b": "unknown field" }))
    );
}

#[test]
fn values_are_compared() {
    refused(string().eq("a"), json!("b"), "value must be a");
    refused(string().eq("a"), Value::Null, "value must be a");
    refused(string().eq(Value::Null), json!("b"), "value must be null");
    taken(string().eq(Value::Null), Value::Null);
    refused(integer().one_of([1, 2]), json!(3), "expected one of: 1, 2");
    taken(integer().one_of([1, 2]), json!(2));
    refused(
        string().not_one_of(["a", "b"]),
        json!("b"),
        "must not be one of: a, b",
    );
    refused(number().gt(0.0), json!(0), "value must be greater than 0");
    refused(
        number().gt(0.5),
        json!(0.5),
        "value must be greater than 0.5",
    );
    refused(
        integer().between(1, 3),
        json!(4),
        "value should be between 1 and 3",
    );
    refused(
        number().between(1, 3),
        json!(0.5),
        "value should be between 1 and 3",
    );
}

#[test]
fn lengths_are_checked() {
    refused(string(), json!(""), "length must be at least 1");
    taken(string().len_min(0), json!(""));
    refused(
        string().len_max(2),
        json!("abc"),
        "length must be at most 2",
    );
    refused(string().len_max(2), json!("äb"), "length must be at most 2");
    refused(string().len_eq(2), json!("abc"), "length must be 2");
    refused(
        set(string()).len_min(1),
        json!([]),
        "length must be at least 1",
    );
    refused(
        map(string(), string()).len_max(1),
        json!({ "a": "1", "b": "2" }),
        "length must be at most 1",
    );
}

#[test]
fn texts_follow_patterns() {
    refused(
        string().starts_with("/"),
        json!("a"),
        "should start with: /",
    );
    refused(
        string().matches("^%u+$"),
        json!("get"),
        "invalid value: get",
    );
    refused(
        string().match_none("//", "no empty segments"),
        json!("a//b"),
        "no empty segments",
    );
    refused(
        string().match_all("^a", "must begin with a"),
        json!("b"),
        "must begin with a",
    );
    refused(
        string().match_any(["^a", "^b"], "a or b"),
        json!("c"),
        "a or b",
    );
    taken(string().match_any(["^a", "^b"], "a or b"), json!("bc"));
    refused(string().is_regex(), json!("("), "not a valid regex: (");
    taken(string().is_regex(), json!("^(?!x)a"));
    refused(
        string().check(|_| Err("no good".into())),
        json!("x"),
        "no good",
    );
}

#[test]
fn uuids_and_times() {
    refused(uuid(), json!("x"), "expected a valid UUID");
    assert_eq!(one(uuid(), json!(ID.to_uppercase())), Ok(json!(ID)));
    let mut time = integer();
    time.timestamp = true;
    refused(time, json!(0), "expected a valid timestamp");
}

#[test]
fn lists_report_by_position_and_sets_drop_duplicates() {
    assert_eq!(
        one(array(integer()), json!([1, "x", 3])),
        Err(json!([null, "expected an integer"]))
    );
    assert_eq!(
        one(set(string()), json!(["b", "a", "b"])),
        Ok(json!(["b", "a"]))
    );
    let many: Vec<String> = (0..40).map(|i| (i % 20).to_string()).collect();
    assert_eq!(
        one(set(string()), json!(many))
            .unwrap()
            .as_array()
            .unwrap()
            .len(),
        20
    );
    let mut with = array(string());
    with.contains = Some("a".into());
    refused(with, json!(["b"]), "expected to contain: a");
    refused(
        set(string()).mutually_exclusive_subsets(&[&["a", "b"], &["c"]]),
        json!(["a", "c"]),
        "these sets are mutually exclusive: ('a', 'b'), ('c')",
    );
}

#[test]
fn maps_report_one_violation_for_the_whole() {
    let f = || map(string().matches("^%l+$"), array(string()));
    refused(f(), json!({ "A": ["x"] }), "invalid value: A");
    assert_eq!(
        one(f(), json!({ "a": [1] })),
        Err(json!(["expected a string"]))
    );
}

#[test]
fn records_are_filled_and_checked_inside() {
    let redis = inner(vec![("host", string()), ("port", integer().default(6379))]).required();
    let def = EntityDef::new(
        "x",
        vec![("config", inner(vec![("redis", redis)]).required())],
    );
    assert_eq!(
        insert(&def, json!({})),
        Ok(json!({ "config": { "redis": { "host": null, "port": 6379 } } }))
    );
    assert_eq!(
        insert(
            &def,
            json!({ "config": { "redis": { "port": "x" }, "z": 1 } })
        ),
        Err(
            json!({ "config": { "redis": { "port": "expected an integer" }, "z": "unknown field" } })
        )
    );
    assert_eq!(
        insert(&def, json!({ "config": null })),
        Err(json!({ "config": "required field missing" }))
    );
}

#[test]
fn vault_references_escape_the_rules_of_a_referenceable_text() {
    taken(
        string().referenceable().len_max(3),
        json!("{vault://env/x}"),
    );
    refused(
        string().len_max(3),
        json!("{vault://env/x}"),
        "length must be at most 3",
    );
}

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

fn redis_host(v: &Value) -> Map<String, Value> {
    object(json!({ "redis": { "host": v } }))
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

fn checked(check: EntityCheck) -> EntityDef {
    let config = inner(vec![("a", string()), ("b", string())]).required();
    EntityDef::new(
        "x",
        vec![
            ("a", string()),
            ("b", string()),
            ("c", string().required()),
            ("config", config),
        ],
    )
    .check(check)
}

#[track_caller]
fn check_says(check: EntityCheck, v: Value, want: Result<(), Value>) {
    let mut v = object(v);
    v.entry("c").or_insert_with(|| "c".into());
    assert_eq!(insert(&checked(check), Value::Object(v)).map(|_| ()), want);
}

fn entity(text: &str) -> Result<(), Value> {
    Err(json!({ "@entity": [text] }))
}

#[test]
fn checks_over_several_fields() {
    let at_least = || EntityCheck::AtLeastOneOf(vec!["a", "config.b"]);
    check_says(at_least(), json!({ "config": { "b": "x" } }), Ok(()));
    check_says(
        at_least(),
        json!({}),
        entity("at least one of these fields must be non-empty: 'a', 'config.b'"),
    );

    let only = || EntityCheck::OnlyOneOf(vec!["a", "b"]);
    check_says(only(), json!({ "a": "x" }), Ok(()));
    check_says(
        only(),
        json!({ "a": "x", "b": "y" }),
        entity("exactly one of these fields must be non-empty: 'a', 'b'"),
    );
    check_says(
        only(),
        json!({}),
        entity("exactly one of these fields must be non-empty: 'a', 'b'"),
    );

    let distinct = || EntityCheck::Distinct(vec!["a", "b"]);
    check_says(distinct(), json!({}), Ok(()));
    check_says(
        distinct(),
        json!({ "a": "x", "b": "x" }),
        entity("values of these fields must be distinct: 'a', 'b'"),
    );

    let all = || EntityCheck::MutuallyRequired(vec!["a", "b"]);
    check_says(all(), json!({}), Ok(()));
    check_says(
        all(),
        json!({ "a": "x" }),
        entity("all or none of these fields must be set: 'a', 'b'"),
    );

    let exclusive = || EntityCheck::MutuallyExclusive(vec!["a", "b"]);
    check_says(exclusive(), json!({ "a": "x" }), Ok(()));
    check_says(
        exclusive(),
        json!({ "a": "x", "b": "y" }),
        entity("only one or none of these fields must be set: 'a', 'b'"),
    );

    let sets = || EntityCheck::MutuallyExclusiveSets(vec!["a"], vec!["b", "config.a"]);
    check_says(sets(), json!({ "b": "x" }), Ok(()));
    check_says(
        sets(),
        json!({ "a": "x", "b": "y" }),
        entity("these sets are mutually exclusive: ('a'), ('b')"),
    );
}

fn when(then_match: Field, then_err: Option<&'static str>) -> EntityCheck {
    EntityCheck::Conditional {
        if_field: "a",
        if_match: Box::new(string().one_of(["x"])),
        then_field: "config.b",
        then_match: Box::new(then_match),
        then_err,
    }
}

#[test]
fn conditions_bind_only_when_they_apply() {
    check_says(when(string().required(), None), json!({ "a": "y" }), Ok(()));
    check_says(
        when(string().required(), None),
        json!({ "a": "x", "config": { "b": "1" } }),
        Ok(()),
    );
    check_says(
        when(string().required(), None),
        json!({ "a": "x" }),
        Err(json!({
            "config": { "b": "required field missing" },
            "@entity": ["failed conditional validation given value of field 'a'"]
        })),
    );
    check_says(
        when(string().eq(Value::Null), Some("not with '%s'")),
        json!({ "a": "x", "config": { "b": "1" } }),
        Err(json!({ "config": { "b": "value must be null" }, "@entity": ["not with 'a'"] })),
    );
    check_says(
        EntityCheck::ConditionalAtLeastOneOf {
            if_field: "a",
            if_match: Box::new(string().eq("x")),
            then_at_least_one_of: vec!["b", "config.a"],
            then_err: Some("must set one of %s"),
        },
        json!({ "a": "x" }),
        entity("must set one of 'b', 'config.a'"),
    );
}

#[test]
fn a_condition_takes_the_rest_of_its_rules_from_the_field() {
    let def = EntityDef::new("x", vec![("a", string()), ("n", integer().between(1, 9))]).check(
        EntityCheck::Conditional {
            if_field: "n",
            if_match: Box::new(integer().gt(5.0)),
            then_field: "a",
            then_match: Box::new(string().required()),
            then_err: None,
        },
    );
    assert!(insert(&def, json!({ "n": 7 })).is_err());
    // Out of the field's own bounds, so that the condition does not apply; and it is a violation of its own.
    assert_eq!(
        insert(&def, json!({ "n": 10 })),
        Err(json!({ "n": "value should be between 1 and 9" }))
    );
}

#[test]
fn checks_do_not_run_on_what_is_missing_invalid_or_a_reference() {
    let def = EntityDef::new("x", vec![("a", string().required()), ("b", string())])
        .check(EntityCheck::Distinct(vec!["a", "b"]));
    assert_eq!(
        insert(&def, json!({ "b": "x" })),
        Err(json!({ "a": "field required for entity check" }))
    );

    let fails = EntityCheck::Custom {
        field_sources: vec!["a"],
        run_with_missing_fields: false,
        run: |_| Err(CustomViolation::Entity("bad".into())),
    };
    check_says(fails.clone(), json!({ "a": "x" }), entity("bad"));
    check_says(
        fails,
        json!({ "a": 1 }),
        Err(json!({ "a": "expected a string" })),
    );

    let def = EntityDef::new("x", vec![("a", string().referenceable()), ("b", string())])
        .check(EntityCheck::MutuallyRequired(vec!["a", "b"]));
    assert!(insert(&def, json!({ "a": "{vault://env/a}" })).is_ok());
}

#[test]
fn custom_checks_may_blame_a_field() {
    check_says(
        EntityCheck::Unlisted {
            when_valid: vec!["config"],
            run: |_| Err(CustomViolation::Field("config", "bad".into())),
        },
        json!({}),
        Err(json!({ "config": "bad" })),
    );
    check_says(
        EntityCheck::Unlisted {
            when_valid: vec!["config"],
            run: |_| Err(CustomViolation::Field("config", "bad".into())),
        },
        json!({ "config": { "a": 1 } }),
        Err(json!({ "config": { "a": "expected a string" } })),
    );
}

#[test]
fn a_check_inside_a_malformed_record_keeps_what_is_known() {
    check_says(
        when(string().required(), None),
        json!({ "a": "x", "config": "y" }),
        Err(json!({
            "config": "expected a record",
            "@entity": ["failed conditional validation given value of field 'a'"]
        })),
    );
}

#[test]
fn updates_say_so() {
    let def = checked(EntityCheck::AtLeastOneOf(vec!["a", "b"]));
    let old = json!({ "a": "x", "c": "c" });
    assert_eq!(
        update(&def, old, json!({ "a": null })),
        Err(
            json!({ "@entity": ["when updating, at least one of these fields must be non-empty: 'a', 'b'"] })
        )
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

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c%\\[\\]{}:/. \u{0}ä]{0,6}".prop_map(Value::from),
        Just(json!("{vault://x}")),
    ];
    leaf.prop_recursive(3, 24, 5, |inside| {
        prop_oneof![
            prop::collection::vec(inside.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(
                prop_oneof![
                    "[a-e]",
                    Just("id".to_owned()),
                    Just("config".to_owned()),
                    Just("ttl".to_owned())
                ],
                inside,
                0..5
            )
            .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn everything() -> EntityDef {
    let config = inner(vec![
        ("a", string().required()),
        ("b", set(inner(vec![("c", integer())]))),
        ("c", uuid()),
    ]);
    EntityDef::new(
        "x",
        vec![
            ("id", id()),
            (
                "a",
                string()
                    .referenceable()
                    .is_regex()
                    .starts_with("a")
                    .matches("^[a-c]+$"),
            ),
            (
                "b",
                set(string().required()).mutually_exclusive_subsets(&[&["a"], &["b"]]),
            ),
            ("c", map(string(), array(number().gt(0.5)))),
            ("d", foreign("x")),
            ("e", integer().between(0, 5).one_of([1, 2])),
            ("config", config.required()),
        ],
    )
    .with_ttl()
    .shorthand(Shorthand {
        name: "s",
        field: string(),
        translate: redis_host,
        shown_from: Some("config.a"),
        wins: false,
    })
    .check(EntityCheck::AtLeastOneOf(vec!["a", "config.a"]))
    .check(EntityCheck::OnlyOneOf(vec!["a", "e"]))
    .check(EntityCheck::Distinct(vec!["a", "config.b"]))
    .check(EntityCheck::MutuallyExclusiveSets(
        vec!["a", "b"],
        vec!["config.c"],
    ))
    .check(EntityCheck::Conditional {
        if_field: "config.a",
        if_match: Box::new(string().eq("a")),
        then_field: "config.c",
        then_match: Box::new(string().required()),
        then_err: None,
    })
}

proptest! {
    #[test]
    fn no_input_panics(input in any_json(), other in any_json()) {
        let def = everything();
        let input = input.as_object().cloned().unwrap_or_default();
        let other = other.as_object().cloned().unwrap_or_default();
        for result in [complete(&def, input.clone(), Op::Insert, NOW), patch(&def, &other, input, NOW)] {
            if let Err(e) = result {
                prop_assert!(!e.0.is_empty());
                prop_assert!(e.message().contains("schema violation"));
            }
        }
    }

    #[test]
    fn what_was_completed_is_complete(input in any_json()) {
        let def = everything();
        if let Ok(row) = complete(&def, input.as_object().cloned().unwrap_or_default(), Op::Insert, NOW) {
            let again = complete(&def, row.clone(), Op::Upsert, NOW);
            prop_assert_eq!(again, Ok(row));
        }
    }
}
