//! `/debug/...`: the level of the error log (`kong/api/routes/debug.lua`).

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::crud::Call;
use crate::errors::{Answer, ApiError};
use crate::paging::number;
use crate::{respond, texts};

/// The topic under which nodes tell each other of another level.
const TOPIC: &str = "log_level";
/// Kong's levels.
const LEVELS: [&str; 8] = [
    "debug", "info", "notice", "warn", "error", "crit", "alert", "emerg",
];
/// How long a level stays when the request does not say it.
const STAYS: f64 = 60.0;
/// Longest time for a level to stay: some 30 years.
const LONGEST: f64 = 1e9;

/// What a node tells the others with `PUT /debug/cluster/log-level/{level}`: the text of an announcement in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterLogLevel {
    /// The node that was asked; it has its new level already.
    pub node: Uuid,
    /// The level, in Kong's words.
    pub level: String,
    /// Seconds until it is the configured one again.
    pub timeout: u64,
}

impl ClusterLogLevel {
    /// From an announcement; `None` when it is about something else.
    pub fn heard(topic: &str, text: &str) -> Option<Self> {
        (topic == TOPIC)
            .then(|| serde_json::from_str(text).ok())
            .flatten()
    }
}

/// `GET /debug/node/log-level`
pub(crate) fn level(call: &Call<'_>) -> Answer {
    Ok(said(&format!("log level: {}", current(call)?)))
}

/// `PUT /debug/node/log-level/{level}` and `PUT /debug/cluster/log-level/{level}`
pub(crate) async fn set_level(call: &Call<'_>, everywhere: bool) -> Answer {
    let app = call.app;
    if app.node.configuration["database"] == "off" {
        return Err(ApiError::message(
            StatusCode::METHOD_NOT_ALLOWED,
            texts::LEVEL_WITHOUT_DATABASE,
        ));
    }
    let level = call.segment(3)?;
    let timeout = timeout(call.args.get("timeout"));
    if !LEVELS.contains(&level.as_str()) {
        return Err(ApiError::bad(&format!("unknown log level: {level}")));
    }
    let timeout = timeout?;
    if current(call)? == level {
        return Ok(said(&format!("log level is already {level}")));
    }
    app.status
        .set_log_level(&level, Duration::from_secs(timeout))
        .map_err(|why| failed(&format!("failed setting log level: {why}")))?;
    if everywhere {
        let told = ClusterLogLevel {
            node: app.node.node_id,
            level,
            timeout,
        };
        app.store.announce(TOPIC, &json!(told).to_string()).await?;
    }
    Ok(said("log level changed"))
}

fn current(call: &Call<'_>) -> Result<&'static str, ApiError> {
    let level = call.app.status.log_level();
    level.ok_or_else(|| failed("unknown log level: the log is not the node's own"))
}

fn failed(text: &str) -> ApiError {
    ApiError::message(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// Whole seconds; a text that is no number counts as not said.
fn timeout(text: Option<&str>) -> Result<u64, ApiError> {
    let seconds = text.and_then(number).unwrap_or(STAYS).ceil();
    if seconds < 0.0 {
        return Err(ApiError::bad("timeout must be greater than or equal to 0"));
    }
    // Between the bounds and whole.
    Ok(seconds.min(LONGEST) as u64)
}

fn said(text: &str) -> axum::response::Response {
    respond::ok(&json!({ "message": text }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_rounded_up_and_defaults_to_a_minute() {
        for (text, seconds) in [
            (None, 60),
            (Some("x"), 60),
            (Some("1.2"), 2),
            (Some("0"), 0),
            (Some("-0.5"), 0),
            (Some("1e300"), 1_000_000_000),
        ] {
            assert_eq!(timeout(text).unwrap(), seconds, "{text:?}");
        }
        assert!(timeout(Some("-1")).is_err());
    }

    #[test]
    fn only_announcements_of_levels_are_heard() {
        let told = ClusterLogLevel {
            node: Uuid::from_u128(1),
            level: "debug".into(),
            timeout: 5,
        };
        let text = json!(told).to_string();
        assert_eq!(ClusterLogLevel::heard(TOPIC, &text), Some(told));
        assert_eq!(ClusterLogLevel::heard("other", &text), None);
        assert_eq!(ClusterLogLevel::heard(TOPIC, "{}"), None);
    }
}
