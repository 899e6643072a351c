//! Traffic: messages of every shape in both directions, timeouts, TLS, HTTP/2, WebSocket, stopping.

mod bodies;
mod connections;
mod headers;
mod malformed;
mod stopping;
mod timeouts;
pub(crate) mod tls;
mod upstreams;
mod upstreams_hashing;
mod upstreams_health;
mod websocket;
