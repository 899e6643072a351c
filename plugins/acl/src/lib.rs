//! `acl`: the groups that consumers are in. What lets groups in or keeps them out is not there yet.
//!
//! Learnt from `kong/plugins/acl/daos.lua` and `api.lua`.

mod group;

pub use group::entities;
