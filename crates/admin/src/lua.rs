//! Keys as they are printed in error texts: Lua tables on one line (`pl.pretty.write(t, "")`), with keys in alphabetical order.

use serde_json::Value;

/// `{id="x"}`, `{name="a",route=null}`.
pub(crate) fn table<'a>(entries: impl IntoIterator<Item = (&'a str, &'a Value)>) -> String {
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_unstable_by_key(|(name, _)| *name);
    let mut out = String::from("{");
    for (i, (name, v)) in entries.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        if is_identifier(name) {
            out.push_str(name);
        } else {
            out.push_str("[\"");
            escape(&mut out, name);
            out.push_str("\"]");
        }
        out.push('=');
        value(&mut out, v);
    }
    out.push('}');
    out
}

fn value(out: &mut String, v: &Value) {
    match v {
        Value::String(s) => {
            out.push('"');
            escape(out, s);
            out.push('"');
        }
        Value::Object(map) => {
            out.push_str(&table(map.iter().map(|(k, v)| (k.as_str(), v))));
        }
        Value::Array(items) => {
            out.push('{');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                value(out, item);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

fn is_identifier(s: &str) -> bool {
    let mut bytes = s.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn escape(out: &mut String, s: &str) {
    for c in s.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            _ => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::table;

    #[test]
    fn keys_are_printed_as_lua_tables_in_order() {
        let name = json!("x");
        assert_eq!(table([("name", &name)]), "{name=\"x\"}");
        let (null, route) = (json!(null), json!({ "id": "1" }));
        let all = [
            ("name", &name),
            ("route", &route),
            ("service", &null),
            ("consumer", &null),
        ];
        assert_eq!(
            table(all),
            "{consumer=null,name=\"x\",route={id=\"1\"},service=null}"
        );
    }

    #[test]
    fn quotes_and_odd_names_are_escaped() {
        let v = json!("a\"b\\c\nd");
        assert_eq!(table([("x-y", &v)]), "{[\"x-y\"]=\"a\\\"b\\\\c\\nd\"}");
        let list = json!(["a", 1, true]);
        assert_eq!(table([("l", &list)]), "{l={\"a\",1,true}}");
    }
}
