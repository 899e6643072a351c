//! Where a service's requests go: addresses, their resolution and the choice between them.
//!
//! No Pingora here, and no blocking: names are resolved in the background; a request waits for DNS only when nothing at all is
//! known of a name.

mod balancer;
mod checking;
mod goal;
mod health;
mod order;
mod pool;
mod probe;
mod resolver;

pub use balancer::{Balancer, NoPeer, Pick};
pub use checking::{Health, TargetState};
pub use goal::{Authority, HashInput};
pub use health::Outcome;
pub use pool::{PickError, Pool};
pub use resolver::{DnsConfig, Resolver, SetUpError};
