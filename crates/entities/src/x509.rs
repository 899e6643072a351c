//! What certificates and keys say of themselves: the checks of rows that carry them (`kong/db/schema/typedefs.lua`,
//! `kong/db/schema/entities/certificates.lua`, `ca_certificates.lua`). Nothing is read from or written to anywhere.

mod jwk;

use std::fmt::Write as _;

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{HasPublic, PKey, PKeyRef, Private, Public};
use openssl::x509::X509;
use serde_json::Value;
use silverback_schema::reference::is_reference;

pub(crate) use jwk::is_jwk;

/// A certificate, in PEM or DER.
pub(crate) fn valid_certificate(v: &Value) -> Result<(), String> {
    certificate(v.as_str().unwrap_or_default())
        .map(drop)
        .map_err(|e| format!("invalid certificate: x509.new: {}", text(&e)))
}

/// A private key, in PEM or DER, that is not locked by a passphrase.
pub(crate) fn valid_key(v: &Value) -> Result<(), String> {
    private_key(v.as_str().unwrap_or_default())
        .map(drop)
        .map_err(|e| format!("invalid key: pkey.new:load_key: {}", text(&e)))
}

/// Whether a key is that of a certificate. Yes when one of them cannot be read, which is a violation of its own.
pub(crate) fn belongs(cert: &str, key: &str) -> bool {
    let (Ok(cert), Ok(key)) = (certificate(cert), private_key(key)) else {
        return true;
    };
    cert.public_key().is_ok_and(|public| same(&public, &key))
}

/// Whether the keys of two certificates are of the same kind (RSA, ECDSA). No when one of them cannot be read.
pub(crate) fn same_kind(one: &str, other: &str) -> bool {
    let kind = |pem: &str| Some(certificate(pem).ok()?.public_key().ok()?.id());
    kind(one).is_some_and(|k| kind(other) == Some(k))
}

/// The SHA-256 digest of a certificate in hexadecimal digits.
pub(crate) fn digest(cert: &str) -> Option<String> {
    let digest = certificate(cert)
        .ok()?
        .digest(MessageDigest::sha256())
        .ok()?;
    let mut out = String::with_capacity(digest.len() * 2);
    for byte in digest.iter() {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    Some(out)
}

/// Why a text is not the certificate of one authority.
pub(crate) fn not_an_authority(text: &str) -> Option<&'static str> {
    const TAG: &str = "-----BEGIN CERTIFICATE-----";
    if text.matches(TAG).count() > 1 {
        return Some("please submit only one certificate at a time");
    }
    let cert = certificate(text).ok()?;
    if Asn1Time::days_from_now(0).is_ok_and(|now| cert.not_after() < now) {
        return Some("certificate expired, \"Not After\" time is in the past");
    }
    (!is_authority(&cert)).then_some(
        "certificate does not appear to be a CA because it is missing the \"CA\" basic constraint",
    )
}

/// The keys of a pair in PEM: each can be read, and they belong together.
pub(crate) fn valid_pair(v: &Value) -> Result<(), String> {
    let part = |name: &str| v.get(name).and_then(Value::as_str);
    let (public, private) = (part("public_key"), part("private_key"));
    if [public, private].into_iter().flatten().any(is_reference) {
        return Ok(());
    }
    let public = public
        .map(|pem| public_key(pem).ok_or("could not load public key"))
        .transpose()?;
    let private = private
        .map(|pem| private_key(pem).map_err(|e| format!("could not load private key{}", text(&e))))
        .transpose()?;
    match (public, private) {
        (Some(public), Some(private)) if !same(&public, &private) => {
            Err("public key does not match private key".to_owned())
        }
        _ => Ok(()),
    }
}

fn certificate(text: &str) -> Result<X509, ErrorStack> {
    // Of the two, what DER says of it is what Kong shows.
    X509::from_pem(text.as_bytes()).or_else(|_| X509::from_der(text.as_bytes()))
}

fn private_key(text: &str) -> Result<PKey<Private>, ErrorStack> {
    // Without a callback OpenSSL would ask for the passphrase on the terminal.
    PKey::private_key_from_pem_callback(text.as_bytes(), |_| Ok(0))
        .or_else(|e| PKey::private_key_from_der(text.as_bytes()).map_err(|_| e))
}

/// With or without its algorithm around it.
fn public_key(pem: &str) -> Option<PKey<Public>> {
    PKey::public_key_from_pem(pem.as_bytes()).ok().or_else(|| {
        let rsa = openssl::rsa::Rsa::public_key_from_pem_pkcs1(pem.as_bytes()).ok()?;
        PKey::from_rsa(rsa).ok()
    })
}

fn same<A: HasPublic, B: HasPublic>(one: &PKeyRef<A>, other: &PKeyRef<B>) -> bool {
    one.public_eq(other)
}

/// Whether its basic constraints say that it is an authority. The binding does not tell, its text for people does.
fn is_authority(cert: &X509) -> bool {
    cert.to_text().is_ok_and(|text| {
        let text = String::from_utf8_lossy(&text);
        text.split("X509v3 Basic Constraints:")
            .nth(1)
            .and_then(|rest| rest.lines().nth(1))
            .is_some_and(|line| line.trim_start().starts_with("CA:TRUE"))
    })
}

/// The first error, in the form in which Kong shows errors of OpenSSL. The line is that of the OpenSSL that runs here.
fn text(stack: &ErrorStack) -> String {
    let Some(e) = stack.errors().first() else {
        return "unknown error".to_owned();
    };
    format!(
        "error:{:X}:{}:{}:{}:{}:{}:{}",
        e.code(),
        e.library().unwrap_or_default(),
        e.function().unwrap_or_default(),
        e.reason().unwrap_or_default(),
        e.file().trim_start_matches("../"),
        e.line(),
        e.data().unwrap_or_default()
    )
}
