//! An answer that is being kept while it goes by: head first, then the body piece by piece. Nothing is held back.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use silverback_plugin::{HeaderKey, ResponseHead};

use crate::key::Key;
use crate::store::{Kept, LARGEST};
use crate::{AGE, X_CACHE_KEY, X_CACHE_STATUS};

/// What it costs to count who shares the bytes of a header's name and value, more or less.
const SHARED: usize = 96;

/// An answer whose body has not come to its end.
pub(crate) struct Capture {
    kept: Kept,
    body: Vec<u8>,
}

/// What is known of an answer beside its head.
pub(crate) struct Terms {
    /// See [`Kept`].
    pub(crate) at: u64,
    pub(crate) ttl: u64,
    pub(crate) until: Option<SystemTime>,
    pub(crate) must_revalidate: bool,
    pub(crate) bare_request: bool,
}

impl Capture {
    /// Begins with the head; `None` when the body is known to be too large.
    pub(crate) fn begin(head: &dyn ResponseHead, key: &Key, terms: &Terms) -> Option<Self> {
        let length = head.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|l| l.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|l| l > LARGEST) {
            return None;
        }
        let mut all = head.spelled();
        for (_, value) in &mut all {
            *value = own(value);
        }
        let size = |(key, value): &(HeaderKey, HeaderValue)| {
            2 * key.wire().len() + value.len() + size_of_val(key) + size_of_val(value) + SHARED
        };
        let head_size = all.iter().map(size).sum();
        let (headers, once): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|(key, _)| is_sent_again(key.name()));
        Some(Capture {
            kept: Kept {
                cuts: key.cuts,
                status: head.status(),
                headers: headers.into(),
                once: once.into(),
                head_size,
                body: Bytes::new(),
                at: terms.at,
                ttl: terms.ttl,
                until: terms.until,
                must_revalidate: terms.must_revalidate,
                bare_request: terms.bare_request,
            },
            body: Vec::with_capacity(length.unwrap_or_default()),
        })
    }

    /// Takes in a piece; `false` when that is too much.
    pub(crate) fn push(&mut self, piece: &[u8]) -> bool {
        let fits = self.body.len() + piece.len() <= LARGEST;
        if fits {
            self.body.extend_from_slice(piece);
        }
        fits
    }

    /// The answer, complete.
    pub(crate) fn end(mut self) -> Kept {
        // No larger than it has to be: it stays.
        self.kept.body = Bytes::from(self.body.into_boxed_slice());
        self.kept
    }
}

/// The value in an allocation of its own: as it came it holds on to the whole buffer that was read from the upstream.
fn own(value: &HeaderValue) -> HeaderValue {
    // What was a value before is one again.
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone())
}

/// Whether a header is also that of later answers: not if it is about one connection, one exchange or how often somebody called.
fn is_sent_again(name: &HeaderName) -> bool {
    const KEEP_ALIVE: &str = "keep-alive";
    const TRAILERS: &str = "trailers";
    let once = matches!(
        *name,
        header::CONNECTION
            | header::PROXY_AUTHENTICATE
            | header::PROXY_AUTHORIZATION
            | header::TE
            | header::TRANSFER_ENCODING
            | header::UPGRADE
            | header::CONTENT_LENGTH
    );
    let own = [&*AGE, &*X_CACHE_STATUS, &*X_CACHE_KEY];
    let text = name.as_str();
    !once
        && text != KEEP_ALIVE
        && text != TRAILERS
        && !text.contains("ratelimit-remaining")
        && !own.iter().any(|key| key.name() == name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::StatusCode;
    use silverback_plugin::exchange::Head;

    use super::*;

    #[test]
    fn what_was_read_from_the_upstream_is_not_held_on_to() {
        let read = Bytes::from(vec![b'x'; 4096]);
        let mut head = Head {
            status: StatusCode::OK,
            ..Head::default()
        };
        let value = HeaderValue::from_maybe_shared(read.slice(..10)).unwrap();
        head.headers.insert("x-a", value.clone());
        head.headers.insert(header::CONNECTION, value);
        let key = Key {
            digest: [1; 32],
            cuts: [2; 32],
        };
        let terms = Terms {
            at: 0,
            ttl: 1,
            until: None,
            must_revalidate: false,
            bare_request: true,
        };
        let kept = Capture::begin(&head, &key, &terms).unwrap().end();
        drop(head);
        assert!(read.is_unique());
        assert_eq!(kept.headers[0].1, "xxxxxxxxxx");
        assert!(kept.head_size > 2 * (10 + SHARED));
    }
}
