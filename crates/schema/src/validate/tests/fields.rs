//! Rules of one field.

use super::*;

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
