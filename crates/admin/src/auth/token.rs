//! What a token looks like: `sbat_<12 digits>_<64 digits>`, hexadecimal. By the first part it is found; the second is the secret.

use openssl::error::ErrorStack;

const PREFIX: &str = "sbat_";

/// A token that was just made. It is shown once and kept nowhere.
pub struct NewToken {
    /// The token.
    pub text: String,
    /// The part of it by which it is found.
    pub lookup: String,
    /// SHA-256 of it, by which it is recognised.
    pub hash: Vec<u8>,
}

impl NewToken {
    /// A random one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> Result<Self, ErrorStack> {
        let (mut name, mut secret) = ([0; 6], [0; 32]);
        openssl::rand::rand_bytes(&mut name)?;
        openssl::rand::rand_bytes(&mut secret)?;
        let lookup = hex(&name);
        let text = format!("{PREFIX}{lookup}_{}", hex(&secret));
        let hash = openssl::sha::sha256(text.as_bytes()).to_vec();
        Ok(NewToken { text, lookup, hash })
    }
}

/// The part of a text by which it is found, if it has the form of a token.
pub(super) fn lookup(text: &str) -> Option<&str> {
    let (lookup, _) = text.strip_prefix(PREFIX)?.split_once('_')?;
    Some(lookup)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_and_differ() {
        let (a, b) = (NewToken::generate().unwrap(), NewToken::generate().unwrap());
        assert_ne!(a.text, b.text);
        assert_eq!((a.text.len(), a.hash.len()), (5 + 12 + 1 + 64, 32));
        assert_eq!(lookup(&a.text), Some(a.lookup.as_str()));
        assert_eq!(lookup("sbat_"), None);
        assert_eq!(lookup("x_y_z"), None);
    }
}
