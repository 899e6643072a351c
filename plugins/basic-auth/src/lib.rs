//! `basic-auth`: usernames and passwords of consumers. What authenticates requests with them is not there yet.
//!
//! Learnt from `kong/plugins/basic-auth/daos.lua` and `crypto.lua`.

mod credential;

pub use credential::entities;
