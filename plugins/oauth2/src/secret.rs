//! How secrets of applications are kept: PBKDF2 in the form of PHC strings, with Kong's parameters, so that databases and declarative
//! files can be taken over.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::rand::rand_bytes;

const ROUNDS: usize = 10_000;
const SALT: usize = 16;
const LENGTH: usize = 32;

/// `$pbkdf2-sha512$i=10000,l=32$<salt>$<hash>`, with a random salt. Takes some milliseconds, as it should.
///
/// # Errors
/// When OpenSSL has no randomness or no memory.
pub(crate) fn hash(secret: &str) -> Result<String, ErrorStack> {
    let mut salt = [0; SALT];
    rand_bytes(&mut salt)?;
    hash_with(secret, &salt)
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
