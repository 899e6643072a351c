//! Checks over several fields.

use super::*;

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
