//! The rate-limiting plugin
