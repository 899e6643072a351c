//! A username and a password out of a header, as Kong reads them: generously around the scheme, strictly inside
//! (`retrieve_credentials` in `kong/plugins/basic-auth/access.lua`).

use std::ops::Range;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// nginx's decoder, which Kong uses, ends at the first `=` and does not ask for padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// What a client gave.
#[derive(Debug, PartialEq)]
pub(crate) struct Given {
    decoded: Vec<u8>,
    username: Range<usize>,
    password: Range<usize>,
}

impl Given {
    /// From the value of a header; `None` when there is no username and password in it.
    pub(crate) fn parse(header: &[u8]) -> Option<Self> {
        let scheme = header
            .windows(5)
            .position(|w| matches!(w[0], b'B' | b'b') && &w[1..] == b"asic")?;
        let text = header[scheme + 5..].trim_ascii_start();
        let end = text.iter().position(|b| *b == b'=');
        let decoded = BASE64.decode(&text[..end.unwrap_or(text.len())]).ok()?;
        let start = decoded.iter().position(|b| *b != b':')?;
        let colon = start + decoded[start..].iter().position(|b| *b == b':')?;
        let rest = &decoded[colon + 1..];
        let line = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        Some(Given {
            username: start..colon,
            password: colon + 1..colon + 1 + line,
            decoded,
        })
    }

    /// The username; `None` when it is no text, which no username is.
    pub(crate) fn username(&self) -> Option<&str> {
        std::str::from_utf8(&self.decoded[self.username.clone()]).ok()
    }

    /// The password, which may be empty.
    pub(crate) fn password(&self) -> &[u8] {
        &self.decoded[self.password.clone()]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn read(header: &str) -> Option<(String, Vec<u8>)> {
        let given = Given::parse(header.as_bytes())?;
        Some((given.username()?.to_owned(), given.password().to_vec()))
    }

    fn inside(text: &str) -> Option<(String, Vec<u8>)> {
        read(&format!("Basic {}", STANDARD.encode(text)))
    }

    #[test]
    fn the_first_colon_ends_the_username() {
        let al = Some(("al".to_owned(), b"pa:ss".to_vec()));
        assert_eq!(inside("al:pa:ss"), al);
        assert_eq!(inside("::al:pa:ss"), al, "colons before it do not");
        assert_eq!(inside("al:"), Some(("al".to_owned(), Vec::new())));
        assert_eq!(inside("al:pa\nss"), Some(("al".to_owned(), b"pa".to_vec())));
        for bad in ["nocolon", ":only", "", ":"] {
            assert_eq!(inside(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_scheme_may_be_anywhere() {
        let al = Some(("al".to_owned(), b"pa:ss".to_vec()));
        for header in [
            "basic YWw6cGE6c3M=",
            "Basic   YWw6cGE6c3M=",
            "BasicYWw6cGE6c3M=",
            "Basic YWw6cGE6c3M",
            "Basic YWw6cGE6c3M=x",
            "x Basic YWw6cGE6c3M=",
        ] {
            assert_eq!(read(header), al, "{header}");
        }
        for bad in [
            "Basic",
            "Basic ",
            "Basic !!!",
            "BASIC YWw6cGE6c3M=",
            "Bearer x",
            "",
            "YWw6cGE6c3M=",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_that_are_no_text_are_nobodys() {
        let given =
            Given::parse(format!("Basic {}", STANDARD.encode(b"\xff:x")).as_bytes()).unwrap();
        assert_eq!(given.username(), None);
        assert_eq!(given.password(), b"x");
    }
}
