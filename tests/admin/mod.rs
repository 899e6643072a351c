//! The Admin API over sockets: each entity by id and by name, every kind of body, pages, tags, errors, and what belongs to HTTP.

mod bodies;
mod entities;
mod errors;
mod http;
mod node;
mod paging;
mod vaults;
