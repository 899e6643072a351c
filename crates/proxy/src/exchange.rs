//! What is kept of one request from its head to its log line.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use silverback_balancer::Pick;
use silverback_plugin::{Facts, RequestView, UpstreamEdits};
use silverback_retry::{Moment, Tries};
use silverback_router::{Match, split_host_port};
use silverback_runtime::{Chain, Picks, RouteRuntime, ServiceRuntime, Snapshot};

use crate::config::Shared;
use crate::ids;
use crate::target::Hashed;

/// One request on its way.
pub(crate) struct Exchange {
    /// The worker's own handle: counted up and down by one thread only.
    pub(crate) shared: Arc<Shared>,
    /// The configuration that this request is served with from beginning to end.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Which of the snapshot's routes was matched.
    pub(crate) route: Option<usize>,
    /// How it was matched.
    pub(crate) found: Option<Match>,
    pub(crate) picks: Picks,
    pub(crate) facts: Facts,
    pub(crate) edits: UpstreamEdits,
    /// What follows the scheme and authority upstream, when it is not what the client sent.
    pub(crate) target: Option<Bytes>,
    /// What was cut off the front of the path.
    pub(crate) prefix: Option<Bytes>,
    /// The target of the present attempt, where the service has an upstream.
    pub(crate) pick: Option<Pick>,
    /// What decides among the targets, where they are told apart by the request.
    pub(crate) hashed: Option<Box<Hashed>>,
    pub(crate) tries: Option<Tries>,
    /// When the present attempt began.
    pub(crate) begun: Instant,
    /// To wait before the next attempt.
    pub(crate) pause: Duration,
    /// The budget denied a retry.
    pub(crate) exhausted: bool,
    /// The client wants to know more.
    pub(crate) debug: bool,
    /// The body to send instead of what is read from the client.
    pub(crate) body_sent: bool,
    /// How much of the body was taken from the client while proxying.
    pub(crate) body_seen: u64,
    /// `body_filter` was told that the response's body is over, with its head already.
    pub(crate) body_over: bool,
    pub(crate) logged: bool,
}

impl Exchange {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.metrics.node().request_started();
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let facts = Facts::new(ids::request_id(), nobody, "http", 0);
        Exchange {
            shared: shared.clone(),
            snapshot: shared.current.load(),
            route: None,
            found: None,
            picks: Picks::default(),
            begun: facts.started,
            facts,
            edits: UpstreamEdits::default(),
            target: None,
            prefix: None,
            pick: None,
            hashed: None,
            tries: None,
            pause: Duration::ZERO,
            exhausted: false,
            debug: false,
            body_sent: false,
            body_seen: 0,
            body_over: false,
            logged: false,
        }
    }

    pub(crate) fn route(&self) -> Option<&RouteRuntime> {
        self.route.map(|r| &self.snapshot.routes[r])
    }

    pub(crate) fn service(&self) -> Option<&ServiceRuntime> {
        self.route()?.service.as_deref()
    }

    /// The plugins whose response phases run.
    pub(crate) fn chain(&self) -> &Chain {
        match self.route {
            Some(r) => &self.snapshot.routes[r].chain,
            None => &self.snapshot.global,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.shared.metrics.node().request_finished();
        if !self.logged {
            // Only a panic outside of what is guarded, or a runtime that is shut down, ends a request like this.
            crate::log::abandoned(self);
        }
    }
}

/// The present moment on the clock of the retry budget's accounts. Everybody who talks to those accounts uses this clock.
pub fn now() -> Moment {
    at(Instant::now())
}

/// A moment on that clock.
pub(crate) fn at(instant: Instant) -> Moment {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    Moment::from_start(instant.saturating_duration_since(*START))
}

/// The host of a request as the client wrote it, with its port.
pub(crate) fn authority(parts: &Parts) -> &str {
    if let Some(host) = parts.headers.get(http::header::HOST) {
        return host.to_str().unwrap_or_default();
    }
    parts.uri.authority().map_or("", |a| a.as_str())
}

/// A request as plugins see it.
pub(crate) fn view<'a>(parts: &'a Parts, target: &'a [u8]) -> RequestView<'a> {
    RequestView {
        parts,
        path_and_query: target,
        host: split_host_port(authority(parts)).0,
    }
}
