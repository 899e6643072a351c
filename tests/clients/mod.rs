//! What third-party clients of the Admin API do and rely on: recorded traffic, and what the sources of others tell. The data, and a table of which
//! client's call is covered where, are in `konga-compat/`.

mod deck;
mod go_kong;
mod kong_manager;
mod konga;
mod terraform;
mod traffic;
