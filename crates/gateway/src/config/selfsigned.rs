//! The certificate that listeners with TLS use when none is configured: made once, kept under the
//! prefix.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

use super::{Config, Listener, PemSource};

/// The two files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM, readable by its owner only.
    pub key: PathBuf,
}

/// Why there is no self-signed certificate.
#[derive(Debug, thiserror::Error)]
pub enum SelfSignedError {
    /// A file could not be written.
    #[error("could not write {path}: {source}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// OpenSSL refused.
    #[error("could not make a self-signed certificate: {0}")]
    OpenSsl(#[from] ErrorStack),
}

/// The files `<name>.crt` and `<name>.key` in `dir`; makes both when one is missing.
///
/// The certificate is ECDSA P-256 for `localhost`, valid for ten years: good for trying things out,
/// and so that a listener can start before it has a real one.
///
/// # Errors
/// When OpenSSL refuses or a file cannot be written.
pub fn ensure(dir: &Path, name: &str) -> Result<CertificateFiles, SelfSignedError> {
    let files = CertificateFiles {
        cert: dir.join(format!("{name}.crt")),
        key: dir.join(format!("{name}.key")),
    };
    if files.cert.exists() && files.key.exists() {
        return Ok(files);
    }
    std::fs::create_dir_all(dir).map_err(|source| SelfSignedError::Write {
        path: dir.into(),
        source,
    })?;
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = PKey::from_ec_key(EcKey::generate(&group)?)?;
    let cert = certificate(&key)?;
    // The key first: a crash in between leaves no certificate, and both are made anew.
    write(&files.key, 0o600, &key.private_key_to_pem_pkcs8()?)?;
    write(&files.cert, 0o644, &cert.to_pem()?)?;
    Ok(files)
}

impl Config {
    /// Certificates and keys for the proxy's listeners with TLS: the configured ones, or one that is
    /// made in `ssl` below the prefix. Empty when no listener has TLS.
    ///
    /// # Errors
    /// When one has to be made and cannot be.
    pub fn proxy_certificates(&self) -> Result<Vec<(PemSource, PemSource)>, SelfSignedError> {
        self.certificates(
            self.proxy_listeners(),
            &self.ssl_cert,
            &self.ssl_cert_key,
            "silverback-default",
        )
    }

    /// The same for the Admin API.
    ///
    /// # Errors
    /// When one has to be made and cannot be.
    pub fn admin_certificates(&self) -> Result<Vec<(PemSource, PemSource)>, SelfSignedError> {
        let name = "admin-silverback-default";
        self.certificates(
            self.admin_listeners(),
            &self.admin_ssl_cert,
            &self.admin_ssl_cert_key,
            name,
        )
    }

    fn certificates(
        &self,
        listeners: &[Listener],
        certs: &[PemSource],
        keys: &[PemSource],
        name: &str,
    ) -> Result<Vec<(PemSource, PemSource)>, SelfSignedError> {
        if !listeners.iter().any(|listener| listener.tls) {
            return Ok(Vec::new());
        }
        if certs.is_empty() {
            let files = ensure(&self.prefix.join("ssl"), name)?;
            return Ok(vec![(
                PemSource::File(files.cert),
                PemSource::File(files.key),
            )]);
        }
        Ok(certs.iter().cloned().zip(keys.iter().cloned()).collect())
    }
}

fn certificate(key: &PKey<Private>) -> Result<X509, ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_text("O", "Silverback")?;
    name.append_entry_by_text("CN", "localhost")?;
    let name = name.build();
    let mut serial = BigNum::new()?;
    serial.rand(159, MsbOption::MAYBE_ZERO, false)?;

    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(3650)?)?;
    builder.set_pubkey(key)?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    builder.append_extension(ExtendedKeyUsage::new().server_auth().build()?)?;
    let names = SubjectAlternativeName::new()
        .dns("localhost")
        .ip("127.0.0.1")
        .ip("::1")
        .build(&builder.x509v3_context(None, None))?;
    builder.append_extension(names)?;
    builder.sign(key, MessageDigest::sha256())?;
    Ok(builder.build())
}

/// Writes beside the target and renames, so that nobody reads half a file.
fn write(path: &Path, mode: u32, content: &[u8]) -> Result<(), SelfSignedError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let attempt = || {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(content)?;
        std::fs::rename(&beside, path)
    };
    attempt().map_err(|source| SelfSignedError::Write {
        path: path.into(),
        source,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn is_made_once_with_a_private_key_file() {
        let dir = tempfile::tempdir().unwrap();
        let files = ensure(&dir.path().join("ssl"), "default").unwrap();
        let first = std::fs::read(&files.cert).unwrap();
        let mode = std::fs::metadata(&files.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(ensure(&dir.path().join("ssl"), "default").unwrap(), files);
        assert_eq!(std::fs::read(&files.cert).unwrap(), first);
    }

    #[test]
    fn key_and_certificate_belong_together_and_name_localhost() {
        let dir = tempfile::tempdir().unwrap();
        let files = ensure(dir.path(), "default").unwrap();
        let cert = X509::from_pem(&std::fs::read(&files.cert).unwrap()).unwrap();
        let key = PKey::private_key_from_pem(&std::fs::read(&files.key).unwrap()).unwrap();
        assert!(cert.public_key().unwrap().public_eq(&key));
        let names = cert.subject_alt_names().unwrap();
        assert_eq!(names.get(0).unwrap().dnsname(), Some("localhost"));
    }

    #[test]
    fn listeners_with_tls_get_what_is_configured_or_one_that_is_made() {
        use crate::config::Loader;

        let dir = tempfile::tempdir().unwrap();
        let loader = Loader::new().set("prefix", dir.path().to_str().unwrap());
        let config = loader.clone().load().unwrap().config;
        assert_eq!(config.admin_certificates().unwrap(), []);
        let made = config.proxy_certificates().unwrap();
        let cert = dir.path().join("ssl/silverback-default.crt");
        assert_eq!(made[0].0, PemSource::File(cert.clone()));

        let key = dir.path().join("ssl/silverback-default.key");
        let loader = loader
            .set("admin_listen", "127.0.0.1:8444 ssl")
            .set("admin_ssl_cert", cert.to_str().unwrap())
            .set("admin_ssl_cert_key", key.to_str().unwrap());
        let configured = loader.load().unwrap().config.admin_certificates().unwrap();
        assert_eq!(configured, [(PemSource::File(cert), PemSource::File(key))]);
    }

    #[test]
    fn a_missing_half_means_both_are_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let files = ensure(dir.path(), "default").unwrap();
        let before = std::fs::read(&files.cert).unwrap();
        std::fs::remove_file(&files.key).unwrap();
        ensure(dir.path(), "default").unwrap();
        assert_ne!(std::fs::read(&files.cert).unwrap(), before);
    }
}
