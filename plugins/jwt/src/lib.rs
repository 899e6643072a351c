//! `jwt`: keys with which consumers sign tokens. What verifies the tokens is not there yet.
//!
//! Learnt from `kong/plugins/jwt/daos.lua`.

mod credential;

pub use credential::entities;
