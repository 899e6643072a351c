//! A token taken apart (`kong/plugins/jwt/jwt_parser.lua`). Nothing in it is to be believed before [`Token::is_signed_with`].

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkey::{Id, PKey, Public};
use openssl::rsa::Padding;
use openssl::sign::{Signer, Verifier};
use serde_json::{Map, Value};

use crate::credential::ALGORITHMS;

/// nginx's decoder, which Kong uses, ends at the first `=` and does not ask for padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// A token in its three parts.
#[derive(Debug)]
pub(crate) struct Token<'a> {
    /// What is signed: the text before the last point.
    signed: &'a str,
    header: Map<String, Value>,
    claims: Map<String, Value>,
    signature: Vec<u8>,
}

/// What a signature is checked with.
#[derive(Debug)]
pub(crate) enum Key {
    /// The secret of `HS256` and its kind.
    Secret(Vec<u8>),
    /// The public key of the others.
    Public(PKey<Public>),
}

impl<'a> Token<'a> {
    /// The parts of a token, or what is wrong with it.
    pub(crate) fn parse(text: &'a str) -> Result<Self, &'static str> {
        let mut parts = text.splitn(3, '.');
        let (Some(header), Some(claims), Some(signature)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err("invalid JSON");
        };
        let json = |part: &str| -> Option<Value> { serde_json::from_slice(&decode(part)?).ok() };
        let (Some(head), Some(body)) = (json(header), json(claims)) else {
            return Err("invalid JSON");
        };
        let Value::Object(head) = head else {
            return Err("invalid alg");
        };
        let algorithm = head.get("alg").and_then(Value::as_str);
        if algorithm.is_none_or(|a| !ALGORITHMS.contains(&a)) {
            return Err("invalid alg");
        }
        let Value::Object(body) = body else {
            return Err("invalid claims");
        };
        Ok(Token {
            signed: &text[..header.len() + 1 + claims.len()],
            header: head,
            claims: body,
            signature: decode(signature).ok_or("invalid signature")?,
        })
    }

    /// The algorithm that it says it is signed with.
    pub(crate) fn algorithm(&self) -> &str {
        self.header
            .get("alg")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// A claim.
    pub(crate) fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// A claim or, failing that, a member of the header. As in Lua `false` is as good as nothing.
    pub(crate) fn named(&self, name: &str) -> Option<&Value> {
        let there = |v: &&Value| **v != Value::Bool(false);
        let claim = self.claims.get(name).filter(there);
        claim.or_else(|| self.header.get(name).filter(there))
    }

    /// Whether it was signed with that key, by its algorithm.
    pub(crate) fn is_signed_with(&self, key: &Key) -> bool {
        // An error means that the signature does not even have the form it should have.
        match key {
            Key::Secret(secret) => self.hmac(secret),
            Key::Public(key) => self.verify(key),
        }
        .unwrap_or(false)
    }

    fn hmac(&self, secret: &[u8]) -> Result<bool, ErrorStack> {
        if !self.algorithm().starts_with("HS") {
            return Ok(false);
        }
        let key = PKey::hmac(secret)?;
        let made = Signer::new(self.digest(), &key)?.sign_oneshot_to_vec(self.signed.as_bytes())?;
        Ok(made.len() == self.signature.len() && memcmp::eq(&made, &self.signature))
    }

    fn verify(&self, key: &PKey<Public>) -> Result<bool, ErrorStack> {
        let data = self.signed.as_bytes();
        match (self.algorithm().get(..2), key.id()) {
            (Some("RS"), Id::RSA) => {
                Verifier::new(self.digest(), key)?.verify_oneshot(&self.signature, data)
            }
            (Some("PS"), Id::RSA) => {
                let mut verifier = Verifier::new(self.digest(), key)?;
                verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
                verifier.verify_oneshot(&self.signature, data)
            }
            (Some("ES"), Id::EC) => {
                // Both numbers at full length, one behind the other (RFC 7518, 3.4).
                let length = match self.algorithm() {
                    "ES256" => 32,
                    "ES384" => 48,
                    _ => 66,
                };
                if self.signature.len() != 2 * length {
                    return Ok(false);
                }
                let (r, s) = self.signature.split_at(length);
                let pair = EcdsaSig::from_private_components(
                    BigNum::from_slice(r)?,
                    BigNum::from_slice(s)?,
                )?;
                Verifier::new(self.digest(), key)?.verify_oneshot(&pair.to_der()?, data)
            }
            (Some("Ed"), Id::ED25519 | Id::ED448) => {
                Verifier::new_without_digest(key)?.verify_oneshot(&self.signature, data)
            }
            _ => Ok(false),
        }
    }

    fn digest(&self) -> MessageDigest {
        match self.algorithm().get(2..) {
            Some("384") => MessageDigest::sha384(),
            Some("512") => MessageDigest::sha512(),
            _ => MessageDigest::sha256(),
        }
    }
}

/// What URL-safe base64 stands for.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let end = text.find('=').unwrap_or(text.len());
    BASE64.decode(&text[..end]).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use openssl::ec::{EcGroup, EcKey};
    use openssl::nid::Nid;
    use openssl::pkey::Private;
    use openssl::rsa::Rsa;
    use serde_json::json;

    use super::*;

    fn text(header: Value, claims: Value) -> String {
        let part = |v: Value| {
            BASE64
                .encode(v.to_string())
                .trim_end_matches('=')
                .to_owned()
        };
        format!("{}.{}", part(header), part(claims))
    }

    fn finish(signed: String, signature: &[u8]) -> String {
        format!(
            "{signed}.{}",
            BASE64.encode(signature).trim_end_matches('=')
        )
    }

    fn head(algorithm: &str) -> String {
        text(
            json!({ "typ": "JWT", "alg": algorithm }),
            json!({ "iss": "k" }),
        )
    }

    fn public(key: &PKey<Private>) -> Key {
        Key::Public(PKey::public_key_from_der(&key.public_key_to_der().unwrap()).unwrap())
    }

    /// A token signed with a private key.
    fn signed(algorithm: &str, key: &PKey<Private>) -> String {
        let data = head(algorithm);
        let digest = match &algorithm[2..] {
            "384" => MessageDigest::sha384(),
            "512" => MessageDigest::sha512(),
            _ => MessageDigest::sha256(),
        };
        let bytes = data.as_bytes();
        let signature = match &algorithm[..2] {
            "Ed" => Signer::new_without_digest(key)
                .unwrap()
                .sign_oneshot_to_vec(bytes)
                .unwrap(),
            "PS" => {
                let mut signer = Signer::new(digest, key).unwrap();
                signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
                signer.sign_oneshot_to_vec(bytes).unwrap()
            }
            "ES" => {
                let length = match algorithm {
                    "ES256" => 32,
                    "ES384" => 48,
                    _ => 66,
                };
                let der = Signer::new(digest, key)
                    .unwrap()
                    .sign_oneshot_to_vec(bytes)
                    .unwrap();
                let pair = EcdsaSig::from_der(&der).unwrap();
                let number = |n: &openssl::bn::BigNumRef| n.to_vec_padded(length).unwrap();
                [number(pair.r()), number(pair.s())].concat()
            }
            _ => Signer::new(digest, key)
                .unwrap()
                .sign_oneshot_to_vec(bytes)
                .unwrap(),
        };
        finish(data, &signature)
    }

    fn curve(nid: Nid) -> PKey<Private> {
        let group = EcGroup::from_curve_name(nid).unwrap();
        PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
    }

    #[test]
    fn a_secret_opens_what_was_signed_with_it() {
        let token = "eyJ0eXAiOiAiSldUIiwgImFsZyI6ICJIUzI1NiJ9.eyJpc3MiOiAiamsifQ.r6DTwt83Yg9edmJO0zCcSKAs19d0764D6crPuOCHerY";
        let token = Token::parse(token).unwrap();
        assert_eq!(
            (token.algorithm(), token.claim("iss")),
            ("HS256", Some(&json!("jk")))
        );
        assert!(token.is_signed_with(&Key::Secret(b"js".to_vec())));
        assert!(!token.is_signed_with(&Key::Secret(b"other".to_vec())));
    }

    #[test]
    fn a_key_opens_what_was_signed_with_it_and_nothing_else() {
        let rsa = || PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let (one, other) = (rsa(), rsa());
        let (ed, p256) = (
            PKey::generate_ed25519().unwrap(),
            curve(Nid::X9_62_PRIME256V1),
        );
        let (p384, p521) = (curve(Nid::SECP384R1), curve(Nid::SECP521R1));
        for (algorithm, key) in [
            ("RS256", &one),
            ("RS384", &one),
            ("RS512", &one),
            ("PS256", &one),
            ("PS384", &one),
            ("PS512", &one),
            ("ES256", &p256),
            ("ES384", &p384),
            ("ES512", &p521),
            ("EdDSA", &ed),
        ] {
            let text = signed(algorithm, key);
            let token = Token::parse(&text).unwrap();
            assert!(token.is_signed_with(&public(key)), "{algorithm}");
            assert!(!token.is_signed_with(&public(&other)), "{algorithm}");
            assert!(
                !token.is_signed_with(&Key::Secret(b"x".to_vec())),
                "{algorithm}"
            );
            let forged = finish(text.rsplit_once('.').unwrap().0.to_owned(), b"short");
            assert!(
                !Token::parse(&forged).unwrap().is_signed_with(&public(key)),
                "{algorithm}"
            );
        }
        // The public key is no secret: who knows it cannot sign with it.
        let pem = one.public_key_to_pem().unwrap();
        let key = PKey::hmac(&pem).unwrap();
        let data = head("HS256");
        let signature = Signer::new(MessageDigest::sha256(), &key)
            .unwrap()
            .sign_oneshot_to_vec(data.as_bytes())
            .unwrap();
        let confused = finish(data, &signature);
        assert!(
            !Token::parse(&confused)
                .unwrap()
                .is_signed_with(&public(&one))
        );
    }

    #[test]
    fn what_is_no_token_is_told_apart() {
        let wrong = |text: &str| Token::parse(text).unwrap_err();
        for text in ["garbage", "a.b.c", "a.b", "", "..", "e30.e30"] {
            assert_eq!(wrong(text), "invalid JSON", "{text}");
        }
        for header in [
            json!({ "alg": "none" }),
            json!({ "alg": 5 }),
            json!({}),
            json!("HS256"),
            json!([]),
        ] {
            assert_eq!(
                wrong(&format!("{}.x", text(header.clone(), json!({})))),
                "invalid alg",
                "{header}"
            );
        }
        let hs = json!({ "alg": "HS256" });
        assert_eq!(
            wrong(&format!("{}.x", text(hs.clone(), json!(1)))),
            "invalid claims"
        );
        for signature in ["!", "a.b", "abcde"] {
            let text = format!("{}.{signature}", text(hs.clone(), json!({})));
            assert_eq!(wrong(&text), "invalid signature", "{signature}");
        }
        let unsigned = format!("{}.", text(hs, json!({})));
        assert!(
            !Token::parse(&unsigned)
                .unwrap()
                .is_signed_with(&Key::Secret(b"s".to_vec()))
        );
    }

    #[test]
    fn the_header_stands_in_for_claims() {
        let both = text(
            json!({ "alg": "HS256", "kid": "h", "iss": "i" }),
            json!({ "kid": "c", "iss": false }),
        );
        let text = format!("{both}.");
        let token = Token::parse(&text).unwrap();
        assert_eq!(token.named("kid"), Some(&json!("c")));
        assert_eq!(token.named("iss"), Some(&json!("i")));
        assert_eq!(token.named("sub"), None);
    }
}
