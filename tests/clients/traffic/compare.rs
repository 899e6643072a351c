//! An answer against Kong's, through the eyes of a client.

use serde_json::Value;

use super::data::Reads;

/// What the client would miss.
pub(super) fn missed(reads: &Reads, kongs: &Value, ours: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for path in &reads.fields {
        along(path, kongs, ours, &mut found, &|kongs, ours, at, found| {
            same_type(kongs, ours, at, found);
        });
    }
    for path in &reads.whole {
        along(path, kongs, ours, &mut found, &|kongs, ours, at, found| {
            let (Some(kongs), Some(ours)) = (kongs, ours) else {
                return same_type(kongs, ours, at, found);
            };
            all_parts(kongs, ours, at, found);
        });
    }
    for path in &reads.equal {
        along(path, kongs, ours, &mut found, &|kongs, ours, at, found| {
            if !ours
                .zip(kongs)
                .is_some_and(|(ours, kongs)| says(ours, kongs))
            {
                found.push(format!("{at}: {} instead of {}", shown(ours), shown(kongs)));
            }
        });
    }
    found
}

type Check<'a> = &'a dyn Fn(Option<&Value>, Option<&Value>, &str, &mut Vec<String>);

fn along(path: &str, kongs: &Value, ours: &Value, found: &mut Vec<String>, check: Check<'_>) {
    let path = path.trim_start_matches('.');
    let steps: Vec<&str> = path.split('.').filter(|s| !s.is_empty()).collect();
    step(&steps, Some(kongs), Some(ours), ".", found, check);
}

fn step(
    steps: &[&str],
    kongs: Option<&Value>,
    ours: Option<&Value>,
    at: &str,
    found: &mut Vec<String>,
    check: Check<'_>,
) {
    let Some((first, rest)) = steps.split_first() else {
        return check(kongs, ours, at, found);
    };
    let name = first.trim_end_matches("[]");
    let at = format!("{}.{name}", at.trim_end_matches('.'));
    let (kongs, ours) = (
        kongs.and_then(|v| v.get(name)),
        ours.and_then(|v| v.get(name)),
    );
    if name.len() == first.len() {
        return step(rest, kongs, ours, &at, found, check);
    }
    let (Some(Value::Array(kongs)), Some(Value::Array(ours))) = (kongs, ours) else {
        return same_type(kongs, ours, &at, found);
    };
    if !same_length(kongs, ours, &at, found) {
        return;
    }
    for (n, (kongs, ours)) in kongs.iter().zip(ours).enumerate() {
        let at = format!("{at}[{n}]");
        step(rest, Some(kongs), Some(ours), &at, found, check);
    }
}

fn same_type(kongs: Option<&Value>, ours: Option<&Value>, at: &str, found: &mut Vec<String>) {
    if kongs.map(kind) != ours.map(kind) {
        found.push(format!("{at}: {} instead of {}", shown(ours), shown(kongs)));
    }
}

fn all_parts(kongs: &Value, ours: &Value, at: &str, found: &mut Vec<String>) {
    match (kongs, ours) {
        (Value::Object(kongs), Value::Object(ours)) => {
            for (name, kongs) in kongs {
                let at = format!("{}.{name}", at.trim_end_matches('.'));
                match ours.get(name) {
                    Some(ours) => all_parts(kongs, ours, &at, found),
                    None => found.push(format!("{at}: missing, Kong has {kongs}")),
                }
            }
        }
        (Value::Array(kongs), Value::Array(ours)) => {
            if same_length(kongs, ours, at, found) {
                for (n, (kongs, ours)) in kongs.iter().zip(ours).enumerate() {
                    all_parts(kongs, ours, &format!("{at}[{n}]"), found);
                }
            }
        }
        _ => same_type(Some(kongs), Some(ours), at, found),
    }
}

fn same_length(kongs: &[Value], ours: &[Value], at: &str, found: &mut Vec<String>) -> bool {
    if kongs.len() != ours.len() {
        found.push(format!(
            "{at}: {} elements instead of {}",
            ours.len(),
            kongs.len()
        ));
    }
    kongs.len() == ours.len()
}

/// Whether a value is the same, or an object that says more. Kong leaves out of schemas what is implied until somebody has used them.
fn says(ours: &Value, kongs: &Value) -> bool {
    match (ours, kongs) {
        (Value::Object(ours), Value::Object(kongs)) => kongs
            .iter()
            .all(|(name, kongs)| ours.get(name).is_some_and(|ours| says(ours, kongs))),
        (Value::Array(ours), Value::Array(kongs)) => {
            ours.len() == kongs.len() && ours.iter().zip(kongs).all(|(o, k)| says(o, k))
        }
        _ => ours == kongs,
    }
}

fn kind(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn shown(v: Option<&Value>) -> String {
    v.map_or_else(
        || "nothing".into(),
        |v| v.to_string().chars().take(300).collect(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reads(v: Value) -> Reads {
        let mut all = json!({"call": "GET /", "where": "here"});
        all.as_object_mut()
            .unwrap()
            .extend(v.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn a_field_of_another_type_is_missed_and_one_of_another_value_is_not() {
        let rule = reads(json!({"fields": ["a", "l[].b", "none"]}));
        let kongs = json!({"a": 1, "l": [{"b": null}]});
        assert!(
            missed(
                &rule,
                &kongs,
                &json!({"a": 2, "l": [{"b": null}], "more": 1})
            )
            .is_empty()
        );
        for ours in [
            json!({"a": "1", "l": [{"b": null}]}),
            json!({"a": 1, "l": [{}]}),
            json!({"a": 1, "l": {}}),
            json!({"a": 1, "l": [{"b": null}], "none": 1}),
        ] {
            assert_eq!(missed(&rule, &kongs, &ours).len(), 1, "{ours}");
        }
    }

    #[test]
    fn of_a_whole_every_part_counts() {
        let rule = reads(json!({"whole": ["."]}));
        let kongs = json!({"a": {"b": [1, {"c": "x"}]}});
        assert!(missed(&rule, &kongs, &json!({"a": {"b": [2, {"c": "y"}]}, "d": 1})).is_empty());
        assert_eq!(
            missed(&rule, &kongs, &json!({"a": {"b": [2, {}]}})),
            ["..a.b[1].c: missing, Kong has \"x\""].map(|s| s.replacen("..", ".", 1))
        );
    }

    #[test]
    fn equal_values_may_say_more() {
        let rule = reads(json!({"equal": ["f"]}));
        let kongs = json!({"f": [{"x": {"type": "string"}}]});
        let ours = json!({"f": [{"x": {"type": "string", "description": "An x."}}]});
        assert!(missed(&rule, &kongs, &ours).is_empty());
        for ours in [
            json!([]),
            json!([{"x": {"type": "number"}}]),
            json!([{"x": {}}]),
        ] {
            assert_eq!(missed(&rule, &kongs, &json!({ "f": ours })).len(), 1);
        }
    }
}
