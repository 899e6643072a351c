//! Whether one failed attempt may be followed by another, and when.
//!
//! [`Terms`] are compiled from configuration once; [`Tries`] follows one request. The checks run from the cheap and
//! final to the costly, and the budget comes last, so that only a retry that will be made is paid for.

mod failure;
mod hints;
mod terms;
mod tries;

pub use failure::{Cause, Failure, RetryOn, Stage, UnknownCause};
pub use hints::{
    ATTEMPT_HEADER, GRPC_ATTEMPTS_HEADER, Hints, Pushback, previous_attempts, retry_after,
};
pub use terms::{Backoff, Methods, Terms, is_idempotent};
pub use tries::{Request, Tries};

use std::time::Duration;

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try again, on another target where there is one.
    Retry {
        /// How long to wait first.
        after: Duration,
        /// Nothing was charged, and the attempt does not count.
        free: bool,
    },
    /// Answer with the failure there is, now: a denied retry is never queued.
    Deny(Reason),
}

impl Decision {
    /// The `outcome` label of `silverback_retries_total`: `sent`, or the reason's [`Reason::label`].
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Retry { .. } => "sent",
            Self::Deny(reason) => reason.label(),
        }
    }
}

/// Why a retry was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The terms do not name this failure, the upstream asked not to, or the client has a response header already.
    NotRetryable,
    /// Nobody is waiting for the answer any more.
    ClientGone,
    /// The request may have been acted on, and doing it twice is not known to be harmless.
    Method,
    /// The body has been read and was not kept.
    Body,
    /// All attempts are used up.
    Attempts,
    /// The total deadline, or the upstream's wish to be left alone, leaves no time.
    Deadline,
    /// An account has nothing left.
    Budget,
}

impl Reason {
    /// All reasons, for metrics that are registered ahead.
    pub const ALL: [Self; 7] = [
        Self::NotRetryable,
        Self::ClientGone,
        Self::Method,
        Self::Body,
        Self::Attempts,
        Self::Deadline,
        Self::Budget,
    ];

    /// A metric label that stays the same over releases.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotRetryable => "denied_not_retryable",
            Self::ClientGone => "denied_client_gone",
            Self::Method => "denied_method",
            Self::Body => "denied_body",
            Self::Attempts => "denied_attempts",
            Self::Deadline => "denied_deadline",
            Self::Budget => "denied_budget",
        }
    }
}
