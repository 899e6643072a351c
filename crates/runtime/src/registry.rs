//! State that outlives a snapshot: what plugins share, upstream pools, retry accounts, counters.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use silverback_balancer::{Pool, Resolver};
use silverback_plugin::env::Task;
use silverback_plugin::{ClusterCounters, PluginDef, Rows, Services, TracingTerms};
use silverback_router::Flavor;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::vault::Environment;

/// Everything but the tables that a snapshot is made from.
pub struct Registries {
    /// The plugins this node knows, by descending priority.
    pub plugins: Vec<PluginDef>,
    /// What plugins may ask of the node.
    pub services: Arc<dyn Services>,
    /// Upstream pools.
    pub pools: Pools,
    /// Accounts of the retry budget; `None` where it is switched off.
    pub budgets: Option<(Arc<silverback_retry::Registry>, silverback_retry::Settings)>,
    /// Counters of routes and services.
    pub metrics: Arc<silverback_telemetry::Registry>,
    /// Which of Kong's routers is followed.
    pub flavor: Flavor,
    /// Where the secrets are that configurations refer to.
    pub environment: Environment,
    /// Whether upstream certificates are verified where a service does not say.
    pub tls_verify: bool,
}

impl Registries {
    /// Puts the plugins in order: by descending priority, then by name.
    pub fn sort_plugins(&mut self) {
        self.plugins
            .sort_by(|a, b| b.priority.cmp(&a.priority).then(a.name.cmp(b.name)));
    }
}

/// Upstream pools by host and port; a pool lives as long as a snapshot holds it.
pub struct Pools {
    resolver: Resolver,
    pools: HashMap<(String, u16), Weak<Pool>>,
}

impl Pools {
    /// No pools yet.
    pub fn new(resolver: Resolver) -> Self {
        Pools {
            resolver,
            pools: HashMap::new(),
        }
    }

    /// The pool of a host and port: the one in use, or a new one.
    pub fn get(&mut self, host: &str, port: u16) -> Arc<Pool> {
        let key = (host.to_owned(), port);
        if let Some(pool) = self.pools.get(&key).and_then(Weak::upgrade) {
            return pool;
        }
        let pool = Pool::new(host, port, self.resolver.clone());
        self.pools.insert(key, Arc::downgrade(&pool));
        pool
    }

    /// What names are resolved with.
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Forgets pools that nobody uses.
    pub fn sweep(&mut self) {
        self.pools.retain(|_, p| p.strong_count() > 0);
    }
}

/// [`Services`] of a node.
pub struct NodeServices {
    node_id: Option<Uuid>,
    runtime: Handle,
    counters: Option<Arc<dyn ClusterCounters>>,
    rows: Option<Arc<dyn Rows>>,
    tracing: TracingTerms,
    stopping: CancellationToken,
    to_finish: TaskTracker,
    shared: Mutex<HashMap<String, Weak<dyn Any + Send + Sync>>>,
}

impl NodeServices {
    /// Tasks run on `runtime`; `counters` where there is a database.
    pub fn new(
        node_id: Option<Uuid>,
        runtime: Handle,
        counters: Option<Arc<dyn ClusterCounters>>,
    ) -> Self {
        NodeServices {
            node_id,
            runtime,
            counters,
            rows: None,
            tracing: TracingTerms::default(),
            stopping: CancellationToken::new(),
            to_finish: TaskTracker::new(),
            shared: Mutex::default(),
        }
    }

    /// With the rows of plugins' entities, where there is a database.
    #[must_use]
    pub fn with_rows(mut self, rows: Option<Arc<dyn Rows>>) -> Self {
        self.rows = rows;
        self
    }

    /// With what is measured for traces.
    #[must_use]
    pub fn with_tracing(mut self, tracing: TracingTerms) -> Self {
        self.tracing = tracing;
        self
    }
}

impl NodeServices {
    /// Tells the tasks that have something to finish that no request is left, and waits for them as long as `patience` lasts. Answers how
    /// many did not finish.
    pub async fn finish(&self, patience: Duration) -> usize {
        self.stopping.cancel();
        self.to_finish.close();
        // What did not finish is counted: the caller reports it.
        let _late = tokio::time::timeout(patience, self.to_finish.wait()).await;
        self.to_finish.len()
    }
}

impl Services for NodeServices {
    fn shared(
        &self,
        key: &str,
        make: &mut dyn FnMut() -> Arc<dyn Any + Send + Sync>,
    ) -> Arc<dyn Any + Send + Sync> {
        // The map is consistent whenever the lock is free, so a panic of a holder (in `make`) spoils nothing.
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shared.get(key).and_then(Weak::upgrade) {
            return known;
        }
        shared.retain(|_, w| w.strong_count() > 0);
        let made = make();
        shared.insert(key.to_owned(), Arc::downgrade(&made));
        made
    }

    fn spawn(&self, task: Task) {
        self.runtime.spawn(task);
    }

    fn spawn_to_finish(&self, task: Task) {
        self.to_finish.spawn_on(task, &self.runtime);
    }

    fn stopping(&self) -> Task {
        Box::pin(self.stopping.clone().cancelled_owned())
    }

    fn counters(&self) -> Option<Arc<dyn ClusterCounters>> {
        self.counters.clone()
    }

    fn rows(&self) -> Option<Arc<dyn Rows>> {
        self.rows.clone()
    }

    fn node_id(&self) -> Option<Uuid> {
        self.node_id
    }

    fn tracing(&self) -> TracingTerms {
        self.tracing
    }
}
