//! What is done to the arguments of a query. Learnt from `kong/plugins/request-transformer/access.lua`.

use silverback_plugin::{ConfigError, PluginError, UpstreamEdits};

use crate::config::Config;
use crate::entries::Edits;
use crate::environment::Environment;

/// Changes of arguments.
#[derive(Debug)]
pub(crate) struct QueryEdits(Edits);

impl QueryEdits {
    /// `None` when queries are to be left alone.
    pub(crate) fn compile(config: &Config) -> Result<Option<Self>, ConfigError> {
        let lists = [
            (&*config.rename.querystring, "rename.querystring"),
            (&*config.replace.querystring, "replace.querystring"),
            (&*config.add.querystring, "add.querystring"),
            (&*config.append.querystring, "append.querystring"),
        ];
        let edits = Edits::compile(&config.remove.querystring, lists)?;
        Ok(edits.map(QueryEdits))
    }

    /// The new query. As in Kong, it is sorted even when nothing in it was changed.
    pub(crate) fn apply(
        &self,
        environment: &Environment<'_>,
        edits: &UpstreamEdits,
    ) -> Result<String, PluginError> {
        let mut query = environment.query(edits).clone();
        self.0.change(&mut query, environment.after(edits))?;
        Ok(query.encode_sorted())
    }
}
