//! Headers and arguments as Kong shows them in JSON: a map by name, with a list where there are several values, and `true` where there is none.
//! (`ngx.req.get_headers` and `ngx.req.get_uri_args`.)

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode;
use serde::ser::{Serialize, SerializeMap, Serializer};
use smallvec::{SmallVec, smallvec};

use crate::edits::{HeaderEdit, UpstreamEdits};

/// As many arguments of a query or of a form Kong sees (`lua_max_uri_args`, `lua_max_post_args`). It also bounds the work that a long query makes.
const MOST_ARGUMENTS: usize = 100;

/// A name's values, in order; `None` where a name stands alone.
type Values<'a> = SmallVec<[Option<Cow<'a, str>>; 1]>;

/// Values by name, in the order of first appearance. Of bytes that are not UTF-8 what can be is shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shown<'a>(Vec<(Cow<'a, str>, Values<'a>)>);

impl<'a> Shown<'a> {
    /// The headers of a message.
    pub fn headers(headers: &'a HeaderMap) -> Self {
        let mut shown = Shown(Vec::with_capacity(headers.keys_len()));
        for name in headers.keys() {
            let values = headers.get_all(name).iter();
            let values = values.map(|v| Some(String::from_utf8_lossy(v.as_bytes())));
            shown.0.push((name.as_str().into(), values.collect()));
        }
        shown
    }

    /// The headers of a request as plugins left them.
    pub fn edited_headers(headers: &'a HeaderMap, edits: &'a UpstreamEdits) -> Self {
        let mut shown = Self::headers(headers);
        for edit in &edits.headers {
            match edit {
                HeaderEdit::Set(key, value) => {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    shown.set(key.name().as_str(), value);
                }
                HeaderEdit::Append(key, value) => {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    shown.add(key.name().as_str().into(), Some(value));
                }
                HeaderEdit::Remove(name) => shown.remove(name),
            }
        }
        shown
    }

    /// The first hundred arguments of a query or of a form, decoded.
    pub fn arguments(query: &'a [u8]) -> Self {
        let mut shown = Shown::default();
        for (name, value) in arguments(query) {
            shown.add(name, value);
        }
        shown
    }

    /// Shows other values in place of those of a name, if it is there.
    pub fn replace(&mut self, name: &str, value: &'a str) {
        if let Some((_, values)) = self.0.iter_mut().find(|(n, _)| *n == *name) {
            *values = smallvec![Some(Cow::Borrowed(value))];
        }
    }

    /// Shows a value of a name that is not there.
    pub fn set_missing(&mut self, name: &'a str, value: &'a str) {
        if self.get(name).is_none() {
            self.set(name, value.into());
        }
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, values) = self.0.iter().find(|(n, _)| *n == *name)?;
        values.first()?.as_deref()
    }

    /// The same with the first value of each name only.
    pub fn first_values(&self) -> FirstValues<'_, 'a> {
        FirstValues(self)
    }

    /// The same with a list for every name.
    pub fn lists(&self) -> Lists<'_, 'a> {
        Lists(self)
    }

    fn set(&mut self, name: &'a str, value: Cow<'a, str>) {
        match self.0.iter_mut().find(|(n, _)| *n == *name) {
            Some((_, values)) => *values = smallvec![Some(value)],
            None => self.0.push((name.into(), smallvec![Some(value)])),
        }
    }

    fn add(&mut self, name: Cow<'a, str>, value: Option<Cow<'a, str>>) {
        match self.0.iter_mut().find(|(n, _)| *n == name) {
            Some((_, values)) => values.push(value),
            None => self.0.push((name, smallvec![value])),
        }
    }

    fn remove(&mut self, name: &HeaderName) {
        self.0.retain(|(n, _)| *n != *name.as_str());
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (name, values) in &self.0 {
            match values.as_slice() {
                [one] => map.serialize_entry(name, &Value(one))?,
                several => map.serialize_entry(name, &List(several))?,
            }
        }
        map.end()
    }
}

/// What [`Shown::first_values`] shows.
#[derive(Debug, Clone, Copy)]
pub struct FirstValues<'s, 'a>(&'s Shown<'a>);

impl Serialize for FirstValues<'_, '_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let entries = self.0.0.iter();
        to.collect_map(entries.filter_map(|(name, values)| Some((name, Value(values.first()?)))))
    }
}

/// What [`Shown::lists`] shows.
#[derive(Debug, Clone, Copy)]
pub struct Lists<'s, 'a>(&'s Shown<'a>);

impl Serialize for Lists<'_, '_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let entries = self.0.0.iter();
        to.collect_map(entries.map(|(name, values)| (name, List(values))))
    }
}

/// The first hundred arguments of a query or of a form in order, decoded; one without `=` has no value.
pub fn arguments(query: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Option<Cow<'_, str>>)> {
    let pieces = query.split(|b| *b == b'&').filter_map(|piece| {
        let (name, value) = match piece.iter().position(|b| *b == b'=') {
            Some(i) => (&piece[..i], Some(&piece[i + 1..])),
            None => (piece, None),
        };
        (!name.is_empty()).then_some((name, value))
    });
    let first = pieces.take(MOST_ARGUMENTS);
    first.map(|(name, value)| (decode(name), value.map(decode)))
}

fn decode(text: &[u8]) -> Cow<'_, str> {
    if !text.iter().any(|b| matches!(b, b'%' | b'+')) {
        return String::from_utf8_lossy(text);
    }
    let spaces: Vec<u8> = text
        .iter()
        .map(|b| if *b == b'+' { b' ' } else { *b })
        .collect();
    Cow::Owned(percent_decode(&spaces).decode_utf8_lossy().into_owned())
}

struct Value<'a>(&'a Option<Cow<'a, str>>);

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(text) => to.serialize_str(text),
            None => to.serialize_bool(true),
        }
    }
}

struct List<'a>(&'a [Option<Cow<'a, str>>]);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(Value))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;
    use crate::HeaderKey;

    #[test]
    fn arguments_are_decoded_and_gathered_by_name() {
        let shown = Shown::arguments(b"a=1&b&a=%7e+x&&=none&c=&d%20d=1");
        assert_eq!(
            serde_json::to_value(&shown).unwrap(),
            json!({ "a": ["1", "~ x"], "b": true, "c": "", "d d": "1" })
        );
        assert_eq!(shown.get("a"), Some("1"));
        assert_eq!(
            serde_json::to_value(shown.first_values()).unwrap(),
            json!({ "a": "1", "b": true, "c": "", "d d": "1" })
        );
        assert_eq!(
            serde_json::to_value(shown.lists()).unwrap(),
            json!({ "a": ["1", "~ x"], "b": [true], "c": [""], "d d": ["1"] })
        );
    }

    #[test]
    fn as_many_arguments_are_shown_as_kong_sees() {
        let query: Vec<_> = (0..=100).map(|n| format!("a{n}=1&&=none")).collect();
        let query = query.join("&");
        let shown = Shown::arguments(query.as_bytes());
        assert_eq!(shown.0.len(), 100);
        assert_eq!(shown.get("a99"), Some("1"));
        let same = "a=1&".repeat(101);
        let shown = serde_json::to_value(Shown::arguments(same.as_bytes())).unwrap();
        assert_eq!(shown["a"].as_array().unwrap().len(), 100);
    }

    #[test]
    fn headers_are_shown_as_plugins_left_them() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        headers.append("x-b", HeaderValue::from_static("1"));
        headers.append("x-c", HeaderValue::from_bytes(b"\xff").unwrap());
        let mut edits = UpstreamEdits::default();
        edits.set(
            HeaderKey::from_static("X-D"),
            HeaderValue::from_static("new"),
        );
        edits.append(
            HeaderKey::from_static("X-D"),
            HeaderValue::from_static("more"),
        );
        edits.remove(HeaderName::from_static("x-b"));
        let mut shown = Shown::edited_headers(&headers, &edits);
        shown.replace("x-c", "hidden");
        shown.replace("x-nothing", "hidden");
        assert_eq!(
            serde_json::to_value(&shown).unwrap(),
            json!({ "x-a": ["1", "2"], "x-c": "hidden", "x-d": ["new", "more"] })
        );
    }
}
