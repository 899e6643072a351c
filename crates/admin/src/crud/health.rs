//! The health of targets, as the balancer tells it (`page_for_upstream_with_health` in `kong/db/dao/targets.lua`,
//! `kong/runloop/balancer/healthcheckers.lua`), and an operator's word on it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::join_all;
use http::StatusCode;
use serde_json::{Map, Value, json};
use silverback_schema::checks::{HostKind, split_host};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Call, RowKey, targets};
use crate::errors::{Answer, ApiError};
use crate::model::uuid;
use crate::respond;
use crate::status::{AddressHealth, Health, HealthReport, TargetHealth, UpstreamHealth};

/// Longest time to look up all names of a page when the balancer does not know their addresses.
const LOOK_UP: Duration = Duration::from_secs(2);
/// Names that are looked up at once, for all requests together. The system does it on threads that nothing can stop.
static LOOK_UPS: Semaphore = Semaphore::const_new(16);

/// `GET /upstreams/{upstreams}/health`
pub(super) async fn upstream(call: &Call<'_>) -> Answer {
    let app = call.app;
    let (id, _) = upstream_of(call).await?;
    let entity = app.model.of(targets::TARGETS)?;
    let node = app.node.node_id.to_string();
    let known = app.status.upstream_health(id);
    if call.args.get("balancer_health") == Some("1") {
        let all = app.store.below(&entity.def, "upstream", &[id]).await?;
        let health = or_unchecked(known, &all).await;
        let data = balancer(id, &health, &all);
        return Ok(respond::ok(
            &json!({ "data": data, "next": null, "node_id": node }),
        ));
    }
    let (mut rows, next) = targets::window(call, entity, id).await?;
    let health = or_unchecked(known, &rows).await;
    for row in &mut rows {
        let (name, weight) = name_and_weight(row);
        let of = health.targets.get(&name);
        row.insert("health".into(), word(of).into());
        let data = of.map(|t| {
            let shown = |a: &AddressHealth| {
                json!({ "ip": a.ip, "port": a.port, "weight": a.weight, "health": a.health.as_str() })
            };
            target(&name, weight, t, shown)
        });
        row.extend(data.map(|d| ("data".to_owned(), d)));
    }
    let link = next
        .as_deref()
        .map(|offset| call.args.next(&format!("/{}", call.path), offset, true));
    let mut body = json!({ "data": rows, "next": link, "node_id": node });
    if let Some(offset) = next {
        body["offset"] = offset.into();
    }
    Ok(respond::ok(&body))
}

/// `PUT .../healthy`, `PUT .../unhealthy`
pub(super) async fn report(call: &Call<'_>, healthy: bool) -> Answer {
    let app = call.app;
    let (id, name) = upstream_of(call).await?;
    let entity = app.model.of(targets::TARGETS)?;
    let (_, row) = targets::one(app, entity, id, &call.segment(3)?).await?;
    let (target, _) = name_and_weight(&row);
    let address = match call.path.split('/').count() {
        6 => Some(call.segment(4)?),
        _ => None,
    };
    let report = HealthReport {
        upstream: id,
        upstream_name: &name,
        target: &target,
        address: address.as_deref(),
        healthy,
    };
    if call.args.dry_run()? {
        return Ok(respond::dry(respond::empty(StatusCode::NO_CONTENT)));
    }
    match app.status.report_health(&report) {
        Ok(()) => Ok(respond::empty(StatusCode::NO_CONTENT)),
        Err(why) => Err(ApiError::bad(&why)),
    }
}

async fn upstream_of(call: &Call<'_>) -> Result<(Uuid, String), ApiError> {
    let entity = call.app.model.of("upstreams")?;
    let key = RowKey::parse(entity, call.segment(1)?)?;
    let row = call.app.store.get(&entity.def, &key.store()).await?;
    let row = row.ok_or_else(ApiError::not_found)?;
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let id = uuid(text("id")).ok_or_else(ApiError::not_found)?;
    Ok((id, text("name").to_owned()))
}

/// What the balancer knows. What it does not know (yet: a row comes to it a moment after it was written) nobody has checked, and a target of an
/// upstream that is checked begins healthy.
async fn or_unchecked(
    known: Option<UpstreamHealth>,
    rows: &[Map<String, Value>],
) -> UpstreamHealth {
    let is_new = known.is_none();
    let mut health = known.unwrap_or(UpstreamHealth {
        healthy: false,
        checked: false,
        targets: BTreeMap::new(),
    });
    let until = Instant::now() + LOOK_UP;
    let all = rows.iter().map(name_and_weight);
    let missing = all.filter(|(name, _)| !health.targets.contains_key(name));
    let each = missing.map(|(name, weight)| async move {
        let health = unchecked(&name, weight, until).await;
        (name, health)
    });
    let found = join_all(each).await;
    for (name, mut target) in found {
        if health.checked {
            for a in target.addresses.iter_mut().filter(|a| a.weight > 0) {
                a.health = Health::Healthy;
            }
        }
        health.targets.insert(name, target);
    }
    if is_new {
        health.healthy = health.targets.values().any(|t| !t.addresses.is_empty());
    }
    health
}

async fn unchecked(name: &str, weight: u64, until: Instant) -> TargetHealth {
    let Some(parts) = split_host(name) else {
        return TargetHealth::of([]);
    };
    let port = parts.port.unwrap_or_default();
    let address = |ip| (SocketAddr::new(ip, port), weight, Health::Unchecked);
    let host = parts.host;
    if parts.kind != HostKind::Name {
        let bare = host.trim_matches(['[', ']']).parse();
        return TargetHealth::of(bare.map(address));
    }
    let look_up = async move {
        let found = tokio::net::lookup_host((host.as_str(), port)).await?;
        Ok::<_, io::Error>(found.map(|a| a.ip()).collect::<Vec<IpAddr>>())
    };
    let Some(Ok(ips)) = limited(&LOOK_UPS, until, look_up).await else {
        return TargetHealth::of([]);
    };
    let v4 = ips.iter().any(IpAddr::is_ipv4);
    let ips = ips.into_iter().filter(|ip| ip.is_ipv4() == v4);
    TargetHealth::of(ips.map(address))
}

/// Does something when one of few places is free, and waits for it no longer than that. It keeps its place until it ends, whether or not
/// somebody still waits.
async fn limited<T: Send + 'static>(
    places: &'static Semaphore,
    until: Instant,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let done = async {
        let place = places.acquire().await.ok()?;
        let work = async move {
            let done = work.await;
            drop(place);
            done
        };
        tokio::spawn(work).await.ok()
    };
    tokio::time::timeout_at(until, done).await.ok().flatten()
}

fn name_and_weight(row: &Map<String, Value>) -> (String, u64) {
    let name = row
        .get("target")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let weight = row
        .get("weight")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    (name.to_owned(), weight)
}

/// One healthy address makes a target healthy.
fn word(target: Option<&TargetHealth>) -> &'static str {
    let addresses = target.map_or(&[][..], |t| &t.addresses);
    let any = |health: Health| addresses.iter().any(|a| a.health == health);
    if addresses.is_empty() {
        "DNS_ERROR"
    } else if any(Health::Healthy) {
        Health::Healthy.as_str()
    } else if any(Health::Unhealthy) {
        Health::Unhealthy.as_str()
    } else {
        Health::Unchecked.as_str()
    }
}

fn weights<'a>(addresses: impl Iterator<Item = &'a AddressHealth>) -> Value {
    let (mut total, mut unavailable) = (0, 0);
    for a in addresses {
        total += a.weight;
        unavailable += if a.health == Health::Unhealthy {
            a.weight
        } else {
            0
        };
    }
    json!({ "total": total, "unavailable": unavailable, "available": total - unavailable })
}

fn target(
    name: &str,
    weight: u64,
    health: &TargetHealth,
    address: impl Fn(&AddressHealth) -> Value,
) -> Value {
    let (host, port) = name.rsplit_once(':').unwrap_or((name, ""));
    let addresses: Vec<Value> = health.addresses.iter().map(address).collect();
    // Lua's empty table: clients of Kong are prepared for an object here, and not all for an empty list.
    let addresses = if addresses.is_empty() {
        json!({})
    } else {
        addresses.into()
    };
    json!({
        "host": host,
        "port": port.parse::<u16>().ok(),
        "dns": health.dns,
        "nodeWeight": weight,
        "weight": weights(health.addresses.iter()),
        "addresses": addresses,
    })
}

fn balancer(id: Uuid, health: &UpstreamHealth, rows: &[Map<String, Value>]) -> Value {
    let word = if health.healthy {
        Health::Healthy
    } else {
        Health::Unhealthy
    }
    .as_str();
    let hosts: Vec<Value> = rows
        .iter()
        .filter_map(|row| {
            let (name, weight) = name_and_weight(row);
            let of = health.targets.get(&name)?;
            let shown = |a: &AddressHealth| {
                let healthy = a.health != Health::Unhealthy;
                json!({ "ip": a.ip, "port": a.port, "weight": a.weight, "healthy": healthy })
            };
            Some(target(&name, weight, of, shown))
        })
        .collect();
    let addresses = health.targets.values().flat_map(|t| &t.addresses);
    json!({
        "id": id.to_string(),
        "health": if health.checked { word } else { Health::Unchecked.as_str() },
        "balancer_health": word,
        "details": { "healthy": health.healthy, "weight": weights(addresses), "hosts": hosts },
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn with(all: &[Health]) -> TargetHealth {
        let address = |h: &Health| AddressHealth {
            ip: "10.0.0.1".into(),
            port: 80,
            weight: 10,
            health: *h,
        };
        TargetHealth {
            dns: "A".into(),
            addresses: all.iter().map(address).collect(),
        }
    }

    #[test]
    fn one_healthy_address_makes_a_target_healthy() {
        use Health::{Healthy, Unchecked, Unhealthy};
        assert_eq!(word(Some(&with(&[Unhealthy, Healthy]))), "HEALTHY");
        assert_eq!(word(Some(&with(&[Unhealthy, Unchecked]))), "UNHEALTHY");
        assert_eq!(word(Some(&with(&[Unchecked]))), "HEALTHCHECKS_OFF");
        assert_eq!(word(Some(&with(&[]))), "DNS_ERROR");
        assert_eq!(word(None), "DNS_ERROR");
    }

    #[test]
    fn unhealthy_addresses_are_unavailable_weight() {
        let t = with(&[Health::Unhealthy, Health::Healthy]);
        assert_eq!(
            weights(t.addresses.iter()),
            json!({ "total": 20, "unavailable": 10, "available": 10 })
        );
    }

    #[tokio::test]
    async fn a_target_that_the_balancer_does_not_know_yet_begins_as_its_upstream_is() {
        let row = |target: &str, weight: u64| {
            Map::from_iter([
                ("target".to_owned(), target.into()),
                ("weight".to_owned(), weight.into()),
            ])
        };
        let rows = [
            row("10.0.0.1:80", 100),
            row("10.0.0.2:80", 100),
            row("10.0.0.3:80", 0),
        ];
        for (checked, expected) in [(true, "HEALTHY"), (false, "HEALTHCHECKS_OFF")] {
            let known = UpstreamHealth {
                healthy: false,
                checked,
                targets: BTreeMap::from([("10.0.0.1:80".to_owned(), with(&[Health::Unhealthy]))]),
            };
            let health = or_unchecked(Some(known), &rows).await;
            let words = rows
                .each_ref()
                .map(|r| word(health.targets.get(&name_and_weight(r).0)));
            assert_eq!(words, ["UNHEALTHY", expected, "HEALTHCHECKS_OFF"]);
            assert!(!health.healthy, "the balancer's word");
        }
    }

    #[tokio::test]
    async fn addresses_need_no_look_up() {
        let name = "[0000:0000:0000:0000:0000:0000:0000:0001]:80";
        let t = unchecked(name, 7, Instant::now()).await;
        assert_eq!(t.dns, "AAAA");
        assert_eq!((t.addresses[0].port, t.addresses[0].weight), (80, 7));
        let full = "[0000:0000:0000:0000:0000:0000:0000:0001]";
        assert_eq!(t.addresses[0].ip, full);
    }

    #[tokio::test]
    async fn few_are_looked_up_at_once_even_when_nobody_waits_any_more() {
        static PLACES: Semaphore = Semaphore::const_new(3);
        let (began, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (go, gate) = tokio::sync::watch::channel(false);
        let work = || {
            let (began, ended, mut gate) = (began.clone(), ended.clone(), gate.clone());
            async move {
                began.fetch_add(1, Ordering::Relaxed);
                let opened = gate.wait_for(|open| *open).await.is_ok();
                ended.fetch_add(1, Ordering::Relaxed);
                opened
            }
        };
        // Two pages of many names, one after the other, which nobody answers for.
        for _ in 0..2 {
            let until = Instant::now() + Duration::from_millis(30);
            let all = (0..50).map(|_| limited(&PLACES, until, work()));
            assert_eq!(join_all(all).await, vec![None; 50]);
            assert_eq!(began.load(Ordering::Relaxed), 3);
        }
        assert_eq!(go.send(true), Ok(()));
        let later = Instant::now() + Duration::from_secs(60);
        let all = (0..50).map(|_| limited(&PLACES, later, work()));
        assert_eq!(join_all(all).await, vec![Some(true); 50]);
        assert_eq!(ended.load(Ordering::Relaxed), 53);
    }
}
