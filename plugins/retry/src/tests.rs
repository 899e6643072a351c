#![allow(clippy::unwrap_used)]

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use silverback_plugin::Handler;
use silverback_plugin::exchange::{Compiled, Exchange, config};

use crate::Retry;

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
fn what_is_tried_again_is_in_the_terms() {
    let terms = |config: Value| {
        let plugin = Compiled::<Retry>::new(config);
        plugin.plugin().retry_terms().unwrap().clone()
    };
    let t = terms(json!({ "retry_on": ["reset"], "statuses": [503] }));
    assert_eq!(
        (t.on_connect_failure, t.on_reset, t.on_timeout),
        (false, true, false)
    );
    assert!(t.statuses.is_empty());
    let t = terms(json!({ "retry_on": ["status"], "statuses": [503, 500] }));
    assert_eq!(t.statuses, [500, 503]);
    assert_eq!(
        terms(json!({ "methods": ["POST"] })).methods,
        [Method::POST]
    );
    assert!(!terms(json!({ "honour_retry_after": false })).honour_retry_after);
}
