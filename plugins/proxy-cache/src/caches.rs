//! The caches of a node: which configurations there are, and which dictionary each has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use silverback_plugin::env::shared;
use silverback_plugin::{PluginEnv, Services};
use uuid::Uuid;

use crate::store::Dictionary;

/// The caches of the configurations that are in force.
#[derive(Default)]
pub(crate) struct Caches(Mutex<BTreeMap<Uuid, Weak<Cache>>>);

/// The cache of a configuration.
pub(crate) struct Cache {
    dictionary: Arc<Dictionary>,
    /// As long as there is one of them.
    _all: Arc<Caches>,
}

impl Caches {
    /// Those of a node.
    pub(crate) fn of(services: &dyn Services) -> Arc<Self> {
        shared(services, "", Caches::default)
    }

    /// The dictionaries, each once.
    pub(crate) fn dictionaries(&self) -> Vec<Arc<Dictionary>> {
        let mut all: Vec<Arc<Dictionary>> = Vec::new();
        for cache in self.lock().values().filter_map(Weak::upgrade) {
            if !all
                .iter()
                .any(|known| Arc::ptr_eq(known, &cache.dictionary))
            {
                all.push(cache.dictionary.clone());
            }
        }
        all
    }

    /// The dictionary of a configuration.
    pub(crate) fn dictionary(&self, plugin: Uuid) -> Option<Arc<Dictionary>> {
        let cache = self.lock().get(&plugin)?.upgrade()?;
        Some(cache.dictionary.clone())
    }

    // Asked by the thread that compiles and by the Admin API, never for a request.
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Uuid, Weak<Cache>>> {
        // Whatever happens to a holder, the map is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// The cache of the configuration that is being compiled; it is known until it is dropped.
    pub(crate) fn new(dictionary: &str, env: &PluginEnv<'_>) -> Arc<Self> {
        let all = Caches::of(env.services);
        let cache = Arc::new(Cache {
            dictionary: env.shared(dictionary, Dictionary::new),
            _all: all.clone(),
        });
        let mut known = all.lock();
        known.retain(|_, cache| cache.strong_count() > 0);
        known.insert(env.instance.id, Arc::downgrade(&cache));
        drop(known);
        cache
    }
}

impl std::ops::Deref for Cache {
    type Target = Dictionary;

    fn deref(&self) -> &Dictionary {
        &self.dictionary
    }
}
