//! The Admin API.

mod smoke;
