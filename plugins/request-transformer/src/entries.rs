//! Entries of lists for bodies and queries, parsed.

use std::borrow::Cow;

use silverback_plugin::members::Name;
use silverback_plugin::pairs::split;
use silverback_plugin::{ConfigError, PluginError};

use crate::environment::Scope;
use crate::template::Template;

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
pub(crate) fn entries(pairs: &[String], field: &'static str) -> Result<Vec<Entry>, ConfigError> {
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
pub(crate) fn names(given: &[String]) -> Vec<Name> {
    let pairs = given.iter().filter_map(|p| split(p));
    pairs.map(|(name, _)| Name::new(name)).collect()
}

fn to_json(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text).into_owned();
    serde_json::Value::String(text).to_string().into_bytes()
}
