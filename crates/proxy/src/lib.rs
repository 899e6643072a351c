//! The Pingora adapter
