//! What plugins want changed in the request that goes upstream. Recorded once, applied afresh to each attempt.

use http::{HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

use crate::header::HeaderKey;

/// One change to the upstream request's headers.
#[derive(Clone, Debug)]
pub enum HeaderEdit {
    /// Replace all values.
    Set(HeaderKey, HeaderValue),
    /// Add a value.
    Append(HeaderKey, HeaderValue),
    /// Take the header away.
    Remove(HeaderName),
}

/// Changes to the upstream request, in order.
#[derive(Clone, Debug, Default)]
pub struct UpstreamEdits {
    /// Headers.
    pub headers: SmallVec<[HeaderEdit; 4]>,
    /// The whole path, already encoded, instead of the one that routing gave.
    pub path: Option<String>,
    /// The query without `?`; `Some("")` takes it away.
    pub query: Option<String>,
    /// The method.
    pub method: Option<Method>,
    /// The body, where a plugin that read it whole replaces it.
    pub body: Option<bytes::Bytes>,
}

impl UpstreamEdits {
    /// Replaces all values of a header.
    pub fn set(&mut self, key: HeaderKey, value: HeaderValue) {
        self.headers.push(HeaderEdit::Set(key, value));
    }

    /// Adds a value.
    pub fn append(&mut self, key: HeaderKey, value: HeaderValue) {
        self.headers.push(HeaderEdit::Append(key, value));
    }

    /// Takes a header away.
    pub fn remove(&mut self, name: HeaderName) {
        self.headers.push(HeaderEdit::Remove(name));
    }

    /// Changes the values of a header as the edits say.
    pub fn apply_to<'a>(&'a self, name: &HeaderName, values: &mut SmallVec<[&'a HeaderValue; 2]>) {
        for edit in &self.headers {
            match edit {
                HeaderEdit::Set(k, v) if k.name() == name => {
                    values.clear();
                    values.push(v);
                }
                HeaderEdit::Append(k, v) if k.name() == name => values.push(v),
                HeaderEdit::Remove(n) if n == name => values.clear(),
                _ => {}
            }
        }
    }

    /// What the edits say of a header: `None` when they do not touch it, else its last value or `Some(None)` when it was removed.
    pub fn lookup(&self, name: &HeaderName) -> Option<Option<&HeaderValue>> {
        self.headers.iter().rev().find_map(|e| match e {
            HeaderEdit::Set(k, v) | HeaderEdit::Append(k, v) if k.name() == name => Some(Some(v)),
            HeaderEdit::Remove(n) if n == name => Some(None),
            _ => None,
        })
    }
}
