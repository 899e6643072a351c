//! What a node serves from: the configuration, compiled.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use serde_json::{Map, Value};
use silverback_balancer::Pool;
use silverback_entities::{Protocol, Route, Service};
use silverback_plugin::facts::{Consumer, Credential, Directory};
use silverback_plugin::{RouteInfo, ServiceInfo};
use silverback_retry::Budgets;
use silverback_router::Router;
use silverback_telemetry::{RouteMetrics, ServiceMetrics};
use uuid::Uuid;

use crate::chain::Chain;
use crate::directory::DirectoryIndex;

/// The configuration of one revision, compiled. Immutable; a request keeps the one it began with.
pub struct Snapshot {
    /// The revision of the rows it was made from.
    pub revision: i64,
    /// Finds the route of a request: an index into `routes`.
    pub router: Arc<Router>,
    /// In the router's order, which is that of their ids.
    pub routes: Arc<[Arc<RouteRuntime>]>,
    /// Global plugins: `rewrite` of every request, and the response phases of requests without a route.
    pub global: Arc<Chain>,
    /// Consumers and credentials.
    pub directory: DirectoryIndex,
}

impl Directory for Snapshot {
    fn credential(&self, entity: &'static str, key: &str) -> Option<&Arc<Credential>> {
        self.directory.credential(entity, key)
    }

    fn consumer(&self, id_or_username: &str) -> Option<&Arc<Consumer>> {
        self.directory.consumer(id_or_username)
    }

    fn row(&self, entity: &str, id: Uuid) -> Option<Map<String, Value>> {
        let row = match entity {
            "routes" => {
                let n = self.routes.binary_search_by_key(&id, |r| r.route.id).ok()?;
                serde_json::to_value(&*self.routes[n].route)
            }
            "services" => {
                let services = self.routes.iter().filter_map(|r| r.service.as_ref());
                serde_json::to_value(services.map(|s| &*s.service).find(|s| s.id == id)?)
            }
            _ => return None,
        };
        match row {
            Ok(Value::Object(row)) => Some(row),
            _ => None,
        }
    }
}

/// A route with all that serving it needs.
pub struct RouteRuntime {
    /// The row.
    pub route: Arc<Route>,
    /// As plugins see it.
    pub info: RouteInfo,
    /// Where its requests go; `None` is answered with 503.
    pub service: Option<Arc<ServiceRuntime>>,
    /// Its plugins.
    pub chain: Arc<Chain>,
    /// The accounts its retries are paid from; without accounts where the budget is switched off.
    pub budgets: Budgets,
    /// Where its requests are counted.
    pub metrics: Arc<RouteMetrics>,
}

/// A service with all that sending to it needs.
pub struct ServiceRuntime {
    /// The row.
    pub service: Arc<Service>,
    /// As plugins see it.
    pub info: ServiceInfo,
    /// The addresses behind `host` and `port`.
    pub pool: Arc<Pool>,
    /// `Host` of upstream requests when the client's is not preserved: with the port unless it is the scheme's own.
    pub host_header: HeaderValue,
    /// Whether TLS is spoken with the upstream.
    pub tls: bool,
    /// Server name of the TLS handshake when the client's host is not preserved; empty for addresses.
    pub sni: String,
    /// Whether the upstream's certificate is verified.
    pub tls_verify: bool,
    /// Tells connections apart that must not be shared though the address is the same (authorities, client certificate).
    pub group_key: u64,
    /// Waiting for a connection.
    pub connect_timeout: Duration,
    /// Between two writes.
    pub write_timeout: Duration,
    /// Between two reads.
    pub read_timeout: Duration,
    /// Kong's `retries`: attempts after the first.
    pub retries: u32,
    /// Where its retries are counted.
    pub metrics: Arc<ServiceMetrics>,
}

impl ServiceRuntime {
    /// Whether gRPC, and so HTTP/2, is spoken with the upstream.
    pub fn grpc(&self) -> bool {
        matches!(self.service.protocol, Protocol::Grpc | Protocol::Grpcs)
    }
}

/// The snapshot a node serves from now.
#[derive(Clone)]
pub struct Current(Arc<ArcSwap<Snapshot>>);

impl Current {
    /// Begins with that snapshot.
    pub fn new(first: Arc<Snapshot>) -> Self {
        Current(Arc::new(ArcSwap::new(first)))
    }

    /// The snapshot, for the length of one request.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Puts a new one in its place and answers the old one, which the caller frees away from the proxy's threads.
    pub fn swap(&self, next: Arc<Snapshot>) -> Arc<Snapshot> {
        self.0.swap(next)
    }
}
