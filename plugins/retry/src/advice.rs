//! Whether one failed attempt may be followed by another, as far as the plugin can tell. Replaying the body, the time that is left and
//! the budget are the proxy's concern.

use std::time::{Duration, SystemTime};

use http::HeaderName;
use http::header::RETRY_AFTER;
use silverback_plugin::context::Failure;
use silverback_plugin::{FailureCtx, RetryAdvice, RetryTerms};

/// A longer `Retry-After` had better be obeyed by the client.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

// Labels of the retry metric, as in `silverback-retry`.
const NOT_RETRYABLE: RetryAdvice = RetryAdvice::Stop("denied_not_retryable");
const ATTEMPTS: RetryAdvice = RetryAdvice::Stop("denied_attempts");
const METHOD: RetryAdvice = RetryAdvice::Stop("denied_method");
const DEADLINE: RetryAdvice = RetryAdvice::Stop("denied_deadline");

pub(crate) fn judge(terms: &RetryTerms, ctx: &FailureCtx<'_>) -> RetryAdvice {
    let (named, sent) = match ctx.failure {
        Failure::Connect | Failure::ConnectTimeout => (terms.on_connect_failure, false),
        Failure::Reset => (terms.on_reset, true),
        Failure::Timeout => (terms.on_timeout, true),
        Failure::Status(status) => (terms.statuses.binary_search(&status).is_ok(), true),
    };
    if !named {
        return NOT_RETRYABLE;
    }
    if sent && !may_repeat(terms, ctx) {
        return METHOD;
    }
    if ctx.attempt >= terms.attempts {
        return ATTEMPTS;
    }
    let hint = if terms.honour_retry_after {
        hint(ctx)
    } else {
        None
    };
    match hint {
        Some(wait) if wait > LONGEST_WAIT => NOT_RETRYABLE,
        hint => {
            let spent = ctx.facts.started.elapsed() + hint.unwrap_or_default();
            if terms.deadline.is_some_and(|all| spent >= all) {
                DEADLINE
            } else {
                RetryAdvice::Retry(hint)
            }
        }
    }
}

fn may_repeat(terms: &RetryTerms, ctx: &FailureCtx<'_>) -> bool {
    const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
    terms.methods.contains(&ctx.request.parts.method)
        || ctx.request.header(IDEMPOTENCY_KEY).is_some()
}

/// `Retry-After`: seconds, or a date.
fn hint(ctx: &FailureCtx<'_>) -> Option<Duration> {
    let value = ctx
        .response_headers?
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}
