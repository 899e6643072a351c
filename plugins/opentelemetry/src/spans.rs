//! The spans of a request. Learnt from `kong/observability/tracing/instrumentation.lua`: names, attributes and the types of their values are
//! Kong's.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Version;
use prost::Message as _;
use serde::Deserialize;
use silverback_export::entry::tries;
use silverback_export::propagation::{SpanId, TraceId, new_span_id};
use silverback_plugin::LogCtx;

use crate::otlp::{KeyValue, Kind, Span, Status};

/// The trace that a request is part of, and the spans that were begun for it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trace {
    pub(crate) id: TraceId,
    /// The request's span.
    pub(crate) root: SpanId,
    /// Whose child that is.
    pub(crate) parent: Option<SpanId>,
    /// The span of the attempt that answers, where attempts are measured: the one that the upstream is told.
    pub(crate) attempt: Option<SpanId>,
    /// Whether it is recorded.
    pub(crate) sampled: bool,
}

impl Trace {
    /// The span of the request, then those of its attempts; encoded.
    pub(crate) fn spans(&self, ctx: &LogCtx<'_>) -> Vec<Bytes> {
        let took = ctx.ended.saturating_duration_since(ctx.facts.started);
        let ended = nanos(ctx.facts.started_at + took);
        let mut spans = vec![self.request(ctx, ended)];
        if let Some(answering) = self.attempt {
            spans.extend(self.attempts(ctx, answering, ended));
        }
        let encoded = spans.iter().map(|span| span.encode_to_vec().into());
        encoded.collect()
    }

    fn request(&self, ctx: &LogCtx<'_>, ended: u64) -> Span {
        let (facts, parts) = (ctx.facts, ctx.request.parts);
        // nginx' name for whoever names no host, in Kong's configuration of it.
        let host = match ctx.request.host {
            "" => "kong",
            host => host,
        };
        let target = String::from_utf8_lossy(ctx.request.path_and_query);
        let flavor = match parts.version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2.0",
            _ => "1.1",
        };
        let mut attributes = vec![
            KeyValue::text("http.method", parts.method.as_str()),
            KeyValue::text("http.url", format!("{}://{host}{target}", facts.scheme)),
            KeyValue::text("http.host", host),
            KeyValue::text("http.scheme", facts.scheme),
            KeyValue::text("http.flavor", flavor),
            KeyValue::text("http.client_ip", facts.client_ip.to_string()),
            KeyValue::text("net.peer.ip", facts.peer.ip().to_string()),
            KeyValue::text("kong.request.id", facts.request_id()),
        ];
        if facts.status != 0 {
            attributes.push(KeyValue::integer("http.status_code", facts.status.into()));
            attributes.push(KeyValue::text("http.route", first_path(ctx)));
        }
        Span {
            name: "kong".to_owned(),
            kind: Kind::Server.into(),
            attributes,
            ..self.span(self.root, self.parent, nanos(facts.started_at), ended)
        }
    }

    fn attempts(&self, ctx: &LogCtx<'_>, answering: SpanId, ended: u64) -> Vec<Span> {
        let attempts = &ctx.facts.attempts;
        let one = |(n, (attempt, known)): (usize, (silverback_export::entry::Try, Duration))| {
            let last = n + 1 == attempts.len();
            let began = attempt.balancer_start_ns;
            let (id, over) = match last {
                true => (answering, ended.max(began)),
                false => (new_span_id(), began.saturating_add(whole_nanos(known))),
            };
            let mut attributes = vec![
                KeyValue::number("try_count", (n + 1) as f64),
                KeyValue::text("net.peer.ip", attempt.ip.to_string()),
                KeyValue::number("net.peer.port", attempt.port.into()),
            ];
            if let Some(code) = attempt.code {
                attributes.push(KeyValue::integer("http.status_code", code.into()));
            }
            Span {
                name: "kong.balancer".to_owned(),
                kind: Kind::Client.into(),
                attributes,
                status: attempt.code.map(|_| Status { code: 2 }),
                ..self.span(id, Some(self.root), began, over)
            }
        };
        // How long an attempt took to choose its target and to connect.
        let known = attempts
            .iter()
            .map(|a| a.connect.or(a.choosing).unwrap_or_default());
        let tries = tries(attempts).into_iter().zip(known);
        tries.enumerate().map(one).collect()
    }

    fn span(&self, id: SpanId, parent: Option<SpanId>, began: u64, ended: u64) -> Span {
        Span {
            trace_id: self.id.to_vec(),
            span_id: id.to_vec(),
            parent_span_id: parent.map(|id| id.to_vec()).unwrap_or_default(),
            start_time_unix_nano: began,
            end_time_unix_nano: ended,
            ..Span::default()
        }
    }
}

/// The first of the route's paths; empty when it has none.
fn first_path(ctx: &LogCtx<'_>) -> String {
    #[derive(Deserialize)]
    struct Paths<'a> {
        #[serde(borrow)]
        paths: Option<Vec<Cow<'a, str>>>,
    }
    let row = ctx.source.route();
    let row = row.and_then(|row| serde_json::from_str::<Paths<'_>>(row.get()).ok());
    let paths = row.and_then(|row| row.paths).unwrap_or_default();
    paths.into_iter().next().unwrap_or_default().into_owned()
}

fn nanos(at: SystemTime) -> u64 {
    whole_nanos(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn whole_nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}
