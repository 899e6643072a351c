//! How a phase goes on, and responses that plugins make.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use smallvec::SmallVec;

use crate::header::HeaderKey;

/// What a phase answers.
pub type PhaseResult = Result<Flow, PluginError>;

/// How the chain goes on after a plugin.
#[derive(Debug)]
// The large variant is rare and short-lived: boxing it would only make plugins longer.
#[allow(clippy::large_enum_variant)]
pub enum Flow {
    /// With the next plugin.
    Next,
    /// With the asynchronous form of this phase.
    Await,
    /// With this response; plugins after this one skip the phase, their response phases run.
    Exit(Response),
}

/// A response made by the gateway.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// Headers beside those that every response has.
    pub headers: SmallVec<[(HeaderKey, HeaderValue); 2]>,
    /// The body.
    pub body: Body,
}

/// The body of a [`Response`].
#[derive(Debug, Clone)]
pub enum Body {
    /// None.
    Empty,
    /// These bytes.
    Bytes {
        /// `Content-Type`.
        content_type: HeaderValue,
        /// The body.
        bytes: Bytes,
    },
    /// These bytes, without a `Content-Type`.
    Untyped(Bytes),
    /// An error text, rendered as JSON, HTML, XML or plain text by the request's `Accept`, with the request id
    /// (Kong's `kong.response.error`).
    Error(Cow<'static, str>),
    /// What the gateway says with this status when it fails by itself, such as `The upstream server is timing out` (where Kong leaves a
    /// response without a body to nginx's `error_page`).
    OfStatus,
    /// The body of an answer that the upstream gave to an earlier request; the response's headers are that answer's, `Content-Type`
    /// included. Clients see it as if it had been proxied just now: with `Via`, and with the upstream's own `Server` (Kong's `KONG_PROXIED`).
    Kept(Bytes),
}

impl Response {
    /// An error of the gateway.
    pub fn error(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Response {
            status,
            headers: SmallVec::new(),
            body: Body::Error(message.into()),
        }
    }

    /// A JSON body sent as it is.
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let content_type = HeaderValue::from_static("application/json; charset=utf-8");
        Response {
            status,
            headers: SmallVec::new(),
            body: Body::Bytes {
                content_type,
                bytes: body.into(),
            },
        }
    }

    /// No body.
    pub fn empty(status: StatusCode) -> Self {
        Response {
            status,
            headers: SmallVec::new(),
            body: Body::Empty,
        }
    }

    /// With one more header.
    pub fn header(mut self, key: HeaderKey, value: HeaderValue) -> Self {
        self.headers.push((key, value));
        self
    }
}

/// A plugin failed while it handled a request: logged, and answered with status 500 and Kong's `An unexpected error occurred`.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct PluginError {
    text: Cow<'static, str>,
    body_too_long: bool,
}

impl PluginError {
    /// With that text in the log.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        PluginError {
            text: text.into(),
            body_too_long: false,
        }
    }

    /// The request's body is longer than what was to be read of it, or than what can be read.
    pub fn body_too_long() -> Self {
        PluginError {
            body_too_long: true,
            ..Self::new("the request's body is too long")
        }
    }

    /// Whether it is [`PluginError::body_too_long`], which plugins may have another answer to than to a body that did not arrive.
    pub fn is_body_too_long(&self) -> bool {
        self.body_too_long
    }
}

/// A configuration that passed validation and still cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {message}")]
pub struct ConfigError {
    /// The field, dotted, without `config.`.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl ConfigError {
    /// Names the field and what is wrong with it.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        ConfigError {
            field: field.into(),
            message: message.into(),
        }
    }
}
