//! The end of a request: its log line, its metrics, the plugins' `log`. Exactly once per request.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use http::{HeaderValue, Version, header};
use pingora_core::{Error, ErrorSource};
use pingora_proxy::Session;
use serde_json::value::RawValue;
use silverback_plugin::{LogCtx, LogSource, Phases, Tls};
use silverback_telemetry::{AccessRecord, Collect, RequestOutcome, Source};

use crate::exchange::{Exchange, view};
use crate::upstream_headers::edited_target;

/// nginx' status for a client that did not wait.
const CLIENT_CLOSED: u16 = 499;

/// Counts and logs a request that has ended.
pub(crate) fn finish(session: &Session, error: Option<&Error>, x: &mut Exchange) {
    if std::mem::replace(&mut x.logged, true) {
        return;
    }
    let written = session.response_written();
    x.facts.status = match written {
        Some(head) if !head.status.is_informational() || head.status.as_u16() == 101 => {
            head.status.as_u16()
        }
        _ if error.is_none_or(|e| *e.esource() == ErrorSource::Downstream) => CLIENT_CLOSED,
        _ => 500,
    };
    x.facts.response_bytes = session.body_bytes_sent() as u64;
    x.facts.request_bytes = session.body_bytes_read() as u64;
    count(session, x);
    let client = session.req_header();
    let route = x.route();
    if x.chain().has(Phases::LOG) {
        let ctx = LogCtx {
            request: view(client, client.raw_path()),
            facts: &x.facts,
            ended: Instant::now(),
            upstream: &x.edits,
            source: &Ended { session, x },
            response_headers: written.map(|w| &w.headers),
            route: route.map(|r| r.info()),
            service: x.service().map(|s| &s.info),
        };
        x.chain().log(&x.picks, &ctx);
    }
    if x.shared.access_log.enabled() {
        access(session, x);
    }
}

fn count(session: &Session, x: &Exchange) {
    let Some(route) = x.route() else { return };
    let f = &x.facts;
    let collect = route.chain.collect(&x.picks);
    let (mut request_us, mut upstream_us, mut kong_us) = (0, None, 0);
    if collect.latency {
        request_us = micros(f.started.elapsed());
        upstream_us = waiting(x).map(micros);
        // As in Kong (`kong/pdk/log.lua`) the time in which a response went through to the client is in neither of the two.
        let done = f.proxied.or(f.responded);
        kong_us = done.map_or(request_us, |done| {
            micros(done.saturating_duration_since(f.started))
        });
    }
    let (mut ingress_bytes, mut egress_bytes) = (0, 0);
    if collect.bandwidth {
        ingress_bytes = request_size(session, x);
        egress_bytes = response_size(session, x);
    }
    let outcome = RequestOutcome {
        code: f.status,
        source: if f.local_response {
            Source::Kong
        } else {
            Source::Service
        },
        request_us,
        upstream_us,
        kong_us,
        ingress_bytes,
        egress_bytes,
        consumer: f.consumer.as_ref().and_then(|c| c.username.as_deref()),
    };
    route.metrics.record(collect, &outcome);
}

/// Head and body as they were received.
fn request_size(session: &Session, x: &Exchange) -> u64 {
    session.to_h1_raw().len() as u64 + x.facts.request_bytes
}

/// Head and body as they were sent, a body's framing aside.
fn response_size(session: &Session, x: &Exchange) -> u64 {
    let head = session.response_written().map_or(0, |h| {
        let lines = h
            .headers
            .iter()
            .map(|(k, v)| k.as_str().len() + v.len() + 4);
        let reason = h.status.canonical_reason().unwrap_or_default();
        lines.sum::<usize>() + "HTTP/1.1 200 \r\n\r\n".len() + reason.len()
    });
    head as u64 + x.facts.response_bytes
}

/// An exchange that is over, for plugins that log it.
struct Ended<'a> {
    session: &'a Session,
    x: &'a Exchange,
}

impl LogSource for Ended<'_> {
    fn route(&self) -> Option<&RawValue> {
        self.x.route()?.text()
    }

    fn service(&self) -> Option<&RawValue> {
        self.x.service()?.text()
    }

    fn consumer(&self) -> Option<Cow<'_, RawValue>> {
        let id = self.x.facts.consumer.as_ref()?.id;
        self.x.snapshot.directory.consumer_text(id).map(Cow::Owned)
    }

    fn upstream_target(&self) -> Option<Cow<'_, [u8]>> {
        self.x.route()?;
        let sent = self.x.target.as_deref();
        let target = sent.unwrap_or_else(|| self.session.req_header().raw_path());
        let edits = &self.x.edits;
        if edits.path.is_none() && edits.query.is_none() {
            return Some(Cow::Borrowed(target));
        }
        Some(Cow::Owned(edited_target(target, edits)))
    }

    fn request_size(&self) -> u64 {
        request_size(self.session, self.x)
    }

    fn response_size(&self) -> u64 {
        response_size(self.session, self.x)
    }

    fn tls(&self) -> Option<Tls<'_>> {
        let tls = self.session.digest()?.ssl_digest.as_ref()?;
        Some(Tls {
            version: &tls.version,
            cipher: &tls.cipher,
        })
    }
}

fn access(session: &Session, x: &Exchange) {
    let client = session.req_header();
    let f = &x.facts;
    let get = |name| client.headers.get(name).map(HeaderValue::as_bytes);
    let route = x.route();
    let (mut route_id, mut service_id) = ([0; 36], [0; 36]);
    let record = AccessRecord {
        remote_addr: Some(f.client_ip),
        remote_user: None,
        method: client.method.as_str().as_bytes(),
        target: client.raw_path(),
        protocol: match client.version {
            Version::HTTP_2 => "HTTP/2.0",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        },
        status: f.status,
        body_bytes_sent: f.response_bytes,
        referer: get(header::REFERER),
        user_agent: get(header::USER_AGENT),
        request_id: f.request_id(),
        host: get(header::HOST),
        route: route.map(|r| match &r.info().name {
            Some(name) => name.as_str(),
            None => r.info().id.as_hyphenated().encode_lower(&mut route_id),
        }),
        service: x.service().map(|s| match &s.info.name {
            Some(name) => name.as_str(),
            None => s.info.id.as_hyphenated().encode_lower(&mut service_id),
        }),
        consumer: f.consumer.as_ref().and_then(|c| c.username.as_deref()),
        upstream: f.attempts.last().map(|a| a.target),
        attempts: u32::try_from(f.attempts.len()).unwrap_or(u32::MAX),
        request_us: micros(f.started.elapsed()),
        upstream_us: waiting(x).map(micros),
    };
    x.shared.access_log.log(&record);
}

/// A request whose end nobody saw: what is known is logged.
pub(crate) fn abandoned(x: &mut Exchange) {
    x.logged = true;
    x.facts.status = 500;
    if !std::thread::panicking() {
        return;
    }
    tracing::error!(
        request_id = x.facts.request_id(),
        "request ended by a panic"
    );
    if let Some(route) = x.route() {
        let outcome = RequestOutcome {
            code: 500,
            source: Source::Kong,
            request_us: 0,
            upstream_us: None,
            kong_us: 0,
            ingress_bytes: 0,
            egress_bytes: 0,
            consumer: None,
        };
        route.metrics.record(Collect::default(), &outcome);
    }
    if x.shared.access_log.enabled() {
        x.shared.access_log.log(&AccessRecord {
            remote_addr: Some(x.facts.client_ip),
            status: 500,
            request_id: x.facts.request_id(),
            request_us: micros(x.facts.started.elapsed()),
            ..AccessRecord::default()
        });
    }
}

fn waiting(x: &Exchange) -> Option<Duration> {
    let from = x.facts.proxied?;
    Some(
        x.facts
            .upstream_header
            .unwrap_or_else(Instant::now)
            .saturating_duration_since(from),
    )
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
