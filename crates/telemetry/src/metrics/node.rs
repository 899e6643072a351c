//! Connections and requests of the whole node, whatever their route: Kong's `kong_nginx_*`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::exposition::{Exposition, as_value};
use crate::striped::Striped;

/// Openings and closings are counted apart, so that every counter only grows: a connection may well be
/// closed by a thread other than the one that accepted it.
#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    closed: AtomicU64,
    requests: AtomicU64,
    finished: AtomicU64,
}

/// [`NodeMetrics`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeCounts {
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections open now.
    pub active: u64,
    /// Requests since the start.
    pub requests: u64,
    /// Requests that are being answered.
    pub in_flight: u64,
}

/// Counts of connections from clients and of their requests.
#[derive(Debug)]
pub struct NodeMetrics {
    counters: Striped<Counters>,
}

impl NodeMetrics {
    pub(super) fn new(stripes: usize) -> Self {
        Self {
            counters: Striped::new(stripes),
        }
    }

    /// A client's connection was accepted.
    pub fn connection_accepted(&self) {
        self.counters
            .local()
            .accepted
            .fetch_add(1, Ordering::Relaxed);
    }

    /// A client's connection that was counted as accepted has ended.
    pub fn connection_closed(&self) {
        self.counters.local().closed.fetch_add(1, Ordering::Relaxed);
    }

    /// A request's head was read.
    #[inline]
    pub fn request_started(&self) {
        self.counters
            .local()
            .requests
            .fetch_add(1, Ordering::Relaxed);
    }

    /// A request that was counted as started has ended, well or not.
    #[inline]
    pub fn request_finished(&self) {
        self.counters
            .local()
            .finished
            .fetch_add(1, Ordering::Relaxed);
    }

    fn sum(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.counters
            .iter()
            .map(|counters| counter(counters).load(Ordering::Relaxed))
            .sum()
    }

    /// The counts as they are now, consistent as far as counters that others go on changing can be.
    pub fn read(&self) -> NodeCounts {
        // Ends before beginnings, lest an end counted in between make more ends than beginnings.
        let finished = self.sum(|counters| &counters.finished);
        let closed = self.sum(|counters| &counters.closed);
        let requests = self.sum(|counters| &counters.requests);
        let accepted = self.sum(|counters| &counters.accepted);
        NodeCounts {
            accepted,
            active: accepted.saturating_sub(closed),
            requests,
            in_flight: requests.saturating_sub(finished),
        }
    }

    /// Kong's states: `total` counts requests, not connections. `reading` is always 0, because a connection
    /// is only known to have a request once its head is read; `waiting` are those without a request in
    /// progress (with HTTP/2 a connection may have many, so it may read too low).
    pub(super) fn write(&self, out: &mut Exposition, node_id: &str) {
        let NodeCounts {
            accepted,
            active,
            requests,
            in_flight: writing,
        } = self.read();
        let states = [
            ("accepted", accepted),
            ("active", active),
            ("handled", accepted),
            ("reading", 0),
            ("total", requests),
            ("waiting", active.saturating_sub(writing)),
            ("writing", writing),
        ];
        let mut connections = out.gauge(
            "kong_nginx_connections_total",
            "Number of connections by subsystem",
        );
        for (state, count) in states {
            let labels = [
                ("node_id", node_id),
                ("subsystem", "http"),
                ("state", state),
            ];
            connections.sample("", &labels, None, as_value(count));
        }
        let labels = [("node_id", node_id), ("subsystem", "http")];
        out.gauge("kong_nginx_requests_total", "Number of requests total")
            .sample("", &labels, None, as_value(requests));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn states_follow_from_what_began_and_ended() {
        let node = NodeMetrics::new(2);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    node.connection_accepted();
                    node.request_started();
                    node.request_finished();
                });
            }
        });
        node.connection_closed();
        node.request_started();
        let mut out = Exposition::default();
        node.write(&mut out, "n");
        let text = out.finish();
        for (state, count) in [
            ("accepted", 3),
            ("active", 2),
            ("handled", 3),
            ("reading", 0),
            ("total", 4),
            ("waiting", 1),
            ("writing", 1),
        ] {
            let line = format!(
                "kong_nginx_connections_total{{node_id=\"n\",subsystem=\"http\",state=\"{state}\"}} {count}\n"
            );
            assert!(text.contains(&line), "{line} in\n{text}");
        }
        assert!(
            text.contains("kong_nginx_requests_total{node_id=\"n\",subsystem=\"http\"} 4\n"),
            "{text}"
        );
    }
}
