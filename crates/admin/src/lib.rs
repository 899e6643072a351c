//! The Admin API: Kong's REST interface to the configuration, on axum.
//!
//! There is one set of handlers for all entities. Which paths there are follows from the definitions ([`silverback_schema::EntityDef`]), what a row may
//! look like too; this crate is about HTTP: bodies, paging, error bodies, CORS, sockets. It writes to the store and knows nothing of the
//! proxy: what the node does with the rows it learns through the database, and what the API says about the node comes through
//! [`StatusSource`].
//!
//! Behaviour was learnt from `kong/api/` of Kong 3.9.1 and from recorded answers; where it is otherwise, `kong-differences.md` says so.

mod app;
mod auth;
mod body;
mod builder;
mod change;
mod cors;
mod crud;
mod debug;
mod declarative;
mod errors;
mod etag;
mod info;
mod lua;
mod model;
mod openapi;
mod paging;
mod plugin_endpoints;
mod respond;
mod schemas;
mod server;
mod status;
mod table;
mod tags;
mod texts;

#[cfg(test)]
mod tests;

pub use auth::{NewToken, Tokens};
pub use builder::AdminBuilder;
pub use crud::plugin_compiles;
pub use debug::ClusterLogLevel;
pub use errors::error_message;
pub use info::{KONG_VERSION, NodeInfo};
pub use model::RowCheck;
pub use openapi::openapi_document;
pub use plugin_endpoints::plugin_told;
pub use server::{AdminError, AdminServer, Certificate, Listen};
pub use status::{
    AddressHealth, Connections, Health, HealthReport, ProcessOnly, StatusSource, TargetHealth,
    Timers, UpstreamHealth, Worker,
};
