//! What is done to a JSON body. Learnt from `kong/plugins/response-transformer/body_transformer.lua`.

use std::borrow::Cow;

use silverback_plugin::members::{Members, Name};
use silverback_plugin::pairs::split;

use crate::config::{Config, Values};

/// Changes of the members of an object, in the order in which they are made. Each sees what those before it did.
#[derive(Debug)]
pub(crate) struct BodyEdits {
    remove: Vec<Name>,
    rename: Vec<(Name, Name)>,
    replace: Vec<(Name, Vec<u8>)>,
    add: Vec<(Name, Vec<u8>)>,
    append: Vec<(Name, Vec<u8>)>,
}

impl BodyEdits {
    /// `None` when bodies are to be left alone.
    pub(crate) fn compile(config: &Config) -> Option<Self> {
        let touched = [
            &config.remove.json,
            &config.rename.json,
            &config.replace.json,
            &config.add.json,
            &config.append.json,
        ];
        if touched.iter().all(|list| list.is_empty()) {
            return None;
        }
        let renames = config.rename.json.iter().filter_map(|p| split(p));
        Some(BodyEdits {
            remove: config
                .remove
                .json
                .iter()
                .filter_map(|p| split(p))
                .map(|(name, _)| Name::new(name))
                .collect(),
            rename: renames
                .filter(|(_, new)| !new.is_empty())
                .map(|(old, new)| (Name::new(old), Name::new(new)))
                .collect(),
            replace: values(&config.replace),
            add: values(&config.add),
            append: values(&config.append),
        })
    }

    /// The changed body; `None` when it is no JSON object, which stays as it is. (Of other values Kong leaves lists alone and fails
    /// on the rest.)
    pub(crate) fn apply(&self, body: &[u8]) -> Option<Vec<u8>> {
        let mut members = Members::parse(body)?;
        for name in &self.remove {
            members.remove(name);
        }
        for (old, new) in &self.rename {
            // As in Kong, what is renamed to its own name is gone.
            if let Some(value) = members.remove(old)
                && old != new
            {
                members.put(new, value);
            }
        }
        for (name, value) in &self.replace {
            if counts(members.get(name)) {
                members.put(name, Cow::Borrowed(value));
            }
        }
        for (name, value) in &self.add {
            if !counts(members.get(name)) {
                members.put(name, Cow::Borrowed(value));
            }
        }
        for (name, value) in &self.append {
            members.append(name, value);
        }
        Some(members.to_json())
    }
}

/// Whether a member counts as there: in Kong `false` does not.
fn counts(value: Option<&[u8]>) -> bool {
    value.is_some_and(|v| v != b"false")
}

fn values(given: &Values) -> Vec<(Name, Vec<u8>)> {
    let types = given.json_types.iter().map(String::as_str).map(Some);
    given
        .json
        .iter()
        .zip(types.chain(std::iter::repeat(None)))
        .filter_map(|(pair, kind)| {
            let (name, text) = split(pair)?;
            Some((Name::new(name), value(text, kind)?))
        })
        .collect()
}

/// A value as JSON; `None` for a number that is none, which is then not set at all.
fn value(text: &str, kind: Option<&str>) -> Option<Vec<u8>> {
    let text = escaped(text);
    let json = match kind {
        Some("number") => number(text.trim_ascii())?,
        Some("boolean") => (text == "true").into(),
        _ => serde_json::Value::String(text),
    };
    Some(json.to_string().into_bytes())
}

/// The text as Kong sets it: what JSON would escape stands there in its escaped form, but for quotes and slashes; no text is `null`.
fn escaped(text: &str) -> String {
    if text.is_empty() {
        return "null".to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c.is_ascii_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// What Lua's `tonumber` takes for a number, where JSON can write it.
fn number(text: &str) -> Option<serde_json::Value> {
    const WHOLE: f64 = 1e15;
    if let Ok(n) = text.parse::<i64>() {
        return Some(n.into());
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(hex) = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
    {
        let fine = hex.bytes().all(|b| b.is_ascii_hexdigit());
        let n = i64::from_str_radix(hex, 16).ok().filter(|_| fine)?;
        return Some(if negative { -n } else { n }.into());
    }
    let n: f64 = text.parse().ok()?;
    if n.fract() == 0.0 && n.abs() < WHOLE {
        // Checked to be whole and small; written without a fraction, as Lua does.
        return Some((n as i64).into());
    }
    serde_json::Number::from_f64(n).map(Into::into)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[track_caller]
    fn is(text: &str, kind: Option<&str>, json: &str) {
        assert_eq!(
            String::from_utf8(value(text, kind).unwrap()).unwrap(),
            json,
            "{text}"
        );
    }

    #[test]
    fn values_have_the_type_they_are_given() {
        is("5", None, r#""5""#);
        is("5", Some("string"), r#""5""#);
        is("true", Some("boolean"), "true");
        is("yes", Some("boolean"), "false");
        for (text, json) in [
            ("5", "5"),
            (" -1 ", "-1"),
            ("+7", "7"),
            ("1.50", "1.5"),
            ("1e3", "1000"),
            (".5", "0.5"),
            ("0x1F", "31"),
            ("-0x10", "-16"),
            ("9007199254740993", "9007199254740993"),
            ("1e300", "1e+300"),
        ] {
            is(text, Some("number"), json);
        }
        for none in ["", "x", "1x", "0x", "0x-1", "inf", "nan", "1e999", "--1"] {
            assert_eq!(value(none, Some("number")), None, "{none}");
        }
    }

    #[test]
    fn text_is_set_as_kong_sets_it() {
        is("", None, r#""null""#);
        is(r#""v1""#, None, r#""\"v1\"""#);
        is("a/b", None, r#""a/b""#);
        is(r"a\d", None, r#""a\\\\d""#);
        is("a\nb", None, r#""a\\nb""#);
        is("ä\u{1}\u{7f}", None, r#""ä\\u0001\\u007f""#);
    }
}
