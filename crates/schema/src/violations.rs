//! [`Violations`]: everything that is wrong with a row, and how Kong words it (`kong/db/errors.lua`).

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::check::CustomViolation;

/// All violations of one row at once.
///
/// The shape is that of the row: a text per field, an object for a record, an array for a list, with `null` for the elements
/// that are fine. `@entity`, at any level, is the list of what checks over several fields found.
#[derive(Debug, Clone, PartialEq, Default, thiserror::Error)]
#[error("{}", self.message())]
pub struct Violations(pub Map<String, Value>);

impl Violations {
    /// One violation of one field.
    pub fn field(name: &str, text: impl Into<Value>) -> Self {
        Violations(Map::from_iter([(name.to_owned(), text.into())]))
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `schema violation (x: y)`, `2 schema violations (x: y; z: w)`: checks over several fields first, then fields by name.
    pub fn message(&self) -> String {
        let mut all = Vec::new();
        if let Some(Value::Array(texts)) = self.0.get("@entity") {
            all.extend(texts.iter().filter(|t| !t.is_null()).map(plain));
        }
        let mut names: Vec<&String> = self.0.keys().filter(|n| *n != "@entity").collect();
        names.sort_unstable();
        for name in names {
            match &self.0[name] {
                Value::Object(inner) => {
                    let mut keys: Vec<&String> = inner.keys().collect();
                    keys.sort_unstable();
                    all.extend(
                        keys.into_iter()
                            .map(|key| format!("{name}.{key}: {}", nested(&inner[key]))),
                    );
                }
                Value::Array(items) => all.extend(
                    items
                        .iter()
                        .enumerate()
                        .filter(|(_, v)| !v.is_null())
                        .map(|(i, v)| format!("{name}.{}: {}", i + 1, nested(v))),
                ),
                text => all.push(format!("{name}: {}", plain(text))),
            }
        }
        match all.as_slice() {
            [one] => format!("schema violation ({one})"),
            many => format!("{} schema violations ({})", many.len(), many.join("; ")),
        }
    }

    /// The body of the answer 400.
    pub fn to_json(&self) -> Value {
        json!({ "message": self.message(), "name": "schema violation", "code": 2, "fields": self.0 })
    }
}

impl From<CustomViolation> for Violations {
    fn from(found: CustomViolation) -> Self {
        match found {
            CustomViolation::Entity(text) => Violations::field("@entity", vec![text]),
            CustomViolation::Field(name, v) => Violations::field(name, v),
        }
    }
}

fn plain(v: &Value) -> String {
    v.as_str().map_or_else(|| v.to_string(), str::to_owned)
}

fn nested(v: &Value) -> String {
    if v.is_object() || v.is_array() {
        pretty(v)
    } else {
        plain(v)
    }
}

/// A table as Penlight's `pretty.write` prints it: two spaces of indentation, bare keys where they are identifiers, strings quoted.
pub fn pretty(v: &Value) -> String {
    let mut out = String::new();
    write(&mut out, v, 0);
    out
}

/// As [`pretty`], on one line and without spaces.
pub fn line(v: &Value) -> String {
    let mut out = String::new();
    write_line(&mut out, v);
    out
}

fn write_line(out: &mut String, v: &Value) {
    let Some(entries) = entries(v) else {
        match v {
            Value::String(s) => out.push_str(&quote(s)),
            other => out.push_str(&other.to_string()),
        }
        return;
    };
    out.push('{');
    for (i, (key, value)) in entries.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        if let Some(key) = key {
            out.push_str(&key);
            out.push('=');
        }
        write_line(out, value);
    }
    out.push('}');
}

fn write(out: &mut String, v: &Value, depth: usize) {
    let Some(entries) = entries(v) else {
        match v {
            Value::String(s) => out.push_str(&quote(s)),
            other => out.push_str(&other.to_string()),
        }
        return;
    };
    out.push_str("{\n");
    let last = entries.len();
    for (i, (key, value)) in entries.into_iter().enumerate() {
        out.push_str(&"  ".repeat(depth + 1));
        if let Some(key) = key {
            out.push_str(&key);
            out.push_str(" = ");
        }
        write(out, value, depth + 1);
        out.push_str(if i + 1 == last { "\n" } else { ",\n" });
    }
    out.push_str(&"  ".repeat(depth));
    out.push('}');
}

/// The entries of a table, with their keys where those are written; `None` of what is no table.
fn entries(v: &Value) -> Option<Vec<(Option<String>, &Value)>> {
    Some(match v {
        Value::Array(items) => {
            // After a hole positions are written out.
            let dense = items.iter().take_while(|v| !v.is_null()).count();
            let shown = items.iter().enumerate().filter(|(_, v)| !v.is_null());
            shown
                .map(|(i, v)| ((i >= dense).then(|| format!("[{}]", i + 1)), v))
                .collect()
        }
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            let key = |k: &String| {
                if is_identifier(k) {
                    k.clone()
                } else {
                    format!("[{}]", quote(k))
                }
            };
            keys.into_iter().map(|k| (Some(key(k)), &map[k])).collect()
        }
        _ => return None,
    })
}

fn is_identifier(key: &str) -> bool {
    const KEYWORDS: &[&str] = &[
        "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if",
        "in", "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
    ];
    let mut bytes = key.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !KEYWORDS.contains(&key)
}

/// A Lua string literal: in quotes, or in long brackets when it has a newline or something that looks like a long bracket.
fn quote(s: &str) -> String {
    let level = long_brackets(&format!("{s}]"));
    if (s.contains('\n') || level.is_some()) && !s.contains('\r') {
        let equals = "=".repeat(level.map_or(0, |n| n + 1));
        let newline = if s.starts_with('\n') { "\n" } else { "" };
        return format!("[{equals}[{newline}{s}]{equals}]");
    }
    let mut out = String::from("\"");
    let mut chars = s.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' | '\\' | '\n' => out.extend(['\\', c]),
            '\r' => out.push_str("\\r"),
            c if c.is_ascii_control() => {
                let digit_follows = chars.peek().is_some_and(char::is_ascii_digit);
                // Writing to a string cannot fail.
                let _ = if digit_follows {
                    write!(out, "\\{:03}", c as u32)
                } else {
                    write!(out, "\\{}", c as u32)
                };
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The most `=` between two equal square brackets, as in `[==[`.
fn long_brackets(s: &str) -> Option<usize> {
    let bytes = s.as_bytes();
    let at = |i: usize| {
        let equals = bytes[i + 1..].iter().take_while(|b| **b == b'=').count();
        (matches!(bytes[i], b'[' | b']') && bytes.get(i + 1 + equals) == Some(&bytes[i]))
            .then_some(equals)
    };
    (0..bytes.len()).filter_map(at).max()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn violations(v: Value) -> Violations {
        Violations(v.as_object().unwrap().clone())
    }

    #[test]
    fn one_violation_is_singular() {
        let v = violations(json!({ "host": "required field missing" }));
        assert_eq!(
            v.message(),
            "schema violation (host: required field missing)"
        );
        assert_eq!(
            v.to_json(),
            json!({
                "message": "schema violation (host: required field missing)", "name": "schema violation", "code": 2,
                "fields": { "host": "required field missing" }
            })
        );
    }

    #[test]
    fn entity_checks_come_first_and_fields_are_sorted() {
        let v = violations(json!({ "b": "x", "a": "y", "@entity": ["e1", "e2"] }));
        assert_eq!(v.message(), "4 schema violations (e1; e2; a: y; b: x)");
    }

    #[test]
    fn nested_violations_are_printed_as_lua_tables() {
        let v = violations(
            json!({ "config": { "redis": { "host": "missing" }, "add": { "headers": ["bad"] }, "n": "t" } }),
        );
        assert_eq!(
            v.message(),
            "3 schema violations (config.add: {\n  headers = {\n    \"bad\"\n  }\n}; config.n: t; config.redis: {\n  host = \"missing\"\n})"
        );
    }

    #[test]
    fn positions_count_from_one_and_skip_what_is_fine() {
        let v = violations(json!({ "tags": [null, "bad"], "config": { "names": [null, "bad"] } }));
        assert_eq!(
            v.message(),
            "2 schema violations (config.names: {\n  [2] = \"bad\"\n}; tags.2: bad)"
        );
    }

    #[test]
    fn strings_are_quoted_as_lua_does() {
        assert_eq!(pretty(&json!(["a\"b\\c"])), "{\n  \"a\\\"b\\\\c\"\n}");
        assert_eq!(pretty(&json!(["a\nb"])), "{\n  [[a\nb]]\n}");
        assert_eq!(
            pretty(&json!({ "x-y": "1", "end": "2" })),
            "{\n  [\"end\"] = \"2\",\n  [\"x-y\"] = \"1\"\n}"
        );
        assert_eq!(pretty(&json!(["]]"])), "{\n  [=[]]]=]\n}");
    }
}
