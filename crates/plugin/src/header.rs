//! Header names that keep their spelling on the wire.

use bytes::Bytes;
use http::header::InvalidHeaderName;
use http::{HeaderName, HeaderValue};

/// A header name with the spelling in which HTTP/1 peers see it (`RateLimit-Remaining`). Made once, cloned without allocating.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderKey {
    name: HeaderName,
    wire: Bytes,
}

impl HeaderKey {
    /// From a constant in its wire spelling. A spelling with capital letters is never freed: keep the result in a `static`
    /// and clone it, do not make one for each request.
    ///
    /// # Panics
    /// When the text is not a header name; meant for constants in `static`s.
    pub fn from_static(wire: &'static str) -> Self {
        // The lower-case spelling lives as long as the program, as the constant does: cloning the name then touches no counter of
        // references that threads would share.
        let lower = if wire.bytes().any(|b| b.is_ascii_uppercase()) {
            Box::leak(wire.to_ascii_lowercase().into_boxed_str())
        } else {
            wire
        };
        HeaderKey {
            name: HeaderName::from_static(lower),
            wire: Bytes::from_static(wire.as_bytes()),
        }
    }

    /// From text in its wire spelling.
    pub fn new(wire: &str) -> Result<Self, InvalidHeaderName> {
        let name = HeaderName::from_bytes(wire.as_bytes())?;
        Ok(HeaderKey {
            name,
            wire: Bytes::copy_from_slice(wire.as_bytes()),
        })
    }

    /// The lower-case name.
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The spelling on the wire; always ASCII.
    pub fn wire(&self) -> &Bytes {
        &self.wire
    }
}

/// A name with what no header's name may hold percent-encoded, as nginx does.
pub fn escaped_name(name: &str) -> String {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    String::from_utf8_lossy(&escaped(name.as_bytes(), fine)).into_owned()
}

/// A value with control characters percent-encoded, as nginx does: no text can end the header that it is put into.
pub fn escaped_value(text: &[u8]) -> HeaderValue {
    let fine = |b: u8| b == b'\t' || !b.is_ascii_control();
    let value = if text.iter().all(|b| fine(*b)) {
        HeaderValue::from_bytes(text)
    } else {
        HeaderValue::from_maybe_shared(Bytes::from(escaped(text, fine)))
    };
    value.unwrap_or_else(|_| unreachable!("a value may hold all but control characters"))
}

fn escaped(text: &[u8], fine: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for b in text {
        match fine(*b) {
            true => out.push(*b),
            false => out.extend(format!("%{b:02X}").bytes()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_case_constant_is_not_copied() {
        const TEXT: &str = "grpc-message";
        let key = HeaderKey::from_static(TEXT);
        assert_eq!(key.name().as_str().as_ptr(), TEXT.as_ptr());
        assert_eq!(key.wire().as_ptr(), TEXT.as_ptr());
        assert_eq!(HeaderKey::from_static("Grpc-Message").name(), TEXT);
    }

    #[test]
    fn what_would_break_a_header_is_encoded() {
        assert_eq!(escaped_value(b"a\r\nX: 1"), "a%0D%0AX: 1");
        assert_eq!(escaped_value(b"\ta \xff\0").as_bytes(), b"\ta \xff%00");
        assert_eq!(escaped_name("a b:ü"), "a%20b%3A%C3%BC");
    }
}
