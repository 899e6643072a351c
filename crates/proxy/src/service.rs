//! The proxy, as Pingora calls it.

use std::any::Any;
use std::future::Future;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use http::{Method, StatusCode};
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use silverback_balancer::Outcome;
use silverback_plugin::{Phases, Response};
use silverback_retry::Failure;

use crate::config::Shared;
use crate::exchange::{Exchange, at};
use crate::respond::{Origin, handled, respond};
use crate::{
    gate, log, request, respond as responses, response_headers, retry, target, upstream_headers,
};

/// Serves requests from the snapshot in force. One per worker.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
}

impl Proxy {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Proxy { shared }
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Box<Exchange>;

    fn new_ctx(&self) -> Self::CTX {
        Box::new(Exchange::new(&self.shared))
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {
        // Without this Pingora adds one for compression to every request.
    }

    async fn request_filter(&self, session: &mut Session, x: &mut Self::CTX) -> Result<bool> {
        let config = &x.shared.config;
        session.set_read_timeout(Some(config.client_read_timeout));
        session.set_write_timeout(Some(config.client_write_timeout));
        guarded(request::handle(session, x)).await
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        x: &mut Self::CTX,
    ) -> Result<Box<HttpPeer>> {
        guarded(retry::peer(session, x)).await
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: RawFd,
        _digest: Option<&Digest>,
        x: &mut Self::CTX,
    ) -> Result<()> {
        let took = if reused {
            Duration::ZERO
        } else {
            x.begun.elapsed()
        };
        if let Some(attempt) = x.facts.attempts.last_mut() {
            attempt.connect = Some(took);
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        x: &mut Self::CTX,
    ) -> Result<()> {
        let has_body = !session.is_body_empty();
        guard(|| upstream_headers::build(upstream, session.req_header(), x, has_body))
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        x: &mut Self::CTX,
    ) -> Result<()> {
        if let Some(whole) = &x.edits.body {
            // Limits are for what the client sent, which was read. Once in full with the first piece; what else the client sends was read already, or is replaced.
            *body = Some(if std::mem::replace(&mut x.body_sent, true) {
                Bytes::new()
            } else {
                whole.clone()
            });
            return Ok(());
        }
        if let Some(piece) = body {
            x.body_seen += piece.len() as u64;
            let most = x.shared.config.client_max_body_size;
            if most > 0 && x.body_seen > most {
                return Err(Error::new_down(ErrorType::HTTPStatus(413)));
            }
            if x.edits.refusal_of_body(x.body_seen).is_some() {
                return Err(Error::new_down(BODY_LIMIT));
            }
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        x: &mut Self::CTX,
    ) -> Result<()> {
        if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS
        {
            return Ok(());
        }
        guard(|| {
            let status = response.status.as_u16();
            let arrived = Instant::now();
            x.facts.upstream_header = Some(arrived);
            if let Some(attempt) = x.facts.attempts.last_mut() {
                attempt.status = Some(status);
            }
            target::ended(x, Outcome::Status(status));
            if retry::interesting(x, status) {
                let failure = retry::of_response(status, &response.headers);
                if retry::decide(session, x, failure, Some(&response.headers)) {
                    let mut e = Error::new_up(retry::REJECTED);
                    e.set_retry(true);
                    return Err(e);
                }
            }
            if status < 500
                && let (Some(tries), Some(route)) = (&x.tries, x.route())
            {
                tries.succeeded(&route.budgets, at(arrived));
            }
            Ok(())
        })
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        x: &mut Self::CTX,
    ) -> Result<()> {
        if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS
        {
            return Ok(());
        }
        guard(|| {
            if x.edits.method == Some(Method::HEAD) && session.req_header().method != Method::HEAD {
                response_headers::without_body(response)?;
            }
            let is_empty = x.chain().has(Phases::BODY_FILTER)
                && response_headers::has_empty_body(response, session.req_header());
            if x.chain().has(Phases::HEADER_FILTER) {
                responses::header_filter(session, x, response);
                response_headers::reframe(response, session.req_header())?;
            }
            // Pingora calls no filter for a body that ends with the head.
            if is_empty {
                responses::body_filter(x, &mut None, true);
                x.body_over = true;
            }
            if response_headers::unchunk(response, session.req_header()) {
                session.set_keepalive(None);
            }
            response_headers::proxied(response, session.req_header(), x)
        })
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        x: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        // Another protocol's bytes are no body.
        if x.chain().has(Phases::BODY_FILTER) && !session.was_upgraded() && !x.body_over {
            guard(|| {
                responses::body_filter(x, body, end);
                Ok(())
            })?;
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        x: &mut Self::CTX,
        mut e: Box<Error>,
    ) -> Box<Error> {
        let again = match retry::classify(&e, false) {
            Some(failure) => failed(session, x, failure, &e),
            None => false,
        };
        e.set_retry(again);
        e
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut e: Box<Error>,
        x: &mut Self::CTX,
        reused: bool,
    ) -> Box<Error> {
        if *e.etype() == retry::REJECTED {
            x.facts.upstream_header = None;
            e.set_retry(true);
            return e;
        }
        let again = match retry::classify(&e, reused) {
            Some(failure) => failed(session, x, failure, &e),
            None => false,
        };
        // Also decides what Pingora left open for connections that were reused, which it would otherwise panic over.
        e.set_retry(again);
        e
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        e: &Error,
        x: &mut Self::CTX,
    ) -> FailToProxy {
        let written = session
            .response_written()
            .filter(|r| !r.status.is_informational())
            .map(|r| r.status.as_u16());
        if let Some(status) = written {
            if *e.esource() != ErrorSource::Downstream {
                tracing::error!(
                    request_id = x.facts.request_id(),
                    "response broken off: {e}"
                );
            }
            return FailToProxy {
                error_code: status,
                can_reuse_downstream: false,
            };
        }
        // Pingora gives no connection back after a failure; say so.
        session.set_keepalive(None);
        let Some((response, origin)) = reply_to(session, e, x) else {
            return FailToProxy {
                error_code: 0,
                can_reuse_downstream: false,
            };
        };
        let error_code = response.status.as_u16();
        if let Err(e) = guarded(respond(session, x, response, origin)).await {
            tracing::debug!(
                request_id = x.facts.request_id(),
                "the client did not take the error response: {e}"
            );
        }
        if !session.is_http2() {
            // Lets a client that is still sending see the answer.
            session.as_downstream_mut().shutdown().await;
        }
        FailToProxy {
            error_code,
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, x: &mut Self::CTX) {
        // What a plugin does is guarded one by one in the chain.
        if guard(|| {
            log::finish(session, e, x);
            Ok(())
        })
        .is_err()
        {
            tracing::error!(
                request_id = x.facts.request_id(),
                "panic while a request was logged"
            );
        }
    }

    fn suppress_error_log(&self, _session: &Session, _x: &Self::CTX, _e: &Error) -> bool {
        // Ours, with the request's id, is written where the failure is dealt with.
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Self::CTX,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

fn failed(session: &Session, x: &mut Exchange, failure: Failure, e: &Error) -> bool {
    tracing::error!(
        request_id = x.facts.request_id(),
        target = %x.facts.attempts.last().map(|a| a.target.to_string()).unwrap_or_default(),
        "upstream: {e}"
    );
    match failure {
        // The connection was old, or of the wrong kind: that says nothing about the target.
        Failure::ResetOnReusedConnection | Failure::NotSent => {}
        Failure::Timeout(_) => target::ended(x, Outcome::Timeout),
        _ => target::ended(x, Outcome::TcpFailure),
    }
    guard(|| Ok(retry::decide(session, x, failure, None))).unwrap_or(false)
}

/// A body is longer than a plugin allows.
const BODY_LIMIT: ErrorType = ErrorType::Custom("BodyLimit");

/// What the client is told of a failure; `None` when it is not there to be told.
fn reply_to(session: &Session, e: &Error, x: &Exchange) -> Option<(Response, Origin)> {
    let nginx = |status| Some((handled(session, x, status), Origin::Gateway));
    let unavailable = |text| {
        let response = Response::error(StatusCode::SERVICE_UNAVAILABLE, text);
        Some((response, Origin::Gateway))
    };
    match (e.etype(), e.esource()) {
        (t, _) if *t == target::DNS => unavailable("name resolution failed"),
        (t, _) if *t == target::NO_PEER => {
            unavailable("failure to get a peer from the ring-balancer")
        }
        (t, _) if *t == BODY_LIMIT => {
            let body = x.edits.body.as_ref();
            let length = body.map_or(x.body_seen, |b| b.len() as u64);
            let refusal = x.edits.refusal_of_body(length)?;
            Some((refusal.clone(), Origin::Gateway))
        }
        (ErrorType::HTTPStatus(status), _) => nginx(*status),
        (
            ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout,
            ErrorSource::Upstream,
        ) => Some((handled(session, x, 504), Origin::Upstream)),
        (_, ErrorSource::Upstream) => Some((handled(session, x, 502), Origin::Upstream)),
        (ErrorType::ReadTimedout, ErrorSource::Downstream) => nginx(408),
        (ErrorType::ReadError, ErrorSource::Downstream) if malformed(e) => nginx(400),
        (
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed,
            ErrorSource::Downstream,
        ) => None,
        (_, ErrorSource::Downstream) => nginx(400),
        (_, ErrorSource::Internal | ErrorSource::Unset) => {
            tracing::error!(request_id = x.facts.request_id(), "{e}");
            Some((request::unexpected(), Origin::Gateway))
        }
    }
}

/// Whether the gate broke the stream off because of a malformed chunk.
fn malformed(e: &Error) -> bool {
    e.to_string().contains(gate::BAD_CHUNK)
}

/// Runs a phase; a panic becomes an error, so that the client is answered and the request logged.
fn guard<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|p| Err(panicked(p.as_ref())))
}

async fn guarded<T>(run: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(run)
        .catch_unwind()
        .await
        .unwrap_or_else(|p| Err(panicked(p.as_ref())))
}

fn panicked(payload: &(dyn Any + Send)) -> Box<Error> {
    let text = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    let mut e = Error::explain(ErrorType::InternalError, format!("panic: {text}"));
    e.as_in();
    e
}
