//! What a plugin that logs may ask of an exchange in a test.
//!
//! An exchange takes 20 ms: after 2 the upstream is turned to, at 127.0.0.1:9000, or the plugin's answer is made; after 15 the upstream has
//! answered.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::Exchange;
use crate::{Attempt, Consumer, LogSource, Tls, UpstreamEdits};

/// The try at the upstream.
pub(super) fn attempt(started: SystemTime, status: StatusCode) -> Attempt {
    Attempt {
        target: SocketAddr::from(([127, 0, 0, 1], 9000)),
        started: started + Duration::from_millis(2),
        choosing: Some(Duration::from_micros(12)),
        connect: Some(Duration::from_millis(1)),
        status: Some(status.as_u16()),
        failure: None,
    }
}

/// An exchange that is over.
pub(super) struct FakeSource {
    route: Box<RawValue>,
    service: Option<Box<RawValue>>,
    consumer: Option<Box<RawValue>>,
    target: Vec<u8>,
    request_size: u64,
    response_size: u64,
    tls: bool,
}

impl FakeSource {
    /// Of an exchange, with what the plugin changed, whom it found, and the response's headers and length.
    pub(super) fn new(
        exchange: &Exchange,
        edits: &UpstreamEdits,
        consumer: Option<&Consumer>,
        response: (&HeaderMap, usize),
    ) -> Self {
        let row = |id: &dyn ToString, name: &Option<String>| {
            raw(&json!({ "id": id.to_string(), "name": name }))
        };
        let (path, query) = match exchange.path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (exchange.path_and_query.as_str(), None),
        };
        let query = edits.query.as_deref().or(query).filter(|q| !q.is_empty());
        let path = edits.path.as_deref().unwrap_or(path);
        let target = match query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let head = |headers: &HeaderMap| {
            let lines = headers.iter().map(|(k, v)| k.as_str().len() + v.len() + 4);
            lines.sum::<usize>() as u64
        };
        FakeSource {
            route: row(&exchange.route.id, &exchange.route.name),
            service: exchange
                .service
                .as_ref()
                .map(|s| raw(&json!({ "id": s.id.to_string(), "name": s.name, "host": s.host }))),
            consumer: consumer.map(|c| {
                raw(&json!({ "id": c.id.to_string(), "username": c.username.as_deref() }))
            }),
            target: target.into_bytes(),
            request_size: head(&exchange.request.headers) + exchange.body.len() as u64,
            response_size: head(response.0) + response.1 as u64,
            tls: exchange.tls,
        }
    }
}

impl LogSource for FakeSource {
    fn route(&self) -> Option<&RawValue> {
        Some(&self.route)
    }

    fn service(&self) -> Option<&RawValue> {
        self.service.as_deref()
    }

    fn consumer(&self) -> Option<Cow<'_, RawValue>> {
        self.consumer.as_deref().map(Cow::Borrowed)
    }

    fn upstream_target(&self) -> Option<Cow<'_, [u8]>> {
        Some(Cow::Borrowed(&self.target))
    }

    fn request_size(&self) -> u64 {
        self.request_size
    }

    fn response_size(&self) -> u64 {
        self.response_size
    }

    fn tls(&self) -> Option<Tls<'_>> {
        self.tls.then_some(Tls {
            version: "TLSv1.3",
            cipher: "TLS_AES_256_GCM_SHA384",
        })
    }
}

fn raw(value: &serde_json::Value) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|e| panic!("{value}: {e}"))
}
