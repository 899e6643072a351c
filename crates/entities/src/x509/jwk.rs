//! JSON Web Keys (RFC 7517, RFC 7518, RFC 8037): whether a key can be made of one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey};
use openssl::rsa::{Rsa, RsaPrivateKeyBuilder};
use serde_json::{Map, Value};

/// Whether it is an RSA or elliptic-curve key, public or private. Symmetric keys (`oct`) are none, as in Kong.
pub(crate) fn is_jwk(jwk: &Map<String, Value>) -> bool {
    let member = |name: &str| jwk.get(name).and_then(Value::as_str);
    match member("kty") {
        Some("RSA") => rsa(&Members(jwk)),
        Some("EC") => ec(&Members(jwk), member("crv").unwrap_or_default()),
        Some("OKP") => okp(&Members(jwk), member("crv").unwrap_or_default()),
        _ => None,
    }
    .is_some()
}

struct Members<'a>(&'a Map<String, Value>);

impl Members<'_> {
    fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let text = self.0.get(name)?.as_str()?;
        URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
    }

    fn number(&self, name: &str) -> Option<BigNum> {
        BigNum::from_slice(&self.bytes(name)?).ok()
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

fn rsa(m: &Members<'_>) -> Option<()> {
    let (n, e) = (m.number("n")?, m.number("e")?);
    if !m.has("d") {
        return Rsa::from_public_components(n, e).ok().map(drop);
    }
    let mut key = RsaPrivateKeyBuilder::new(n, e, m.number("d")?).ok()?;
    if m.has("p") || m.has("q") {
        key = key.set_factors(m.number("p")?, m.number("q")?).ok()?;
    }
    if m.has("dp") || m.has("dq") || m.has("qi") {
        let (dp, dq, qi) = (m.number("dp")?, m.number("dq")?, m.number("qi")?);
        key = key.set_crt_params(dp, dq, qi).ok()?;
    }
    let key = key.build();
    // Without its factors a key cannot be checked, and works all the same.
    (!m.has("p") || key.check_key().unwrap_or(false)).then_some(())
}

fn ec(m: &Members<'_>, curve: &str) -> Option<()> {
    let curve = match curve {
        "P-256" => Nid::X9_62_PRIME256V1,
        "P-384" => Nid::SECP384R1,
        "P-521" => Nid::SECP521R1,
        _ => return None,
    };
    let (x, y) = (m.number("x")?, m.number("y")?);
    let d = if m.has("d") {
        Some(m.number("d")?)
    } else {
        None
    };
    let made = || -> Result<bool, ErrorStack> {
        let group = EcGroup::from_curve_name(curve)?;
        // Checks that the point is on the curve.
        let public = EcKey::from_public_key_affine_coordinates(&group, &x, &y)?;
        let Some(d) = d else { return Ok(true) };
        let mut cx = BigNumContext::new()?;
        let mut own = EcPoint::new(&group)?;
        own.mul_generator2(&group, &d, &mut cx)?;
        own.eq(&group, public.public_key(), &mut cx)
    };
    made().unwrap_or(false).then_some(())
}

fn okp(m: &Members<'_>, curve: &str) -> Option<()> {
    let id = match curve {
        "Ed25519" => Id::ED25519,
        "Ed448" => Id::ED448,
        "X25519" => Id::X25519,
        "X448" => Id::X448,
        _ => return None,
    };
    if m.has("d") {
        PKey::private_key_from_raw_bytes(&m.bytes("d")?, id)
            .ok()
            .map(drop)
    } else {
        PKey::public_key_from_raw_bytes(&m.bytes("x")?, id)
            .ok()
            .map(drop)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ok(v: Value) -> bool {
        is_jwk(v.as_object().unwrap())
    }

    #[test]
    fn keys_of_rfc_7517_are_read() {
        let ec = json!({
            "kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
        });
        assert!(ok(ec.clone()));
        let mut private = ec.clone();
        private["d"] = json!("870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE");
        assert!(ok(private.clone()));
        private["d"] = json!("AQ");
        assert!(!ok(private), "a private key that is another point's");
        let mut off = ec;
        off["x"] = json!("AQ");
        assert!(!ok(off), "a point that is not on the curve");
    }

    #[test]
    fn edwards_curves_are_read() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        assert!(ok(json!({ "kty": "OKP", "crv": "Ed25519", "x": x })));
        assert!(!ok(json!({ "kty": "OKP", "crv": "Ed25519", "x": "AQ" })));
    }

    #[test]
    fn rsa_needs_modulus_and_exponent() {
        assert!(ok(json!({ "kty": "RSA", "n": "sXchD1Jg3Q", "e": "AQAB" })));
        assert!(!ok(json!({ "kty": "RSA", "n": "sXchD1Jg3Q" })));
        assert!(!ok(json!({ "kty": "oct", "k": "c2VjcmV0" })));
        assert!(!ok(json!({})));
    }
}
