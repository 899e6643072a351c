//! What holds for any input.

use proptest::prelude::*;

use super::*;

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
