//! StatsD: what Kong measures of an exchange, the words of its metrics, and the way to a server.
//!
//! Learnt from `kong/plugins/statsd/log.lua`, `kong/plugins/statsd/statsd_logger.lua`, and the same of `kong/plugins/datadog`. A metric is a
//! line `<name>:<value>|<type>|@<rate>`. The rate is only said: every exchange is measured, as in Kong.

mod sender;

use std::fmt;

use serde::{Deserialize, Serialize};
use silverback_plugin::schema::EntityCheck;
use silverback_plugin::schema::field::{number, string};
use silverback_plugin::{Consumer, LogCtx};
use uuid::Uuid;

use crate::entry::Latencies;

pub use sender::StatsdSender;

/// A number that every exchange has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// One.
    RequestCount,
    /// Bytes of the request.
    RequestSize,
    /// Bytes of the response.
    ResponseSize,
    /// Milliseconds altogether.
    Latency,
    /// Milliseconds of waiting for the upstream.
    UpstreamLatency,
    /// Milliseconds until the upstream was turned to or the gateway answered.
    KongLatency,
}

impl Measure {
    /// Its part of a metric's name.
    pub fn stat(self) -> &'static str {
        match self {
            Measure::RequestCount => "request.count",
            Measure::RequestSize => "request.size",
            Measure::ResponseSize => "response.size",
            Measure::Latency => "latency",
            Measure::UpstreamLatency => "upstream_latency",
            Measure::KongLatency => "kong_latency",
        }
    }
}

/// What was measured of one exchange.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    request_size: u64,
    response_size: u64,
    latencies: Latencies,
}

impl Measured {
    /// Measures an exchange.
    pub fn of(ctx: &LogCtx<'_>) -> Self {
        Measured {
            request_size: ctx.source.request_size(),
            response_size: ctx.source.response_size(),
            latencies: Latencies::of(ctx.facts, ctx.ended),
        }
    }

    /// One of the numbers. [`Measure::UpstreamLatency`] is -1 when the upstream was not turned to.
    pub fn get(&self, what: Measure) -> i64 {
        let positive = match what {
            Measure::RequestCount => 1,
            Measure::RequestSize => self.request_size,
            Measure::ResponseSize => self.response_size,
            Measure::Latency => self.latencies.request,
            Measure::UpstreamLatency => return self.latencies.proxy,
            Measure::KongLatency => self.latencies.kong,
        };
        i64::try_from(positive).unwrap_or(i64::MAX)
    }
}

/// What a server makes of a metric's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StatType {
    /// Adds them up.
    Counter,
    /// Keeps the last.
    Gauge,
    /// How they are spread.
    Histogram,
    /// How many there are in a time.
    Meter,
    /// How many different ones there are.
    Set,
    /// How they are spread, in milliseconds.
    Timer,
    /// How they are spread over all servers; Datadog's.
    Distribution,
}

impl StatType {
    /// What stands behind a value: the type, and the rate unless it is 1.
    pub fn suffix(self, sample_rate: Option<f64>) -> String {
        let code = match self {
            StatType::Counter => "c",
            StatType::Gauge => "g",
            StatType::Histogram => "h",
            StatType::Meter => "m",
            StatType::Set => "s",
            StatType::Timer => "ms",
            StatType::Distribution => "d",
        };
        match sample_rate {
            Some(rate) if rate != 1.0 => format!("|{code}|@{rate}"),
            _ => format!("|{code}"),
        }
    }
}

/// The check of a metric's configuration: counters and gauges say their rate.
pub fn rate_needed() -> EntityCheck {
    EntityCheck::Conditional {
        if_field: "stat_type",
        if_match: Box::new(string().one_of(["counter", "gauge"])),
        then_field: "sample_rate",
        then_match: Box::new(number().required()),
        then_err: None,
    }
}

/// What of a consumer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsumerIdentifier {
    /// Its primary key.
    ConsumerId,
    /// Its id in the user's own system.
    CustomId,
    /// Its name.
    Username,
}

impl ConsumerIdentifier {
    /// The names in configurations.
    pub const NAMES: [&str; 3] = ["consumer_id", "custom_id", "username"];

    /// That of a consumer, which may have none.
    pub fn of(self, consumer: &Consumer) -> Option<Identity<'_>> {
        match self {
            ConsumerIdentifier::ConsumerId => Some(Identity::Id(consumer.id)),
            ConsumerIdentifier::CustomId => consumer.custom_id.as_deref().map(Identity::Text),
            ConsumerIdentifier::Username => consumer.username.as_deref().map(Identity::Text),
        }
    }
}

/// What stands for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity<'a> {
    /// Its primary key.
    Id(Uuid),
    /// One of its fields.
    Text(&'a str),
}

impl fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Id(id) => id.fmt(f),
            Identity::Text(text) => f.write_str(text),
        }
    }
}

/// A text with another character in the place of one that would mean something in a metric's name.
#[derive(Debug, Clone, Copy)]
pub struct Replaced<'a>(pub &'a str, pub char, pub char);

impl fmt::Display for Replaced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Replaced(text, from, to) = *self;
        for (n, part) in text.split(from).enumerate() {
            if n > 0 {
                fmt::Write::write_char(f, to)?;
            }
            f.write_str(part)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
