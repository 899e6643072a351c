//! The rules of [`super::Tries`], one by one and together.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::policy::{Cause, Hints, Methods, RetryOn, Stage};
use crate::{Budget, Identity, LiveNodes, Settings};
use proptest::prelude::*;

const NOW: Moment = Moment::from_millis(60_000);

fn tokens(count: f64) -> Budgets {
    let settings = Settings {
        min_retries_per_second: count / 10.0,
        ..Settings::default()
    };
    Budgets::new([Budget::new(Identity::Gateway, settings, LiveNodes::default()).unwrap()])
}

fn terms() -> Terms {
    Terms {
        statuses: [503].into(),
        grpc_statuses: [14].into(),
        ..Terms::default()
    }
}

fn status(code: u16, hints: Hints) -> Failure {
    Failure::Status { code, hints }
}

fn unavailable() -> Failure {
    status(503, Hints::NONE)
}

fn first(terms: &Terms, request: &Request<'_>, failure: &Failure) -> Decision {
    Tries::begin(NOW, 0).failed(terms, request, failure, &Budgets::unlimited(), NOW, 1.0)
}

fn retry(millis: u64) -> Decision {
    Decision::Retry {
        after: Duration::from_millis(millis),
        free: false,
    }
}

const FREE: Decision = Decision::Retry {
    after: Duration::ZERO,
    free: true,
};

#[test]
fn what_was_not_sent_is_retried_whatever_the_method() {
    let post = Request {
        method: "POST",
        ..Request::default()
    };
    for failure in [
        Failure::ConnectFailed,
        Failure::NotSent,
        Failure::Timeout(Stage::Connect),
    ] {
        assert_eq!(first(&terms(), &post, &failure), retry(25), "{failure:?}");
    }
}

#[test]
fn what_was_sent_is_retried_only_if_repeating_it_is_harmless() {
    let sent = [
        Failure::Reset,
        Failure::ResetOnReusedConnection,
        Failure::Timeout(Stage::Send),
        Failure::Timeout(Stage::Read),
        unavailable(),
        Failure::Grpc {
            status: 14,
            hints: Hints::NONE,
        },
    ];
    let post = Request {
        method: "POST",
        ..Request::default()
    };
    let keyed = Request {
        idempotency_key: true,
        ..post
    };
    let opted_in = Terms {
        methods: Methods::Only(["POST".into()].into()),
        ..terms()
    };
    for failure in sent {
        assert_eq!(
            first(&terms(), &post, &failure),
            Decision::Deny(Reason::Method),
            "{failure:?}"
        );
        for decision in [
            first(&terms(), &keyed, &failure),
            first(&opted_in, &post, &failure),
            first(&terms(), &Request::default(), &failure),
        ] {
            assert_eq!(decision.label(), "sent", "{failure:?}");
        }
    }
}

#[test]
fn each_obstacle_has_its_own_reason() {
    let fine = Request::default();
    let gone = Request {
        client_gone: true,
        ..fine
    };
    let started = Request {
        response_started: true,
        ..fine
    };
    let lost_body = Request {
        body_replayable: false,
        ..fine
    };
    let single = Terms::kong(0);
    let nothing = Terms {
        retry_on: RetryOn::NOTHING,
        ..terms()
    };
    for (terms, request, failure, label) in [
        (&terms(), &gone, Failure::Reset, "denied_client_gone"),
        (&terms(), &started, Failure::Reset, "denied_not_retryable"),
        (&terms(), &lost_body, Failure::ConnectFailed, "denied_body"),
        (&single, &fine, Failure::ConnectFailed, "denied_attempts"),
        (&nothing, &fine, Failure::Reset, "denied_not_retryable"),
        (
            &terms(),
            &fine,
            status(500, Hints::NONE),
            "denied_not_retryable",
        ),
    ] {
        assert_eq!(first(terms, request, &failure).label(), label);
    }
    let mut tries = Tries::begin(NOW, 0);
    let broke = tries.failed(&terms(), &fine, &Failure::Reset, &tokens(0.0), NOW, 0.0);
    assert_eq!(broke, Decision::Deny(Reason::Budget));
    assert_eq!(broke.label(), "denied_budget");
    assert_eq!(tries.number(), 1);
}

#[test]
fn kongs_terms_retry_at_once_and_not_because_of_a_status() {
    let terms = Terms::kong(5);
    let budgets = Budgets::unlimited();
    let mut tries = Tries::begin(NOW, 0);
    let mut fail =
        |failure| tries.failed(&terms, &Request::default(), &failure, &budgets, NOW, 0.9);
    assert_eq!(fail(unavailable()), Decision::Deny(Reason::NotRetryable));
    for _ in 0..5 {
        assert_eq!(fail(Failure::Timeout(Stage::Read)), retry(0));
    }
    assert_eq!(
        fail(Failure::Timeout(Stage::Read)),
        Decision::Deny(Reason::Attempts)
    );
}

#[test]
fn a_stale_pooled_connection_is_replaced_once_for_free() {
    let budgets = tokens(1.0);
    let terms = Terms {
        attempts: 2,
        ..terms()
    };
    let mut tries = Tries::begin(NOW, 0);
    let mut fail = |terms: &Terms| {
        let failure = Failure::ResetOnReusedConnection;
        tries.failed(terms, &Request::default(), &failure, &budgets, NOW, 1.0)
    };
    assert_eq!(fail(&terms), FREE);
    assert_eq!(budgets.gauges(NOW)[0].withdrawals, 0);
    assert_eq!(fail(&terms), retry(25));
    assert_eq!(budgets.gauges(NOW)[0].withdrawals, 1);
    assert_eq!(fail(&terms), Decision::Deny(Reason::Attempts));
}

#[test]
fn the_free_attempt_needs_neither_attempts_nor_budget_nor_terms() {
    let none = Terms {
        retry_on: RetryOn::NOTHING,
        ..Terms::kong(0)
    };
    let mut tries = Tries::begin(NOW, 0);
    let failure = Failure::ResetOnReusedConnection;
    let request = Request::default();
    assert_eq!(
        tries.failed(&none, &request, &failure, &tokens(0.0), NOW, 1.0),
        FREE
    );
    let gone = Request {
        client_gone: true,
        ..request
    };
    assert_eq!(
        first(&none, &gone, &failure),
        Decision::Deny(Reason::ClientGone)
    );
}

#[test]
fn the_deadline_covers_all_attempts_and_the_waits_between_them() {
    let terms = Terms {
        deadline: Some(Duration::from_millis(100)),
        backoff: crate::Backoff {
            base: Duration::from_millis(40),
            ..Default::default()
        },
        ..terms()
    };
    let budgets = tokens(1.0);
    let mut tries = Tries::begin(NOW, 0);
    let mut fail_at = |elapsed, jitter| {
        let now = NOW.after(Duration::from_millis(elapsed));
        tries.failed(
            &terms,
            &Request::default(),
            &Failure::Reset,
            &budgets,
            now,
            jitter,
        )
    };
    assert_eq!(fail_at(60, 1.0), Decision::Deny(Reason::Deadline));
    assert_eq!(fail_at(100, 0.0), Decision::Deny(Reason::Deadline));
    // Neither was paid for: the only token is still there.
    assert_eq!(fail_at(59, 1.0), retry(40));
}

#[test]
fn an_attempt_gets_the_smallest_of_all_limits() {
    let ms = Duration::from_millis;
    let tries = Tries::begin(NOW, 0);
    let terms = Terms {
        per_try: Some(ms(300)),
        deadline: Some(ms(1_000)),
        ..Terms::default()
    };
    let at = |elapsed, service| tries.allowance(&terms, ms(service), NOW.after(ms(elapsed)));
    assert_eq!(at(0, 60_000), ms(300));
    assert_eq!(at(0, 200), ms(200));
    assert_eq!(at(900, 200), ms(100));
    assert_eq!(at(2_000, 200), Duration::ZERO);
    assert_eq!(
        tries.allowance(&Terms::kong(5), ms(60_000), NOW),
        ms(60_000)
    );
}

#[test]
fn retry_after_is_a_least_wait_and_ends_the_matter_when_too_long() {
    let after = |millis| {
        status(
            503,
            Hints {
                retry_after: Some(Duration::from_millis(millis)),
                ..Hints::NONE
            },
        )
    };
    let fine = Request::default();
    assert_eq!(first(&terms(), &fine, &after(0)), retry(25));
    assert_eq!(first(&terms(), &fine, &after(1_000)), retry(1_000));
    assert_eq!(
        first(&terms(), &fine, &after(1_001)),
        Decision::Deny(Reason::Deadline)
    );
    let deaf = Terms {
        longest_hint: None,
        ..terms()
    };
    assert_eq!(first(&deaf, &fine, &after(60_000)), retry(25));
    let hurried = Terms {
        deadline: Some(Duration::from_millis(500)),
        ..terms()
    };
    assert_eq!(
        first(&hurried, &fine, &after(600)),
        Decision::Deny(Reason::Deadline)
    );
}

#[test]
fn grpc_pushback_replaces_the_backoff_or_stops() {
    let keyed = Request {
        method: "POST",
        idempotency_key: true,
        ..Request::default()
    };
    let pushed = |value| Failure::Grpc {
        status: 14,
        hints: Hints {
            pushback: Some(Pushback::parse(value)),
            ..Hints::NONE
        },
    };
    assert_eq!(first(&terms(), &keyed, &pushed("7")), retry(7));
    assert_eq!(
        first(&terms(), &keyed, &pushed("-1")),
        Decision::Deny(Reason::NotRetryable)
    );
}

#[test]
fn only_first_attempts_pay_in() {
    let budgets = tokens(1.0);
    let deposits = || budgets.gauges(NOW)[0].deposits;
    Tries::begin(NOW, 0).succeeded(&budgets, NOW);
    assert_eq!(deposits(), 1);
    let mut tries = Tries::begin(NOW, 0);
    tries.failed(
        &terms(),
        &Request::default(),
        &Failure::Reset,
        &budgets,
        NOW,
        0.0,
    );
    tries.succeeded(&budgets, NOW);
    Tries::begin(NOW, 1).succeeded(&budgets, NOW);
    assert_eq!(deposits(), 1);
}

#[test]
fn a_request_that_arrives_as_a_retry_pays_first() {
    let budgets = tokens(1.0);
    assert_eq!(Tries::begin(NOW, 0).admit(&budgets, NOW), None);
    let tries = Tries::begin(NOW, 2);
    assert_eq!(tries.number(), 3);
    assert_eq!(tries.admit(&budgets, NOW), Some(retry(0)));
    assert_eq!(
        tries.admit(&budgets, NOW),
        Some(Decision::Deny(Reason::Budget))
    );
}

#[test]
fn labels_are_distinct() {
    let mut labels = Reason::ALL.map(Reason::label).to_vec();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), Reason::ALL.len());
}

fn any_failure() -> impl Strategy<Value = Failure> {
    let hints = (
        proptest::option::of(0_u64..3_000),
        proptest::option::of(-5_i64..3_000),
    )
        .prop_map(|(after, pushback)| Hints {
            retry_after: after.map(Duration::from_millis),
            pushback: pushback.map(|ms| Pushback::parse(&ms.to_string())),
        });
    prop_oneof![
        Just(Failure::ConnectFailed),
        Just(Failure::NotSent),
        Just(Failure::ResetOnReusedConnection),
        Just(Failure::Reset),
        Just(Failure::Timeout(Stage::Connect)),
        Just(Failure::Timeout(Stage::Send)),
        Just(Failure::Timeout(Stage::Read)),
        (500_u16..505, hints.clone()).prop_map(|(code, hints)| Failure::Status { code, hints }),
        (13_u16..16, hints).prop_map(|(status, hints)| Failure::Grpc { status, hints }),
    ]
}

proptest! {
    /// Whatever happens: the budget is charged for exactly the retries that are not free, at most one is free,
    /// attempts and deadline hold, and nothing unsafe is repeated.
    #[test]
    fn no_course_of_failures_breaks_the_terms(
        attempts in 1_u32..8,
        deadline in proptest::option::of(1_u64..5_000),
        causes in proptest::collection::vec(proptest::sample::select(&Cause::ALL[..]), 0..8),
        post in any::<bool>(),
        failures in proptest::collection::vec((any_failure(), 0_u64..400, 0.0_f64..1.0), 1..20),
        funds in 0_u32..10,
    ) {
        let terms = Terms {
            attempts,
            deadline: deadline.map(Duration::from_millis),
            retry_on: causes.iter().copied().collect(),
            ..terms()
        };
        let budgets = tokens(f64::from(funds));
        let request = Request {
            method: if post { "POST" } else { "GET" },
            ..Request::default()
        };
        let mut tries = Tries::begin(NOW, 0);
        let (mut now, mut paid, mut free_ones) = (NOW, 0, 0);
        for (failure, took, jitter) in failures {
            now = now.after(Duration::from_millis(took));
            match tries.failed(&terms, &request, &failure, &budgets, now, jitter) {
                Decision::Deny(_) => {}
                Decision::Retry { after, free } => {
                    prop_assert!(!post || !failure.was_sent());
                    prop_assert!(free || causes.contains(&failure.cause()));
                    now = now.after(after);
                    if let Some(deadline) = terms.deadline {
                        prop_assert!(now.since(NOW) <= deadline);
                    }
                    free_ones += u64::from(free);
                    paid += u64::from(!free);
                }
            }
        }
        prop_assert!(free_ones <= 1);
        prop_assert!(paid < u64::from(attempts));
        prop_assert!(funds > 0 || paid == 0);
        prop_assert_eq!(tries.number(), 1 + u32::try_from(paid).unwrap());
        prop_assert_eq!(budgets.gauges(now)[0].withdrawals, paid);
    }
}
