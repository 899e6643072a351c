//! JSON Web Tokens as Konga makes them for a connection of the type JWT: HS256 over `iss`, `nbf` and `exp`, made anew for each request
//! from a key and a secret, which for us are both the token.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde_json::Value;

/// How far clocks may be apart, in seconds.
const LEEWAY: f64 = 60.0;

/// The token that a JWT is made with: `None` when the text is no JWT, `Some(None)` when it is one that does not count.
pub(super) fn token(text: &str) -> Option<Option<String>> {
    let mut parts = text.split('.');
    let (head, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let json = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let (header, payload) = (json(head)?, json(claims)?);
    Some(checked(text, &header, &payload, signature))
}

fn checked(text: &str, header: &Value, payload: &Value, signature: &str) -> Option<String> {
    let issuer = payload.get("iss")?.as_str()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let now = now.as_secs_f64();
    let time = |name: &str| payload.get(name).map(|v| v.as_f64().unwrap_or(f64::NAN));
    // A time that is no number is never in time.
    let in_time = time("exp").is_none_or(|exp| exp + LEEWAY > now)
        && time("nbf").is_none_or(|nbf| nbf - LEEWAY <= now);
    if header.get("alg")?.as_str()? != "HS256" || !in_time {
        return None;
    }
    let signed = text.rsplit_once('.')?.0;
    let own = sign(issuer, signed)?;
    let given = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let same = own.len() == given.len() && openssl::memcmp::eq(&own, &given);
    same.then(|| issuer.to_owned())
}

fn sign(secret: &str, text: &str) -> Option<Vec<u8>> {
    let key = PKey::hmac(secret.as_bytes()).ok()?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key).ok()?;
    signer.sign_oneshot_to_vec(text.as_bytes()).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A JWT.
    pub(crate) fn made(alg: &str, secret: &str, claims: &Value) -> String {
        let part = |v: &Value| URL_SAFE_NO_PAD.encode(v.to_string());
        let signed = format!(
            "{}.{}",
            part(&json!({ "alg": alg, "typ": "JWT" })),
            part(claims)
        );
        let signature = URL_SAFE_NO_PAD.encode(sign(secret, &signed).unwrap());
        format!("{signed}.{signature}")
    }

    fn now() -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    }

    #[test]
    fn a_jwt_stands_for_the_token_that_signs_it() {
        let claims = json!({ "iss": "sbat_a_b", "nbf": now() - 60, "exp": now() + 120 });
        let good = made("HS256", "sbat_a_b", &claims);
        assert_eq!(token(&good), Some(Some("sbat_a_b".into())));
        assert_eq!(token(&made("HS256", "other", &claims)), Some(None));
        assert_eq!(token(&made("none", "sbat_a_b", &claims)), Some(None));
        for times in [
            json!({ "iss": "t", "exp": now() - 120 }),
            json!({ "iss": "t", "nbf": now() + 120 }),
            json!({ "iss": "t", "exp": "soon" }),
            json!({ "exp": now() + 120 }),
        ] {
            assert_eq!(token(&made("HS256", "t", &times)), Some(None), "{times}");
        }
        for none in ["sbat_a_b", "a.b.c", "a.b", "", "a.b.c.d"] {
            assert_eq!(token(none), None);
        }
    }
}
