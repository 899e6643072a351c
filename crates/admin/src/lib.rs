//! The Admin API on axum
