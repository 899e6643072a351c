//! What the API tells about the node and only the node knows: [`StatusSource`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

/// Connections of the proxy's listeners, as nginx counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// Accepted since the start.
    pub accepted: u64,
    /// Handled since the start; as many as accepted unless a limit was met.
    pub handled: u64,
    /// Open now, those that wait included.
    pub active: u64,
    /// Whose request is being read.
    pub reading: u64,
    /// Whose response is being written.
    pub writing: u64,
    /// Idle, kept for another request.
    pub waiting: u64,
    /// Requests since the start.
    pub total_requests: u64,
}

/// A process that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// Its process id.
    pub pid: u32,
    /// Memory it uses, in bytes.
    pub memory: u64,
}

/// Work beside requests; what Kong does in timers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timers {
    /// Begun: being done, or waiting for its time or for something to happen.
    pub running: u64,
    /// Waiting for a thread.
    pub pending: u64,
}

/// What is known of an address or a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Healthy,
    /// It gets no requests.
    Unhealthy,
    /// Nobody checks it.
    Unchecked,
}

impl Health {
    /// Kong's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Healthy => "HEALTHY",
            Health::Unhealthy => "UNHEALTHY",
            Health::Unchecked => "HEALTHCHECKS_OFF",
        }
    }
}

/// An address that a target stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressHealth {
    /// The address; IPv6 in brackets.
    pub ip: String,
    /// The port.
    pub port: u16,
    /// Its part of the requests.
    pub weight: u64,
    /// What is known of it.
    pub health: Health,
}

/// A target as the balancer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetHealth {
    /// Where its addresses come from (`A`, `AAAA`, `SRV`), or why there are none.
    pub dns: String,
    /// Its addresses; none when its name cannot be resolved.
    pub addresses: Vec<AddressHealth>,
}

impl TargetHealth {
    /// Of a target that stands for these addresses, each with its weight; none when its name cannot be resolved.
    pub fn of(addresses: impl IntoIterator<Item = (SocketAddr, u64, Health)>) -> Self {
        let mut dns = "dns server error: 3 name error";
        let addresses = addresses.into_iter();
        let addresses = addresses
            .map(|(addr, weight, health)| {
                dns = if addr.is_ipv4() { "A" } else { "AAAA" };
                AddressHealth {
                    ip: shown_ip(addr.ip()),
                    port: addr.port(),
                    weight,
                    health,
                }
            })
            .collect();
        TargetHealth {
            dns: dns.to_owned(),
            addresses,
        }
    }
}

/// An address as Kong shows it.
fn shown_ip(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{}]", ip.segments().map(|g| format!("{g:04x}")).join(":")),
    }
}

/// An upstream as the balancer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamHealth {
    /// Whether enough of it is healthy to send requests there.
    pub healthy: bool,
    /// Whether anybody checks.
    pub checked: bool,
    /// By the target's `host:port`.
    pub targets: BTreeMap<String, TargetHealth>,
}

/// An operator's word on the health of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthReport<'a> {
    /// The upstream's id.
    pub upstream: Uuid,
    /// The upstream's name.
    pub upstream_name: &'a str,
    /// The target's `host:port`.
    pub target: &'a str,
    /// Only this address of it, with or without a port.
    pub address: Option<&'a str>,
    /// What it is said to be.
    pub healthy: bool,
}

/// The node as the Admin API sees it. Every answer has a value for "not known", so that an implementation says what it can. Methods are
/// called for each request that asks and must not block.
pub trait StatusSource: Send + Sync + 'static {
    /// For `server` of `GET /status`.
    fn connections(&self) -> Connections {
        Connections::default()
    }

    /// For `memory.workers_lua_vms` of `GET /status` and `pids` of `GET /`.
    fn workers(&self) -> Vec<Worker> {
        vec![Worker {
            pid: std::process::id(),
            memory: resident_memory().unwrap_or_default(),
        }]
    }

    /// For `timers` of `GET /` and for `GET /timers`.
    fn timers(&self) -> Timers {
        Timers::default()
    }

    /// For `GET /upstreams/{upstream}/health`; `None` when the node's balancer does not know the upstream, and then its targets are
    /// shown as unchecked.
    fn upstream_health(&self, _upstream: Uuid) -> Option<UpstreamHealth> {
        None
    }

    /// For `PUT /upstreams/{upstream}/targets/{target}/healthy` and its like. A refusal says why, for the client.
    ///
    /// # Errors
    /// When there is nobody who could act on it.
    fn report_health(&self, report: &HealthReport<'_>) -> Result<(), String> {
        Err(format!(
            "no healthchecker found for {}",
            report.upstream_name
        ))
    }

    /// For `GET /debug/node/log-level`: the level of the error log, in Kong's words; `None` when the log is not the node's own.
    fn log_level(&self) -> Option<&'static str> {
        None
    }

    /// For `PUT /debug/node/log-level/{level}`: changes the level of the error log, and back to the configured one after a time.
    ///
    /// # Errors
    /// Why it stays, for the client.
    fn set_log_level(&self, _level: &str, _timeout: Duration) -> Result<(), String> {
        Err("the log is not the node's own".into())
    }

    /// For `GET /metrics`: Prometheus' text format; `None` when there are none.
    fn metrics(&self) -> Option<String> {
        None
    }

    /// For `GET /status/dns`: counters of name resolution, as a JSON object; `None` when there are none.
    fn dns(&self) -> Option<Value> {
        None
    }

    /// For `DELETE /cache`: the node forgets what it knows of the configuration and reads it anew, when it can.
    fn read_anew(&self) {}

    /// For `GET /retry-budgets`: the gauges of each budget, as JSON objects.
    fn retry_budgets(&self) -> Vec<Value> {
        Vec::new()
    }
}

/// A source that knows only what the process says of itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessOnly;

impl StatusSource for ProcessOnly {}

/// Resident memory of this process in bytes, where Linux tells.
fn resident_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_memory() {
        let workers = ProcessOnly.workers();
        assert_eq!(workers[0].pid, std::process::id());
        assert!(workers[0].memory > 1024 * 1024);
    }
}
