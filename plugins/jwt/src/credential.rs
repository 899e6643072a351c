//! The entity: a key's name, and the secret or public key that tokens under this name are verified with.

use openssl::pkey::{PKey, Public};
use openssl::rsa::Rsa;
use serde_json::Value;
use silverback_plugin::schema::field::{foreign, id, string, timestamp};
use silverback_plugin::schema::typedefs::credential_tags;
use silverback_plugin::schema::{EntityCheck, EntityDef, OnDelete, Record, record};

pub(crate) const ALGORITHMS: [&str; 13] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256",
    "PS384", "PS512", "EdDSA",
];

/// Lua patterns of those that need a public key. Kong does not ask for one with `ES...`.
const ASYMMETRIC: [&str; 7] = [
    "^RS256$", "^RS384$", "^RS512$", "^PS256$", "^PS384$", "^PS512$", "^EdDSA$",
];

record! {
    /// A key that a consumer signs tokens with.
    struct Credential {
        /// The primary key.
        id: String = id(),
        /// When the row was made.
        created_at: i64 = timestamp(),
        /// Whose it is.
        consumer: Value = foreign("consumers").required().on_delete(OnDelete::Cascade),
        /// The name of the key, which tokens carry in a claim; 32 random letters and digits when it is left out.
        key: String = string().optional().unique().auto().len_min(1),
        /// The secret of symmetric algorithms; 32 random letters and digits when it is left out.
        secret: Option<String> = string().auto().len_min(1),
        /// The public key of the other algorithms, in PEM.
        rsa_public_key: Option<String> = string().len_min(1),
        /// The algorithm that tokens are signed with.
        algorithm: Option<String> = string().default("HS256").one_of(ALGORITHMS).len_min(1),
        /// Words for grouping and filtering.
        tags: Option<Vec<String>> = credential_tags(),
    }
}

/// The entity of keys.
pub const CREDENTIALS: &str = "jwt_secrets";

pub(crate) fn def() -> EntityDef {
    EntityDef::new(CREDENTIALS, Credential::fields())
        .collection("jwts")
        .endpoint_key("key")
        .nested("consumer", "jwt")
        .lookup("key")
        .check(EntityCheck::Conditional {
            if_field: "algorithm",
            if_match: Box::new(string().is_any(ASYMMETRIC)),
            then_field: "rsa_public_key",
            then_match: Box::new(string().required().check(key)),
            then_err: None,
        })
}

fn key(v: &Value) -> Result<(), String> {
    match public_key(v.as_str().unwrap_or_default()) {
        Some(_) => Ok(()),
        None => Err("invalid key".to_owned()),
    }
}

/// A key in PEM. As in Kong a private key, in which the public one is contained, will do.
pub(crate) fn public_key(pem: &str) -> Option<PKey<Public>> {
    let pem = pem.as_bytes();
    if let Ok(key) = PKey::public_key_from_pem(pem) {
        return Some(key);
    }
    if let Ok(rsa) = Rsa::public_key_from_pem_pkcs1(pem) {
        return PKey::from_rsa(rsa).ok();
    }
    // Without a callback OpenSSL would ask at the terminal for the password of an encrypted key.
    let private = PKey::private_key_from_pem_callback(pem, |_| Ok(0)).ok()?;
    PKey::public_key_from_der(&private.public_key_to_der().ok()?).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Map, Value, json};
    use silverback_plugin::exchange::entity_schema_without_descriptions;
    use silverback_plugin::schema::{Op, Violations, complete, patch};

    use super::*;

    fn made(mut row: Value) -> Result<Map<String, Value>, Violations> {
        row["consumer"] = json!({ "id": "00000003-0000-4000-8000-000000000001" });
        complete(&def(), row.as_object().unwrap().clone(), Op::Insert, 1)
    }

    fn rsa() -> PKey<openssl::pkey::Private> {
        PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
    }

    fn text(pem: Vec<u8>) -> String {
        String::from_utf8(pem).unwrap()
    }

    #[test]
    fn the_schema_is_that_of_kong() {
        let facts: Value =
            serde_json::from_str(include_str!("../testdata/credential_schema.json")).unwrap();
        assert_eq!(entity_schema_without_descriptions(&def()), facts);
    }

    #[test]
    fn key_and_secret_are_made_up() {
        let row = made(json!({})).unwrap();
        assert_eq!(row["algorithm"], "HS256");
        for field in ["key", "secret"] {
            assert_eq!(row[field].as_str().unwrap().len(), 32, "{field}");
        }
        assert_ne!(row["key"], row["secret"]);
    }

    #[test]
    fn asymmetric_algorithms_need_a_key() {
        for algorithm in [
            "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA",
        ] {
            let without = made(json!({ "algorithm": algorithm })).unwrap_err();
            assert_eq!(
                without.message(),
                "2 schema violations (failed conditional validation given value of field 'algorithm'; \
                 rsa_public_key: required field missing)",
                "{algorithm}"
            );
            let bad = made(json!({ "algorithm": algorithm, "rsa_public_key": "x" })).unwrap_err();
            assert_eq!(bad.0["rsa_public_key"], "invalid key", "{algorithm}");
        }
        for algorithm in ["HS512", "ES256", "ES512"] {
            assert!(
                made(json!({ "algorithm": algorithm })).is_ok(),
                "{algorithm}"
            );
        }
        let unknown = made(json!({ "algorithm": "ZZ" })).unwrap_err();
        assert!(
            unknown.0["algorithm"]
                .as_str()
                .unwrap()
                .starts_with("expected one of: HS256, HS384")
        );
    }

    #[test]
    fn keys_in_pem_are_taken() {
        let rsa = rsa();
        let ed = PKey::generate_ed25519().unwrap();
        for pem in [
            rsa.public_key_to_pem().unwrap(),
            rsa.rsa().unwrap().public_key_to_pem_pkcs1().unwrap(),
            rsa.private_key_to_pem_pkcs8().unwrap(),
            ed.public_key_to_pem().unwrap(),
        ] {
            let row = json!({ "algorithm": "RS256", "rsa_public_key": text(pem) });
            assert!(made(row.clone()).is_ok(), "{row}");
        }
        let cipher = openssl::symm::Cipher::aes_128_cbc();
        let locked = rsa
            .private_key_to_pem_pkcs8_passphrase(cipher, b"secret")
            .unwrap();
        assert!(made(json!({ "algorithm": "RS256", "rsa_public_key": text(locked) })).is_err());
    }

    #[test]
    fn a_change_of_the_algorithm_is_checked_with_the_key_that_is_there() {
        let def = &super::def();
        let row = made(json!({})).unwrap();
        let to_rs = || Map::from_iter([("algorithm".to_owned(), json!("RS256"))]);
        assert!(patch(def, &row, to_rs(), 1).is_err());
        let mut with_key = to_rs();
        with_key.insert(
            "rsa_public_key".into(),
            text(rsa().public_key_to_pem().unwrap()).into(),
        );
        assert_eq!(patch(def, &row, with_key, 1).unwrap()["algorithm"], "RS256");
    }
}
