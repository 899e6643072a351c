//! What an exchange came to, and claims about it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, request};
use serde_json::Value;

use crate::context::ResponseHead;
use crate::edits::{HeaderEdit, values_after};
use crate::{Facts, HeaderKey, PluginError, UpstreamEdits};

/// What an exchange came to.
#[derive(Debug)]
pub struct Outcome {
    pub(super) head: Head,
    pub(super) body: Bytes,
    pub(super) exited: bool,
    pub(super) failure: Option<PluginError>,
    pub(super) edits: UpstreamEdits,
    pub(super) facts: Facts,
    pub(super) request: request::Parts,
}

impl Outcome {
    /// Claims that the plugin answered with that status.
    #[track_caller]
    pub fn exit_status(&self, status: u16) -> &Self {
        assert!(
            self.exited,
            "the request went to the upstream instead of status {status}"
        );
        assert_eq!(self.head.status.as_u16(), status, "{}", self.body_text());
        self
    }

    /// Claims that the request went to the upstream.
    #[track_caller]
    pub fn passed(&self) -> &Self {
        assert!(
            !self.exited,
            "answered with {}: {} {:?}",
            self.head.status,
            self.body_text(),
            self.failure
        );
        self
    }

    /// Claims that the plugin failed, which clients see as status 500.
    #[track_caller]
    pub fn failed(&self) -> &PluginError {
        match &self.failure {
            Some(e) => e,
            None => panic!("the plugin did not fail: {}", self.head.status),
        }
    }

    /// Whether the plugin answered.
    pub fn exited(&self) -> bool {
        self.exited
    }

    /// Status sent to the client.
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// The first value of a header sent to the client.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// All values of a header sent to the client.
    pub fn header_values(&self, name: &str) -> Vec<&str> {
        let all = self.head.headers.get_all(name).iter();
        all.filter_map(|v| v.to_str().ok()).collect()
    }

    /// The body sent to the client. Error texts are in JSON, with the request id.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body sent to the client as text.
    pub fn body_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The body sent to the client as JSON.
    #[track_caller]
    pub fn body_json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body_text()))
    }

    /// The last value of a header as the upstream would see it.
    pub fn upstream_header(&self, name: &str) -> Option<&str> {
        let edited = self.edits.headers.iter().rev().find_map(|e| match e {
            HeaderEdit::Set(k, v) | HeaderEdit::Append(k, v) if k.name() == name => Some(Some(v)),
            HeaderEdit::Remove(n) if n == name => Some(None),
            _ => None,
        });
        edited
            .unwrap_or_else(|| self.request.headers.get(name))
            .and_then(|v| v.to_str().ok())
    }

    /// All values of a header as the upstream would see them.
    pub fn upstream_header_values(&self, name: &str) -> Vec<&str> {
        let Ok(name) = http::HeaderName::from_bytes(name.as_bytes()) else {
            return Vec::new();
        };
        values_after(&self.request.headers, &self.edits.headers, &name)
            .into_iter()
            .filter_map(|v| v.to_str().ok())
            .collect()
    }

    /// What the plugin wants changed in the upstream request.
    pub fn edits(&self) -> &UpstreamEdits {
        &self.edits
    }

    /// What is known at the end.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// Status and headers of a response.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
}

impl ResponseHead for Head {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn set_status(&mut self, status: StatusCode) {
        self.status = status;
    }

    fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn set(&mut self, key: &HeaderKey, value: HeaderValue) {
        self.headers.insert(key.name().clone(), value);
    }

    fn append(&mut self, key: &HeaderKey, value: HeaderValue) {
        self.headers.append(key.name().clone(), value);
    }

    fn remove(&mut self, name: &http::HeaderName) {
        self.headers.remove(name);
    }
}
