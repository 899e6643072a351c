//! A JSON object as a list of its members, whose values stay the bytes they were.
//!
//! Only the outermost members can be changed, so nothing below them is parsed into values: numbers keep all their digits and members
//! their order, and a body costs one pass without an allocation per value.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::Deserializer;

/// The members of an object.
#[derive(Debug)]
pub struct Members<'a>(Vec<Member<'a>>);

/// Name, with its quotes, and value: pieces of JSON.
#[derive(Debug)]
struct Member<'a> {
    name: &'a [u8],
    value: Cow<'a, [u8]>,
}

/// A name that is looked for.
#[derive(Debug, PartialEq)]
pub struct Name {
    text: Box<[u8]>,
    json: Box<[u8]>,
}

impl Name {
    /// That name.
    pub fn new(text: &str) -> Self {
        Name {
            text: text.as_bytes().into(),
            json: serde_json::Value::from(text)
                .to_string()
                .into_bytes()
                .into(),
        }
    }

    /// As it was given.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    fn is(&self, json: &[u8]) -> bool {
        if !json.contains(&b'\\') {
            return json.len() == self.text.len() + 2 && json[1..json.len() - 1] == *self.text;
        }
        serde_json::from_slice::<String>(json).is_ok_and(|s| s.as_bytes() == &*self.text)
    }
}

impl<'a> Members<'a> {
    /// The members of an object; `None` when the text is anything else or malformed.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let mut rest = past(text, b'{')?;
        let mut members = Vec::new();
        if let Some(end) = past(rest, b'}') {
            return blank(end).then_some(Members(members));
        }
        loop {
            let (name, after) = piece(rest)?;
            if !name.starts_with(b"\"") {
                return None;
            }
            let (value, after) = piece(past(after, b':')?)?;
            members.push(Member {
                name,
                value: Cow::Borrowed(value),
            });
            if let Some(end) = past(after, b'}') {
                return blank(end).then_some(Members(members));
            }
            rest = past(after, b',')?;
        }
    }

    /// The value of a member. Of several with one name the last counts.
    pub fn get(&self, name: &Name) -> Option<&[u8]> {
        let found = self.0.iter().rev().find(|m| name.is(m.name));
        found.map(|m| &*m.value)
    }

    /// Sets a member, and makes it the only one of its name.
    pub fn put(&mut self, name: &'a Name, value: Cow<'a, [u8]>) {
        let first = self.0.iter().position(|m| name.is(m.name));
        match first {
            Some(at) => {
                self.0[at].value = value;
                let mut n = 0;
                self.0.retain(|m| {
                    n += 1;
                    n <= at + 1 || !name.is(m.name)
                });
            }
            None => self.0.push(Member {
                name: &name.json,
                value,
            }),
        }
    }

    /// Takes a member away and answers its value.
    pub fn remove(&mut self, name: &Name) -> Option<Cow<'a, [u8]>> {
        let mut found = None;
        self.0.retain_mut(|m| {
            let gone = name.is(m.name);
            if gone {
                found = Some(std::mem::take(&mut m.value));
            }
            !gone
        });
        found
    }

    /// Adds a value to what a member has: a list gets one element more, text becomes a list of both, and an object gets a member
    /// with the lowest number that is free, or becomes a list if it was empty (Lua's tables are both). Anything else is replaced by a
    /// list of the value.
    pub fn append(&mut self, name: &'a Name, value: &'a [u8]) {
        let before = self.get(name).unwrap_or_default();
        let inner = || before[1..before.len() - 1].trim_ascii();
        let now = match before.first() {
            Some(b'"') => [b"[", before, b",", value, b"]"].concat(),
            Some(b'[') if !inner().is_empty() => [b"[", inner(), b",", value, b"]"].concat(),
            Some(b'{') if !inner().is_empty() => {
                let numbered = Members::parse(before).map_or(1, |m| m.free_number());
                let number = format!(",\"{numbered}\":");
                [b"{", inner(), number.as_bytes(), value, b"}"].concat()
            }
            _ => [b"[", value, b"]"].concat(),
        };
        self.put(name, Cow::Owned(now));
    }

    fn free_number(&self) -> usize {
        let mut taken = vec![false; self.0.len() + 1];
        for member in &self.0 {
            let number = serde_json::from_slice::<String>(member.name).ok();
            let number = number.and_then(|n| n.parse::<usize>().ok());
            if let Some(slot) = number.and_then(|n| taken.get_mut(n.checked_sub(1)?)) {
                *slot = true;
            }
        }
        // There is one number more than there are members.
        taken.iter().position(|t| !t).unwrap_or_default() + 1
    }

    /// The object as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let each = self.0.iter().map(|m| m.name.len() + m.value.len() + 2);
        let mut out = Vec::with_capacity(each.sum::<usize>() + 2);
        out.push(b'{');
        for (n, member) in self.0.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(member.name);
            out.push(b':');
            out.extend_from_slice(&member.value);
        }
        out.push(b'}');
        out
    }
}

/// The text without the blanks it begins with.
fn begin(text: &[u8]) -> &[u8] {
    let at = text
        .iter()
        .position(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r'));
    &text[at.unwrap_or(text.len())..]
}

fn blank(text: &[u8]) -> bool {
    begin(text).is_empty()
}

/// The text behind a sign, which blanks may precede.
fn past(text: &[u8], sign: u8) -> Option<&[u8]> {
    begin(text).strip_prefix(&[sign])
}

/// The JSON value at the start of the text, and what follows it. However deep it is nested, this does not recurse.
fn piece(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = begin(text);
    let mut values = Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    Some(text.split_at(values.byte_offset()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn edited(json: &str, edit: impl for<'a> FnOnce(&mut Members<'a>)) -> String {
        let mut members = Members::parse(json.as_bytes()).unwrap();
        edit(&mut members);
        String::from_utf8(members.to_json()).unwrap()
    }

    #[test]
    fn values_stay_the_bytes_they_were() {
        let json =
            r#" { "a" : 12345678901234567890123 , "b":[ 1, {} ], "c\u0064":1.50e1,"":null } "#;
        assert_eq!(
            edited(json, |_| {}),
            r#"{"a":12345678901234567890123,"b":[ 1, {} ],"c\u0064":1.50e1,"":null}"#
        );
        assert_eq!(edited("{ }", |_| {}), "{}");
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(edited(&deep, |_| {}), deep);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in [
            "",
            " ",
            "[]",
            "1",
            "\"a\"",
            "null",
            "{",
            "{]",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1",
            "{\"a\":1}x",
            "{}{}",
            "{a:1}",
            "{1:1}",
            "{\"a\":01}",
            "{\"a\" \"b\"}",
            "{\"a\":1 2}",
            "{\"a\":[1}",
            "{\"a\":\"\n\"}",
            "\u{c}{}",
            "{\u{c}}",
        ] {
            assert!(Members::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn appending_makes_lists() {
        let name = Name::new("a");
        for (before, after) in [
            ("{}", r#"{"a":["v"]}"#),
            (r#"{"a":"b"}"#, r#"{"a":["b","v"]}"#),
            (r#"{"a":[ 1 ]}"#, r#"{"a":[1,"v"]}"#),
            (r#"{"a":[ ]}"#, r#"{"a":["v"]}"#),
            (r#"{"a":null}"#, r#"{"a":["v"]}"#),
            (r#"{"a":7}"#, r#"{"a":["v"]}"#),
            (r#"{"a":{ }}"#, r#"{"a":["v"]}"#),
            (r#"{"a":{"x":1}}"#, r#"{"a":{"x":1,"1":"v"}}"#),
            (
                r#"{"a":{"1":1,"0":2,"\u0032":3,"9":4}}"#,
                r#"{"a":{"1":1,"0":2,"\u0032":3,"9":4,"3":"v"}}"#,
            ),
        ] {
            let mut members = Members::parse(before.as_bytes()).unwrap();
            members.append(&name, br#""v""#);
            assert_eq!(String::from_utf8(members.to_json()).unwrap(), after);
        }
    }

    #[test]
    fn a_name_is_the_same_however_it_is_written() {
        let a = Name::new("ä\"");
        let json = r#"{"ä\"":1,"\u00e4\u0022":2,"a":3}"#;
        assert_eq!(
            Members::parse(json.as_bytes()).unwrap().get(&a),
            Some(&b"2"[..])
        );
        assert_eq!(edited(json, |m| drop(m.remove(&a))), r#"{"a":3}"#);
        let mut members = Members::parse(json.as_bytes()).unwrap();
        members.put(&a, Cow::Borrowed(b"4"));
        assert_eq!(members.to_json(), r#"{"ä\"":4,"a":3}"#.as_bytes());
    }
}
