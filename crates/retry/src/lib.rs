//! When to retry, and the retry budget.
//!
//! A gateway that retries on its own multiplies the load on an upstream that is already failing. If the upstream
//! keeps working on requests the gateway has given up on, five retries per request are enough to hold it down for
//! ever: the retries alone fill its queue, every attempt times out, and every time-out brings more retries. A cap
//! per request (`retries`) does not help, nor does backoff; what helps is a cap on the *share* of retries.
//! This crate decides whether one failed attempt may be followed by another, and keeps the accounts that bound how
//! many such attempts there are altogether.
//!
//! # The two rules
//!
//! 1. **Deposit on success, not on request.** An account that is fed by requests keeps filling while the upstream
//!    is down, and pays for the storm. One that is fed by successful *first* attempts starves itself.
//! 2. **A floor belongs to the cluster, and is divided by the live nodes.** A floor per node grows with the fleet:
//!    sixteen nodes with ten free retries a second each are a storm of their own.
//!
//! # What is promised
//!
//! Over any trace of failures, on one account and one node:
//!
//! ```text
//! attempts <= requests + ratio * successes + floor / nodes * (time + burst)      burst = ttl + 1 s
//! ```
//!
//! The burst is there because the floor of a whole `ttl` may be spent at once; the second on top is the width of a
//! slot, which a trace may cut at both ends. The stronger statement the accounts keep is that within any `ttl`,
//! counted in whole slots, the retries are covered by the deposits of that same `ttl` plus the floor of one `ttl`.
//!
//! A ratio of a node's own successes adds up over nodes by itself, so nodes never have to talk to each other; only
//! the floor and the ceiling need to know how many there are ([`LiveNodes`]). With a ceiling set there are never
//! more than `max_retries / nodes` retries on one node within any `window`.
//!
//! # The pieces
//!
//! * [`budget`]: one [`Budget`] is one account as one configuration sees it. Balances live in a [`Registry`] keyed
//!   by [`Identity`], so that they outlast the configuration; settings live in the [`Budget`], which belongs to a
//!   configuration snapshot. [`Budgets`] is the set of accounts that one route pays from, all or nothing.
//! * [`policy`]: [`Terms`] say what may be retried and when; [`Tries`] follows one request through its attempts and
//!   gives a [`Decision`] after each [`Failure`].
//!
//! # How it is used
//!
//! ```
//! use silverback_retry::*;
//! use std::time::Duration;
//!
//! // When a snapshot is built:
//! let registry = Registry::new(LiveNodes::default());
//! let budgets = Budgets::new([
//!     registry.account(&Identity::Service(7), Settings::default())?,
//!     registry.account(&Identity::Gateway, Settings::default())?,
//! ]);
//! let terms = Terms { attempts: 3, ..Terms::default() };
//!
//! // For each request; `now` comes from the caller's monotonic clock:
//! let now = Moment::from_millis(1_000);
//! let mut tries = Tries::begin(now, 0);
//! let request = Request { method: "GET", ..Request::default() };
//! match tries.failed(&terms, &request, &Failure::ConnectFailed, &budgets, now, 0.5) {
//!     Decision::Retry { after, .. } => assert!(after <= Duration::from_millis(25)),
//!     Decision::Deny(reason) => panic!("{}", reason.label()),
//! }
//! tries.succeeded(&budgets, now); // no deposit: this was the second attempt
//! # Ok::<(), SettingsError>(())
//! ```
//!
//! # What it costs
//!
//! A deposit happens on every request, a withdrawal only on a retry. Deposits therefore go to a stripe of the
//! calling thread, on cache lines of its own, and are summed up only by a withdrawal. Withdrawals go through one
//! counter with compare-and-swap, so that the last token is granted exactly once. Nothing on either path takes a
//! lock, allocates, or reads a clock; the only lock is in [`Registry`], which is used when a snapshot is built.
//!
//! A denied retry is never queued: the caller answers with the failure it has.

pub mod budget;
mod moment;
pub mod policy;
#[cfg(test)]
mod storm;

pub use budget::{
    Budget, Budgets, Ceiling, Exhausted, Gauges, Identity, Limit, LiveNodes, Registry, Settings,
    SettingsError,
};
pub use moment::Moment;
pub use policy::{
    ATTEMPT_HEADER, Backoff, Cause, Decision, Failure, GRPC_ATTEMPTS_HEADER, Hints, Methods,
    Pushback, Reason, Request, RetryOn, Stage, Terms, Tries, UnknownCause, is_idempotent,
    previous_attempts, retry_after,
};
