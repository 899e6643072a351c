//! Structure from keys: `config.a.b=1`, `paths[]=`, `paths[1]=`, `headers.x-a=`, repeated keys.

use serde_json::{Map, Value};

/// Keys may nest this deeply; what goes deeper stays one key, which no definition knows.
const MAX_DEPTH: usize = 32;

/// Positions in lists may not be higher; see [`MAX_DEPTH`].
const MAX_POSITION: i64 = 10_000;

/// More pairs than this are refused by Kong ("Too many arguments", 400); the caller counts. The work of [`decode`] grows with the square.
pub const MAX_PAIRS: usize = 1000;

/// The body of a form: pairs in the order in which they came, decoded but for `%5B` and `%5D`, which may still be escaped.
///
/// A key that comes several times is a list. Dots go into records, `[]` appends to a list, `[2]` is a position of a list that counts from 1,
/// `[name]` a key of a map. All leaves are strings: see [`super::infer`]. A list with holes, or one with a position 0, becomes an object, so
/// that validation says "expected an array", as Kong does.
pub fn decode(pairs: &[(String, String)]) -> Map<String, Value> {
    let mut grouped: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, v) in pairs {
        match grouped.iter_mut().find(|(n, _)| n == name) {
            Some((_, all)) => all.push(v),
            None => grouped.push((name, vec![v])),
        }
    }
    combine(&grouped)
}

/// The body of a multipart form: as [`decode`], but of a key that comes several times only the last counts, as in Kong.
pub fn decode_multipart(pairs: &[(String, String)]) -> Map<String, Value> {
    let mut grouped: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, v) in pairs {
        match grouped.iter_mut().find(|(n, _)| n == name) {
            Some((_, last)) => *last = vec![v],
            None => grouped.push((name, vec![v])),
        }
    }
    combine(&grouped)
}

/// A Lua value: a text or a table.
#[derive(Debug)]
enum Node {
    Leaf(String),
    Table(Vec<(Key, Node)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    At(i64),
    Name(String),
}

/// A step on the way from the top to a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(Key),
    /// `[]`
    Append,
}

fn combine(grouped: &[(&str, Vec<&str>)]) -> Map<String, Value> {
    let mut all = Vec::new();
    for (name, values) in grouped {
        let leaf = match values.as_slice() {
            [one] => Node::Leaf((*one).to_owned()),
            many => list(many),
        };
        merge(&mut all, nest(&steps(name), leaf));
    }
    all.into_iter()
        .map(|(key, node)| {
            let name = match key {
                Key::Name(name) => name,
                Key::At(n) => n.to_string(),
            };
            (name, into_json(node))
        })
        .collect()
}

fn list(values: &[&str]) -> Node {
    Node::Table(
        values
            .iter()
            .zip(1..)
            .map(|(v, i)| (Key::At(i), Node::Leaf((*v).to_owned())))
            .collect(),
    )
}

fn steps(raw: &str) -> Vec<Step> {
    let name = if raw.contains('%') {
        raw.replace("%5B", "[")
            .replace("%5b", "[")
            .replace("%5D", "]")
            .replace("%5d", "]")
    } else {
        raw.to_owned()
    };
    let whole = || vec![Step::Key(Key::Name(raw.to_owned()))];
    if name.starts_with('.') || name.ends_with('.') {
        return whole();
    }
    let mut out = Vec::new();
    for part in dots(&name) {
        // A bracket in first place belongs to the name.
        let first_end = part
            .char_indices()
            .skip(1)
            .find(|(_, c)| *c == '[')
            .map_or(part.len(), |(i, _)| i);
        let (head, mut rest) = part.split_at(first_end);
        if !rest.contains(']') {
            out.push(Step::Key(Key::Name(part.to_owned())));
            continue;
        }
        out.push(Step::Key(Key::Name(head.to_owned())));
        while let Some(open) = rest.find('[') {
            let Some(length) = rest[open..].find(']') else {
                break;
            };
            let inner = &rest[open + 1..open + length];
            out.push(match inner.trim().parse::<i64>() {
                _ if inner.is_empty() => Step::Append,
                Ok(position) if position.abs() <= MAX_POSITION => Step::Key(Key::At(position)),
                _ => Step::Key(Key::Name(inner.to_owned())),
            });
            rest = &rest[open + length + 1..];
        }
    }
    if out.is_empty() || out.len() > MAX_DEPTH {
        whole()
    } else {
        out
    }
}

/// Splits at dots that are not inside square brackets.
fn dots(name: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut closing = None;
    for (i, c) in name.char_indices() {
        match c {
            '[' if closing.is_none_or(|end| i > end) => {
                closing = name[i..].find(']').map(|length| i + length)
            }
            '.' if closing.is_none_or(|end| i > end) => {
                parts.push(&name[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&name[start..]);
    parts.retain(|p| !p.is_empty());
    parts
}

fn nest(steps: &[Step], leaf: Node) -> Node {
    let Some((first, rest)) = steps.split_first() else {
        return leaf;
    };
    let key = match first {
        // The values of a repeated `x[]` are the elements themselves.
        Step::Append if rest.is_empty() && matches!(leaf, Node::Table(_)) => return leaf,
        Step::Append => Key::At(1),
        Step::Key(key) => key.clone(),
    };
    Node::Table(vec![(key, nest(rest, leaf))])
}

/// Adds what one key stands for: tables are joined, where two texts meet they become a list.
fn merge(to: &mut Vec<(Key, Node)>, node: Node) {
    match node {
        Node::Leaf(_) => {
            let next = to
                .iter()
                .filter_map(|(k, _)| if let Key::At(n) = k { Some(*n) } else { None })
                .max()
                .unwrap_or(0)
                + 1;
            to.push((Key::At(next), node));
        }
        Node::Table(entries) => {
            for (key, new) in entries {
                match to.iter_mut().find(|(k, _)| *k == key) {
                    None => to.push((key, new)),
                    Some((_, Node::Table(inner))) => merge(inner, new),
                    Some((_, slot)) => {
                        let was = std::mem::replace(slot, Node::Table(Vec::new()));
                        let mut both = vec![(Key::At(1), was)];
                        merge(&mut both, new);
                        *slot = Node::Table(both);
                    }
                }
            }
        }
    }
}

fn into_json(node: Node) -> Value {
    let mut entries = match node {
        Node::Leaf(s) => return Value::String(s),
        Node::Table(entries) => entries,
    };
    entries.sort_by_key(|(k, _)| if let Key::At(n) = k { *n } else { i64::MAX });
    let dense = entries.iter().zip(1..).all(|((k, _), i)| *k == Key::At(i));
    if dense && !entries.is_empty() {
        return entries.into_iter().map(|(_, v)| into_json(v)).collect();
    }
    let named = entries.into_iter().map(|(k, v)| {
        let name = match k {
            Key::At(n) => n.to_string(),
            Key::Name(name) => name,
        };
        (name, into_json(v))
    });
    Value::Object(named.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pairs(body: &str) -> Vec<(String, String)> {
        let pair = |p: &str| {
            p.split_once('=')
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .unwrap_or_default()
        };
        body.split('&').map(pair).collect()
    }

    fn decoded(body: &str) -> Value {
        Value::Object(decode(&pairs(body)))
    }

    #[test]
    fn keys_nest_by_dots_and_brackets() {
        assert_eq!(decoded("name=a&url=b"), json!({ "name": "a", "url": "b" }));
        assert_eq!(
            decoded("config.a.b=1&config.a.c=2&config.d=3"),
            json!({ "config": { "a": { "b": "1", "c": "2" }, "d": "3" } })
        );
        assert_eq!(decoded("service.id=x"), json!({ "service": { "id": "x" } }));
        assert_eq!(
            decoded("a[b]=1&a[c.d]=2"),
            json!({ "a": { "b": "1", "c.d": "2" } })
        );
        assert_eq!(decoded("a%5Bb%5d=1"), json!({ "a": { "b": "1" } }));
    }

    #[test]
    fn lists_are_written_in_four_ways() {
        assert_eq!(decoded("t[]=a&t[]=b"), json!({ "t": ["a", "b"] }));
        assert_eq!(decoded("t[]=a"), json!({ "t": ["a"] }));
        assert_eq!(decoded("t=a&t=b"), json!({ "t": ["a", "b"] }));
        assert_eq!(decoded("t[1]=a&t[2]=b"), json!({ "t": ["a", "b"] }));
        assert_eq!(decoded("t[2]=b&t[1]=a"), json!({ "t": ["a", "b"] }));
        assert_eq!(
            decoded("headers.x-a=1&headers.x-a=2&headers.x-b[]=3"),
            json!({ "headers": { "x-a": ["1", "2"], "x-b": ["3"] } })
        );
        assert_eq!(
            decoded("m[1].name=n&m[1].kind=k"),
            json!({ "m": [{ "name": "n", "kind": "k" }] })
        );
        assert_eq!(decoded("t=a,b"), json!({ "t": "a,b" }));
    }

    #[test]
    fn lists_with_holes_are_no_lists() {
        assert_eq!(
            decoded("t[0]=a&t[1]=b"),
            json!({ "t": { "0": "a", "1": "b" } })
        );
        assert_eq!(decoded("t[3]=a"), json!({ "t": { "3": "a" } }));
    }

    #[test]
    fn odd_keys_stay_as_they_are() {
        assert_eq!(decoded(".a=1&b.=2"), json!({ ".a": "1", "b.": "2" }));
        assert_eq!(decoded("a[b=1"), json!({ "a[b": "1" }));
        assert_eq!(decoded("[a]=1"), json!({ "[a]": "1" }));
        let deep = format!("{}=1", vec!["a"; 100].join("."));
        assert_eq!(decode(&pairs(&deep)).len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn no_key_panics(keys in proptest::collection::vec("[ab0-9.%5BDä\\[\\]]{0,8}", 0..6)) {
            let pairs: Vec<_> = keys.into_iter().map(|k| (k, "v".to_owned())).collect();
            decode(&pairs);
            decode_multipart(&pairs);
        }
    }

    #[test]
    fn of_a_repeated_multipart_key_the_last_counts() {
        let got = decode_multipart(&pairs("name=x&tags[]=a&tags[]=b"));
        assert_eq!(Value::Object(got), json!({ "name": "x", "tags": ["b"] }));
    }
}
