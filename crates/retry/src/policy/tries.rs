//! One request on its way through its attempts.

use super::{Decision, Failure, Pushback, Reason, Terms};
use crate::{Budgets, Moment};
use std::time::Duration;

/// What is known about a request when an attempt at it has failed. The default is a `GET` without a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// It carries an `Idempotency-Key`, so that the upstream recognises a repetition.
    pub idempotency_key: bool,
    /// The body can be sent (again) from its first byte: there is none, nothing of it was read yet, or all that was
    /// read was kept.
    pub body_replayable: bool,
    /// A response header has gone down to the client.
    pub response_started: bool,
    /// The client has closed its connection, or reset its stream.
    pub client_gone: bool,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Self {
            method: "GET",
            idempotency_key: false,
            body_replayable: true,
            response_started: false,
            client_gone: false,
        }
    }
}

/// The attempts at one request.
#[derive(Clone, Copy, Debug)]
pub struct Tries {
    began: Moment,
    /// Attempts made before the request came to this gateway.
    previous: u32,
    /// Attempts that count, the present one included; 1 from the start.
    attempt: u32,
    free_used: bool,
}

impl Tries {
    /// Begins with the first attempt at a request that arrived at `now`, after `previous` attempts elsewhere
    /// (see [`previous_attempts`](super::previous_attempts)).
    #[must_use]
    pub const fn begin(now: Moment, previous: u32) -> Self {
        Self {
            began: now,
            previous,
            attempt: 1,
            free_used: false,
        }
    }

    /// Charges a request that arrived as somebody else's retry; call it once, before the first attempt. `None` when
    /// it is not a retry. `Deny(Budget)` means that the retries the upstream can bear are used up: refuse the
    /// request rather than pass the storm of the previous hop on.
    pub fn admit(&self, budgets: &Budgets, now: Moment) -> Option<Decision> {
        (self.previous > 0).then(|| pay(budgets, now, Duration::ZERO))
    }

    /// Decides about another attempt after `failure`, and pays for it. `jitter` is a random number from 0 to 1.
    ///
    /// After [`Decision::Retry`] the next attempt counts as begun, and must be made; [`Tries::allowance`] and
    /// [`Tries::number`] speak of it.
    #[allow(clippy::too_many_arguments)]
    pub fn failed(
        &mut self,
        terms: &Terms,
        request: &Request<'_>,
        failure: &Failure,
        budgets: &Budgets,
        now: Moment,
        jitter: f64,
    ) -> Decision {
        // A pooled connection that had already been closed says nothing about the upstream. Once is enough: a second
        // time in a row it does.
        let free = matches!(failure, Failure::ResetOnReusedConnection) && !self.free_used;
        if let Err(reason) = self.permitted(terms, request, failure, free) {
            return Decision::Deny(reason);
        }
        let after = match self.wait(terms, failure, free, jitter) {
            Ok(after) => after,
            Err(reason) => return Decision::Deny(reason),
        };
        if self.time_left(terms, now).is_some_and(|left| after >= left) {
            return Decision::Deny(Reason::Deadline);
        }
        if free {
            self.free_used = true;
            return Decision::Retry { after, free };
        }
        let decision = pay(budgets, now, after);
        if let Decision::Retry { .. } = decision {
            self.attempt = self.attempt.saturating_add(1);
        }
        decision
    }

    /// Pays in for a success (a response that is no failure of the upstream: below 500), if it is one of a first
    /// attempt, here and at every hop before. What a retry achieves earns nothing, or retries would pay for
    /// retries.
    pub fn succeeded(&self, budgets: &Budgets, now: Moment) {
        if self.number() == 1 {
            budgets.deposit(now);
        }
    }

    /// The number of the present attempt, counted from 1 over all hops: what the next hop is told when it is above
    /// 1, and, less 1, what gRPC calls previous attempts. A free attempt has the number of the one it repeats.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.previous.saturating_add(self.attempt)
    }

    /// What is left for the present attempt of `timeout`, one of the service's time-outs: no more than the terms
    /// give to an attempt, and no more than is left in total; zero when nothing is left.
    #[must_use]
    pub fn allowance(&self, terms: &Terms, timeout: Duration, now: Moment) -> Duration {
        [terms.per_try, self.time_left(terms, now)]
            .into_iter()
            .flatten()
            .fold(timeout, Duration::min)
    }

    fn time_left(&self, terms: &Terms, now: Moment) -> Option<Duration> {
        let deadline = terms.deadline?;
        Some(deadline.saturating_sub(now.since(self.began)))
    }

    /// Whether anything but time and budget stands against another attempt.
    fn permitted(
        &self,
        terms: &Terms,
        request: &Request<'_>,
        failure: &Failure,
        free: bool,
    ) -> Result<(), Reason> {
        let repeatable = || request.idempotency_key || terms.methods.contains(request.method);
        if request.response_started || !(free || terms.names(failure)) {
            Err(Reason::NotRetryable)
        } else if request.client_gone {
            Err(Reason::ClientGone)
        } else if failure.was_sent() && !repeatable() {
            Err(Reason::Method)
        } else if !request.body_replayable {
            Err(Reason::Body)
        } else if !free && self.attempt >= terms.attempts {
            Err(Reason::Attempts)
        } else {
            Ok(())
        }
    }

    /// How long to wait: the backoff, unless the upstream asks for more (or, with gRPC, for something else).
    fn wait(
        &self,
        terms: &Terms,
        failure: &Failure,
        free: bool,
        jitter: f64,
    ) -> Result<Duration, Reason> {
        if free {
            return Ok(Duration::ZERO);
        }
        let backoff = terms.backoff.wait(self.attempt, jitter);
        let Some(longest) = terms.longest_hint else {
            return Ok(backoff);
        };
        let hints = failure.hints();
        let (hint, after) = match (hints.pushback, hints.retry_after) {
            (Some(Pushback::Stop), _) => return Err(Reason::NotRetryable),
            (Some(Pushback::Wait(wait)), _) => (wait, wait),
            (None, Some(wait)) => (wait, backoff.max(wait)),
            (None, None) => return Ok(backoff),
        };
        if hint > longest {
            return Err(Reason::Deadline);
        }
        Ok(after)
    }
}

fn pay(budgets: &Budgets, now: Moment, after: Duration) -> Decision {
    match budgets.withdraw(now) {
        Ok(()) => Decision::Retry { after, free: false },
        Err(_) => Decision::Deny(Reason::Budget),
    }
}

#[cfg(test)]
#[path = "tries_tests.rs"]
mod tests;
