//! Counters of a route: Kong's `kong_http_requests_total`, `kong_bandwidth_bytes` and latencies.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::slice::from_ref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use foldhash::fast::{FixedState, RandomState};
use prefetch_index::prefetch_index;

use super::codes::{Codes, Source};
use super::exposition::{Exposition, as_value};
use super::histogram::{Histogram, KONG_LATENCY, Sums, UPSTREAM_LATENCY};
use crate::striped::Striped;

/// What is counted of a request beside its status code. The default is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collect {
    /// `kong_request_latency_ms`, `kong_upstream_latency_ms` and `kong_kong_latency_ms`.
    pub latency: bool,
    /// `kong_bandwidth_bytes`.
    pub bandwidth: bool,
    /// Whether status codes and bandwidth name the consumer.
    pub per_consumer: bool,
}

impl Collect {
    /// Everything.
    pub const ALL: Self = Self {
        latency: true,
        bandwidth: true,
        per_consumer: true,
    };
}

/// The labels that name a route's series. A route that is configured anew under the same names goes on
/// counting where it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteIdentity {
    /// Name of the service, else its host, else empty.
    pub service: Box<str>,
    /// Name of the route, else its id.
    pub route: Box<str>,
    /// Name of the workspace.
    pub workspace: Box<str>,
}

/// One finished request. Times are in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct RequestOutcome<'a> {
    /// Status sent to the client.
    pub code: u16,
    /// Who made the response.
    pub source: Source,
    /// From the first byte of the request to the last of the response.
    pub request_us: u64,
    /// Waiting for the upstream; `None` when it was not asked.
    pub upstream_us: Option<u64>,
    /// Spent in the gateway and its plugins before the upstream was turned to, or before there was a response without it.
    pub kong_us: u64,
    /// Bytes received, head included.
    pub ingress_bytes: u64,
    /// Bytes sent, head included.
    pub egress_bytes: u64,
    /// Username of the consumer, when one was identified and has one.
    pub consumer: Option<&'a str>,
}

#[derive(Debug, Default)]
struct Traffic {
    codes: Codes,
    ingress: AtomicU64,
    egress: AtomicU64,
}

#[derive(Debug, Default)]
struct Latencies {
    request: Histogram<13>,
    upstream: Histogram<13>,
    kong: Histogram<17>,
}

/// Handle to the counters of one route. What every request looks at stands first.
#[derive(Debug)]
#[repr(C)]
pub struct RouteMetrics {
    traffic: Striped<Traffic>,
    latencies: Striped<Latencies>,
    consumers: OnceLock<Box<Consumers>>,
    stripes: usize,
    /// Responses with codes no series can hold; shared by all routes and hardly ever touched.
    errors: Arc<AtomicU64>,
}

impl RouteMetrics {
    pub(super) fn new(stripes: usize, errors: Arc<AtomicU64>) -> Self {
        Self {
            traffic: Striped::new(stripes),
            latencies: Striped::new(stripes),
            consumers: OnceLock::new(),
            stripes,
            errors,
        }
    }

    /// Has the handle fetched into the processor's cache. Among thousands of routes it is far away, and the request that will be
    /// counted has other things to do meanwhile.
    #[inline]
    pub fn prefetch(&self) {
        prefetch_index(from_ref(&self.traffic), 0);
    }

    /// The same for the counters that it leads to: some time after [`prefetch`](Self::prefetch), which it would otherwise wait for.
    #[inline]
    pub fn prefetch_counters(&self) {
        self.traffic.prefetch();
    }

    /// Counts one request. What is not collected of it need not have been measured.
    pub fn record(&self, collect: Collect, outcome: &RequestOutcome<'_>) {
        match outcome.consumer {
            Some(consumer) if collect.per_consumer => {
                let consumers = self.consumers.get_or_init(Box::default);
                consumers.with(consumer, self.stripes, |traffic| {
                    self.count(traffic, collect, outcome)
                });
            }
            _ => self.count(&self.traffic, collect, outcome),
        }
        if collect.latency {
            let latencies = self.latencies.local();
            latencies
                .request
                .observe(&UPSTREAM_LATENCY, outcome.request_us);
            latencies.kong.observe(&KONG_LATENCY, outcome.kong_us);
            if let Some(micros) = outcome.upstream_us {
                latencies.upstream.observe(&UPSTREAM_LATENCY, micros);
            }
        }
    }

    fn count(&self, traffic: &Striped<Traffic>, collect: Collect, outcome: &RequestOutcome<'_>) {
        let traffic = traffic.local();
        if !traffic.codes.count(outcome.source, outcome.code) {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        if collect.bandwidth {
            traffic
                .ingress
                .fetch_add(outcome.ingress_bytes, Ordering::Relaxed);
            traffic
                .egress
                .fetch_add(outcome.egress_bytes, Ordering::Relaxed);
        }
    }

    pub(super) fn write(&self, out: &mut Exposition, identity: &RouteIdentity) {
        write_traffic(out, &self.traffic, identity, "");
        if let Some(consumers) = self.consumers.get() {
            for (consumer, traffic) in consumers.sorted() {
                write_traffic(out, &traffic, identity, &consumer);
            }
        }
        let (mut request, mut upstream, mut kong) =
            (Sums::default(), Sums::default(), Sums::default());
        for latencies in self.latencies.iter() {
            request.add(&latencies.request);
            upstream.add(&latencies.upstream);
            kong.add(&latencies.kong);
        }
        let labels: [(&str, &str); 3] = [
            ("service", &identity.service),
            ("route", &identity.route),
            ("workspace", &identity.workspace),
        ];
        let help = "Total latency incurred during requests for each service/route in Kong";
        request.write(
            out,
            "kong_request_latency_ms",
            help,
            &UPSTREAM_LATENCY,
            &labels,
        );
        let help = "Latency added by upstream response for each service/route in Kong";
        upstream.write(
            out,
            "kong_upstream_latency_ms",
            help,
            &UPSTREAM_LATENCY,
            &labels,
        );
        let help = "Latency added by Kong and enabled plugins for each service/route in Kong";
        kong.write(out, "kong_kong_latency_ms", help, &KONG_LATENCY, &labels);
    }
}

fn write_traffic(
    out: &mut Exposition,
    traffic: &Striped<Traffic>,
    identity: &RouteIdentity,
    consumer: &str,
) {
    let RouteIdentity {
        service,
        route,
        workspace,
    } = identity;
    let (mut codes, mut ingress, mut egress) = (BTreeMap::new(), 0, 0);
    for stripe in traffic.iter() {
        stripe.codes.fold_into(&mut codes);
        ingress += stripe.ingress.load(Ordering::Relaxed);
        egress += stripe.egress.load(Ordering::Relaxed);
    }
    for ((source, code), count) in codes {
        let code = code.to_string();
        let labels: [(&str, &str); 6] = [
            ("service", service),
            ("route", route),
            ("code", &code),
            ("source", source.as_str()),
            ("workspace", workspace),
            ("consumer", consumer),
        ];
        out.counter(
            "kong_http_requests_total",
            "HTTP status codes per consumer/service/route in Kong",
        )
        .sample("", &labels, None, as_value(count));
    }
    for (direction, bytes) in [("egress", egress), ("ingress", ingress)] {
        if bytes > 0 {
            let labels: [(&str, &str); 5] = [
                ("service", service),
                ("route", route),
                ("direction", direction),
                ("workspace", workspace),
                ("consumer", consumer),
            ];
            out.counter(
                "kong_bandwidth_bytes",
                "Total bandwidth (ingress/egress) throughput in bytes",
            )
            .sample("", &labels, None, as_value(bytes));
        }
    }
}

/// A table of consumers is split this many ways, so that the copy made for a consumer seen for the first time
/// is small.
const SHARDS: usize = 64;

type Shard = HashMap<Arc<str>, Arc<Striped<Traffic>>, RandomState>;

/// Series by consumer. Which consumers use a route is only known by their coming, so the table grows with
/// traffic: reading it takes no lock; a consumer's first request at a route copies one shard.
#[derive(Debug)]
struct Consumers {
    shards: Box<[ArcSwap<Shard>]>,
    growing: Mutex<()>,
}

impl Default for Consumers {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            growing: Mutex::default(),
        }
    }
}

impl Consumers {
    fn with(&self, consumer: &str, stripes: usize, count: impl FnOnce(&Striped<Traffic>)) {
        let hash = FixedState::default().hash_one(consumer);
        let shard = &self.shards[usize::try_from(hash >> 32).unwrap_or(0) % SHARDS];
        if let Some(traffic) = shard.load().get(consumer) {
            return count(traffic);
        }
        let traffic = {
            let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
            let present = shard.load_full();
            match present.get(consumer) {
                Some(traffic) => Arc::clone(traffic),
                None => {
                    let traffic = Arc::new(Striped::new(stripes));
                    let mut larger = Shard::clone(&present);
                    larger.insert(consumer.into(), Arc::clone(&traffic));
                    shard.store(Arc::new(larger));
                    traffic
                }
            }
        };
        count(&traffic);
    }

    fn sorted(&self) -> BTreeMap<Arc<str>, Arc<Striped<Traffic>>> {
        let mut all = BTreeMap::new();
        for shard in &self.shards {
            all.extend(
                shard
                    .load()
                    .iter()
                    .map(|(name, traffic)| (Arc::clone(name), Arc::clone(traffic))),
            );
        }
        all
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn identity() -> RouteIdentity {
        RouteIdentity {
            service: "s".into(),
            route: "log".into(),
            workspace: "default".into(),
        }
    }

    fn route() -> RouteMetrics {
        RouteMetrics::new(4, Arc::default())
    }

    fn outcome(code: u16) -> RequestOutcome<'static> {
        RequestOutcome {
            code,
            source: Source::Service,
            request_us: 10_000,
            upstream_us: Some(8_000),
            kong_us: 2_000,
            ingress_bytes: 100,
            egress_bytes: 1000,
            consumer: None,
        }
    }

    fn text(route: &RouteMetrics) -> String {
        let mut out = Exposition::default();
        route.write(&mut out, &identity());
        out.finish()
    }

    #[test]
    fn nothing_counted_from_many_threads_is_lost() {
        let route = route();
        std::thread::scope(|scope| {
            for worker in 0..8 {
                let route = &route;
                scope.spawn(move || {
                    let consumer = ["alice", "bob"][worker % 2];
                    for turn in 0..1000 {
                        let consumer = (turn % 2 == 0).then_some(consumer);
                        let outcome = RequestOutcome {
                            consumer,
                            ..outcome(200)
                        };
                        route.record(Collect::ALL, &outcome);
                    }
                });
            }
        });
        let text = text(&route);
        let of = |consumer: &str, count: u32| {
            format!(
                "kong_http_requests_total{{service=\"s\",route=\"log\",code=\"200\",source=\"service\",\
                 workspace=\"default\",consumer=\"{consumer}\"}} {count}\n"
            )
        };
        for line in [of("", 4000), of("alice", 2000), of("bob", 2000)] {
            assert!(text.contains(&line), "{line} in\n{text}");
        }
        let labels = "{service=\"s\",route=\"log\",workspace=\"default\"}";
        assert!(
            text.contains(&format!("kong_request_latency_ms_count{labels} 8000\n")),
            "{text}"
        );
        assert!(
            text.contains(&format!("kong_kong_latency_ms_sum{labels} 16000\n")),
            "{text}"
        );
    }

    #[test]
    fn by_default_only_status_codes_are_collected() {
        let route = route();
        let outcome = RequestOutcome {
            consumer: Some("alice"),
            ..outcome(404)
        };
        route.record(Collect::default(), &outcome);
        let text = text(&route);
        assert!(
            text.contains("code=\"404\"") && text.contains("consumer=\"\""),
            "{text}"
        );
        assert!(
            !text.contains("latency") && !text.contains("bandwidth") && !text.contains("alice"),
            "{text}"
        );
    }

    #[test]
    fn each_request_says_what_is_collected_of_it() {
        let route = route();
        route.record(Collect::default(), &outcome(200));
        let bandwidth = Collect {
            bandwidth: true,
            ..Collect::default()
        };
        route.record(bandwidth, &outcome(200));
        let text = text(&route);
        let labels = |direction| {
            format!(
                "{{service=\"s\",route=\"log\",direction=\"{direction}\",workspace=\"default\",consumer=\"\"}}"
            )
        };
        for line in [
            format!("kong_bandwidth_bytes{} 1000\n", labels("egress")),
            format!("kong_bandwidth_bytes{} 100\n", labels("ingress")),
        ] {
            assert!(text.contains(&line), "{line} in\n{text}");
        }
        assert!(text.contains("consumer=\"\"} 2\n"), "{text}");
        assert!(!text.contains("latency"), "{text}");
    }

    #[test]
    fn a_request_the_upstream_never_saw_has_no_upstream_latency() {
        let route = route();
        let outcome = RequestOutcome {
            source: Source::Kong,
            upstream_us: None,
            ..outcome(401)
        };
        route.record(Collect::ALL, &outcome);
        let text = text(&route);
        assert!(text.contains("code=\"401\",source=\"kong\""), "{text}");
        assert!(!text.contains("kong_upstream_latency_ms"), "{text}");
        assert!(text.contains("kong_kong_latency_ms_count"), "{text}");
    }
}
