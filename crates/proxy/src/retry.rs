//! Attempts at the upstream: where the next one goes, and whether there is one.

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderValue, header};
use pingora_core::protocols::ALPN;
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora_core::utils::tls::CertKey;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::Session;
use silverback_plugin::context::Failure as Seen;
use silverback_plugin::{Attempt, FailureCtx, Phases, RetryAdvice, RetryTerms};
use silverback_retry::{
    Backoff, Cause, Decision, Failure, Hints, Methods, Pushback, Reason, Request, Stage, Terms,
    Tries, retry_after,
};
use silverback_router::split_host_port;
use silverback_runtime::Destination;
use silverback_telemetry::RetryOutcome;

use crate::exchange::{Exchange, authority, now, view};
use crate::ids;
use crate::names::{GRPC_PUSHBACK, IDEMPOTENCY_KEY};
use crate::target;

/// An answer was thrown away for another attempt.
pub(crate) const REJECTED: ErrorType = ErrorType::Custom("RetriedStatus");

/// Chooses where the next attempt goes, after the pause before it.
pub(crate) async fn peer(session: &Session, x: &mut Exchange) -> Result<Box<HttpPeer>> {
    if x.pause > Duration::ZERO {
        // Boxed, as all that is rare: the future of every request is made on the heap, and small ones cost less.
        Box::pin(tokio::time::sleep(std::mem::take(&mut x.pause))).await;
    }
    x.begun = Instant::now();
    x.facts.proxied.get_or_insert(x.begun);
    let target = target::choose(session, x).await?;
    let limit = allowance(x);
    // Fields apart, so that the service can be looked at while the rest is filled.
    let Exchange {
        snapshot,
        route,
        facts,
        edits,
        shared,
        body_sent,
        body_seen,
        begun,
        pick,
        ..
    } = x;
    let route = route.map(|r| &snapshot.routes[r]);
    let (Some(route), Some(service)) = (route, route.and_then(|r| r.service.as_deref())) else {
        return Error::e_explain(
            ErrorType::InternalError,
            "a request without service was to be proxied",
        );
    };
    // Each attempt takes the body from its first byte.
    *body_sent = false;
    *body_seen = 0;
    let logged = route.chain.has(Phases::LOG);
    facts.attempts.push(Attempt {
        target,
        started: SystemTime::now(),
        choosing: logged.then(|| begun.elapsed()),
        connect: None,
        status: None,
        failure: None,
    });
    let mut sni = String::new();
    if service.tls {
        let client = session.req_header();
        // As in Kong, the name follows the `Host` that the upstream sees.
        sni = match edits.lookup(&header::HOST).flatten() {
            Some(host) => split_host_port(host.to_str().unwrap_or_default())
                .0
                .to_owned(),
            None if route.preserve_host => split_host_port(authority(client)).0.to_owned(),
            None => match pick {
                Some(pick) => pick.authority.sni.clone(),
                None => service.sni.clone(),
            },
        };
        if sni.is_empty() && service.tls_verify {
            // Without a name Pingora would not verify at all.
            sni = match &service.destination {
                Destination::Host(pool) => pool.host().to_owned(),
                Destination::Upstream(_) => target.ip().to_string(),
            };
        }
    }
    // From an address nothing is resolved, and nothing can fail.
    #[allow(clippy::disallowed_methods)]
    let mut peer = Box::new(HttpPeer::new(target, service.tls, sni));
    peer.group_key = service.group_key;
    if let Some(c) = service.client_certificate.as_ref().filter(|_| service.tls) {
        peer.client_cert_key = Some(c.form(|chain, key| CertKey::new(chain.to_vec(), key.clone())));
    }
    let cap = |t: Duration| Some(limit.map_or(t, |l| l.min(t)));
    let o = &mut peer.options;
    o.connection_timeout = cap(service.connect_timeout);
    o.total_connection_timeout = o.connection_timeout;
    o.read_timeout = cap(service.read_timeout);
    o.write_timeout = cap(service.write_timeout);
    o.idle_timeout = Some(shared.config.upstream_keepalive_idle);
    o.verify_cert = service.tls_verify;
    o.verify_hostname = service.tls_verify;
    // What is forwarded of the client's head is decided in one place, `upstream_headers`.
    o.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
    if service.grpc() {
        o.alpn = ALPN::H2;
    }
    Ok(peer)
}

/// The longest the present attempt may take, where a plugin set terms.
fn allowance(x: &Exchange) -> Option<Duration> {
    let terms = x.facts.retry.as_ref()?;
    let left = terms.deadline.map(|d| {
        d.saturating_sub(x.facts.started.elapsed())
            .max(Duration::from_millis(1))
    });
    match (terms.per_try_timeout, left) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// What an error of an attempt says about it. `None` when the upstream is not to blame.
pub(crate) fn classify(e: &Error, reused: bool) -> Option<Failure> {
    if *e.esource() == ErrorSource::Downstream || *e.etype() == ErrorType::InternalError {
        return None;
    }
    Some(match e.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => {
            Failure::Timeout(Stage::Connect)
        }
        ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::SocketError
        | ErrorType::BindError
        | ErrorType::TLSHandshakeFailure
        | ErrorType::TLSWantX509Lookup
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError
        | ErrorType::ConnectProxyFailure => Failure::ConnectFailed,
        ErrorType::H2Downgrade => Failure::NotSent,
        ErrorType::ReadTimedout => Failure::Timeout(Stage::Read),
        ErrorType::WriteTimedout => Failure::Timeout(Stage::Send),
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed if reused => {
            Failure::ResetOnReusedConnection
        }
        _ => Failure::Reset,
    })
}

/// Decides whether a failed attempt is followed by another, and notes it.
pub(crate) fn decide(
    session: &Session,
    x: &mut Exchange,
    failure: Failure,
    response: Option<&HeaderMap>,
) -> bool {
    let seen = seen(&failure);
    if let Some(attempt) = x.facts.attempts.last_mut() {
        attempt.failure = Some(label(&failure));
        if let Failure::Status { code, .. } = failure {
            attempt.status = Some(code);
        }
    }
    let Some(mut tries) = x.tries else {
        return false;
    };
    let advice = advice(session, x, seen, &tries, response);
    let mut terms = terms(x);
    let mut at_least = Duration::ZERO;
    match advice {
        RetryAdvice::Pass => {}
        RetryAdvice::Stop(why) => {
            count(x, outcome_named(why));
            return false;
        }
        RetryAdvice::Retry(pause) => {
            at_least = pause.unwrap_or_default();
            terms.retry_on = Cause::ALL.into_iter().collect();
            if let Failure::Status { code, .. } = failure {
                terms.statuses = [code].into();
            }
        }
    }
    let client = session.req_header();
    let written = session
        .response_written()
        .is_some_and(|r| !r.status.is_informational());
    let request = Request {
        // What the upstream was asked to do counts.
        method: x.edits.method.as_ref().unwrap_or(&client.method).as_str(),
        idempotency_key: client.headers.contains_key(&IDEMPOTENCY_KEY),
        // Also of a body that is replaced the client's has to be there, to be replaced.
        body_replayable: !session.retry_buffer_truncated(),
        response_started: written,
        client_gone: false,
    };
    let Some(route) = x.route() else { return false };
    let decision = tries.failed(
        &terms,
        &request,
        &failure,
        &route.budgets,
        now(),
        ids::unit(),
    );
    x.tries = Some(tries);
    match decision {
        Decision::Retry { after, free } => {
            x.pause = after.max(at_least);
            if !free {
                count(x, Some(RetryOutcome::Sent));
            }
            tracing::debug!(
                request_id = x.facts.request_id(),
                failure = label(&failure),
                "trying again"
            );
            true
        }
        Decision::Deny(reason) => {
            x.exhausted |= reason == Reason::Budget;
            count(x, outcome_of(reason));
            false
        }
    }
}

fn advice(
    session: &Session,
    x: &Exchange,
    failure: Seen,
    tries: &Tries,
    response: Option<&HeaderMap>,
) -> RetryAdvice {
    if !x.chain().has(Phases::ON_FAILURE) {
        return RetryAdvice::Pass;
    }
    let client = session.req_header();
    let ctx = FailureCtx {
        request: view(client, client.raw_path()),
        facts: &x.facts,
        failure,
        attempt: tries.number(),
        target: x.facts.attempts.last().map(|a| a.target),
        response_headers: response,
        terms: x.facts.retry.as_deref(),
    };
    x.chain().on_failure(&x.picks, &ctx)
}

/// The terms in force: the plugin's, or Kong's from the service.
fn terms(x: &Exchange) -> Terms {
    let retries = x.service().map_or(0, |s| s.retries);
    match &x.facts.retry {
        Some(t) => of_plugin(t),
        None => Terms::kong(u16::try_from(retries).unwrap_or(u16::MAX)),
    }
}

fn of_plugin(t: &RetryTerms) -> Terms {
    let mut on = vec![Cause::Status, Cause::GrpcStatus];
    if t.on_connect_failure {
        on.extend([Cause::ConnectFailure, Cause::ConnectTimeout, Cause::NotSent]);
    }
    if t.on_reset {
        on.push(Cause::Reset);
    }
    if t.on_timeout {
        on.extend([Cause::ReadTimeout, Cause::SendTimeout]);
    }
    Terms {
        attempts: t.attempts,
        per_try: t.per_try_timeout,
        deadline: t.deadline,
        backoff: Backoff {
            base: t.backoff_base,
            cap: t.backoff_cap,
        },
        retry_on: on.into_iter().collect(),
        statuses: t.statuses.as_slice().into(),
        methods: Methods::Only(t.methods.iter().map(|m| m.as_str().into()).collect()),
        longest_hint: Terms::default()
            .longest_hint
            .filter(|_| t.honour_retry_after),
        ..Terms::default()
    }
}

/// Whether a status is to be looked at at all: for a plain success nothing is computed.
pub(crate) fn interesting(x: &Exchange, status: u16) -> bool {
    x.facts
        .retry
        .as_ref()
        .is_some_and(|t| t.statuses.contains(&status))
        || status >= 400 && x.chain().has(Phases::ON_FAILURE)
}

/// A response as a failure.
pub(crate) fn of_response(status: u16, headers: &HeaderMap) -> Failure {
    let text = |v: Option<&HeaderValue>| v.and_then(|v| v.to_str().ok().map(str::to_owned));
    let hints = Hints {
        retry_after: text(headers.get(header::RETRY_AFTER))
            .and_then(|v| retry_after(&v, SystemTime::now())),
        pushback: text(headers.get(&GRPC_PUSHBACK)).map(|v| Pushback::parse(&v)),
    };
    Failure::Status {
        code: status,
        hints,
    }
}

fn seen(failure: &Failure) -> Seen {
    match failure {
        Failure::ConnectFailed | Failure::NotSent => Seen::Connect,
        Failure::Timeout(Stage::Connect) => Seen::ConnectTimeout,
        Failure::Timeout(_) => Seen::Timeout,
        Failure::Reset | Failure::ResetOnReusedConnection => Seen::Reset,
        Failure::Status { code, .. } => Seen::Status(*code),
        Failure::Grpc { status, .. } => Seen::Status(*status),
    }
}

fn label(failure: &Failure) -> &'static str {
    failure.cause().name()
}

fn count(x: &Exchange, outcome: Option<RetryOutcome>) {
    if let (Some(outcome), Some(service)) = (outcome, x.service()) {
        service.metrics.retry(outcome);
    }
}

fn outcome_of(reason: Reason) -> Option<RetryOutcome> {
    match reason {
        Reason::Budget => Some(RetryOutcome::DeniedBudget),
        Reason::Method => Some(RetryOutcome::DeniedMethod),
        Reason::Body => Some(RetryOutcome::DeniedBody),
        Reason::Deadline => Some(RetryOutcome::DeniedDeadline),
        Reason::Attempts => Some(RetryOutcome::DeniedAttempts),
        Reason::NotRetryable | Reason::ClientGone => None,
    }
}

fn outcome_named(label: &str) -> Option<RetryOutcome> {
    Reason::ALL
        .into_iter()
        .find(|r| r.label() == label)
        .and_then(outcome_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugins_terms_are_those_it_documents() {
        let second = Duration::from_secs(1);
        let mut plugin = RetryTerms {
            attempts: 3,
            per_try_timeout: None,
            deadline: None,
            backoff_base: Duration::from_millis(25),
            backoff_cap: second * 5,
            statuses: vec![503],
            methods: vec![http::Method::POST],
            on_connect_failure: false,
            on_reset: true,
            on_timeout: false,
            honour_retry_after: true,
            budget: None,
        };
        let terms = of_plugin(&plugin);
        let waits = [1, 2].map(|retry| terms.backoff.wait(retry, 1.0).as_millis());
        assert_eq!(waits, [25, 50], "the longest pauses");
        assert_eq!(terms.longest_hint, Some(second), "whatever the backoff");
        let status = |code| Failure::Status {
            code,
            hints: Hints::NONE,
        };
        assert!(terms.names(&Failure::Reset) && terms.names(&status(503)));
        let others = [
            Failure::ConnectFailed,
            Failure::Timeout(Stage::Read),
            status(502),
        ];
        assert!(!others.iter().any(|f| terms.names(f)));
        assert!(terms.methods.contains("POST") && !terms.methods.contains("GET"));
        plugin.honour_retry_after = false;
        assert_eq!(of_plugin(&plugin).longest_hint, None);
    }
}
