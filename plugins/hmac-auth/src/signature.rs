//! A signature over headers of a request, as Kong reads and makes it (`retrieve_hmac_fields` and `create_hash` in
//! `kong/plugins/hmac-auth/access.lua`; the form is that of draft-cavage-http-signatures, with a word of its own).

use std::sync::LazyLock;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderName, Version};
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use regex::bytes::Regex;
use silverback_plugin::AccessCtx;

/// The algorithms there are.
pub(crate) const ALGORITHMS: [&str; 4] = ["hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512"];

/// nginx's decoder, which Kong uses, ends at the first `=` and does not ask for padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

static FORM: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?-u)\s*[Hh]mac\s*username="(.+)",\s*algorithm="(.+)",\s*headers="(.+)",\s*signature="(.+)""#,
    )
    .ok()
});

/// What a client says about its signature.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) username: String,
    pub(crate) algorithm: String,
    /// The names of what is signed, in order.
    pub(crate) headers: Vec<String>,
    signature: String,
}

impl Signature {
    /// From the value of a header.
    pub(crate) fn parse(header: &[u8]) -> Option<Self> {
        let found = FORM.as_ref()?.captures(header)?;
        let text = |n: usize| {
            Some(
                std::str::from_utf8(found.get(n)?.as_bytes())
                    .ok()?
                    .to_owned(),
            )
        };
        Some(Signature {
            username: text(1)?,
            algorithm: text(2)?,
            headers: text(3)?.split(' ').map(str::to_owned).collect(),
            signature: text(4)?,
        })
    }

    /// Whether it was made with that secret over that request.
    pub(crate) fn is_of(&self, ctx: &AccessCtx<'_>, secret: &str) -> bool {
        let digest = match self.algorithm.as_str() {
            "hmac-sha1" => MessageDigest::sha1(),
            "hmac-sha256" => MessageDigest::sha256(),
            "hmac-sha384" => MessageDigest::sha384(),
            "hmac-sha512" => MessageDigest::sha512(),
            _ => return false,
        };
        let end = self.signature.find('=').unwrap_or(self.signature.len());
        let Ok(given) = BASE64.decode(&self.signature[..end]) else {
            return false;
        };
        let signed = self.signed(ctx);
        let made = PKey::hmac(secret.as_bytes())
            .and_then(|key| Signer::new(digest, &key)?.sign_oneshot_to_vec(&signed));
        // An error means that no signature can be made with such a secret.
        made.is_ok_and(|made| made.len() == given.len() && memcmp::eq(&made, &given))
    }

    /// What is signed: a line for each header.
    fn signed(&self, ctx: &AccessCtx<'_>) -> Vec<u8> {
        let parts = &ctx.request.parts;
        let mut out = Vec::new();
        for (n, name) in self.headers.iter().enumerate() {
            if n > 0 {
                out.push(b'\n');
            }
            let value = HeaderName::from_bytes(name.as_bytes())
                .ok()
                .and_then(|name| ctx.header(&name));
            match (value, name.as_str()) {
                (Some(value), _) => {
                    out.extend_from_slice(name.as_bytes());
                    out.extend_from_slice(b": ");
                    out.extend_from_slice(value.as_bytes());
                }
                (None, "@request-target") => {
                    let method = parts.method.as_str().to_ascii_lowercase();
                    out.extend_from_slice(format!("{name}: {method} ").as_bytes());
                    out.extend_from_slice(ctx.request.path_and_query);
                }
                (None, "request-line") => {
                    out.extend_from_slice(format!("{} ", parts.method).as_bytes());
                    out.extend_from_slice(ctx.request.path_and_query);
                    let version = match parts.version {
                        Version::HTTP_10 => "1.0",
                        Version::HTTP_2 => "2.0",
                        _ => "1.1",
                    };
                    out.extend_from_slice(format!(" HTTP/{version}").as_bytes());
                }
                (None, _) => out.extend_from_slice(format!("{name}:").as_bytes()),
            }
        }
        out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_taken_apart() {
        let header = br#"hmac username="hm", algorithm="hmac-sha256",headers="date request-line", signature="YQ==""#;
        let read = Signature::parse(header).unwrap();
        assert_eq!(
            (read.username.as_str(), read.algorithm.as_str()),
            ("hm", "hmac-sha256")
        );
        assert_eq!(read.headers, ["date", "request-line"]);
        assert_eq!(read.signature, "YQ==");
        let names = br#"x Hmacusername="a"b", algorithm="c", headers="d", signature="e""#;
        assert_eq!(Signature::parse(names).unwrap().username, "a\"b");
        for bad in [
            "hmac garbage",
            "",
            "HMAC username=\"a\", algorithm=\"b\", headers=\"c\", signature=\"d\"",
            "hmac username=\"\", algorithm=\"b\", headers=\"c\", signature=\"d\"",
            "hmac username=\"a\", algorithm=\"b\"",
        ] {
            assert_eq!(Signature::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
