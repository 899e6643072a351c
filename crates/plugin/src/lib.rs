//! What a plugin author compiles against
