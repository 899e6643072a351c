//! The Pingora adapter: the only room that knows Pingora.
//!
//! [`Listeners::bind`] binds the addresses, [`Listeners::serve`] starts the workers, [`Server::stop`] ends them. A request is cut
//! from the client's stream (`gate`, `framing`), routed and shown to the plugins (`request`), sent upstream (`upstream_headers`,
//! `retry`), and its response adjusted (`response_headers`) or made here (`respond`, `errors`); at last it is counted and logged
//! (`log`). `service` is what Pingora calls.

mod body;
mod config;
mod errors;
mod exchange;
mod forwarded;
mod framing;
mod gate;
mod ids;
mod log;
mod names;
mod refuse;
mod request;
mod respond;
mod response_headers;
mod retry;
mod server;
mod service;
mod status;
mod target;
mod tls;
mod upstream_headers;

pub use config::{HeadersConfig, ProxyConfig, Shared, UnknownHeader};
pub use errors::Format;
pub use exchange::now;
pub use forwarded::{InvalidBlock, RealIp, TrustedIps};
pub use names::{PINGORA_VERSION, PRODUCT};
pub use server::{Listen, Listeners, Server, StartError};
pub use status::{StatusHandler, StatusListener, StatusReply};
pub use tls::{Certificate, CertificateError};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
