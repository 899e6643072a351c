//! Where handles are handed out and everything is put together for Prometheus.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::exposition::{Exposition, Family, as_value};
use super::histogram::{BUILD_TIME, Histogram, Sums};
use super::node::NodeMetrics;
use super::process;
use super::route::{RouteIdentity, RouteMetrics};
use super::service::ServiceMetrics;
use crate::sink::SinkStats;
use crate::striped::default_stripes;

/// All metrics of one gateway. There are no globals, so several gateways may live in one process.
///
/// Its locks are taken when snapshots are built and when metrics are rendered, never for a request.
#[derive(Debug)]
pub struct Registry {
    node_id: String,
    version: String,
    stripes: usize,
    node: NodeMetrics,
    routes: Mutex<BTreeMap<RouteIdentity, Arc<RouteMetrics>>>,
    services: Mutex<BTreeMap<Box<str>, Arc<ServiceMetrics>>>,
    logs: Mutex<Vec<(String, Arc<SinkStats>)>>,
    errors: Arc<AtomicU64>,
    datastore_reachable: AtomicBool,
    config_revision: AtomicI64,
    config_problems: AtomicU64,
    snapshot_build: Histogram<12>,
}

impl Registry {
    /// An empty registry. `node_id` and `version` are labels of `kong_node_info`.
    pub fn new(node_id: impl Into<String>, version: impl Into<String>) -> Self {
        let stripes = default_stripes();
        Self {
            node_id: node_id.into(),
            version: version.into(),
            stripes,
            node: NodeMetrics::new(stripes),
            routes: Mutex::default(),
            services: Mutex::default(),
            logs: Mutex::default(),
            errors: Arc::default(),
            datastore_reachable: AtomicBool::new(false),
            config_revision: AtomicI64::new(0),
            config_problems: AtomicU64::new(0),
            snapshot_build: Histogram::default(),
        }
    }

    /// Counters of the node as a whole.
    #[inline]
    pub fn node(&self) -> &NodeMetrics {
        &self.node
    }

    /// The handle of a route, the same as long as it is in use somewhere.
    pub fn route(&self, identity: RouteIdentity) -> Arc<RouteMetrics> {
        let mut routes = lock(&self.routes);
        let route = routes
            .entry(identity)
            .or_insert_with(|| Arc::new(RouteMetrics::new(self.stripes, Arc::clone(&self.errors))));
        Arc::clone(route)
    }

    /// The handle of a service, by its name (or host, where it has no name).
    pub fn service(&self, name: &str) -> Arc<ServiceMetrics> {
        let mut services = lock(&self.services);
        if let Some(service) = services.get(name) {
            return Arc::clone(service);
        }
        let service = Arc::new(ServiceMetrics::new(self.stripes));
        services.insert(name.into(), Arc::clone(&service));
        service
    }

    /// Forgets routes and services whose handles nobody holds any more. To be called now and then after new snapshots were
    /// published, for it looks at all of them; those that requests in progress still hold go the next time. (Kong keeps the series of
    /// deleted routes until it restarts.)
    pub fn sweep(&self) {
        // New handles are only given out under these locks, so one that is alone stays alone meanwhile.
        lock(&self.routes).retain(|_, route| Arc::strong_count(route) > 1);
        lock(&self.services).retain(|_, service| Arc::strong_count(service) > 1);
    }

    /// Shows what becomes of a log's lines under the label `log`.
    pub fn watch_log(&self, log: impl Into<String>, stats: &Arc<SinkStats>) {
        lock(&self.logs).push((log.into(), Arc::clone(stats)));
    }

    /// Whether the database answered when last asked; true without a database. False until set.
    pub fn set_datastore_reachable(&self, reachable: bool) {
        self.datastore_reachable.store(reachable, Ordering::Relaxed);
    }

    /// The revision of the configuration that traffic sees.
    pub fn set_config_revision(&self, revision: i64) {
        self.config_revision.store(revision, Ordering::Relaxed);
    }

    /// How many entities of that configuration were left out because they cannot work.
    pub fn set_config_problems(&self, problems: u64) {
        self.config_problems.store(problems, Ordering::Relaxed);
    }

    /// A snapshot was built, in this time.
    pub fn observe_snapshot_build(&self, took: Duration) {
        self.snapshot_build.observe(
            &BUILD_TIME,
            u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        );
    }

    /// Everything in the Prometheus text format, together with `extra`, whose values others keep. Families
    /// are sorted by name; series that never counted anything are left out.
    pub fn render(&self, extra: &[Family]) -> String {
        let mut out = Exposition::default();
        self.write_node(&mut out);
        // Handles are cloned so that a build of a snapshot does not wait for the rendering.
        for (identity, route) in lock(&self.routes).clone() {
            route.write(&mut out, &identity);
        }
        for (name, service) in lock(&self.services).clone() {
            service.write(&mut out, &name);
        }
        for (log, stats) in lock(&self.logs).iter() {
            let labels = [("log", log.as_str())];
            let mut write = |name: &str, help: &str, value: u64| {
                out.counter(name, help)
                    .sample("", &labels, None, as_value(value));
            };
            let help = "Lines of a log lost because its destination was too slow or failed";
            write(
                "silverback_log_dropped_lines_total",
                help,
                stats.dropped_lines(),
            );
            write(
                "silverback_log_write_errors_total",
                "Failed writes to a log",
                stats.write_errors(),
            );
            write(
                "silverback_log_written_bytes_total",
                "Bytes written to a log",
                stats.written_bytes(),
            );
        }
        for family in extra {
            out.extra(family);
        }
        out.finish()
    }

    #[allow(clippy::cast_precision_loss)] // revisions stay far below 2^53
    fn write_node(&self, out: &mut Exposition) {
        self.node.write(out, &self.node_id);
        let labels = [
            ("node_id", self.node_id.as_str()),
            ("version", self.version.as_str()),
        ];
        out.gauge("kong_node_info", "Kong Node metadata information")
            .sample("", &labels, None, 1.0);
        let mut bare = |name: &str, help: &str, value: f64| {
            out.gauge(name, help).sample("", &[], None, value);
        };
        let reachable = self.datastore_reachable.load(Ordering::Relaxed);
        let help = "Datastore reachable from Kong, 0 is unreachable";
        bare(
            "kong_datastore_reachable",
            help,
            f64::from(u8::from(reachable)),
        );
        let revision = self.config_revision.load(Ordering::Relaxed);
        bare(
            "silverback_config_revision",
            "Revision of the configuration in use",
            revision as f64,
        );
        let problems = as_value(self.config_problems.load(Ordering::Relaxed));
        bare(
            "silverback_config_problems",
            "Entities of the configuration that cannot work",
            problems,
        );
        if let Some(bytes) = process::resident_memory() {
            bare(
                "process_resident_memory_bytes",
                "Resident memory size in bytes",
                as_value(bytes),
            );
            // All there is of workers is this process, as `GET /status` tells as well.
            let labels = [
                ("node_id", self.node_id.as_str()),
                ("pid", &std::process::id().to_string()),
                ("kong_subsystem", "http"),
            ];
            out.gauge(
                "kong_memory_workers_lua_vms_bytes",
                "Allocated bytes in worker Lua VM",
            )
            .sample("", &labels, None, as_value(bytes));
        }
        let errors = as_value(self.errors.load(Ordering::Relaxed));
        out.counter(
            "kong_nginx_metric_errors_total",
            "Number of nginx-lua-prometheus errors",
        )
        .sample("", &[], None, errors);
        let mut build = Sums::default();
        build.add(&self.snapshot_build);
        let help = "Time it took to build a configuration snapshot";
        build.write(
            out,
            "silverback_snapshot_build_seconds",
            help,
            &BUILD_TIME,
            &[],
        );
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Maps of handles have no invariant that a panic could have broken.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metrics::{Collect, RequestOutcome, RetryOutcome, Source};

    fn identity(route: &str) -> RouteIdentity {
        RouteIdentity {
            service: "s".into(),
            route: route.into(),
            workspace: "default".into(),
        }
    }

    fn outcome(code: u16) -> RequestOutcome<'static> {
        RequestOutcome {
            code,
            source: Source::Service,
            request_us: 0,
            upstream_us: None,
            kong_us: 0,
            ingress_bytes: 0,
            egress_bytes: 0,
            consumer: None,
        }
    }

    fn has_line(text: &str, line: &str) -> bool {
        text.lines().any(|found| found == line)
    }

    #[test]
    fn a_new_registry_shows_the_node() {
        let registry = Registry::new("node-1", "3.9.1");
        let text = registry.render(&[]);
        assert!(
            has_line(
                &text,
                "kong_node_info{node_id=\"node-1\",version=\"3.9.1\"} 1"
            ),
            "{text}"
        );
        assert!(has_line(&text, "kong_datastore_reachable 0"), "{text}");
        assert!(
            has_line(&text, "kong_nginx_metric_errors_total 0"),
            "{text}"
        );
        assert!(
            has_line(&text, "# TYPE process_resident_memory_bytes gauge"),
            "{text}"
        );
        assert!(!text.contains("snapshot_build"), "{text}");
        assert!(!text.contains("kong_http_requests_total"), "{text}");
    }

    #[test]
    fn headings_come_once_before_their_samples_and_in_order() {
        let registry = Registry::new("n", "v");
        let routes: Vec<_> = ["b", "a"].map(|name| registry.route(identity(name))).into();
        for route in &routes {
            route.record(Collect::ALL, &outcome(200));
        }
        let text = registry.render(&[Family::retry_budget_balances([("s", 2.5)])]);
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        assert!(names.is_sorted(), "{names:?}");
        let mut current = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                current = rest.split(' ').next().unwrap();
            } else if !line.starts_with('#') {
                assert!(line.starts_with(current), "{line} under {current}");
            }
        }
        let first = text.find("route=\"a\"").unwrap();
        assert!(first < text.find("route=\"b\"").unwrap());
        assert!(
            has_line(&text, "silverback_retry_budget_balance{account=\"s\"} 2.5"),
            "{text}"
        );
    }

    #[test]
    fn names_with_quotes_cannot_break_the_format() {
        let registry = Registry::new("n", "v");
        let route = registry.route(identity("a\"} 1\nforged 2"));
        route.record(Collect::default(), &outcome(200));
        let text = registry.render(&[]);
        assert!(text.contains("route=\"a\\\"} 1\\nforged 2\""), "{text}");
        assert!(
            !text.lines().any(|line| line.starts_with("forged")),
            "{text}"
        );
    }

    #[test]
    fn a_route_configured_anew_goes_on_counting() {
        let registry = Registry::new("n", "v");
        let old = registry.route(identity("r"));
        old.record(Collect::default(), &outcome(200));
        let new = registry.route(identity("r"));
        drop(old);
        registry.sweep();
        new.record(Collect::default(), &outcome(200));
        assert!(
            registry.render(&[]).contains(
                "code=\"200\",source=\"service\",workspace=\"default\",consumer=\"\"} 2\n"
            )
        );
    }

    #[test]
    fn sweeping_forgets_only_what_nobody_holds() {
        let registry = Registry::new("n", "v");
        let kept = registry.route(identity("kept"));
        let gone = registry.route(identity("gone"));
        let service = registry.service("old");
        kept.record(Collect::default(), &outcome(200));
        gone.record(Collect::default(), &outcome(200));
        service.retry(RetryOutcome::Sent);
        registry.sweep();
        assert!(registry.render(&[]).contains("\"gone\""));
        drop((gone, service));
        registry.sweep();
        let text = registry.render(&[]);
        assert!(
            text.contains("\"kept\"") && !text.contains("\"gone\"") && !text.contains("\"old\""),
            "{text}"
        );
    }

    #[test]
    fn a_service_has_one_handle() {
        let registry = Registry::new("n", "v");
        let (one, other) = (registry.service("s"), registry.service("s"));
        one.retry(RetryOutcome::Sent);
        other.retry(RetryOutcome::Sent);
        let text = registry.render(&[]);
        assert!(
            has_line(
                &text,
                "silverback_retries_total{service=\"s\",outcome=\"sent\"} 2"
            ),
            "{text}"
        );
    }

    #[test]
    fn configuration_and_logs_are_shown() {
        let registry = Registry::new("n", "v");
        registry.set_config_revision(42);
        registry.set_config_problems(3);
        registry.set_datastore_reachable(true);
        registry.observe_snapshot_build(Duration::from_millis(30));
        registry.watch_log("proxy", &Arc::default());
        let text = registry.render(&[]);
        for line in [
            "silverback_config_revision 42",
            "silverback_config_problems 3",
            "kong_datastore_reachable 1",
            "silverback_snapshot_build_seconds_bucket{le=\"0.025\"} 0",
            "silverback_snapshot_build_seconds_bucket{le=\"0.05\"} 1",
            "silverback_snapshot_build_seconds_sum 0.03",
            "silverback_log_dropped_lines_total{log=\"proxy\"} 0",
        ] {
            assert!(has_line(&text, line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_code_that_fits_no_series_is_counted_as_an_error() {
        let registry = Registry::new("n", "v");
        registry
            .route(identity("r"))
            .record(Collect::default(), &outcome(42));
        let text = registry.render(&[]);
        assert!(
            has_line(&text, "kong_nginx_metric_errors_total 1"),
            "{text}"
        );
    }
}
