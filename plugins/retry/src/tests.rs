#![allow(clippy::unwrap_used)]

use std::time::Duration;

use http::{HeaderMap, Method, Request};
use serde_json::{Value, json};
use silverback_plugin::context::Failure;
use silverback_plugin::exchange::{Compiled, Exchange, config};
use silverback_plugin::{Facts, FailureCtx, Handler, RequestView, RetryAdvice};

use crate::Retry;

/// The advice after an attempt at a request with that method and header.
struct Failed {
    method: &'static str,
    header: Option<(&'static str, &'static str)>,
    failure: Failure,
    attempt: u32,
    retry_after: Option<&'static str>,
}

const FAILED: Failed = Failed {
    method: "GET",
    header: None,
    failure: Failure::Reset,
    attempt: 1,
    retry_after: None,
};

impl Failed {
    fn advice(self, config: Value) -> RetryAdvice {
        let plugin = Compiled::<Retry>::new(config);
        let mut request = Request::builder().method(self.method).uri("/");
        if let Some((name, value)) = self.header {
            request = request.header(name, value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let headers = self
            .retry_after
            .map(|v| HeaderMap::from_iter([(http::header::RETRY_AFTER, v.parse().unwrap())]));
        let facts = Facts::new([b'0'; 32], "127.0.0.1:1".parse().unwrap(), "http", 80);
        plugin.plugin().on_failure(&FailureCtx {
            request: RequestView {
                parts: &parts,
                path_and_query: b"/",
                host: "h",
            },
            facts: &facts,
            failure: self.failure,
            attempt: self.attempt,
            target: None,
            response_headers: headers.as_ref(),
            terms: None,
        })
    }
}

const AGAIN: RetryAdvice = RetryAdvice::Retry(None);

#[tokio::test]
async fn terms_reach_the_proxy_with_their_defaults() {
    let done = Exchange::get("/").run::<Retry>(json!({})).await;
    let terms = done.passed().facts().retry.clone().unwrap();
    assert_eq!(terms.attempts, 3);
    assert_eq!(
        (terms.backoff_base, terms.backoff_cap),
        (Duration::from_millis(25), Duration::from_secs(1))
    );
    assert_eq!((terms.per_try_timeout, terms.deadline), (None, None));
    assert_eq!(terms.statuses, [502, 503, 504]);
    assert!(
        terms.on_connect_failure && terms.on_reset && terms.on_timeout && terms.honour_retry_after
    );
    assert!(terms.methods.contains(&Method::PUT) && !terms.methods.contains(&Method::POST));
    assert_eq!(terms.budget, None);
}

#[test]
fn a_budget_is_filled_and_known_when_the_snapshot_is_built() {
    let config =
        json!({ "budget": { "max_retries": 500 }, "per_try_timeout": 250, "total_timeout": 1000 });
    let plugin = Compiled::<Retry>::new(config);
    let terms = plugin.plugin().retry_terms().unwrap();
    let budget = terms.budget.clone().unwrap();
    assert_eq!((budget.ratio, budget.min_retries_per_second), (0.1, 10.0));
    assert_eq!(budget.ttl, Duration::from_secs(10));
    assert_eq!(budget.ceiling, Some((500, Duration::from_secs(10))));
    assert_eq!(terms.deadline, Some(Duration::from_secs(1)));
}

#[test]
fn settings_out_of_range_are_refused() {
    for (bad, text) in [
        (json!({ "attempts": 0 }), "attempts"),
        (json!({ "budget": { "ttl": 31 } }), "ttl"),
        (json!({ "budget": { "window": 0 } }), "window"),
        (json!({ "budget": { "ratio": 11 } }), "ratio"),
        (json!({ "retry_on": ["bad"] }), "retry_on"),
        (json!({ "methods": ["get"] }), "upper-case"),
        (json!({ "statuses": [99] }), "statuses"),
        (
            json!({ "backoff": { "base": 50, "max": 40 } }),
            "backoff.max must not be less than backoff.base",
        ),
        (
            json!({ "per_try_timeout": 2, "total_timeout": 1 }),
            "per_try_timeout must not be more than total_timeout",
        ),
    ] {
        let message = config::<Retry>(bad.clone()).unwrap_err().message();
        assert!(message.contains(text), "{bad}: {message}");
    }
}

#[test]
fn what_was_not_sent_is_tried_again_whatever_the_method() {
    for failure in [Failure::Connect, Failure::ConnectTimeout] {
        assert_eq!(
            Failed {
                method: "POST",
                failure,
                ..FAILED
            }
            .advice(json!({})),
            AGAIN
        );
        let only_status = json!({ "retry_on": ["status"] });
        assert_eq!(
            Failed { failure, ..FAILED }.advice(only_status),
            RetryAdvice::Stop("denied_not_retryable")
        );
    }
}

#[test]
fn what_was_sent_is_tried_again_only_when_it_may_be_repeated() {
    for failure in [Failure::Reset, Failure::Timeout, Failure::Status(503)] {
        assert_eq!(Failed { failure, ..FAILED }.advice(json!({})), AGAIN);
        let post = || Failed {
            method: "POST",
            failure,
            ..FAILED
        };
        assert_eq!(post().advice(json!({})), RetryAdvice::Stop("denied_method"));
        assert_eq!(post().advice(json!({ "methods": ["POST"] })), AGAIN);
        let header = Some(("idempotency-key", "1"));
        assert_eq!(Failed { header, ..post() }.advice(json!({})), AGAIN);
    }
}

#[test]
fn only_listed_statuses_are_tried_again() {
    let status = |n| Failed {
        failure: Failure::Status(n),
        ..FAILED
    };
    assert_eq!(
        status(500).advice(json!({})),
        RetryAdvice::Stop("denied_not_retryable")
    );
    assert_eq!(status(500).advice(json!({ "statuses": [503, 500] })), AGAIN);
    let without = json!({ "retry_on": ["reset"] });
    assert_eq!(
        status(503).advice(without),
        RetryAdvice::Stop("denied_not_retryable")
    );
}

#[test]
fn attempts_are_counted() {
    let after = |attempt| Failed { attempt, ..FAILED };
    assert_eq!(after(2).advice(json!({})), AGAIN);
    assert_eq!(
        after(3).advice(json!({})),
        RetryAdvice::Stop("denied_attempts")
    );
    assert_eq!(
        after(1).advice(json!({ "attempts": 1 })),
        RetryAdvice::Stop("denied_attempts")
    );
}

#[test]
fn retry_after_is_obeyed_up_to_a_second() {
    let failed = |retry_after| Failed {
        failure: Failure::Status(503),
        retry_after: Some(retry_after),
        ..FAILED
    };
    assert_eq!(
        failed("1").advice(json!({})),
        RetryAdvice::Retry(Some(Duration::from_secs(1)))
    );
    assert_eq!(
        failed("2").advice(json!({})),
        RetryAdvice::Stop("denied_not_retryable")
    );
    assert_eq!(failed("soon").advice(json!({})), AGAIN);
    assert_eq!(
        failed("Sun, 06 Nov 1994 08:49:37 GMT").advice(json!({})),
        RetryAdvice::Retry(Some(Duration::ZERO))
    );
    assert_eq!(
        failed("2").advice(json!({ "honour_retry_after": false })),
        AGAIN
    );
    assert_eq!(
        failed("1").advice(json!({ "total_timeout": 900 })),
        RetryAdvice::Stop("denied_deadline")
    );
}
