//! What the plugin is told.

use std::collections::BTreeMap;

use serde_json::Value;
use silverback_limits::{Period, Redis, out_of_order, redis_needed};
use silverback_plugin::schema::field::{boolean, map, number, record_with, string};
use silverback_plugin::schema::typedefs::redis;
use silverback_plugin::schema::{EntityCheck, record};

record! {
    /// Settings of `response-ratelimiting`.
    pub struct Config {
        /// The header in which the upstream says what a response costs: `video=1, img=2`.
        pub header_name: Option<String> = string().default("x-kong-limit"),
        /// Whose use is counted together. What cannot be told, such as a consumer where nobody authenticates, is counted by address.
        pub limit_by: Option<String> = string().default("consumer").one_of(["consumer", "credential", "ip"]),
        /// Where to count: on each node for itself (`local`), for all nodes in Redis (`redis`), for all nodes in the database (`cluster`).
        pub policy: Option<String> = string().default("local").one_of(["local", "cluster", "redis"]),
        /// Let requests pass when Redis or the database is out of reach; otherwise they are answered with status 500.
        pub fault_tolerant: bool = boolean().required().default(true),
        /// The Redis server.
        pub redis: Redis = redis(),
        /// Answer requests without asking the upstream as soon as one limit is used up, whatever the response would cost.
        pub block_on_first_violation: bool = boolean().required().default(false),
        /// Do not tell clients the limits of each window.
        pub hide_client_headers: bool = boolean().required().default(false),
        /// The limits by name; the upstream says the names.
        pub limits: BTreeMap<String, Limits> = map(string(), limits()).required().len_min(1),
    }
}

record! {
    /// How much may be used of one name.
    pub struct Limits {
        /// So much per second.
        pub second: Option<f64> = number().gt(0.0),
        /// So much per minute.
        pub minute: Option<f64> = number().gt(0.0),
        /// So much per hour.
        pub hour: Option<f64> = number().gt(0.0),
        /// So much per day.
        pub day: Option<f64> = number().gt(0.0),
        /// So much per month.
        pub month: Option<f64> = number().gt(0.0),
        /// So much per year.
        pub year: Option<f64> = number().gt(0.0),
    }
}

impl Limits {
    /// Those that there are.
    pub(crate) fn periods(&self) -> impl Iterator<Item = (Period, f64)> {
        let limits = [
            self.second,
            self.minute,
            self.hour,
            self.day,
            self.month,
            self.year,
        ];
        let periods = Period::ALL.into_iter().zip(limits);
        periods.filter_map(|(period, limit)| Some((period, limit?)))
    }
}

pub(crate) fn checks() -> Vec<EntityCheck> {
    redis_needed(|| string().eq("redis").len_min(1), string().required())
}

fn limits() -> silverback_plugin::schema::Field {
    let periods = Period::ALL.map(Period::name).to_vec();
    record_with::<Limits>(vec![EntityCheck::AtLeastOneOf(periods)])
        .required()
        .check(in_order)
}

/// Longer periods may not have lower limits.
fn in_order(limits: &Value) -> Result<(), String> {
    match out_of_order(|period| limits.get(period.name())?.as_f64()) {
        Some(wrong) => Err(format!("the {wrong}")),
        None => Ok(()),
    }
}
