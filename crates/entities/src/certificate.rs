//! Certificates shown to clients and to upstreams.

use serde_json::{Map, Value, json};
use silverback_schema::checks::wildcard_sni;
use silverback_schema::field::{array, id, string, timestamp};
use silverback_schema::{CustomViolation, EntityCheck, EntityDef, Record, record};
use uuid::Uuid;

use crate::{tags, x509};

record! {
    /// A certificate with its private key; optionally a second pair of another kind.
    pub struct Certificate {
        /// The primary key.
        pub id: Uuid = id(),
        /// When the row was made.
        pub created_at: i64 = timestamp(),
        /// When the row was last changed.
        pub updated_at: i64 = timestamp(),
        /// The certificate in PEM, followed by those of its chain.
        pub cert: String = string().required().referenceable().len_min(1).check(x509::valid_certificate),
        /// The private key in PEM.
        pub key: String = string().required().referenceable().encrypted().len_min(1).check(x509::valid_key),
        /// A second certificate, with a key of another kind (RSA, ECDSA).
        pub cert_alt: Option<String> = string().optional().referenceable().len_min(1).check(x509::valid_certificate),
        /// The private key of the second certificate.
        pub key_alt: Option<String> = string().optional().referenceable().encrypted().len_min(1).check(x509::valid_key),
        /// Words for grouping and filtering.
        pub tags: Option<Vec<String>> = tags(),
        /// The server names the certificate is shown for; each is a row of `snis`.
        pub snis: Option<Vec<String>> = array(string().required().len_min(1).check(wildcard_sni)).optional().transient(),
    }
}

fn both<'a>(row: &'a Map<String, Value>, a: &str, b: &str) -> Option<(&'a str, &'a str)> {
    Some((row.get(a)?.as_str()?, row.get(b)?.as_str()?))
}

fn key_is_its_own(row: &Map<String, Value>) -> Result<(), CustomViolation> {
    match both(row, "cert", "key") {
        Some((cert, key)) if !x509::belongs(cert, key) => Err(CustomViolation::Entity(
            "certificate does not match key".into(),
        )),
        _ => Ok(()),
    }
}

fn alternative_key_is_its_own(row: &Map<String, Value>) -> Result<(), CustomViolation> {
    match both(row, "cert_alt", "key_alt") {
        Some((cert, key)) if !x509::belongs(cert, key) => Err(CustomViolation::Entity(
            "alternative certificate does not match key".into(),
        )),
        _ => Ok(()),
    }
}

fn kinds_differ(row: &Map<String, Value>) -> Result<(), CustomViolation> {
    match both(row, "cert", "cert_alt") {
        Some((cert, alt)) if x509::same_kind(cert, alt) => Err(CustomViolation::Entity(
            "certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), the provided \
             certificates were both of the same type"
                .into(),
        )),
        _ => Ok(()),
    }
}

fn custom(
    field_sources: Vec<&'static str>,
    run: fn(&Map<String, Value>) -> Result<(), CustomViolation>,
) -> EntityCheck {
    EntityCheck::Custom {
        field_sources,
        run_with_missing_fields: false,
        run,
    }
}

/// A certificate for examples: self-signed, an authority, valid for a hundred years.
pub(crate) const EXAMPLE: &str = "-----BEGIN CERTIFICATE-----\n\
MIIBhDCCASmgAwIBAgIUTeNw0OJMTXkg08aO9gKavJeRdMYwCgYIKoZIzj0EAwIw\n\
FjEUMBIGA1UEAwwLZXhhbXBsZS5jb20wIBcNMjYxMTIyMTkzMTI2WhgPMjEyNjEw\n\
MjkxOTMxMjZaMBYxFDASBgNVBAMMC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYI\n\
KoZIzj0DAQcDQgAEOHi9dpZglgOcXE50qA39RU63x3Ucgg4ssBjb9yzFYlhyAjGC\n\
ZyDCHwnfY8lYpqZ6E5xTxkoXG6S5/bYGHwILl6NTMFEwHQYDVR0OBBYEFLgltBX6\n\
6lqgz2PcQbfxIyi6L7ZSMB8GA1UdIwQYMBaAFLgltBX66lqgz2PcQbfxIyi6L7ZS\n\
MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAIRbXt/c5iLIGn03\n\
omXibYO3NjC4BOhXvsuaHlv/J0vLAiEAwgwI3nTTwelwBtZSAMMGfCjH7/yopO1K\n\
gH4uueic8IU=\n\
-----END CERTIFICATE-----";

/// Its key, which everybody knows.
const EXAMPLE_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgHU7/+FQ3Rn6t66FE\n\
ddI39tvZw+s9/2XjrY4/pfw6QsChRANCAAQ4eL12lmCWA5xcTnSoDf1FTrfHdRyC\n\
DiywGNv3LMViWHICMYJnIMIfCd9jyVimpnoTnFPGShcbpLn9tgYfAguX\n\
-----END PRIVATE KEY-----";

pub(crate) fn def() -> EntityDef {
    EntityDef::new("certificates", Certificate::fields())
        .example(|| json!({ "id": "9b5b4b1e-0002-4c9d-8f6f-3f7d1c0a0002", "cert": EXAMPLE, "key": EXAMPLE_KEY, "snis": ["example.com"] }))
        .check(EntityCheck::MutuallyRequired(vec!["cert_alt", "key_alt"]))
        .check(custom(vec!["cert", "key"], key_is_its_own))
        .check(custom(
            vec!["cert_alt", "key_alt"],
            alternative_key_is_its_own,
        ))
        .check(custom(vec!["cert", "cert_alt"], kinds_differ))
}
