//! The key-auth plugin
