//! Composition root and command line of the Silverback API gateway

pub mod config;
