//! Certificates and keys: a path, the PEM text itself, or that text in base64, as Kong accepts them.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::value::{Codec, entries};

/// Where a PEM text comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum PemSource {
    /// A file; made absolute when the configuration is loaded.
    File(PathBuf),
    /// The text itself.
    Inline(String),
}

impl PemSource {
    /// The PEM text.
    ///
    /// # Errors
    /// What reading the file answered.
    pub fn read(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::File(path) => std::fs::read(path),
            Self::Inline(text) => Ok(text.as_bytes().to_vec()),
        }
    }

    /// Text with a PEM header, or base64 of such text, is taken as it is; everything else is a path.
    fn from_text(raw: &str) -> Self {
        if raw.contains(PEM_HEADER) {
            // An environment variable often carries a line break as the two characters `\n`.
            return Self::Inline(raw.replace("\\n", "\n"));
        }
        let compact: String = raw.chars().filter(|c| !c.is_whitespace()).collect();
        match STANDARD.decode(compact).map(String::from_utf8) {
            Ok(Ok(text)) if text.contains(PEM_HEADER) => Self::Inline(text),
            _ => Self::File(std::path::absolute(raw).unwrap_or_else(|_| raw.into())),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Inline(_) => "(inline PEM)".into(),
        }
    }
}

impl std::fmt::Debug for PemSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

/// A comma-separated list of [`PemSource`].
pub enum PemList {}

impl Codec for PemList {
    type Out = Vec<PemSource>;

    fn parse(_name: &str, raw: &str) -> Result<Self::Out, String> {
        Ok(entries(raw).map(PemSource::from_text).collect())
    }

    fn render(value: &Self::Out) -> String {
        value
            .iter()
            .map(PemSource::shown)
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn describe() -> String {
        "comma-separated list of paths, PEM texts or base64 of PEM texts; may be empty".into()
    }

    fn json(value: &Self::Out) -> Option<Value> {
        Some(value.iter().map(PemSource::shown).collect())
    }
}

/// A certificate authority that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustedCertificate {
    /// The bundle of the operating system.
    System,
    /// A bundle of one's own.
    Pem(PemSource),
}

impl TrustedCertificate {
    /// The bundle of the operating system: the first of the places where distributions put it
    /// (`kong/tools/system.lua` looks at the same).
    #[must_use]
    pub fn system_bundle() -> Option<&'static Path> {
        [
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/ssl/ca-bundle.pem",
            "/etc/pki/tls/cacert.pem",
            "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
            "/etc/ssl/cert.pem",
        ]
        .into_iter()
        .map(Path::new)
        .find(|path| path.exists())
    }
}

/// A comma-separated list of [`TrustedCertificate`].
pub enum TrustedCertificates {}

impl Codec for TrustedCertificates {
    type Out = Vec<TrustedCertificate>;

    fn parse(_name: &str, raw: &str) -> Result<Self::Out, String> {
        Ok(entries(raw)
            .map(|entry| match entry {
                "system" => TrustedCertificate::System,
                other => TrustedCertificate::Pem(PemSource::from_text(other)),
            })
            .collect())
    }

    fn render(value: &Self::Out) -> String {
        value.iter().map(shown).collect::<Vec<_>>().join(", ")
    }

    fn describe() -> String {
        "comma-separated list of `system`, paths, PEM texts or base64 of PEM texts; may be empty"
            .into()
    }

    fn json(value: &Self::Out) -> Option<Value> {
        Some(value.iter().map(shown).collect())
    }
}

/// What is wrong with the pairs of certificates and keys under the settings `<prefix>ssl_cert` and
/// `<prefix>ssl_cert_key`; the sentences never hold a key.
pub(super) fn check_pairs(prefix: &str, certs: &[PemSource], keys: &[PemSource]) -> Vec<String> {
    let (cert_name, key_name) = (format!("{prefix}ssl_cert"), format!("{prefix}ssl_cert_key"));
    match (certs.len(), keys.len()) {
        (0, 0) => return Vec::new(),
        (_, 0) => return vec![format!("{key_name} must be specified")],
        (0, _) => return vec![format!("{cert_name} must be specified")],
        (certs, keys) if certs != keys => {
            return vec![format!(
                "{cert_name} was specified {certs} times while {key_name} was specified {keys} times"
            )];
        }
        _ => {}
    }
    let mut problems = Vec::new();
    for (cert_source, key_source) in certs.iter().zip(keys) {
        let cert = cert_source
            .read()
            .ok()
            .and_then(|pem| openssl::x509::X509::from_pem(&pem).ok());
        let key = key_source
            .read()
            .ok()
            .and_then(|pem| openssl::pkey::PKey::private_key_from_pem(&pem).ok());
        if cert.is_none() {
            problems.push(format!(
                "{cert_name}: failed loading certificate from {}",
                cert_source.shown()
            ));
        }
        if key.is_none() {
            problems.push(format!(
                "{key_name}: failed loading key from {}",
                key_source.shown()
            ));
        }
        if let (Some(cert), Some(key)) = (cert, key)
            && cert
                .public_key()
                .is_ok_and(|public| !public.public_eq(&key))
        {
            problems.push(format!(
                "{key_name}: the key does not belong to the certificate {}",
                cert_source.shown()
            ));
        }
    }
    problems
}

/// What is wrong with a list of trusted authorities.
pub(super) fn check_trusted(name: &str, list: &[TrustedCertificate]) -> Vec<String> {
    list.iter()
        .filter_map(|entry| match entry {
            TrustedCertificate::System => None,
            TrustedCertificate::Pem(source) => {
                let readable = source.read().is_ok_and(|pem| {
                    openssl::x509::X509::stack_from_pem(&pem).is_ok_and(|stack| !stack.is_empty())
                });
                (!readable)
                    .then(|| format!("{name}: failed loading certificate from {}", source.shown()))
            }
        })
        .collect()
}

const PEM_HEADER: &str = "-----BEGIN ";

fn shown(entry: &TrustedCertificate) -> String {
    match entry {
        TrustedCertificate::System => "system".into(),
        TrustedCertificate::Pem(source) => source.shown(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::selfsigned;

    fn pair(dir: &Path, name: &str) -> (PemSource, PemSource) {
        let pair = selfsigned::ensure(dir, name).unwrap();
        (PemSource::File(pair.cert), PemSource::File(pair.key))
    }

    #[test]
    fn a_path_a_text_and_base64_are_told_apart() {
        let text = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        assert_eq!(PemSource::from_text(text), PemSource::Inline(text.into()));
        assert_eq!(
            PemSource::from_text(&text.replace('\n', "\\n")),
            PemSource::Inline(text.into())
        );
        assert_eq!(
            PemSource::from_text(&STANDARD.encode(text)),
            PemSource::Inline(text.into())
        );
        assert_eq!(
            PemSource::from_text("/a/b.crt"),
            PemSource::File("/a/b.crt".into())
        );
        // Letters alone are valid base64, but not of a PEM text.
        assert!(
            matches!(PemSource::from_text("abcd"), PemSource::File(path) if path.is_absolute())
        );
    }

    #[test]
    fn inline_texts_are_never_shown() {
        let key = PemSource::Inline("-----BEGIN PRIVATE KEY-----\nsecret".into());
        assert!(!format!("{key:?}").contains("secret"));
        assert!(!PemList::render(&vec![key]).contains("secret"));
    }

    #[test]
    fn a_good_pair_has_no_problems() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = pair(dir.path(), "a");
        assert_eq!(check_pairs("", &[cert], &[key]), Vec::<String>::new());
    }

    #[test]
    fn halves_and_mismatches_are_reported_in_kongs_words() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = pair(dir.path(), "a");
        let (_, other_key) = pair(dir.path(), "b");
        let one = std::slice::from_ref(&cert);
        assert_eq!(
            check_pairs("admin_", one, &[]),
            ["admin_ssl_cert_key must be specified"]
        );
        assert_eq!(
            check_pairs("", &[], std::slice::from_ref(&key)),
            ["ssl_cert must be specified"]
        );
        assert_eq!(
            check_pairs("", one, &[key, other_key.clone()]),
            ["ssl_cert was specified 1 times while ssl_cert_key was specified 2 times"]
        );
        let mismatch = check_pairs("", one, &[other_key]);
        assert!(
            mismatch[0].starts_with("ssl_cert_key: the key does not belong"),
            "{mismatch:?}"
        );
        let missing = PemSource::File("/no/such/file".into());
        assert_eq!(
            check_pairs(
                "",
                std::slice::from_ref(&missing),
                std::slice::from_ref(&missing)
            ),
            [
                "ssl_cert: failed loading certificate from /no/such/file",
                "ssl_cert_key: failed loading key from /no/such/file"
            ]
        );
    }

    #[test]
    fn trusted_bundles_are_loaded_to_be_checked() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, _) = pair(dir.path(), "a");
        let list = [TrustedCertificate::System, TrustedCertificate::Pem(cert)];
        assert_eq!(check_trusted("t", &list), Vec::<String>::new());
        let bad = [TrustedCertificate::Pem(PemSource::Inline(
            "-----BEGIN x".into(),
        ))];
        assert_eq!(
            check_trusted("t", &bad),
            ["t: failed loading certificate from (inline PEM)"]
        );
    }
}
