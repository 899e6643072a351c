//! YAML as JSON values, with the scalars of YAML 1.1 as Kong's library reads them: `yes`, `on`, `0x1F`, `<<` merges.
//!
//! What a file may cost is bounded: its depth, and how much its aliases stand for.

use std::collections::HashMap;

use serde_json::{Map, Number, Value};
use yaml_rust2::parser::{Event, Parser, Tag};
use yaml_rust2::scanner::{ScanError, TScalarStyle};

/// How deep values may nest.
const MAX_DEPTH: usize = 128;
/// How many values all aliases together may stand for.
const MAX_ALIASED: usize = 5_000_000;
const MERGE: &str = "<<";

/// Why a text is not YAML that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// It is malformed; the parser's words with the place.
    #[error("{0}")]
    Malformed(#[from] ScanError),
    /// A key that is no scalar.
    #[error("keys must be text")]
    Key,
    /// More than `MAX_DEPTH` levels.
    #[error("nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    /// Aliases that stand for too much, as in a "billion laughs".
    #[error("its aliases stand for too much")]
    TooMuch,
    /// An alias within what it stands for, or of nothing.
    #[error("an alias of a value that is not there")]
    Alias,
}

/// The first document of a text; null when there is none.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn parse(text: &str) -> Result<Value, YamlError> {
    let mut parser = Parser::new_from_str(text).keep_tags(true);
    let mut loader = Loader::default();
    loop {
        let (event, _) = parser.next_token()?;
        match event {
            Event::StreamEnd | Event::DocumentEnd => return Ok(loader.root.unwrap_or(Value::Null)),
            Event::Scalar(text, style, anchor, tag) => {
                loader.add(scalar(text, style, tag.as_ref()), anchor)?;
            }
            Event::Alias(anchor) => {
                let (value, depth) = loader.anchors.get(&anchor).ok_or(YamlError::Alias)?;
                if loader.open.len() + depth > MAX_DEPTH {
                    return Err(YamlError::TooDeep);
                }
                loader.aliased += size(value);
                if loader.aliased > MAX_ALIASED {
                    return Err(YamlError::TooMuch);
                }
                let value = value.clone();
                loader.add(value, 0)?;
            }
            Event::SequenceStart(anchor, _) => loader.open(Inside::List(Vec::new()), anchor)?,
            Event::MappingStart(anchor, _) => loader.open(Inside::map(), anchor)?,
            Event::SequenceEnd | Event::MappingEnd => loader.close()?,
            Event::Nothing | Event::StreamStart | Event::DocumentStart => {}
        }
    }
}

/// A list or a map that is not complete yet.
enum Inside {
    List(Vec<Value>),
    Map {
        entries: Map<String, Value>,
        key: Option<String>,
        merged: Vec<Value>,
    },
}

impl Inside {
    fn map() -> Self {
        Inside::Map {
            entries: Map::new(),
            key: None,
            merged: Vec::new(),
        }
    }
}

#[derive(Default)]
struct Loader {
    open: Vec<(Inside, usize)>,
    /// What anchors name, and how many levels deep it is.
    anchors: HashMap<usize, (Value, usize)>,
    aliased: usize,
    root: Option<Value>,
}

impl Loader {
    fn open(&mut self, inside: Inside, anchor: usize) -> Result<(), YamlError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(YamlError::TooDeep);
        }
        self.open.push((inside, anchor));
        Ok(())
    }

    fn close(&mut self) -> Result<(), YamlError> {
        let Some((inside, anchor)) = self.open.pop() else {
            return Ok(());
        };
        let value = match inside {
            Inside::List(items) => Value::Array(items),
            Inside::Map {
                mut entries,
                merged,
                ..
            } => {
                for (key, value) in merged.into_iter().flat_map(entries_of) {
                    entries.entry(key).or_insert(value);
                }
                Value::Object(entries)
            }
        };
        self.add(value, anchor)
    }

    fn add(&mut self, value: Value, anchor: usize) -> Result<(), YamlError> {
        if anchor > 0 {
            let depth = depth(&value);
            self.anchors.insert(anchor, (value.clone(), depth));
        }
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some((Inside::List(items), _)) => items.push(value),
            Some((
                Inside::Map {
                    entries,
                    key,
                    merged,
                },
                _,
            )) => match key.take() {
                None => *key = Some(key_of(value)?),
                Some(name) if name == MERGE => merged.push(value),
                Some(name) => drop(entries.insert(name, value)),
            },
        }
        Ok(())
    }
}

/// The entries that a value under `<<` stands for: those of a map, or of a list of maps.
fn entries_of(value: Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(map) => map.into_iter().collect(),
        Value::Array(maps) => maps.into_iter().flat_map(entries_of).collect(),
        _ => Vec::new(),
    }
}

fn key_of(value: Value) -> Result<String, YamlError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Array(_) | Value::Object(_) => Err(YamlError::Key),
        other => Ok(other.to_string()),
    }
}

/// How many levels of lists and maps there are in a value. Not more than `MAX_DEPTH`: deeper ones are not made.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(entries) => 1 + entries.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

fn scalar(text: String, style: TScalarStyle, tag: Option<&Tag>) -> Value {
    let is_text = tag.is_some_and(|t| t.suffix == "str" || t.suffix == "binary" || t.suffix == "!");
    if style == TScalarStyle::Plain && !is_text {
        plain(&text).unwrap_or(Value::String(text))
    } else {
        Value::String(text)
    }
}

/// What an unquoted scalar means; `None` when it is a text.
fn plain(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Some(Value::Bool(true));
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Some(Value::Bool(false));
        }
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    // Nothing else can be a number, and most scalars are none.
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    let clean = digits.replace('_', "");
    let radix = |prefix: &str, radix| {
        let digits = clean.strip_prefix(prefix)?;
        i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
    };
    if clean.bytes().all(|b| b.is_ascii_digit()) {
        let octal = clean.len() > 1 && clean.starts_with('0');
        let whole = if octal {
            radix("0", 8)
        } else {
            format!("{sign}{clean}").parse().ok()
        };
        if let Some(n) = whole {
            return Some(n.into());
        }
    } else if let Some(n) = radix("0x", 16).or_else(|| radix("0b", 2)) {
        return Some(n.into());
    }
    let float = clean.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && clean
            .bytes()
            .all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    let number = float.then(|| format!("{sign}{clean}").parse::<f64>().ok());
    number.flatten().and_then(Number::from_f64).map(Value::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_those_of_yaml_1_1() {
        let text = "[yes, Off, ~, '', 1, -2, 0x1F, 017, 1_000, 1.5, 1e3, 1.1.1, 127.0.0.1:80, '1', \"no\", !!str 5, 12a, y, n, -, a: b]";
        let want = json!([
            true, false, null, "", 1, -2, 31, 15, 1000, 1.5, 1000.0, "1.1.1", "127.0.0.1:80", "1", "no", "5",
            "12a", "y", "n", "-", { "a": "b" }
        ]);
        // A lone dash is no plain scalar in a flow sequence.
        let text = text.replace("-, ", "'-', ");
        assert_eq!(parse(&text).unwrap(), want);
    }

    #[test]
    fn aliases_and_merges_stand_for_what_they_name() {
        let text = "a: &x\n  b: 1\n  c: 2\nd:\n  <<: *x\n  c: 3\ne: *x\n";
        assert_eq!(
            parse(text).unwrap(),
            json!({ "a": { "b": 1, "c": 2 }, "d": { "c": 3, "b": 1 }, "e": { "b": 1, "c": 2 } })
        );
    }

    #[test]
    fn only_the_first_document_counts_and_nothing_is_null() {
        assert_eq!(parse("---\na: 1\n---\nb: 2\n").unwrap(), json!({ "a": 1 }));
        assert_eq!(parse("").unwrap(), Value::Null);
        assert_eq!(parse("bobby tables").unwrap(), json!("bobby tables"));
    }

    #[test]
    fn what_costs_too_much_is_refused() {
        assert!(parse(&"[".repeat(10_000)).is_err());
        let deep: String = (0..200).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
        assert_eq!(parse(&deep), Err(YamlError::TooDeep));
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let refs = vec![format!("*a{}", i - 1); 10].join(", ");
            laughs.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        assert_eq!(parse(&laughs), Err(YamlError::TooMuch));
        // Each alias puts what it names one level deeper, or a hundred.
        for levels in [1, 100] {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            let mut deep = format!("- &a0 {open}{close}\n");
            for i in 1..1000 {
                deep.push_str(&format!("- &a{i} {open}*a{}{close}\n", i - 1));
            }
            assert_eq!(parse(&deep), Err(YamlError::TooDeep), "{levels}");
        }
        assert_eq!(parse("? [a]\n: b\n"), Err(YamlError::Key));
        assert!(parse("a: [1,").is_err());
    }
}
