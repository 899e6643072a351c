//! Counters per caller and window of time, for plugins that limit.
//!
//! A [`Meter`] is what one configuration counts with: its limits, and where they are counted, which is its [`Policy`]. A plugin that can tell
//! beforehand what a request costs takes it ([`Meter::take`]): all limits are charged with one, or none when one of them is reached. A plugin
//! that learns the cost from the response reads first ([`Meter::read`]) and adds afterwards ([`Meter::add`]), whether or not a limit is
//! reached by then. Reading and taking come in two forms like the phases of a request: the first answers from the node's memory where it
//! can, the asynchronous one asks Redis. Adding never waits: what has to leave the node is handed to a background task.
//!
//! Windows are fixed and aligned to the calendar. Configurations on the same route and service count together, whatever their version, and
//! the counters of a node are bounded in number for all plugins together.
//!
//! Learnt from `kong/plugins/rate-limiting/policies/init.lua` and `kong/plugins/response-ratelimiting/policies/init.lua`.

mod cluster;
mod identity;
mod kept;
mod key;
mod local;
mod meter;
mod number;
mod redis;
mod room;
mod settings;
mod sync;
#[cfg(test)]
mod tests;
mod window;

pub use identity::{Caller, Identifier};
pub use key::Series;
pub use meter::{Away, Limit, Meter, Policy};
pub use number::number;
pub use settings::{Redis, redis_needed, redis_shorthands};
pub use window::{Period, Window, out_of_order, unix_seconds};
