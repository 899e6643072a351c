//! Rows to YAML, in the form in which Kong exports them: `_format_version: '3.0'`, `_transform: false` and a list per entity.
//!
//! Texts that could be anything else are in JSON's quotes, which YAML's have as a subset; so nothing depends on a reader's version of YAML.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use silverback_schema::{EntityDef, Kind};

use crate::Row;

/// Writes rows, entity after entity.
#[derive(Debug)]
pub struct Writer {
    out: String,
    section: Option<&'static str>,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// With the head of the file.
    pub fn new() -> Self {
        Writer {
            out: "_format_version: '3.0'\n_transform: false\n".to_owned(),
            section: None,
        }
    }

    /// Adds a row; those of an entity one after the other, each entity after those it refers to. References become ids, fields that are
    /// not stored are left out.
    pub fn row(&mut self, def: &EntityDef, mut row: Row) {
        for (name, field) in &def.record.fields {
            if field.transient {
                row.shift_remove(*name);
            } else if let (Kind::Foreign(_), Some(v @ Value::Object(_))) =
                (&field.kind, row.get_mut(*name))
            {
                *v = v.get("id").cloned().unwrap_or(Value::Null);
            }
        }
        if self.section != Some(def.name) {
            self.section = Some(def.name);
            self.out.push_str(def.name);
            self.out.push_str(":\n");
        }
        item(&mut self.out, &Value::Object(row), 0);
    }

    /// Bytes written since [`Writer::take`] was asked last.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// What was written since this was asked last, to write a large file in pieces.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.out)
    }
}

fn entries(out: &mut String, map: &Map<String, Value>, indent: usize, mut first: bool) {
    for (key, value) in map {
        if !std::mem::take(&mut first) {
            pad(out, indent);
        }
        text(out, key);
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                pad(out, indent + 2);
                entries(out, inner, indent + 2, true);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                items.iter().for_each(|v| item(out, v, indent));
            }
            scalar => {
                out.push(' ');
                simple(out, scalar, indent + 2);
            }
        }
    }
}

fn item(out: &mut String, value: &Value, indent: usize) {
    pad(out, indent);
    out.push_str("- ");
    match value {
        Value::Object(inner) if !inner.is_empty() => entries(out, inner, indent + 2, true),
        Value::Array(items) if !items.is_empty() => {
            // On a line of its own: a list that begins on its parent's line is hard to read.
            out.push('\n');
            items.iter().for_each(|v| item(out, v, indent + 2));
        }
        scalar => simple(out, scalar, indent + 2),
    }
}

/// What fits on the line, or a block of text below it.
fn simple(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
        Value::String(s) if is_block(s) => {
            out.push_str(if s.ends_with('\n') { "|" } else { "|-" });
            for line in s.lines() {
                out.push('\n');
                if !line.is_empty() {
                    pad(out, indent);
                    out.push_str(line);
                }
            }
        }
        Value::String(s) => text(out, s),
        Value::Null => out.push('~'),
        other => out.push_str(&other.to_string()),
    }
    out.push('\n');
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn text(out: &mut String, s: &str) {
    if is_plain(s) {
        out.push_str(s);
        return;
    }
    out.push('"');
    for c in s.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            // What YAML calls not printable, and line breaks that only some readers know. Writing to a string cannot fail.
            c if c.is_control()
                || matches!(
                    c,
                    '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
                ) =>
            {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Whether a text means itself without quotes, to every reader of YAML.
fn is_plain(s: &str) -> bool {
    const WORDS: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && s.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_./-".contains(&b))
        && !WORDS.iter().any(|w| s.eq_ignore_ascii_case(w))
}

/// Whether a text is readable as a block: several lines of printable ASCII, the first one not indented.
fn is_block(s: &str) -> bool {
    s.trim_end_matches('\n').contains('\n')
        && !s.ends_with("\n\n")
        && !s.starts_with([' ', '\n'])
        && s.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use silverback_schema::field::{foreign, id, string};

    use super::*;
    use crate::yaml;

    fn written(value: &Value) -> String {
        let mut out = String::new();
        let map = Map::from_iter([("v".to_owned(), value.clone())]);
        entries(&mut out, &map, 0, false);
        out
    }

    #[test]
    fn rows_are_written_as_kong_writes_them() {
        let def = EntityDef::new(
            "xs",
            vec![
                ("id", id()),
                ("up", foreign("ys")),
                ("t", string().transient()),
            ],
        );
        let mut w = Writer::new();
        let row = json!({ "id": "a", "up": { "id": "b" }, "t": 1, "nil": null, "l": [1, "on"], "m": { "k": "v", "e": {} } });
        w.row(&def, row.as_object().unwrap().clone());
        w.row(&def, json!({ "id": "c" }).as_object().unwrap().clone());
        assert_eq!(
            w.take(),
            "_format_version: '3.0'\n_transform: false\nxs:\n- id: a\n  up: b\n  nil: ~\n  l:\n  - 1\n  - \"on\"\n  m:\n    k: v\n    e: {}\n- id: c\n"
        );
    }

    #[test]
    fn certificates_are_blocks() {
        let pem = "-----BEGIN-----\nabc=\n-----END-----\n";
        assert_eq!(
            written(&pem.into()),
            "v: |\n  -----BEGIN-----\n  abc=\n  -----END-----\n"
        );
        assert_eq!(yaml::parse(&written(&pem.into())).unwrap()["v"], pem);
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
            any::<String>().prop_map(Value::from),
            "[ -~\n]{0,12}".prop_map(Value::from),
            "(yes|NULL|~|-|: |# |0x1|1e5|\\.5|\\? |<<|\\{|&a|\\*a|1:30)".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(
                    any::<String>().prop_filter("merge", |k| k != "<<"),
                    inner,
                    0..4
                )
                .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in anything()) {
            let text = written(&value);
            let read = yaml::parse(&text);
            prop_assert_eq!(read.as_ref().ok().and_then(|v| v.get("v")), Some(&value), "{}\n{:?}", text, read);
        }
    }
}
