//! What is done to the arguments of a query. Learnt from `kong/plugins/request-transformer/access.lua`.

use silverback_plugin::members::Name;
use silverback_plugin::{ConfigError, PluginError, UpstreamEdits};

use crate::config::Config;
use crate::entries::{Entry, entries, names};
use crate::environment::Environment;

/// Changes of arguments, in the order in which they are made. Each sees what those before it did.
#[derive(Debug)]
pub(crate) struct QueryEdits {
    remove: Vec<Name>,
    rename: Vec<Entry>,
    replace: Vec<Entry>,
    add: Vec<Entry>,
    append: Vec<Entry>,
}

impl QueryEdits {
    /// `None` when queries are to be left alone.
    pub(crate) fn compile(config: &Config) -> Result<Option<Self>, ConfigError> {
        let edits = QueryEdits {
            remove: names(&config.remove.querystring),
            rename: entries(&config.rename.querystring, "rename.querystring")?,
            replace: entries(&config.replace.querystring, "replace.querystring")?,
            add: entries(&config.add.querystring, "add.querystring")?,
            append: entries(&config.append.querystring, "append.querystring")?,
        };
        let entries = [&edits.rename, &edits.replace, &edits.add, &edits.append];
        let nothing = edits.remove.is_empty() && entries.iter().all(|list| list.is_empty());
        Ok(Some(edits).filter(|_| !nothing))
    }

    /// The new query. As in Kong, it is sorted even when nothing in it was changed.
    pub(crate) fn apply(
        &self,
        environment: &Environment<'_>,
        edits: &UpstreamEdits,
    ) -> Result<String, PluginError> {
        let scope = environment.after(edits);
        let mut query = environment.query(edits).clone();
        for name in &self.remove {
            query.remove(name.text());
        }
        for entry in &self.rename {
            query.rename(entry.name.text(), &entry.value.render(scope)?);
        }
        for entry in &self.replace {
            if query.contains(entry.name.text()) {
                query.set(entry.name.text(), &entry.value.render(scope)?);
            }
        }
        for entry in &self.add {
            if !query.contains(entry.name.text()) {
                query.set(entry.name.text(), &entry.value.render(scope)?);
            }
        }
        for entry in &self.append {
            query.append(entry.name.text(), &entry.value.render(scope)?);
        }
        Ok(query.encode_sorted())
    }
}
