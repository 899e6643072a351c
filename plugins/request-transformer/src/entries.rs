//! What is done to the fields of a body or the arguments of a query: the lists of the configuration, parsed.

use std::borrow::Cow;

use silverback_plugin::members::Name;
use silverback_plugin::pairs::split;
use silverback_plugin::{ConfigError, PluginError};

use crate::arguments::Arguments;
use crate::environment::Scope;
use crate::template::Template;

/// Changes of fields or arguments, in the order in which they are made. Each sees what those before it did.
#[derive(Debug)]
pub(crate) struct Edits {
    pub(crate) remove: Vec<Name>,
    pub(crate) rename: Vec<Entry>,
    pub(crate) replace: Vec<Entry>,
    pub(crate) add: Vec<Entry>,
    pub(crate) append: Vec<Entry>,
}

/// A list of the configuration and its name there.
pub(crate) type List<'a> = (&'a [String], &'static str);

impl Edits {
    /// What to remove, and what to rename, to replace, to add and to append; `None` when all of it is empty.
    pub(crate) fn compile(
        remove: &[String],
        [rename, replace, add, append]: [List<'_>; 4],
    ) -> Result<Option<Self>, ConfigError> {
        let edits = Edits {
            remove: names(remove),
            rename: entries(rename)?,
            replace: entries(replace)?,
            add: entries(add)?,
            append: entries(append)?,
        };
        let lists = [&edits.rename, &edits.replace, &edits.add, &edits.append];
        let nothing = edits.remove.is_empty() && lists.iter().all(|list| list.is_empty());
        Ok(Some(edits).filter(|_| !nothing))
    }

    /// Makes the changes. Answers whether there were any.
    pub(crate) fn change(
        &self,
        arguments: &mut Arguments<'_>,
        scope: Scope<'_>,
    ) -> Result<bool, PluginError> {
        let mut changed = false;
        for name in &self.remove {
            changed |= arguments.remove(name.text());
        }
        for entry in &self.rename {
            changed |= arguments.rename(entry.name.text(), &entry.value.render(scope)?);
        }
        let replaced = self.replace.iter().map(|entry| (entry, true));
        let added = self.add.iter().map(|entry| (entry, false));
        for (entry, when_there) in replaced.chain(added) {
            let name = entry.name.text();
            if arguments.contains(name) == when_there {
                arguments.set(name, &entry.value.render(scope)?);
                changed = true;
            }
        }
        for entry in &self.append {
            arguments.append(entry.name.text(), &entry.value.render(scope)?);
            changed = true;
        }
        Ok(changed)
    }
}

/// A name and a value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Name,
    pub(crate) value: Template,
    /// A value without expressions as JSON.
    json: Option<Box<[u8]>>,
}

impl Entry {
    /// The value for a request as JSON text.
    pub(crate) fn json(&self, scope: Scope<'_>) -> Result<Cow<'_, [u8]>, PluginError> {
        Ok(match &self.json {
            Some(json) => Cow::Borrowed(json),
            None => Cow::Owned(to_json(&self.value.render(scope)?)),
        })
    }
}

/// Names and values; those that are malformed were refused before.
fn entries((pairs, field): List<'_>) -> Result<Vec<Entry>, ConfigError> {
    let pairs = pairs.iter().filter_map(|p| split(p));
    pairs
        .map(|(name, text)| {
            let value = Template::parse(text).map_err(|e| ConfigError::new(field, e))?;
            Ok(Entry {
                name: Name::new(name),
                json: value.fixed().map(|text| to_json(text).into()),
                value,
            })
        })
        .collect()
}

/// Names alone; what follows a colon says nothing.
fn names(given: &[String]) -> Vec<Name> {
    let pairs = given.iter().filter_map(|p| split(p));
    pairs.map(|(name, _)| Name::new(name)).collect()
}

fn to_json(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text).into_owned();
    serde_json::Value::String(text).to_string().into_bytes()
}
