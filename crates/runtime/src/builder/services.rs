//! Services and routes, compiled; those whose rows did not change are kept.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use silverback_entities::{Protocol, Ref, Route, Service, Tables};
use silverback_plugin::ServiceInfo;
use silverback_plugin::facts::WORKSPACE_NAME;
use silverback_retry::{Budgets, Ceiling, Identity, Settings};
use silverback_telemetry::RouteIdentity;
use uuid::Uuid;

use super::Problem;
use super::certificates::Pair;
use super::upstreams::Upstreams;
use crate::chain::Chain;
use crate::registry::Registries;
use crate::shown::Text;
use crate::snapshot::{ClientCertificate, Destination, RouteParts, RouteRuntime, ServiceRuntime};
use crate::vault::Vaults;

/// Whether a protocol is served by the HTTP listeners.
pub(super) fn is_http(p: Protocol) -> bool {
    matches!(
        p,
        Protocol::Http | Protocol::Https | Protocol::Grpc | Protocol::Grpcs
    )
}

/// Compiled services by id.
#[derive(Default)]
pub(super) struct ServiceCache {
    made: HashMap<Uuid, Arc<ServiceRuntime>>,
    /// What services show to their upstreams, by the service's id.
    shown: HashMap<Uuid, Pair>,
    /// By the service's id.
    problems: BTreeMap<Uuid, Problem>,
}

impl ServiceCache {
    pub(super) fn get(&self, id: Uuid) -> Option<&Arc<ServiceRuntime>> {
        self.made.get(&id)
    }

    /// Brings the compiled services in step with the rows.
    pub(super) fn update(
        &mut self,
        tables: &Tables,
        upstreams: &Upstreams,
        registries: &mut Registries,
    ) {
        self.made.retain(|id, _| tables.services.contains_key(id));
        self.shown.retain(|id, _| tables.services.contains_key(id));
        self.problems
            .retain(|id, _| tables.services.contains_key(id));
        for id in tables.services.keys() {
            self.refresh(*id, tables, upstreams, registries);
        }
    }

    /// Brings one compiled service in step with its row, with the upstream that its host names, and with the certificate that it shows.
    pub(super) fn refresh(
        &mut self,
        id: Uuid,
        tables: &Tables,
        upstreams: &Upstreams,
        registries: &mut Registries,
    ) {
        let before = self.problems.remove(&id);
        let Some(row) = tables.services.get(&id) else {
            self.made.remove(&id);
            self.shown.remove(&id);
            return;
        };
        let upstream = upstreams.named(&row.host);
        // As in Kong, a service without a certificate shows its upstream's.
        let shown = row.client_certificate;
        let shown = shown.or_else(|| upstream.and_then(|(u, _)| u.client_certificate));
        let pair = shown.and_then(|certificate| {
            let vaults = Vaults::new(&registries.environment, tables);
            self.pair(id, certificate.id, tables, &vaults)
        });
        let destination = match upstream {
            Some((_, balancer)) => Destination::Upstream(balancer.clone()),
            None => Destination::Host(registries.pools.get(&row.host, row.port)),
        };
        let made = self.made.get(&id);
        if made.is_some_and(|s| Arc::ptr_eq(&s.service, row) && s.destination.same(&destination))
            && pair.as_ref() == self.shown.get(&id)
        {
            if let Some(before) = before.filter(|_| pair.is_some()) {
                self.problems.insert(id, before);
            }
            return;
        }
        let certificate = pair.as_ref().and_then(|pair| {
            let parsed = pair.parse();
            parsed.map_err(|what| self.report(id, what)).ok()
        });
        let made = Arc::new(compile(row, destination, shown, certificate, registries));
        self.made.insert(id, made);
        match pair {
            Some(pair) => drop(self.shown.insert(id, pair)),
            None => drop(self.shown.remove(&id)),
        }
    }

    /// Services that are served without what they should have.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values()
    }

    /// What a service shows to its upstream. As in Kong it shows nothing when that cannot be had.
    fn pair(
        &mut self,
        service: Uuid,
        certificate: Uuid,
        tables: &Tables,
        vaults: &Vaults<'_>,
    ) -> Option<Pair> {
        let pair = Pair::of(tables.certificates.get(&certificate)?, vaults);
        pair.map_err(|what| self.report(service, what)).ok()
    }

    fn report(&mut self, id: Uuid, what: String) {
        let problem = Problem {
            entity: "services",
            id,
            what: format!("client_certificate: {what}"),
        };
        self.problems.insert(id, problem);
    }
}

/// A route, compiled.
pub(super) fn route(
    row: &Arc<Route>,
    service: Option<&Arc<ServiceRuntime>>,
    chain: Arc<Chain>,
    registries: &Registries,
) -> RouteRuntime {
    let label = |s: &Service| s.name.clone().unwrap_or_else(|| s.host.clone());
    let identity = RouteIdentity {
        service: service
            .map(|s| label(&s.service))
            .unwrap_or_default()
            .into(),
        route: row
            .name
            .clone()
            .unwrap_or_else(|| row.id.to_string())
            .into(),
        workspace: WORKSPACE_NAME.into(),
    };
    let parts = RouteParts {
        service: service.cloned(),
        budgets: match (service, chain.retry_terms()) {
            (None, _) => Budgets::default(),
            // Shared by the service's routes, which keeps it in the processor's cache.
            (Some(s), None) => s.budgets.clone(),
            (Some(s), Some(_)) => budgets(&s.service, Some(&chain), registries),
        },
        chain,
        metrics: registries.metrics.route(identity),
    };
    RouteRuntime::new(row, parts)
}

/// The accounts of a route: its service's under the settings that its chain's retry terms give, and the gateway's.
fn budgets(service: &Service, chain: Option<&Chain>, registries: &Registries) -> Budgets {
    let Some((accounts, defaults)) = &registries.budgets else {
        return Budgets::unlimited();
    };
    let settings = match chain.and_then(|c| c.retry_terms()?.budget.as_deref()) {
        Some(b) => Settings {
            ratio: b.ratio,
            ttl: b.ttl,
            min_retries_per_second: b.min_retries_per_second,
            ceiling: b.ceiling.map(|(max_retries, window)| Ceiling {
                max_retries,
                window,
            }),
        },
        None => *defaults,
    };
    // Settings are checked where they are configured (the plugin's schema, the node's settings); the defaults stand in for
    // any that are out of range all the same, for no budget at all would be worse.
    let account = |id: Identity, settings| {
        accounts
            .account(&id, settings)
            .or_else(|_| accounts.account(&id, Settings::default()))
            .ok()
    };
    let of_service = account(Identity::Service(service.id.as_u128()), settings);
    let of_gateway = account(Identity::Gateway, *defaults);
    Budgets::new(of_service.into_iter().chain(of_gateway))
}

fn compile(
    row: &Arc<Service>,
    destination: Destination,
    shown: Option<Ref>,
    client_certificate: Option<ClientCertificate>,
    registries: &Registries,
) -> ServiceRuntime {
    let tls = matches!(
        row.protocol,
        Protocol::Https | Protocol::Grpcs | Protocol::Tls
    );
    let own_port = if tls { 443 } else { 80 };
    let host_header = if row.port == own_port {
        row.host.clone()
    } else {
        format!("{}:{}", row.host, row.port)
    };
    let is_address = row
        .host
        .trim_matches(['[', ']'])
        .parse::<std::net::IpAddr>()
        .is_ok();
    let mut group = std::collections::hash_map::DefaultHasher::new();
    (
        shown,
        &row.ca_certificates,
        row.tls_verify,
        row.tls_verify_depth,
    )
        .hash(&mut group);
    let ms = |t: Option<u32>| Duration::from_millis(u64::from(t.unwrap_or(60_000)));
    ServiceRuntime {
        info: ServiceInfo {
            id: row.id,
            name: row.name.clone(),
            host: row.host.clone(),
        },
        destination,
        // A host is checked when it is written: letters, digits and punctuation that a header may hold.
        host_header: HeaderValue::from_str(&host_header)
            .unwrap_or_else(|_| HeaderValue::from_static("")),
        tls,
        sni: if is_address {
            String::new()
        } else {
            row.host.clone()
        },
        tls_verify: row.tls_verify.unwrap_or(registries.tls_verify),
        group_key: group.finish(),
        client_certificate,
        connect_timeout: ms(row.connect_timeout),
        write_timeout: ms(row.write_timeout),
        read_timeout: ms(row.read_timeout),
        retries: u32::from(row.retries.unwrap_or(5)),
        budgets: budgets(row, None, registries),
        metrics: registries
            .metrics
            .service(row.name.as_deref().unwrap_or(&row.host)),
        service: row.clone(),
        text: Text::default(),
    }
}
