//! The arguments of a query or form, to be changed.

use std::borrow::Cow;
use std::collections::HashMap;

use silverback_plugin::args::{self, Arg};

/// Arguments in the order in which they were sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arguments<'a>(Vec<Arg<'a>>);

impl<'a> Arguments<'a> {
    pub(crate) fn parse(text: &'a [u8]) -> Self {
        Arguments(args::parse(text).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Made independent of the text that they were read from.
    pub(crate) fn into_owned(self) -> Arguments<'static> {
        let own = |text: Cow<'_, [u8]>| Cow::Owned(text.into_owned());
        let all = self.0.into_iter().map(|arg| Arg {
            name: own(arg.name),
            value: arg.value.map(own),
        });
        Arguments(all.collect())
    }

    /// The values of a name; `None` for each that has no `=`.
    pub(crate) fn values(&self, name: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
        let found = self.0.iter().filter(move |a| *a.name == *name);
        found.map(|a| a.value.as_deref())
    }

    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        self.values(name).next().is_some()
    }

    /// Takes all of a name away. Answers whether there were any.
    pub(crate) fn remove(&mut self, name: &[u8]) -> bool {
        let before = self.0.len();
        self.0.retain(|a| *a.name != *name);
        self.0.len() != before
    }

    /// Gives all of a name another name, in place of those that have it already. Answers whether there were any.
    pub(crate) fn rename(&mut self, old: &[u8], new: &[u8]) -> bool {
        if old == new || !self.contains(old) {
            return false;
        }
        self.remove(new);
        for arg in self.0.iter_mut().filter(|a| *a.name == *old) {
            arg.name = Cow::Owned(new.to_vec());
        }
        true
    }

    /// Makes this the only value of a name, in the place of the first.
    pub(crate) fn set(&mut self, name: &[u8], value: &[u8]) {
        let mut value = Some(value.to_vec());
        self.0.retain_mut(|a| {
            if *a.name != *name {
                return true;
            }
            match value.take() {
                Some(value) => {
                    a.value = Some(Cow::Owned(value));
                    true
                }
                None => false,
            }
        });
        if let Some(value) = value {
            self.push(name, Some(&value));
        }
    }

    /// Adds a value to those of a name. A single one that has no `=` is replaced, as in Kong.
    pub(crate) fn append(&mut self, name: &[u8], value: &[u8]) {
        let mut before = self.values(name);
        match (before.next(), before.next()) {
            (Some(None), None) => {
                drop(before);
                self.set(name, value);
            }
            _ => {
                drop(before);
                self.push(name, Some(value));
            }
        }
    }

    /// Adds all of the other arguments.
    pub(crate) fn extend(&mut self, others: Arguments<'_>) {
        self.0.extend(others.into_owned().0);
    }

    /// As they stand in a form: in order.
    pub(crate) fn encode(&self) -> String {
        let mut out = String::new();
        for (n, arg) in self.0.iter().enumerate() {
            if n > 0 {
                out.push('&');
            }
            arg.encode(&mut out);
        }
        out
    }

    /// As Kong puts them into a query: those of one name together, all sorted as text.
    pub(crate) fn encode_sorted(&self) -> String {
        let mut places: HashMap<&[u8], usize> = HashMap::with_capacity(self.0.len());
        let mut groups: Vec<String> = Vec::with_capacity(self.0.len());
        for arg in &self.0 {
            let at = *places.entry(&arg.name).or_insert(groups.len());
            match groups.get_mut(at) {
                Some(group) => {
                    group.push('&');
                    arg.encode(group);
                }
                None => {
                    let mut group = String::new();
                    arg.encode(&mut group);
                    groups.push(group);
                }
            }
        }
        groups.sort_unstable();
        groups.join("&")
    }

    fn push(&mut self, name: &[u8], value: Option<&[u8]>) {
        self.0.push(Arg {
            name: Cow::Owned(name.to_vec()),
            value: value.map(|v| Cow::Owned(v.to_vec())),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, edit: impl FnOnce(&mut Arguments<'_>)) -> String {
        let mut arguments = Arguments::parse(text.as_bytes());
        edit(&mut arguments);
        arguments.encode()
    }

    #[test]
    fn all_of_a_name_are_changed_at_once() {
        let text = "a=1&b=2&a=3&c";
        assert_eq!(edited(text, |a| _ = a.remove(b"a")), "b=2&c");
        assert_eq!(edited(text, |a| _ = a.rename(b"a", b"b")), "b=1&b=3&c");
        assert_eq!(edited(text, |a| _ = a.rename(b"a", b"a")), text);
        assert_eq!(edited(text, |a| _ = a.rename(b"x", b"b")), text);
        assert_eq!(edited(text, |a| a.set(b"a", b"x y")), "a=x%20y&b=2&c");
        assert_eq!(edited(text, |a| a.set(b"d", b"")), "a=1&b=2&a=3&c&d=");
        assert_eq!(edited(text, |a| a.append(b"b", b"4")), "a=1&b=2&a=3&c&b=4");
        assert_eq!(edited(text, |a| a.append(b"c", b"4")), "a=1&b=2&a=3&c=4");
        assert_eq!(edited("c&c", |a| a.append(b"c", b"4")), "c&c&c=4");
        let more = |a: &mut Arguments<'_>| a.extend(Arguments::parse(b"a=5&d"));
        assert_eq!(edited("a=1", more), "a=1&a=5&d");
    }

    #[test]
    fn a_query_is_sorted_and_a_names_values_stay_together() {
        let sorted = |text: &str| Arguments::parse(text.as_bytes()).encode_sorted();
        assert_eq!(sorted("b=2&a=9&B=1&a&a=1"), "B=1&a=9&a&a=1&b=2");
        assert_eq!(sorted("a=1&a2=1"), "a2=1&a=1");
        assert_eq!(sorted(""), "");
    }
}
