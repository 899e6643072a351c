//! What is counted: a caller, at a place in the configuration, per period.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use foldhash::quality::RandomState;
use silverback_plugin::InstanceInfo;
use uuid::Uuid;

use crate::identity::Identifier;
use crate::window::Period;

/// What counts together: a route and a service, nil where the configuration is on none, and a name where there are several limits. As in
/// Kong configurations on the same ones count together, those of different consumers too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Series {
    kind: &'static str,
    route: Uuid,
    service: Uuid,
    name: Option<Box<str>>,
}

impl Series {
    /// The one of a configuration. `kind` tells plugins apart and is how Kong's names of counters begin.
    pub fn new(kind: &'static str, instance: &InstanceInfo) -> Self {
        Series {
            kind,
            route: instance.route.unwrap_or_default(),
            service: instance.service.unwrap_or_default(),
            name: None,
        }
    }

    /// One of several of the same configuration.
    pub fn named(self, name: &str) -> Self {
        Series {
            name: Some(name.into()),
            ..self
        }
    }

    /// Kong's name of a counter (`get_local_key` in the `policies/init.lua` of its plugins), so that nodes of both can share a Redis.
    pub(crate) fn name(&self, who: Identifier<'_>, start: i64, period: Period) -> String {
        let (name, colon) = match &self.name {
            Some(name) => (&**name, ":"),
            None => ("", ""),
        };
        format!(
            "{}:{}:{}:{who}:{}:{name}{colon}{}",
            self.kind,
            self.route,
            self.service,
            start * 1000,
            period.name()
        )
    }
}

/// What is counted, in 32 bytes. Addresses and ids are exact; texts stand as 128 bits of a hash that nobody outside can foresee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    who: u128,
    series: u32,
    kind: u8,
    pub(crate) period: Period,
}

/// Makes keys. One per node.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    series: Mutex<HashMap<Series, u32>>,
    seeds: (RandomState, RandomState),
}

impl Keys {
    /// A number for a series; the same as long as the node runs. Takes a lock: for `compile`.
    pub(crate) fn number(&self, series: &Series) -> u32 {
        let mut known = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        // Four billion series do not fit into memory.
        let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
        *known.entry(series.clone()).or_insert(next)
    }

    pub(crate) fn key(&self, series: u32, who: Identifier<'_>, period: Period) -> Key {
        let (kind, who) = match who {
            Identifier::Id(id) => (0, id.as_u128()),
            Identifier::Ip(IpAddr::V4(ip)) => (1, u128::from(ip.to_bits())),
            Identifier::Ip(IpAddr::V6(ip)) => (2, ip.to_bits()),
            Identifier::Text(text) => {
                let (high, low) = (self.seeds.0.hash_one(text), self.seeds.1.hash_one(text));
                (3, u128::from(high) << 64 | u128::from(low))
            }
        };
        Key {
            who,
            series,
            kind,
            period,
        }
    }
}
