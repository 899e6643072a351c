//! Composition root and command line of the Silverback API gateway

pub mod cli;
pub mod config;
