//! Targets, algorithms, DNS
