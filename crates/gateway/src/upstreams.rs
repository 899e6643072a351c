//! The health of upstreams' targets, as the Admin API shows and sets it, and as nodes tell each other what an operator said.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use silverback_admin::{Health, HealthReport, TargetHealth, UpstreamHealth};
use silverback_balancer::{Health as Known, TargetState};
use silverback_runtime::Current;
use silverback_store::Store;
use silverback_telemetry::Family;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use uuid::Uuid;

/// The topic of the announcement.
const TOPIC: &str = "upstream-health";

/// What a node tells the others when an operator says that a target is healthy or unhealthy. Each of them sets it for itself.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    /// Who tells: it did it before, and may have heard something newer since.
    node: Uuid,
    upstream: Uuid,
    target: String,
    address: Option<String>,
    healthy: bool,
}

/// The upstreams in force.
#[derive(Clone)]
pub(crate) struct Upstreams {
    node: Uuid,
    current: Current,
    /// To the other nodes, in the order in which it was said.
    tell: mpsc::UnboundedSender<Said>,
}

impl Upstreams {
    /// Those of the configuration in force. What an operator says to this node is told over the store.
    pub(crate) fn new(node: Uuid, current: Current, store: Store, background: &Handle) -> Self {
        let (tell, mut said) = mpsc::unbounded_channel::<Said>();
        background.spawn(async move {
            while let Some(said) = said.recv().await {
                let text = serde_json::json!(said).to_string();
                if let Err(e) = store.announce(TOPIC, &text).await {
                    tracing::error!("the other nodes do not hear of a target's health: {e}");
                }
            }
        });
        Upstreams {
            node,
            current,
            tell,
        }
    }

    /// What is known of the targets of one; `None` of an upstream that is not there, or whose names nobody needed so far.
    pub(crate) fn health(&self, upstream: Uuid) -> Option<UpstreamHealth> {
        let known = self.current.load().upstreams.get(&upstream)?.health();
        known.is_resolved.then(|| shown(&known))
    }

    /// Sets the health of a target here, and tells the other nodes.
    ///
    /// # Errors
    /// When nobody checks the upstream, or it has no such target.
    pub(crate) fn report(&self, report: &HealthReport<'_>) -> Result<(), String> {
        let said = Said {
            node: self.node,
            upstream: report.upstream,
            target: report.target.to_owned(),
            address: report.address.map(str::to_owned),
            healthy: report.healthy,
        };
        self.set(&said)
            .unwrap_or_else(|| Err(format!("Upstream {} has no balancer", report.upstream_name)))?;
        // The task that tells ends with the node.
        let _ = self.tell.send(said);
        Ok(())
    }

    /// Does what another node told. Whether the announcement was about that.
    pub(crate) fn hear(&self, topic: &str, text: &str) -> bool {
        if topic != TOPIC {
            return false;
        }
        let told: Result<Said, String> = serde_json::from_str(text).map_err(|e| e.to_string());
        // An upstream that this node does not know yet will be new and healthy when it does.
        let done = told.and_then(|said| match said.node == self.node {
            true => Ok(()),
            false => self.set(&said).unwrap_or(Ok(())),
        });
        if let Err(e) = done {
            tracing::warn!("a target's health stays: {e}");
        }
        true
    }

    /// `kong_upstream_target_health`, where a plugin's configuration wants it shown (`kong/plugins/prometheus/exporter.lua`).
    pub(crate) fn metrics(&self) -> Option<Family> {
        let snapshot = self.current.load();
        if !snapshot.upstream_health {
            return None;
        }
        let mut rows = Vec::new();
        for balancer in snapshot.upstreams.values() {
            let known = balancer.health();
            for (name, target) in shown(&known).targets {
                if target.addresses.is_empty() {
                    let row = (name.clone(), String::new(), "dns_error");
                    rows.push((balancer.name().to_owned(), row));
                }
                for a in target.addresses {
                    let state = match a.health {
                        Health::Healthy => "healthy",
                        Health::Unhealthy => "unhealthy",
                        Health::Unchecked => "healthchecks_off",
                    };
                    let address = format!("{}:{}", a.ip, a.port);
                    rows.push((balancer.name().to_owned(), (name.clone(), address, state)));
                }
            }
        }
        rows.sort_unstable();
        let rows = rows.iter();
        Some(Family::upstream_target_health(rows.map(
            |(upstream, (target, address, state))| {
                (upstream.as_str(), target.as_str(), address.as_str(), *state)
            },
        )))
    }

    fn set(&self, said: &Said) -> Option<Result<(), String>> {
        let snapshot = self.current.load();
        let balancer = snapshot.upstreams.get(&said.upstream)?;
        Some(balancer.set_health(&said.target, said.address.as_deref(), said.healthy))
    }
}

fn shown(known: &Known) -> UpstreamHealth {
    let target = |t: &TargetState| (t.target.clone(), target(t, known.checked));
    UpstreamHealth {
        healthy: known.healthy,
        checked: known.checked,
        targets: known.targets.iter().map(target).collect::<BTreeMap<_, _>>(),
    }
}

fn target(state: &TargetState, checked: bool) -> TargetHealth {
    TargetHealth::of(state.addresses.iter().map(|(addr, weight, available)| {
        let health = match (checked && *weight > 0, available) {
            (false, _) => Health::Unchecked,
            (true, true) => Health::Healthy,
            (true, false) => Health::Unhealthy,
        };
        (*addr, u64::from(*weight), health)
    }))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn what_nobody_checks_and_what_gets_nothing_has_no_health() {
        let state = |weight| TargetState {
            target: "10.0.0.1:80".into(),
            addresses: vec![(SocketAddr::from(([10, 0, 0, 1], 80)), weight, false)],
        };
        let health = |weight, checked| target(&state(weight), checked).addresses[0].health;
        assert_eq!(health(100, true), Health::Unhealthy);
        assert_eq!(health(100, false), Health::Unchecked);
        assert_eq!(health(0, true), Health::Unchecked);
    }

    #[test]
    fn a_name_that_stands_for_nothing_says_so() {
        let mut state = TargetState {
            target: "a.test:80".into(),
            addresses: Vec::new(),
        };
        assert_eq!(target(&state, true).dns, "dns server error: 3 name error");
        let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 80));
        state.addresses.push((v6, 1, true));
        let shown = target(&state, true);
        let full = "[0000:0000:0000:0000:0000:0000:0000:0001]";
        assert_eq!(
            (shown.dns.as_str(), shown.addresses[0].ip.as_str()),
            ("AAAA", full)
        );
    }
}
