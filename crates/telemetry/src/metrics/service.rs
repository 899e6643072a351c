//! Counters of a service: its retries.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

use super::exposition::{Exposition, as_value};
use crate::striped::Striped;

/// What became of the wish to send a request again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryOutcome {
    /// It was sent.
    Sent,
    /// The retry budget could not pay for it.
    DeniedBudget,
    /// The method must not be repeated.
    DeniedMethod,
    /// The body was too large to keep, or already in use.
    DeniedBody,
    /// No time was left.
    DeniedDeadline,
    /// All permitted attempts were used.
    DeniedAttempts,
}

const OUTCOMES: [RetryOutcome; 6] = [
    RetryOutcome::Sent,
    RetryOutcome::DeniedBudget,
    RetryOutcome::DeniedMethod,
    RetryOutcome::DeniedBody,
    RetryOutcome::DeniedDeadline,
    RetryOutcome::DeniedAttempts,
];

impl RetryOutcome {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::DeniedBudget => "denied_budget",
            Self::DeniedMethod => "denied_method",
            Self::DeniedBody => "denied_body",
            Self::DeniedDeadline => "denied_deadline",
            Self::DeniedAttempts => "denied_attempts",
        }
    }
}

#[derive(Debug)]
struct Retries([AtomicU64; OUTCOMES.len()]);

impl Default for Retries {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// Handle to the counters of one service.
#[derive(Debug)]
pub struct ServiceMetrics {
    retries: Striped<Retries>,
}

impl ServiceMetrics {
    pub(super) fn new(stripes: usize) -> Self {
        Self {
            retries: Striped::new(stripes),
        }
    }

    /// Counts one wish to retry.
    #[inline]
    pub fn retry(&self, outcome: RetryOutcome) {
        self.retries.local().0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn write(&self, out: &mut Exposition, service: &str) {
        for outcome in OUTCOMES {
            let count = self
                .retries
                .iter()
                .map(|retries| retries.0[outcome as usize].load(Ordering::Relaxed))
                .sum();
            if count > 0 {
                let labels = [("service", service), ("outcome", outcome.as_str())];
                out.counter(
                    "silverback_retries_total",
                    "Retries sent and denied for each service",
                )
                .sample("", &labels, None, as_value(count));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_own_series() {
        let service = ServiceMetrics::new(2);
        for (times, outcome) in OUTCOMES.into_iter().enumerate() {
            for _ in 0..times {
                service.retry(outcome);
            }
        }
        let mut out = Exposition::default();
        service.write(&mut out, "s");
        let text = out.finish();
        assert!(
            !text.contains("\"sent\""),
            "what never happened is not there: {text}"
        );
        for (times, outcome) in OUTCOMES.into_iter().enumerate().skip(1) {
            let name = outcome.as_str();
            let line =
                format!("silverback_retries_total{{service=\"s\",outcome=\"{name}\"}} {times}\n");
            assert!(text.contains(&line), "{line} in\n{text}");
        }
    }
}
