//! What a node serves from: the configuration, compiled.

use std::any::Any;
use std::collections::HashMap;
use std::ops::Index;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use silverback_balancer::{Balancer, Pool};
use silverback_entities::{Protocol, Route, Service};
use silverback_plugin::facts::{Consumer, Credential, Directory, Issued};
use silverback_plugin::{RouteInfo, ServiceInfo};
use silverback_retry::Budgets;
use silverback_router::{PathRule, ProtocolRule, Router};
use silverback_telemetry::{RouteMetrics, ServiceMetrics};
use uuid::Uuid;

use crate::chain::Chain;
use crate::directory::DirectoryIndex;
use crate::shown::Text;

/// The configuration of one revision, compiled. Immutable; a request keeps the one it began with.
pub struct Snapshot {
    /// The revision of the rows it was made from.
    pub revision: i64,
    /// Finds the route of a request: an index into `routes`.
    pub router: Arc<Router>,
    /// In the router's order.
    pub routes: Routes,
    /// Global plugins: `rewrite` of every request, and the response phases of requests without a route.
    pub global: Arc<Chain>,
    /// Consumers and credentials.
    pub directory: DirectoryIndex,
    /// Upstreams by primary key.
    pub upstreams: Arc<HashMap<Uuid, Arc<Balancer>>>,
    /// Whether their targets' health is shown among the metrics.
    pub upstream_health: bool,
}

impl Directory for Snapshot {
    fn credential(&self, entity: &'static str, key: &str) -> Option<&Arc<Credential>> {
        self.directory.credential(entity, key)
    }

    fn issued(&self, entity: &'static str, key: &str) -> Option<&Arc<Issued>> {
        self.directory.issued(entity, key)
    }

    fn consumer(&self, id_or_username: &str) -> Option<&Arc<Consumer>> {
        self.directory.consumer(id_or_username)
    }

    fn values_of(&self, entity: &'static str, consumer: Uuid) -> &[Box<str>] {
        self.directory.values_of(entity, consumer)
    }

    fn row(&self, entity: &str, id: Uuid) -> Option<Map<String, Value>> {
        let row = match entity {
            "routes" => serde_json::to_value(self.routes.by_id(id)?.route()),
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

/// The routes of a snapshot, by the numbers that its router knows them by.
#[derive(Clone)]
pub struct Routes {
    /// By id. Shared by all snapshots between two whole builds.
    base: Arc<[RouteRuntime]>,
    /// Which of the base are no more: in ascending order.
    gone: Arc<[usize]>,
    /// Numbered on from the base's last, by id.
    added: Arc<[RouteRuntime]>,
}

impl Routes {
    /// Routes in the order of their ids.
    pub(crate) fn new(base: Arc<[RouteRuntime]>) -> Self {
        Self::amended(base, Vec::new(), Vec::new())
    }

    /// The base without those numbered in `gone`, and `added`, which is in the order of the ids.
    pub(crate) fn amended(
        base: Arc<[RouteRuntime]>,
        gone: Vec<usize>,
        added: Vec<RouteRuntime>,
    ) -> Self {
        Routes {
            base,
            gone: gone.into(),
            added: added.into(),
        }
    }

    /// The route with that number, which comes from this snapshot's router.
    ///
    /// # Panics
    /// With a number of another router's.
    #[inline]
    pub fn get(&self, n: usize) -> &RouteRuntime {
        match self.base.get(n) {
            Some(route) => route,
            None => &self.added[n - self.base.len()],
        }
    }

    /// A route by primary key.
    pub fn by_id(&self, id: Uuid) -> Option<&RouteRuntime> {
        let find = |list: &[RouteRuntime]| list.binary_search_by_key(&id, |r| r.info().id).ok();
        if let Some(n) = find(&self.added) {
            return self.added.get(n);
        }
        let n = find(&self.base)?;
        if self.gone.binary_search(&n).is_ok() {
            return None;
        }
        self.base.get(n)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &RouteRuntime> {
        let left = self.base.iter().enumerate();
        let left = left.filter(|(n, _)| self.gone.binary_search(n).is_err());
        left.map(|(_, r)| r).chain(self.added.iter())
    }
}

impl Index<usize> for Routes {
    type Output = RouteRuntime;

    #[inline]
    fn index(&self, n: usize) -> &Self::Output {
        self.get(n)
    }
}

/// A route with all that serving it needs. Among thousands of routes each look at one is a cache miss: what every request needs of its
/// route is in one line, and all lines lie side by side, where one is found by its number alone.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct RouteRuntime {
    /// Where its requests go; `None` is answered with 503.
    pub service: Option<Arc<ServiceRuntime>>,
    /// Its plugins.
    pub chain: Arc<Chain>,
    /// The accounts its retries are paid from; without accounts where the budget is switched off.
    pub budgets: Budgets,
    /// Where its requests are counted.
    pub metrics: Arc<RouteMetrics>,
    row: Arc<RouteRow>,
    /// Which protocols it is for.
    pub protocols: ProtocolRule,
    /// How the upstream's path is made.
    pub paths: PathRule,
    /// Whether the upstream gets the client's `Host`.
    pub preserve_host: bool,
}

/// What few requests look at.
struct RouteRow {
    info: RouteInfo,
    route: Arc<Route>,
    /// As logs show it.
    text: Text,
}

/// The parts of a [`RouteRuntime`] that do not follow from its row.
pub(crate) struct RouteParts {
    pub(crate) service: Option<Arc<ServiceRuntime>>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) budgets: Budgets,
    pub(crate) metrics: Arc<RouteMetrics>,
}

impl RouteRuntime {
    /// A row, compiled.
    pub(crate) fn new(route: &Arc<Route>, parts: RouteParts) -> Self {
        RouteRuntime {
            service: parts.service,
            chain: parts.chain,
            budgets: parts.budgets,
            metrics: parts.metrics,
            protocols: ProtocolRule::of(route),
            paths: PathRule::of(route),
            preserve_host: route.preserve_host,
            row: Arc::new(RouteRow {
                info: RouteInfo {
                    id: route.id,
                    name: route.name.clone(),
                },
                route: route.clone(),
                text: Text::default(),
            }),
        }
    }

    /// As plugins see it.
    pub fn info(&self) -> &RouteInfo {
        &self.row.info
    }

    /// The row.
    pub fn route(&self) -> &Arc<Route> {
        &self.row.route
    }

    /// The row as logs show it.
    pub fn text(&self) -> Option<&RawValue> {
        self.row.text.of(&*self.row.route)
    }

    /// Whether both were compiled at once: copies of one.
    pub fn same(&self, other: &RouteRuntime) -> bool {
        Arc::ptr_eq(&self.row, &other.row)
    }
}

/// A service with all that sending to it needs.
pub struct ServiceRuntime {
    /// The row.
    pub service: Arc<Service>,
    /// As plugins see it.
    pub info: ServiceInfo,
    /// Where its requests go.
    pub destination: Destination,
    /// `Host` of upstream requests when the client's is not preserved and no target has its own: with the port unless it is the scheme's own.
    pub host_header: HeaderValue,
    /// Whether TLS is spoken with the upstream.
    pub tls: bool,
    /// Server name of the TLS handshake when the client's host is not preserved; empty for addresses.
    pub sni: String,
    /// Whether the upstream's certificate is verified.
    pub tls_verify: bool,
    /// Tells connections apart that must not be shared though the address is the same (authorities, client certificate).
    pub group_key: u64,
    /// Shown to the upstream that asks for one.
    pub client_certificate: Option<ClientCertificate>,
    /// Waiting for a connection.
    pub connect_timeout: Duration,
    /// Between two writes.
    pub write_timeout: Duration,
    /// Between two reads.
    pub read_timeout: Duration,
    /// Kong's `retries`: attempts after the first.
    pub retries: u32,
    /// The accounts of retries to it where no plugin sets its own terms.
    pub budgets: Budgets,
    /// Where its retries are counted.
    pub metrics: Arc<ServiceMetrics>,
    /// As logs show it.
    pub(crate) text: Text,
}

/// Where a service's requests go.
#[derive(Clone)]
pub enum Destination {
    /// To the addresses behind its `host` and `port`.
    Host(Arc<Pool>),
    /// To the targets of the upstream that has its `host` for a name.
    Upstream(Arc<Balancer>),
}

impl Destination {
    /// Whether both are the same.
    pub fn same(&self, other: &Destination) -> bool {
        match (self, other) {
            (Destination::Host(a), Destination::Host(b)) => Arc::ptr_eq(a, b),
            (Destination::Upstream(a), Destination::Upstream(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// A certificate with its chain, and its key.
pub struct ClientCertificate {
    chain: Vec<X509>,
    key: PKey<Private>,
    form: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl ClientCertificate {
    /// The certificate first, then those between it and the root.
    pub fn new(chain: Vec<X509>, key: PKey<Private>) -> Self {
        ClientCertificate {
            chain,
            key,
            form: OnceLock::new(),
        }
    }

    /// The form in which whoever shows it needs it; made once. There is one that shows it, so that forms of two types are not kept.
    pub fn form<T: Any + Send + Sync>(
        &self,
        make: impl Fn(&[X509], &PKey<Private>) -> T,
    ) -> Arc<T> {
        let kept = self
            .form
            .get_or_init(|| Arc::new(make(&self.chain, &self.key)));
        let kept = kept.clone().downcast();
        kept.unwrap_or_else(|_| Arc::new(make(&self.chain, &self.key)))
    }
}

impl ServiceRuntime {
    /// The row as logs show it.
    pub fn text(&self) -> Option<&RawValue> {
        self.text.of(&*self.service)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_one_line_of_the_cache() {
        assert_eq!(size_of::<RouteRuntime>(), 64);
    }
}
