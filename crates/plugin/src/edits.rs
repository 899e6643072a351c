//! What plugins want changed in the request that goes upstream. Recorded once, applied afresh to each attempt.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

use crate::flow::Response;
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

/// The longest body that goes upstream.
#[derive(Clone, Debug)]
pub struct BodyLimit {
    /// In bytes.
    pub most: u64,
    /// What the client gets when its body turns out to be longer.
    pub refusal: Response,
    /// Whether a plugin read it and found it longer.
    pub exceeded: bool,
}

/// All values of a header after some edits of the headers that it came with.
pub fn values_after<'a>(
    headers: &'a HeaderMap,
    edits: &'a [HeaderEdit],
    name: &HeaderName,
) -> SmallVec<[&'a HeaderValue; 1]> {
    let mut values: SmallVec<[&HeaderValue; 1]> = headers.get_all(name).iter().collect();
    for edit in edits {
        match edit {
            HeaderEdit::Set(key, value) if key.name() == name => {
                values.clear();
                values.push(value);
            }
            HeaderEdit::Append(key, value) if key.name() == name => values.push(value),
            HeaderEdit::Remove(gone) if gone == name => values.clear(),
            _ => {}
        }
    }
    values
}

/// Changes to the upstream request, in order.
///
/// What the gateway itself tells the upstream stays out of reach, as in Kong: the headers of the connection and of framing, `Via`,
/// `X-Forwarded-...` and `X-Real-IP`. `Host` can be set, and not taken away.
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
    /// Watched while the body goes by: nothing is kept for it.
    pub body_limit: Option<Box<BodyLimit>>,
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

    /// Limits the body, for bodies whose length nobody knows before they have gone by. Of several limits the lowest counts.
    pub fn limit_body(&mut self, most: u64, refusal: Response) {
        if self.body_limit.as_ref().is_none_or(|l| most < l.most) {
            self.body_limit = Some(Box::new(BodyLimit {
                most,
                refusal,
                exceeded: false,
            }));
        }
    }

    /// What the client gets when its body is that long, if that is too long.
    pub fn refusal_of_body(&self, length: u64) -> Option<&Response> {
        let limit = self.body_limit.as_ref().filter(|l| length > l.most)?;
        Some(&limit.refusal)
    }

    /// The refusal of a body that was read and found too long, for whoever runs the plugins: what the plugin that read it says does not count.
    pub fn take_refusal(&mut self) -> Option<Response> {
        let limit = self.body_limit.take_if(|limit| limit.exceeded)?;
        Some(limit.refusal)
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

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn of_several_limits_the_lowest_counts() {
        let mut edits = UpstreamEdits::default();
        assert!(edits.refusal_of_body(u64::MAX).is_none());
        for (most, status) in [(10, 413), (5, 417), (7, 400)] {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            edits.limit_body(most, Response::empty(status));
        }
        assert!(edits.refusal_of_body(5).is_none());
        let refusal = edits.refusal_of_body(6).map(|r| r.status.as_u16());
        assert_eq!(refusal, Some(417));
    }

    #[test]
    fn values_are_those_after_all_edits() {
        let key = |name| HeaderKey::from_static(name);
        let value = HeaderValue::from_static;
        let mut headers = HeaderMap::new();
        headers.append("a", value("1"));
        headers.append("a", value("2"));
        let mut edits = UpstreamEdits::default();
        let after = |edits: &UpstreamEdits, n: usize| -> Vec<HeaderValue> {
            let name = HeaderName::from_static("a");
            let values = values_after(&headers, &edits.headers[..n], &name);
            values.into_iter().cloned().collect()
        };
        edits.append(key("A"), value("3"));
        edits.set(key("b"), value("x"));
        edits.remove(HeaderName::from_static("a"));
        edits.append(key("a"), value("4"));
        edits.set(key("a"), value("5"));
        assert_eq!(after(&edits, 0), ["1", "2"]);
        assert_eq!(after(&edits, 2), ["1", "2", "3"]);
        assert_eq!(after(&edits, 3), [""; 0]);
        assert_eq!(after(&edits, 4), ["4"]);
        assert_eq!(after(&edits, 5), ["5"]);
    }
}
