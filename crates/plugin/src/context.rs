//! What a plugin sees in each phase. Contexts are views: headers stay in the proxy's own types.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::RetryTerms;
use crate::edits::{UpstreamEdits, values_after};
use crate::facts::{Directory, Facts, RouteInfo, ServiceInfo};
use crate::flow::PluginError;
use crate::header::HeaderKey;

/// The client's request as it arrived.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// Method, headers, version. The URI may have lost bytes that are not UTF-8: see `path`.
    pub parts: &'a request::Parts,
    /// The raw path with the query, as on the request line.
    pub path_and_query: &'a [u8],
    /// The host as routed on, without port.
    pub host: &'a str,
}

impl<'a> RequestView<'a> {
    /// The raw path.
    pub fn path(&self) -> &'a [u8] {
        self.path_and_query
            .split(|b| *b == b'?')
            .next()
            .unwrap_or_default()
    }

    /// The raw query.
    pub fn query(&self) -> Option<&'a [u8]> {
        self.path_and_query
            .iter()
            .position(|b| *b == b'?')
            .map(|i| &self.path_and_query[i + 1..])
    }

    /// The first value of a header.
    pub fn header(&self, name: impl http::header::AsHeaderName) -> Option<&'a HeaderValue> {
        self.parts.headers.get(name)
    }
}

/// Gives the request's body to a plugin that needs the whole of it. The upstream still gets it.
#[async_trait]
pub trait BodySource: Send {
    /// The whole body, `Err` when it is longer than `max` bytes or the client failed to send it.
    async fn read(&mut self, max: usize) -> Result<Bytes, PluginError>;
}

/// What the groups of the route's regular expression matched in the path. The whole match is number 0; a group that took no part is `None`,
/// and is left out of those with a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captures {
    /// By number.
    pub numbered: Vec<Option<String>>,
    /// By name.
    pub named: Vec<(String, String)>,
}

/// Tells [`Captures`] to a plugin that asks: matching the path once more is then done, and for no other request.
pub trait CaptureSource: Sync {
    /// The captures; `None` when the path was not matched by a regular expression, or by one without groups.
    fn captures(&self) -> Option<Captures>;
}

/// That there are no captures.
#[derive(Debug, Clone, Copy)]
pub struct NoCaptures;

impl CaptureSource for NoCaptures {
    fn captures(&self) -> Option<Captures> {
        None
    }
}

/// `rewrite` and `access`.
pub struct AccessCtx<'a> {
    /// The client's request.
    pub request: RequestView<'a>,
    /// Facts, to read and to set.
    pub facts: &'a mut Facts,
    /// Changes to the upstream request.
    pub upstream: &'a mut UpstreamEdits,
    /// Path and query that the upstream gets unless they are changed; in `rewrite` those of the request.
    pub upstream_target: &'a [u8],
    /// Consumers and credentials.
    pub directory: &'a dyn Directory,
    /// The matched route; `None` in `rewrite`.
    pub route: Option<&'a RouteInfo>,
    /// Its service.
    pub service: Option<&'a ServiceInfo>,
    /// The request's body, for asynchronous phases.
    pub body: &'a mut dyn BodySource,
    /// What the route's regular expression matched.
    pub captures: &'a dyn CaptureSource,
}

impl AccessCtx<'_> {
    /// A header of the request as earlier plugins left it.
    pub fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        match self.upstream.lookup(name) {
            Some(edited) => edited,
            None => self.request.parts.headers.get(name),
        }
    }

    /// All values of a header of the request as earlier plugins left it.
    pub fn header_values(&self, name: &HeaderName) -> SmallVec<[&HeaderValue; 1]> {
        values_after(&self.request.parts.headers, &self.upstream.headers, name)
    }

    /// The whole body of the client, up to `max` bytes.
    ///
    /// # Errors
    /// When it is longer, or longer than an earlier plugin allows ([`UpstreamEdits::limit_body`]): then the client gets that plugin's refusal,
    /// whatever is done about the error. When it cannot be read.
    pub async fn read_body(&mut self, max: usize) -> Result<Bytes, PluginError> {
        let body = self.body.read(max).await;
        let Some(limit) = &mut self.upstream.body_limit else {
            return body;
        };
        limit.exceeded |= match &body {
            Ok(body) => body.len() as u64 > limit.most,
            Err(e) => e.is_body_too_long() && limit.most <= max as u64,
        };
        match limit.exceeded {
            true => Err(PluginError::new("request body is longer than is allowed")),
            false => body,
        }
    }

    /// The query as earlier plugins left it, without `?`; empty when there is none.
    pub fn query(&self) -> &[u8] {
        match &self.upstream.query {
            Some(edited) => edited.as_bytes(),
            None => self.request.query().unwrap_or_default(),
        }
    }
}

/// Status and headers of a response, to be edited.
pub trait ResponseHead {
    /// The status.
    fn status(&self) -> StatusCode;
    /// Changes it.
    fn set_status(&mut self, status: StatusCode);
    /// The headers.
    fn headers(&self) -> &HeaderMap;
    /// The headers with the spelling of their names on the wire, for those who keep them. Makes each name anew.
    fn spelled(&self) -> Vec<(HeaderKey, HeaderValue)> {
        let key = |name: &HeaderName| HeaderKey::new(name.as_str()).ok();
        let headers = self.headers().iter();
        headers
            .filter_map(|(name, value)| Some((key(name)?, value.clone())))
            .collect()
    }
    /// Replaces all values of a header.
    fn set(&mut self, key: &HeaderKey, value: HeaderValue);
    /// Adds a value.
    fn append(&mut self, key: &HeaderKey, value: HeaderValue);
    /// Takes a header away.
    fn remove(&mut self, name: &HeaderName);
}

/// `header_filter`.
pub struct ResponseCtx<'a> {
    /// The client's request.
    pub request: RequestView<'a>,
    /// Facts.
    pub facts: &'a mut Facts,
    /// The response.
    pub head: &'a mut dyn ResponseHead,
    /// The matched route.
    pub route: Option<&'a RouteInfo>,
    /// Its service.
    pub service: Option<&'a ServiceInfo>,
}

/// `body_filter`.
pub struct BodyCtx<'a> {
    /// Facts.
    pub facts: &'a mut Facts,
}

/// `log`.
pub struct LogCtx<'a> {
    /// The client's request.
    pub request: RequestView<'a>,
    /// Facts, complete.
    pub facts: &'a Facts,
    /// When it was over.
    pub ended: Instant,
    /// What plugins wanted changed in the upstream request.
    pub upstream: &'a UpstreamEdits,
    /// What only logs ask for.
    pub source: &'a dyn LogSource,
    /// Headers of the response, where there was one.
    pub response_headers: Option<&'a HeaderMap>,
    /// The matched route.
    pub route: Option<&'a RouteInfo>,
    /// Its service.
    pub service: Option<&'a ServiceInfo>,
}

/// What only logs ask for of an exchange. It is found out when it is asked for, so that requests that nobody logs pay nothing for it.
pub trait LogSource {
    /// The row of the matched route as the Admin API shows it, without what is null.
    fn route(&self) -> Option<&RawValue>;
    /// The row of its service.
    fn service(&self) -> Option<&RawValue>;
    /// The row of the consumer.
    fn consumer(&self) -> Option<Cow<'_, RawValue>>;
    /// Path and query as they go upstream; `None` without a route.
    fn upstream_target(&self) -> Option<Cow<'_, [u8]>>;
    /// Bytes of the request as it was received: head and body.
    fn request_size(&self) -> u64;
    /// Bytes of the response as it was sent: head and body.
    fn response_size(&self) -> u64;
    /// TLS with the client.
    fn tls(&self) -> Option<Tls<'_>>;
}

/// TLS with the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tls<'a> {
    /// As OpenSSL names it: `TLSv1.3`.
    pub version: &'a str,
    /// The cipher suite, as OpenSSL names it.
    pub cipher: &'a str,
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection: nothing was sent.
    Connect,
    /// No connection in time: nothing was sent.
    ConnectTimeout,
    /// The connection went away before a response.
    Reset,
    /// No response in time.
    Timeout,
    /// The upstream answered with this status.
    Status(u16),
}

/// `on_failure`.
pub struct FailureCtx<'a> {
    /// The client's request.
    pub request: RequestView<'a>,
    /// Facts.
    pub facts: &'a Facts,
    /// What happened.
    pub failure: Failure,
    /// Which attempt failed, from 1.
    pub attempt: u32,
    /// Where it went.
    pub target: Option<SocketAddr>,
    /// The upstream's response headers when it answered.
    pub response_headers: Option<&'a HeaderMap>,
    /// The terms in force.
    pub terms: Option<&'a RetryTerms>,
}
