//! How secrets of applications are kept: PBKDF2 in the form of PHC strings, with Kong's parameters, so that databases and declarative
//! files can be taken over.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::rand::rand_bytes;

const ROUNDS: usize = 10_000;
const SALT: usize = 16;
const LENGTH: usize = 32;
/// How a hash begins that is made as hashes are made today.
const TODAYS: &str = "$pbkdf2-sha512$i=10000,l=32$";
/// A hash with more rounds is not tried: a row may come from anywhere.
const MOST_ROUNDS: usize = 10_000_000;

/// `$pbkdf2-sha512$i=10000,l=32$<salt>$<hash>`, with a random salt. Takes some milliseconds, as it should.
///
/// # Errors
/// When OpenSSL has no randomness or no memory.
pub(crate) fn hash(secret: &str) -> Result<String, ErrorStack> {
    let mut salt = [0; SALT];
    rand_bytes(&mut salt)?;
    hash_with(secret, &salt)
}

/// Whether the hash is one of that secret. A hash that cannot be read is of none.
pub(crate) fn verify(secret: &str, hash: &str) -> bool {
    let Some(wanted) = Hash::parse(hash) else {
        return false;
    };
    let mut found = vec![0; wanted.hash.len()];
    let (text, salt) = (secret.as_bytes(), &wanted.salt);
    match pbkdf2_hmac(text, salt, wanted.rounds, wanted.digest, &mut found) {
        Ok(()) => memcmp::eq(&found, &wanted.hash),
        Err(_) => false,
    }
}

/// Whether the hash is not made as hashes are made today.
pub(crate) fn is_outdated(hash: &str) -> bool {
    !hash.starts_with(TODAYS)
}

/// A hash in the form of a PHC string.
struct Hash {
    digest: MessageDigest,
    rounds: usize,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Hash {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("$pbkdf2-")?.split('$');
        let digest = MessageDigest::from_name(parts.next()?)?;
        let mut rounds = ROUNDS;
        for parameter in parts.next()?.split(',') {
            let (name, value) = parameter.split_once('=')?;
            if name == "i" {
                rounds = value.parse().ok()?;
            }
        }
        let salt = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
        let hash = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
        let fits = (1..=MOST_ROUNDS).contains(&rounds) && !hash.is_empty();
        (fits && parts.next().is_none()).then_some(Hash {
            digest,
            rounds,
            salt,
            hash,
        })
    }
}

fn hash_with(secret: &str, salt: &[u8]) -> Result<String, ErrorStack> {
    let mut hash = [0; LENGTH];
    pbkdf2_hmac(
        secret.as_bytes(),
        salt,
        ROUNDS,
        MessageDigest::sha512(),
        &mut hash,
    )?;
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    Ok(format!(
        "$pbkdf2-sha512$i={ROUNDS},l={LENGTH}${salt}${hash}"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_kong() {
        // What Kong made of the secret "s".
        let kongs = "$pbkdf2-sha512$i=10000,l=32$A1xQ5WI7wuSAM44TIqs6Lg$8tR6xqeLkp/efnjklctB4xqZQclJJN95v7q3h3JExfI";
        let salt = STANDARD_NO_PAD.decode("A1xQ5WI7wuSAM44TIqs6Lg").unwrap();
        assert_eq!(hash_with("s", &salt).unwrap(), kongs);
    }

    #[test]
    fn a_secret_is_recognised_by_its_hash() {
        let kongs = "$pbkdf2-sha512$i=10000,l=32$A1xQ5WI7wuSAM44TIqs6Lg$8tR6xqeLkp/efnjklctB4xqZQclJJN95v7q3h3JExfI";
        assert!(verify("s", kongs) && !verify("t", kongs) && !is_outdated(kongs));
        let made = hash("secret").unwrap();
        assert!(verify("secret", &made) && made.starts_with(TODAYS));
        // RFC 7914, 11: PBKDF2-HMAC-SHA-256 of "passwd" with the salt "salt" and one round.
        let other = "$pbkdf2-sha256$i=1$c2FsdA$VawEblbjCJ/sFpHCJUS2BflBhSFt3gRl5oudV8INrLw";
        assert!(is_outdated(other));
        assert!(
            verify("passwd", other),
            "a hash of others is recognised too"
        );
        for broken in [
            "",
            "s",
            "$pbkdf2-sha512$i=0$AA$AA",
            "$pbkdf2-sha512$i=1$AA$",
            "$2b$12$x",
        ] {
            assert!(!verify("s", broken), "{broken}");
        }
    }

    #[test]
    fn each_hash_has_a_salt_of_its_own() {
        let (a, b) = (hash("s").unwrap(), hash("s").unwrap());
        assert_ne!(a, b);
        let salt = STANDARD_NO_PAD
            .decode(a.split('$').nth(3).unwrap())
            .unwrap();
        assert_eq!(salt.len(), 16);
        assert_eq!(hash_with("s", &salt).unwrap(), a);
    }
}
