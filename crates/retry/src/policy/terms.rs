//! What may be retried, how often and how fast.

use super::{Failure, RetryOn};
use std::time::Duration;

/// Exponential backoff with full jitter: the wait before retry *n* is anywhere from zero to
/// `min(cap, base * 2^(n-1))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Longest wait before the first retry; zero retries at once. Default 25 ms.
    pub base: Duration,
    /// Longest wait before any retry. Default 1 s.
    pub cap: Duration,
}

impl Backoff {
    /// No waiting at all, as Kong does.
    pub const IMMEDIATE: Self = Self {
        base: Duration::ZERO,
        cap: Duration::ZERO,
    };

    /// The wait before retry `retry` (counted from 1). `jitter` is a random number from 0 to 1, uniform for full
    /// jitter; outside of that it is cut to it.
    #[must_use]
    pub fn wait(&self, retry: u32, jitter: f64) -> Duration {
        let doubled = 1_u32
            .checked_shl(retry.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let most = self.base.saturating_mul(doubled).min(self.cap);
        // Not a number becomes no wait.
        most.mul_f64(jitter.clamp(0.0, 1.0).max(0.0))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(25),
            cap: Duration::from_secs(1),
        }
    }
}

/// Methods that RFC 9110, 9.2.2 defines as idempotent: doing it twice is the same as doing it once.
const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"];

/// Whether RFC 9110 defines `method` as idempotent. Methods are case-sensitive.
#[must_use]
pub fn is_idempotent(method: &str) -> bool {
    IDEMPOTENT.contains(&method)
}

/// Methods that may be repeated even though the upstream may have acted on the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Methods {
    /// Those of [`is_idempotent`].
    #[default]
    Idempotent,
    /// Exactly these. gRPC is all `POST`, so retrying it once it was sent takes a list that has `POST` in it.
    Only(Box<[Box<str>]>),
}

impl Methods {
    /// Whether `method` may be repeated.
    #[must_use]
    pub fn contains(&self, method: &str) -> bool {
        match self {
            Self::Idempotent => is_idempotent(method),
            Self::Only(methods) => methods.iter().any(|one| &**one == method),
        }
    }
}

/// The terms on which requests are retried; compiled once per configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Most attempts at one request, the first included. Default 6, which is Kong's five retries.
    pub attempts: u32,
    /// Most time for one attempt; the service's time-outs apply as well. Default none.
    pub per_try: Option<Duration>,
    /// Most time for all attempts and the waits between them, from the arrival of the request. Default none.
    pub deadline: Option<Duration>,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// Kinds of failure to retry.
    pub retry_on: RetryOn,
    /// HTTP statuses to retry. Default none.
    pub statuses: Box<[u16]>,
    /// gRPC statuses to retry. Default none.
    pub grpc_statuses: Box<[u16]>,
    /// Methods to retry when the request was sent.
    pub methods: Methods,
    /// Do as `Retry-After` and `grpc-retry-pushback-ms` say: wait that long, or, when it is more than this, do not
    /// retry. `None` ignores both headers. Default 1 s: longer than that the client had better come back itself.
    pub longest_hint: Option<Duration>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            attempts: 6,
            per_try: None,
            deadline: None,
            backoff: Backoff::default(),
            retry_on: RetryOn::default(),
            statuses: Box::default(),
            grpc_statuses: Box::default(),
            methods: Methods::default(),
            longest_hint: Some(Duration::from_secs(1)),
        }
    }
}

impl Terms {
    /// What a service without any retry configuration gets: Kong's `retries` (kong/db/schema/entities/services.lua,
    /// 0 to 32767, default 5) after connection errors and time-outs, at once, and never because of a status.
    #[must_use]
    pub fn kong(retries: u16) -> Self {
        Self {
            attempts: u32::from(retries) + 1,
            backoff: Backoff::IMMEDIATE,
            ..Self::default()
        }
    }

    /// Whether these terms name `failure`.
    #[must_use]
    pub fn names(&self, failure: &Failure) -> bool {
        self.retry_on.contains(failure.cause())
            && match failure {
                Failure::Status { code, .. } => self.statuses.contains(code),
                Failure::Grpc { status, .. } => self.grpc_statuses.contains(status),
                _ => true,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Cause, Hints};

    #[test]
    fn backoff_doubles_up_to_the_cap_and_never_overflows() {
        let backoff = Backoff::default();
        let millis = |retry| backoff.wait(retry, 1.0).as_millis();
        assert_eq!(
            [1, 2, 3, 6, 7, 32, 33, u32::MAX].map(millis),
            [25, 50, 100, 800, 1_000, 1_000, 1_000, 1_000]
        );
        let endless = Backoff {
            base: Duration::MAX,
            cap: Duration::MAX,
        };
        assert!(endless.wait(9, 0.5) > Duration::from_secs(1));
    }

    #[test]
    fn jitter_reaches_from_nothing_to_the_whole_wait() {
        let backoff = Backoff::default();
        assert_eq!(backoff.wait(1, 0.0), Duration::ZERO);
        assert_eq!(backoff.wait(1, 0.2), Duration::from_millis(5));
        assert_eq!(backoff.wait(1, 7.0), Duration::from_millis(25));
        assert_eq!(backoff.wait(1, f64::NAN), Duration::ZERO);
        assert_eq!(Backoff::IMMEDIATE.wait(5, 1.0), Duration::ZERO);
    }

    #[test]
    fn a_list_of_methods_replaces_the_idempotent_ones() {
        assert!(Methods::Idempotent.contains("DELETE"));
        assert!(!Methods::Idempotent.contains("POST"));
        assert!(!Methods::Idempotent.contains("get"));
        let only = Methods::Only(["POST".into()].into());
        assert!(only.contains("POST"));
        assert!(!only.contains("GET"));
    }

    #[test]
    fn a_status_counts_only_when_it_is_listed_and_statuses_are_wanted() {
        let unavailable = Failure::Status {
            code: 503,
            hints: Hints::NONE,
        };
        assert!(!Terms::default().names(&unavailable));
        let mut terms = Terms {
            statuses: [502, 503].into(),
            ..Terms::default()
        };
        assert!(terms.names(&unavailable));
        assert!(!terms.names(&Failure::Grpc {
            status: 503,
            hints: Hints::NONE
        }));
        terms.retry_on = [Cause::Reset].into_iter().collect();
        assert!(!terms.names(&unavailable));
        assert!(terms.names(&Failure::Reset));
    }
}
