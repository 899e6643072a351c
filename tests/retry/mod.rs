//! Retries, and the budget that keeps them from doing harm; counted at the upstream.

mod budget;
mod policy;
