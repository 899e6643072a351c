//! What the Admin API and the status API tell about this node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use silverback_admin::{Connections, HealthReport, StatusSource, Timers, UpstreamHealth};
use silverback_retry::{Gauges, Settings};
use silverback_runtime::EngineStatus;
use silverback_store::watch::Anew;
use silverback_telemetry::logging::LoggingError;
use silverback_telemetry::{Family, Registry};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::log_level::LevelControl;
use crate::upstreams::Upstreams;

/// The node as the status pages see it.
pub(crate) struct NodeStatus {
    metrics: Arc<Registry>,
    engine: EngineStatus,
    budgets: Option<Arc<silverback_retry::Registry>>,
    reachable: Arc<AtomicBool>,
    level: LevelControl,
    background: Handle,
    anew: Anew,
    upstreams: Upstreams,
}

/// What [`NodeStatus`] speaks for.
pub(crate) struct Parts {
    /// The node's counters.
    pub(crate) metrics: Arc<Registry>,
    /// What is being served.
    pub(crate) engine: EngineStatus,
    /// The retry budgets, where there are any.
    pub(crate) budgets: Option<(Arc<silverback_retry::Registry>, Settings)>,
    /// Whether Postgres answers.
    pub(crate) reachable: Arc<AtomicBool>,
    /// The error log's level.
    pub(crate) level: LevelControl,
    /// Where background work is done.
    pub(crate) background: Handle,
    /// Makes the node read its configuration anew.
    pub(crate) anew: Anew,
    /// The upstreams in force.
    pub(crate) upstreams: Upstreams,
}

impl NodeStatus {
    /// Over the node's parts.
    pub(crate) fn new(parts: Parts) -> Self {
        NodeStatus {
            metrics: parts.metrics,
            engine: parts.engine,
            budgets: parts.budgets.map(|b| b.0),
            reachable: parts.reachable,
            level: parts.level,
            background: parts.background,
            anew: parts.anew,
            upstreams: parts.upstreams,
        }
    }

    /// The node's counters.
    pub(crate) fn metrics(&self) -> &Arc<Registry> {
        &self.metrics
    }

    /// Whether requests are served from a configuration.
    pub(crate) fn ready(&self) -> bool {
        self.engine.ready()
    }

    /// `GET /metrics`.
    pub(crate) fn exposition(&self) -> String {
        let gauges = self.gauges();
        let names: Vec<(String, f64)> = gauges
            .iter()
            .map(|g| (g.identity.to_string(), g.balance))
            .collect();
        let timers = self.timers();
        let mut families = vec![
            Family::retry_budget_balances(names.iter().map(|(n, b)| (n.as_str(), *b))),
            Family::timers(timers.running, timers.pending),
        ];
        families.extend(self.upstreams.metrics());
        self.metrics.render(&families)
    }

    /// `GET /status` of the status API.
    pub(crate) fn status(&self) -> Value {
        let c = self.connections();
        json!({
            "configuration_hash": format!("{:032x}", self.engine.revision().max(0)),
            "database": { "reachable": self.reachable.load(Ordering::Relaxed) },
            "memory": {
                "workers_lua_vms": self.workers().iter().map(|w| json!({
                    "pid": w.pid,
                    "http_allocated_gc": format!("{:.2} MiB", w.memory as f64 / 1_048_576.0),
                })).collect::<Vec<_>>(),
                "lua_shared_dicts": {},
            },
            "server": {
                "connections_accepted": c.accepted,
                "connections_active": c.active,
                "connections_handled": c.handled,
                "connections_reading": c.reading,
                "connections_waiting": c.waiting,
                "connections_writing": c.writing,
                "total_requests": c.total_requests,
            },
        })
    }

    fn gauges(&self) -> Vec<Gauges> {
        self.budgets
            .as_ref()
            .map(|b| b.gauges(silverback_proxy::now()))
            .unwrap_or_default()
    }
}

impl StatusSource for NodeStatus {
    fn connections(&self) -> Connections {
        let n = self.metrics.node().read();
        Connections {
            accepted: n.accepted,
            active: n.active,
            handled: n.accepted,
            reading: 0,
            waiting: n.active.saturating_sub(n.in_flight),
            writing: n.in_flight,
            total_requests: n.requests,
        }
    }

    fn timers(&self) -> Timers {
        let runtime = self.background.metrics();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let pending = count(runtime.global_queue_depth());
        Timers {
            running: count(runtime.num_alive_tasks()).saturating_sub(pending),
            pending,
        }
    }

    fn upstream_health(&self, upstream: Uuid) -> Option<UpstreamHealth> {
        self.upstreams.health(upstream)
    }

    fn report_health(&self, report: &HealthReport<'_>) -> Result<(), String> {
        self.upstreams.report(report)
    }

    fn log_level(&self) -> Option<&'static str> {
        Some(self.level.level().as_str())
    }

    fn set_log_level(&self, level: &str, timeout: Duration) -> Result<(), String> {
        let level = level.parse().map_err(|e: LoggingError| e.to_string())?;
        self.level
            .set_for(level, timeout)
            .map_err(|e| e.to_string())
    }

    fn metrics(&self) -> Option<String> {
        Some(self.exposition())
    }

    fn read_anew(&self) {
        self.anew.ask();
    }

    fn retry_budgets(&self) -> Vec<Value> {
        let row = |g: Gauges| {
            json!({
                "account": g.identity.to_string(),
                "balance": g.balance,
                "ceiling_left": g.ceiling_left,
                "deposits": g.deposits,
                "withdrawals": g.withdrawals,
                "denials": g.denials,
            })
        };
        self.gauges().into_iter().map(row).collect()
    }
}
