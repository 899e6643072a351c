//! `/`, `/status`, `/endpoints`, `/plugins/enabled`, `/timers`, `/cache` and the like: about the node
//! (`kong/api/routes/kong.lua`, `health.lua`, `plugins.lua`, `cache.lua`, `clustering.lua`, `dns.lua`).

use std::collections::BTreeSet;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use silverback_store::ListQuery;
use uuid::Uuid;

use crate::app::App;
use crate::crud::Call;
use crate::errors::{Answer, ApiError};
use crate::model::PLUGINS;
use crate::paging::{Args, number};
use crate::{respond, texts};

/// The version of Kong whose API this is; clients decide by it what they may ask.
pub const KONG_VERSION: &str = "3.9.1";

/// Longest time to ask the database whether it is there.
const PING: Duration = Duration::from_secs(2);

/// What the gateway says about itself once and for all.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// The node's id.
    pub node_id: Uuid,
    /// The machine's name.
    pub hostname: String,
    /// The gateway's own version.
    pub version: String,
    /// The settings as `GET /` shows them: a JSON object, secrets hidden.
    pub configuration: Value,
}

/// `GET /`
pub(crate) async fn root(call: &Call<'_>) -> Answer {
    let app = call.app;
    let enabled = configured_plugins(app).await?;
    let available: Map<String, Value> = app
        .model
        .plugins()
        .map(|p| {
            let shown = json!({ "version": p.plugin.version, "priority": p.plugin.priority });
            (p.plugin.name.to_owned(), shown)
        })
        .collect();
    let timers = app.status.timers();
    let workers: Vec<u32> = app.status.workers().iter().map(|w| w.pid).collect();
    Ok(respond::ok(&json!({
        "tagline": "Welcome to silverback",
        "version": KONG_VERSION,
        "silverback_version": app.node.version,
        "edition": "community",
        "hostname": app.node.hostname,
        "node_id": app.node.node_id.to_string(),
        "lua_version": "none",
        "timers": { "running": timers.running, "pending": timers.pending },
        "pids": { "master": std::process::id(), "workers": workers },
        "plugins": { "available_on_server": available, "enabled_in_cluster": enabled },
        "configuration": app.node.configuration,
    })))
}

/// `GET /status`
pub(crate) async fn status(call: &Call<'_>) -> Answer {
    let app = call.app;
    let unit = Unit::of(&call.args)?;
    let c = app.status.connections();
    let workers: Vec<Value> = app
        .status
        .workers()
        .iter()
        .map(|w| json!({ "pid": w.pid, "http_allocated_gc": unit.text(w.memory) }))
        .collect();
    let reachable = matches!(
        tokio::time::timeout(PING, app.store.ping()).await,
        Ok(Ok(_))
    );
    let mut out = json!({
        "memory": { "workers_lua_vms": workers, "lua_shared_dicts": {} },
        "server": {
            "connections_accepted": c.accepted,
            "connections_active": c.active,
            "connections_handled": c.handled,
            "connections_reading": c.reading,
            "connections_waiting": c.waiting,
            "connections_writing": c.writing,
            "total_requests": c.total_requests,
        },
        "database": { "reachable": reachable },
    });
    if let Some(hash) = app.store.configuration_hash() {
        out["configuration_hash"] = hash.into();
    }
    Ok(respond::ok(&out))
}

/// `GET /endpoints`
pub(crate) fn endpoints(call: &Call<'_>) -> Answer {
    let paths: Vec<&str> = call.app.endpoints.iter().map(|e| e.path.as_str()).collect();
    Ok(respond::ok(&json!({ "data": paths })))
}

/// `GET /plugins/enabled`
pub(crate) fn enabled_plugins(call: &Call<'_>) -> Answer {
    let names: BTreeSet<&str> = call.app.model.plugins().map(|p| p.plugin.name).collect();
    Ok(respond::ok(&json!({ "enabled_plugins": names })))
}

/// `GET /retry-budgets`
pub(crate) fn retry_budgets(call: &Call<'_>) -> Answer {
    Ok(respond::ok(
        &json!({ "data": call.app.status.retry_budgets(), "next": null }),
    ))
}

/// `GET /timers`. The tasks are those of the node's background work; they have no names.
pub(crate) fn timers(call: &Call<'_>) -> Answer {
    let app = call.app;
    let t = app.status.timers();
    Ok(respond::ok(&json!({
        "worker": { "id": 0, "count": app.status.workers().len() },
        "stats": {
            "flamegraph": { "running": "", "elapsed_time": "", "pending": "" },
            "sys": { "total": t.running + t.pending, "running": t.running, "pending": t.pending },
            "timers": {},
        },
    })))
}

/// `GET /status/dns`
pub(crate) fn dns(call: &Call<'_>) -> Answer {
    let app = call.app;
    let stats = app
        .status
        .dns()
        .ok_or_else(|| ApiError::message(StatusCode::NOT_IMPLEMENTED, texts::NO_DNS))?;
    Ok(respond::ok(&json!({
        "worker": { "id": 0, "count": app.status.workers().len() },
        "stats": stats,
    })))
}

/// `GET /metrics`
pub(crate) fn metrics(call: &Call<'_>) -> Answer {
    let text = call.app.status.metrics().ok_or_else(ApiError::not_found)?;
    Ok(respond::text(StatusCode::OK, text))
}

/// `DELETE /cache`. What Kong caches a node here has in full; thrown away, it is read anew.
pub(crate) fn forget(call: &Call<'_>) -> Answer {
    call.app.status.read_anew();
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// `/cache/{key}`: nothing is kept under keys, so that there is nothing to find and nothing to forget.
pub(crate) fn cached(call: &Call<'_>) -> Answer {
    match *call.method {
        Method::DELETE => Ok(respond::empty(StatusCode::NO_CONTENT)),
        _ => Err(ApiError::not_found()),
    }
}

/// `/clustering/...`: data planes read the database themselves and do not connect to control planes, which know none of them.
pub(crate) fn clustering(call: &Call<'_>) -> Answer {
    let control_plane = call.app.node.configuration["role"] == "control_plane";
    Err(ApiError::bad(if control_plane {
        texts::DATA_PLANES_UNKNOWN
    } else {
        texts::NOT_A_CONTROL_PLANE
    }))
}

/// The names of plugins that some row configures.
async fn configured_plugins(app: &App) -> Result<BTreeSet<String>, ApiError> {
    let mut names = BTreeSet::new();
    let Some(plugins) = app.model.get(PLUGINS) else {
        return Ok(names);
    };
    let mut query = ListQuery {
        size: 1000,
        ..ListQuery::default()
    };
    loop {
        let page = app.store.list(&plugins.def, &query).await?;
        for row in &page.rows {
            if let Some(name) = row
                .get("name")
                .and_then(Value::as_str)
                .filter(|n| !names.contains(*n))
            {
                names.insert(name.to_owned());
            }
        }
        query.offset = page.next;
        if query.offset.is_none() {
            return Ok(names);
        }
    }
}

/// How bytes are written: `?unit=` and `?scale=` (`bytes_to_str` in `kong/tools/string.lua`).
#[derive(Debug, PartialEq)]
struct Unit {
    /// Name and size; none: plain bytes.
    unit: Option<(&'static str, f64)>,
    /// Digits behind the point.
    scale: usize,
}

impl Unit {
    fn of(args: &Args<'_>) -> Result<Self, ApiError> {
        let name = args.get("unit").unwrap_or("m");
        let unit = match name {
            "" | "b" | "B" => {
                return Ok(Unit {
                    unit: None,
                    scale: 0,
                });
            }
            "k" | "K" => ("KiB", 1024.0),
            "m" | "M" => ("MiB", 1024.0 * 1024.0),
            "g" | "G" => ("GiB", 1024.0 * 1024.0 * 1024.0),
            _ => {
                return Err(ApiError::bad(&format!(
                    "invalid unit '{name}' (expected 'k/K', 'm/M', or 'g/G')"
                )));
            }
        };
        let scale = match args.get("scale").and_then(number) {
            None => 2,
            Some(n) if (0.0..=99.0).contains(&n) => n as usize,
            Some(_) => return Err(ApiError::bad("scale must be equal or greater than 0")),
        };
        Ok(Unit {
            unit: Some(unit),
            scale,
        })
    }

    fn text(&self, bytes: u64) -> String {
        match self.unit {
            None => bytes.to_string(),
            Some((name, size)) => format!("{:.*} {name}", self.scale, bytes as f64 / size),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn text(query: &str, bytes: u64) -> String {
        Unit::of(&Args::parse(Some(query))).unwrap().text(bytes)
    }

    #[test]
    fn memory_is_written_in_the_unit_asked_for() {
        assert_eq!(text("", 5_497_558), "5.24 MiB");
        assert_eq!(text("unit=b", 5_497_558), "5497558");
        assert_eq!(text("unit=G&scale=3", 5_497_558), "0.005 GiB");
        assert_eq!(text("unit=k&scale=0", 2048), "2 KiB");
        assert_eq!(text("scale=x", 1_048_576), "1.00 MiB");
    }

    #[test]
    fn unknown_units_are_refused() {
        for bad in ["unit=x", "scale=-1", "scale=1000"] {
            assert!(Unit::of(&Args::parse(Some(bad))).is_err(), "{bad}");
        }
    }
}
