//! Request to route: the traditional router, in its two flavours.
//!
//! [`Router::build`] compiles a list of [`Entry`] into an index; [`Router::find`] looks a [`Request`] up in it.
//! What a request may match, and which of several matching routes wins, follows Kong 3.9.1:
//! `kong/router/{transform,atc,compat}.lua` for [`Flavor::TraditionalCompatible`],
//! `kong/router/traditional.lua` for [`Flavor::Traditional`].
//!
//! The index only proposes candidates; every candidate is checked in full before it wins. So a mistake in the index
//! could cost a match but never invent one, and the tests compare it with a matcher that looks at every route in turn.

mod compat;
#[cfg(test)]
mod differential;
mod dots;
mod index;
mod literal;
mod matcher;
#[cfg(test)]
mod oracle;
mod path;
mod priority;
mod protocol;
mod request;
mod router;
mod traditional;
mod trie;
mod upstream;

pub use path::{escape_path, normalize_path, strip_query};
pub use protocol::{ProtocolRule, ProtocolVerdict};
pub use request::{Flavor, Request, split_host_port};
pub use router::{Captures, Entry, Match, Problem, Router};
pub use upstream::{PathRule, forwarded_prefix, upstream_path};
