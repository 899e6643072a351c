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

/// A route and a service, nil where the configuration is on none. As in Kong configurations on the same ones count together, those of
/// different consumers too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    route: Uuid,
    service: Uuid,
}

impl Place {
    pub(crate) fn of(instance: &InstanceInfo) -> Self {
        Place {
            route: instance.route.unwrap_or_default(),
            service: instance.service.unwrap_or_default(),
        }
    }

    /// Kong's name of a counter (`get_local_key` in `kong/plugins/rate-limiting/policies/init.lua`), so that nodes of both can share a Redis.
    pub(crate) fn name(&self, who: Identifier<'_>, start: i64, period: Period) -> String {
        format!(
            "ratelimit:{}:{}:{who}:{}:{}",
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
    place: u32,
    kind: u8,
    pub(crate) period: Period,
}

/// Makes keys. One per node.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    places: Mutex<HashMap<Place, u32>>,
    seeds: (RandomState, RandomState),
}

impl Keys {
    /// A number for a place; the same as long as the node runs. Takes a lock: for `compile`.
    pub(crate) fn place(&self, place: Place) -> u32 {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        // Four billion places do not fit into memory.
        let next = u32::try_from(places.len()).unwrap_or(u32::MAX);
        *places.entry(place).or_insert(next)
    }

    pub(crate) fn key(&self, place: u32, who: Identifier<'_>, period: Period) -> Key {
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
            place,
            kind,
            period,
        }
    }
}
