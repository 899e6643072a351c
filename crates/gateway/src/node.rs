//! One running node: store, snapshot engine, Admin API and data plane, wired together.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use silverback_admin::{
    AdminBuilder, Certificate, ClusterLogLevel, Listen, NodeInfo, Tokens, plugin_told,
};
use silverback_balancer::{DnsConfig, Resolver};
use silverback_entities::{CORE, Route};
use silverback_plugin::schema::EntityDef;
use silverback_plugin::{PluginDef, Services, TracingTerms};
use silverback_retry::{Ceiling, LiveNodes, Settings};
use silverback_router::{Entry, Flavor, Router};
use silverback_runtime::{
    Builder, Engine, EngineConfig, EngineStatus, Environment, NodeServices, Pools, Registries,
    Update,
};
use silverback_store::Store;
use silverback_store::watch::{Event, Watcher};
use silverback_telemetry::logging::{LogHandle, LogLevel, LoggingError};
use silverback_telemetry::{AccessLog, LogFormat, LogTarget};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Config, Database, Role, RouterFlavor};
use crate::counters::Counters;
use crate::data_plane::DataPlane;
use crate::log_level::LevelControl;
use crate::rows::PluginRows;
use crate::status::{NodeStatus, Parts};
use crate::upstreams::Upstreams;
use crate::{VERSION, declarative, identity, pg};

/// How a node is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// At once.
    Now,
    /// When the requests in flight are answered.
    Gracefully,
}

/// How long plugins have, once no request is left, to send what they have gathered.
const FINISHING: Duration = Duration::from_secs(5);

/// A running node. [`Node::stop`] ends it; dropping it leaves its threads to the end of the process.
pub struct Node {
    background: Runtime,
    engine: Engine,
    data_plane: Option<DataPlane>,
    admin: Vec<SocketAddr>,
    stopping: watch::Sender<bool>,
    services: Arc<NodeServices>,
    tasks: Vec<JoinHandle<()>>,
    access_log: Arc<AccessLog>,
    level: LevelControl,
}

impl Node {
    /// Starts a node and answers when it serves: listeners bound, a configuration loaded. `log` is its error log, set up by the caller.
    ///
    /// # Errors
    /// When a listener cannot be bound, the database needs migrations, or there is neither Postgres nor a snapshot file.
    pub fn start(config: &Config, plugins: Vec<PluginDef>, log: LogHandle) -> anyhow::Result<Node> {
        let background = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("background")
            .enable_all()
            .build()
            .context("the background threads cannot be started")?;
        let node_id = identity::node_id(&config.prefix)?;
        let entities = entities(&plugins);
        let (store, reachable) = match config.database {
            Database::Postgres => {
                let pg = pg::settings(config)?;
                let reachable = background.block_on(pg::ready_for_start(&pg))?.is_some();
                (Store::new(pg, entities.clone())?, reachable)
            }
            Database::Off => {
                let file = declarative::kept_at(config);
                let store = Store::memory_only(entities.clone(), Some(file))?;
                declarative::load_at_start(config, &store, &plugins)?;
                (store, true)
            }
        };
        store.keep_history(config.history_size);
        let metrics = Arc::new(silverback_telemetry::Registry::new(
            node_id.to_string(),
            VERSION,
        ));
        let datastore = Datastore {
            reachable: Arc::default(),
            metrics: metrics.clone(),
        };
        datastore.answers(reachable);
        let budgets = budgets(config);
        let services = services(node_id, &background, &store, &plugins);
        let services = Arc::new(services.with_tracing(TracingTerms {
            requests: config.tracing_instrumentations.any(),
            attempts: config.tracing_instrumentations.balancer,
            sampling_rate: config.tracing_sampling_rate,
        }));
        let engine = {
            let registries = Registries {
                plugins: plugins.clone(),
                services: services.clone(),
                pools: Pools::new(Resolver::new(dns(config), background.handle().clone())?),
                budgets: budgets.clone(),
                metrics: metrics.clone(),
                flavor: flavor(config),
                environment: Environment::of_process()
                    .with_prefix(config.vault_env_prefix.as_deref().unwrap_or_default()),
                tls_verify: false,
            };
            let file = (config.role != Role::ControlPlane && store.has_database())
                .then(|| config.snapshot_path())
                .flatten();
            let _in_runtime = background.enter();
            Engine::start(
                Builder::new(registries),
                EngineConfig {
                    file,
                    metrics: metrics.clone(),
                },
            )?
        };
        if !reachable && !engine.status().ready() {
            bail!("Postgres is out of reach and there is no snapshot file to serve from");
        }

        let (stopping, stopped) = watch::channel(false);
        let tokens = Tokens::default();
        let watcher = Watcher::new(&store, config.db_update_frequency);
        let anew = watcher.anew();
        let level = LevelControl::new(log, background.handle().clone());
        let upstreams = Upstreams::new(
            node_id,
            engine.current(),
            store.clone(),
            background.handle(),
        );
        let listener = Listener {
            node_id,
            upstreams: upstreams.clone(),
            updates: engine.updates(),
            datastore: datastore.clone(),
            tokens: tokens.clone(),
            level: level.clone(),
            plugins: plugins.clone(),
            services: services.clone(),
        };
        let mut tasks = vec![background.spawn(follow(watcher, listener, stopped.clone()))];
        if reachable {
            background.block_on(first_load(&engine.status()))?;
        }

        let access_log = Arc::new(open_access_log(config)?);
        metrics.watch_log("proxy", access_log.stats());
        let status = Arc::new(NodeStatus::new(Parts {
            metrics,
            engine: engine.status(),
            budgets,
            reachable: datastore.reachable,
            level: level.clone(),
            background: background.handle().clone(),
            anew,
            upstreams,
        }));
        let admin = if config.admin_listeners().is_empty() {
            Vec::new()
        } else {
            let node = NodeInfo {
                node_id,
                hostname: identity::hostname(),
                version: VERSION.to_owned(),
                configuration: config.to_json(&plugins.iter().map(|p| p.name).collect::<Vec<_>>()),
            };
            let mut builder =
                AdminBuilder::new(store, entities, plugins, node).status(status.clone());
            builder = builder
                .services(services.clone())
                .check("routes", routable(flavor(config)))
                .gui_urls(&config.admin_gui_url)
                .tokens(tokens, config.admin_require_token);
            if !config.admin_ssl_client_ca.is_empty() {
                let mut pem = Vec::new();
                for one in &config.admin_ssl_client_ca {
                    pem.extend(one.read().context("admin_ssl_client_ca")?);
                    pem.push(b'\n');
                }
                builder = builder.client_authorities(pem);
            }
            for l in config.admin_listeners() {
                builder = builder.listen(Listen {
                    addr: l.addr,
                    tls: l.tls,
                    http2: l.http2,
                    reuse_port: l.reuseport,
                    backlog: l.backlog,
                    v6only: l.ipv6only,
                });
            }
            if config.admin_listeners().iter().any(|l| l.tls) {
                for (chain, key) in config.admin_certificates()? {
                    builder = builder.certificate(Certificate {
                        chain: chain.read()?,
                        key: key.read()?,
                    });
                }
            }
            let _in_runtime = background.enter();
            let server = builder.bind()?;
            let addrs = server.addrs().to_vec();
            tasks.push(background.spawn(async move {
                if let Err(e) = server.run(until(stopped)).await {
                    tracing::error!("the Admin API ended: {e}");
                }
            }));
            addrs
        };
        // Last, because the status API says that the node is ready: everything else listens by then.
        let data_plane = match config.role {
            Role::ControlPlane => None,
            _ => Some(DataPlane::start(
                config,
                &engine,
                &access_log,
                &status,
                background.handle(),
            )?),
        };
        Ok(Node {
            background,
            services,
            engine,
            data_plane,
            admin,
            stopping,
            tasks,
            access_log,
            level,
        })
    }

    /// Where the Admin API listens.
    pub fn admin_addrs(&self) -> &[SocketAddr] {
        &self.admin
    }

    /// Where the proxy listens, in the order of `proxy_listen`.
    pub fn proxy_addrs(&self) -> &[SocketAddr] {
        self.data_plane.as_ref().map_or(&[], DataPlane::proxy_addrs)
    }

    /// Where the status API listens.
    pub fn status_addrs(&self) -> &[SocketAddr] {
        self.data_plane
            .as_ref()
            .map_or(&[], DataPlane::status_addrs)
    }

    /// What the engine is doing; tests wait for a revision with it.
    pub fn engine(&self) -> EngineStatus {
        self.engine.status()
    }

    /// Waits for a signal to stop; `hangup` is called at each SIGHUP.
    pub fn until_signalled(&self, hangup: impl Fn(&AccessLog)) -> Stop {
        self.background.block_on(async {
            let listen = |kind| signal(kind);
            let (Ok(mut term), Ok(mut int), Ok(mut quit), Ok(mut hup)) = (
                listen(SignalKind::terminate()),
                listen(SignalKind::interrupt()),
                listen(SignalKind::quit()),
                listen(SignalKind::hangup()),
            ) else {
                tracing::error!("signals cannot be waited for; stopping");
                return Stop::Now;
            };
            loop {
                tokio::select! {
                    _ = term.recv() => return Stop::Now,
                    _ = int.recv() => return Stop::Now,
                    _ = quit.recv() => return Stop::Gracefully,
                    _ = hup.recv() => hangup(&self.access_log),
                }
            }
        })
    }

    /// Another configured level of the error log, in force at once.
    ///
    /// # Errors
    /// When the log is gone.
    pub fn configure_log_level(&self, level: LogLevel) -> Result<(), LoggingError> {
        self.level.configure(level)
    }

    /// Stops: no new connections, requests in flight have until `grace` is over.
    pub fn stop(self, grace: Duration) {
        // An error means that nobody listens any more.
        let _ = self.stopping.send(true);
        if let Some(data_plane) = self.data_plane {
            data_plane.stop(grace);
        }
        let tasks = self.tasks;
        self.background.block_on(async {
            let unfinished = self.services.finish(FINISHING).await;
            if unfinished > 0 {
                tracing::error!(
                    "{unfinished} tasks of plugins did not finish: what they had to send is lost"
                );
            }
            for task in tasks {
                let _ = tokio::time::timeout(Duration::from_secs(2), task).await;
            }
        });
        self.background.shutdown_timeout(Duration::from_secs(1));
        self.engine.stop();
        self.access_log.flush(Duration::from_secs(1));
    }
}

/// All entities: the core ones and those of the plugins.
pub(crate) fn entities(plugins: &[PluginDef]) -> Vec<EntityDef> {
    CORE.iter().cloned().chain(of_plugins(plugins)).collect()
}

fn of_plugins(plugins: &[PluginDef]) -> impl Iterator<Item = EntityDef> {
    let all = plugins.iter().flat_map(|p| p.entities.clone());
    all.map(|d| d.catalogue(silverback_entities::core))
}

/// What plugins may ask of this node.
fn services(
    node_id: uuid::Uuid,
    background: &Runtime,
    store: &Store,
    plugins: &[PluginDef],
) -> NodeServices {
    let handle = background.handle();
    if !store.has_database() {
        return NodeServices::new(Some(node_id), handle.clone(), None);
    }
    let counters = Arc::new(Counters(store.counters()));
    let rows = PluginRows::new(store, of_plugins(plugins), handle.clone());
    NodeServices::new(Some(node_id), handle.clone(), Some(counters)).with_rows(Some(Arc::new(rows)))
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the node is gone, which is a reason to stop as well.
    let _ = stopped.wait_for(|s| *s).await;
}

/// Whether Postgres answers, for those who ask.
#[derive(Clone)]
struct Datastore {
    reachable: Arc<AtomicBool>,
    metrics: Arc<silverback_telemetry::Registry>,
}

impl Datastore {
    fn answers(&self, yes: bool) {
        self.reachable.store(yes, Ordering::Relaxed);
        self.metrics.set_datastore_reachable(yes);
    }
}

/// Who hears what the store sees.
struct Listener {
    node_id: uuid::Uuid,
    upstreams: Upstreams,
    updates: std::sync::mpsc::Sender<Update>,
    datastore: Datastore,
    tokens: Tokens,
    level: LevelControl,
    plugins: Vec<PluginDef>,
    services: Arc<dyn Services>,
}

impl Listener {
    /// Something that a node told all nodes.
    fn hear(&self, topic: &str, text: &str) {
        if let Some(name) = plugin_told(topic) {
            let Some(plugin) = self.plugins.iter().find(|p| p.name == name) else {
                return;
            };
            // Whatever a plugin does with it, the node goes on following its configuration.
            let hear = || (plugin.hear)(text, &*self.services);
            if catch_unwind(AssertUnwindSafe(hear)).is_err() {
                tracing::error!(plugin = name, "panic over what another node told");
            }
            return;
        }
        if self.upstreams.hear(topic, text) {
            return;
        }
        // The node that was asked did it before it told.
        let Some(told) =
            ClusterLogLevel::heard(topic, text).filter(|told| told.node != self.node_id)
        else {
            return;
        };
        let time = Duration::from_secs(told.timeout);
        let set = |level: LogLevel| self.level.set_for(level, time);
        if let Err(e) = told.level.parse().and_then(set) {
            tracing::error!("the log level stays: {e}");
        }
    }
}

/// Hands what the store sees to the engine, and what nodes tell each other to those it concerns.
async fn follow(watcher: Watcher, listener: Listener, stopped: watch::Receiver<bool>) {
    let sink = |event| {
        let (updates, datastore) = (&listener.updates, &listener.datastore);
        let update = match event {
            Event::Loaded(tables) => Update::Loaded(tables),
            Event::Changed { revision, changes } => Update::Changed { revision, changes },
            Event::Tokens(all) => return listener.tokens.replace(all),
            Event::Announced { topic, text } => {
                listener.hear(&topic, &text);
                return;
            }
            Event::Lost(why) => {
                datastore.answers(false);
                tracing::error!(
                    "Postgres is out of reach, the last configuration stays in force: {why}"
                );
                return;
            }
            Event::Back => {
                datastore.answers(true);
                tracing::warn!("Postgres is back");
                return;
            }
        };
        // The engine is gone only when the node is stopping.
        let _ = updates.send(update);
    };
    watcher.run(sink, until(stopped)).await;
}

/// Waits for the first configuration from Postgres, which answered a moment ago.
async fn first_load(status: &EngineStatus) -> anyhow::Result<()> {
    // Not `reached`: the snapshot file may hold an older configuration, and may come from another database.
    if tokio::time::timeout(Duration::from_secs(60), status.loaded())
        .await
        .is_err()
    {
        bail!("the configuration could not be loaded within 60 seconds; see the log");
    }
    Ok(())
}

pub(crate) fn flavor(config: &Config) -> Flavor {
    match config.router_flavor {
        RouterFlavor::TraditionalCompatible => Flavor::TraditionalCompatible,
        RouterFlavor::Traditional => Flavor::Traditional,
    }
}

/// A route is refused when no router could be built with it.
pub(crate) fn routable(flavor: Flavor) -> silverback_admin::RowCheck {
    Box::new(move |row| {
        let Ok(route) = serde_json::from_value::<Route>(serde_json::Value::Object(row.clone()))
        else {
            return Ok(());
        };
        let entry = Entry {
            route: Arc::new(route),
            service: None,
        };
        match Router::build(&[entry], flavor) {
            Ok(_) => Ok(()),
            Err(problems) => {
                let text = problems.first().map(|p| p.what.clone()).unwrap_or_default();
                let mut fields = serde_json::Map::new();
                fields.insert("paths".into(), text.into());
                Err(silverback_plugin::schema::validate::Violations(fields))
            }
        }
    })
}

fn budgets(config: &Config) -> Option<(Arc<silverback_retry::Registry>, Settings)> {
    let window = config.retry_budget_window;
    let ceiling = config.retry_budget_max_retries.map(|n| Ceiling {
        max_retries: n,
        window,
    });
    let settings = Settings {
        ratio: config.retry_budget_ratio,
        ttl: config.retry_budget_ttl,
        min_retries_per_second: config.retry_budget_min_retries_per_second,
        ceiling,
    };
    config.retry_budget.then(|| {
        (
            Arc::new(silverback_retry::Registry::new(LiveNodes::default())),
            settings,
        )
    })
}

fn dns(config: &Config) -> DnsConfig {
    DnsConfig {
        servers: config.dns_resolver.clone(),
        hosts_file: config.dns_hostsfile.clone(),
        valid_ttl: config.dns_valid_ttl,
        stale_ttl: config.dns_stale_ttl,
        error_ttl: config.dns_error_ttl,
        ..DnsConfig::default()
    }
}

fn open_access_log(config: &Config) -> anyhow::Result<AccessLog> {
    let target = match config.proxy_access_log.resolve(&config.prefix) {
        None => LogTarget::Off,
        Some(path) if path == std::path::Path::new("/dev/stdout") => LogTarget::Stdout,
        Some(path) if path == std::path::Path::new("/dev/stderr") => LogTarget::Stderr,
        Some(path) => {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
            }
            LogTarget::File(path)
        }
    };
    Ok(AccessLog::open(&target, LogFormat::Kong)?)
}
