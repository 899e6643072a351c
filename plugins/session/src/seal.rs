//! A session as text that only a gateway with the same secret can make, read or change.
//!
//! The form is that of lua-resty-session 4.0, which Kong 3.9.1 uses, so that sessions that Kong began go on here and the other way round. A
//! session is a header and a payload, both in URL-safe base64 without padding. The header says when the session began, with the numbers in
//! little-endian order:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | the form: 1 |
//! | 2 | flags |
//! | 32 | the id: random, another one whenever the session is replaced |
//! | 5 | when the first session of the chain began, seconds since 1970 |
//! | 4 | how much later this one began |
//! | 3 | the length of the payload |
//! | 16 | the tag of AES-256-GCM, which the payload is encrypted with; all before it is authenticated with the payload |
//! | 3 | how much later the session was last used, roughly; the only part that changes |
//! | 16 | the start of HMAC-SHA256 over all before it |
//!
//! Keys are made from the secret and the id, so no two sessions have the same.

use std::io::Read as _;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::read::{DeflateDecoder, DeflateEncoder};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::md::Md;
use openssl::memcmp;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::{Id, PKey};
use openssl::pkey_ctx::{HkdfMode, PkeyCtx};
use openssl::rand::rand_bytes;
use openssl::sha::sha256;
use openssl::sign::Signer;
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};

/// The header in base64.
pub(crate) const HEADER_TEXT: usize = 110;
const HEADER: usize = 82;
/// What is authenticated together with the payload.
const BEFORE_TAG: usize = 47;
const BEFORE_IDLING: usize = 63;
const BEFORE_MAC: usize = 66;

/// The payload is in the database.
pub(crate) const STORED: u16 = 0x0001;
/// The user does not want to be remembered.
pub(crate) const FORGET: u16 = 0x0002;
/// The payload is compressed.
const DEFLATED: u16 = 0x0010;

/// Payloads longer than this are compressed, when it helps.
const WORTH_COMPRESSING: usize = 1024;
/// The longest payload that a header can speak of.
const MOST: u64 = 0xff_ffff;
/// A payload that was compressed may not become longer than this.
const MOST_INFLATED: u64 = 16 << 20;
/// Rounds of PBKDF2 for what is to last: who steals such a cookie has longer to try secrets.
const ROUNDS: usize = 10_000;

/// The id of a session.
pub(crate) type SessionId = [u8; 32];

/// Why a session is not read or made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    #[error("no session of this form")]
    Malformed,
    #[error("it was made with another secret, or changed")]
    Forged,
    #[error("it is too long")]
    TooLong,
    #[error(transparent)]
    OpenSsl(#[from] ErrorStack),
}

/// How the key of the payload is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strength {
    /// For sessions: quickly.
    Usual,
    /// For what is remembered: slowly, some milliseconds.
    Slow,
}

/// What all keys are made from.
pub(crate) struct Secret {
    material: [u8; 32],
    /// The first half of HKDF, which is the same for all sessions.
    extracted: [u8; 32],
}

impl Secret {
    pub(crate) fn new(text: &str) -> Result<Self, ErrorStack> {
        Self::of(sha256(text.as_bytes()))
    }

    /// A secret that nobody else has.
    pub(crate) fn random() -> Result<Self, ErrorStack> {
        let mut bytes = [0; 32];
        rand_bytes(&mut bytes)?;
        Self::of(sha256(&bytes))
    }

    fn of(material: [u8; 32]) -> Result<Self, ErrorStack> {
        // An empty salt stands for one of zeros.
        let extracted = hmac(&[0; 32], &[&material])?;
        Ok(Secret {
            material,
            extracted,
        })
    }

    fn mac(&self, id: &SessionId, text: &[u8]) -> Result<[u8; 16], ErrorStack> {
        let mut key = [0; 32];
        self.expand(b"authentication:", id, &mut key)?;
        let mac = hmac(&key, &[text])?;
        Ok(std::array::from_fn(|i| mac[i]))
    }

    /// The key and the nonce of the payload.
    fn cipher(&self, id: &SessionId, strength: Strength) -> Result<[u8; 44], ErrorStack> {
        let mut out = [0; 44];
        match strength {
            Strength::Usual => self.expand(b"encryption:", id, &mut out)?,
            Strength::Slow => {
                let salt = [b"encryption:".as_slice(), id].concat();
                let digest = MessageDigest::sha256();
                pbkdf2_hmac(&self.material, &salt, ROUNDS, digest, &mut out)?;
            }
        }
        Ok(out)
    }

    /// The second half of HKDF.
    fn expand(&self, usage: &[u8], id: &SessionId, out: &mut [u8]) -> Result<(), ErrorStack> {
        let mut ctx = PkeyCtx::new_id(Id::HKDF)?;
        ctx.derive_init()?;
        ctx.set_hkdf_mode(HkdfMode::EXPAND_ONLY)?;
        ctx.set_hkdf_md(Md::sha256())?;
        ctx.set_hkdf_key(&self.extracted)?;
        ctx.add_hkdf_info(usage)?;
        ctx.add_hkdf_info(id)?;
        ctx.derive(Some(out))?;
        Ok(())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What the header of a session says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) flags: u16,
    pub(crate) id: SessionId,
    /// When the first session of the chain began, seconds since 1970.
    pub(crate) created: u64,
    /// How much later this one began.
    pub(crate) rolled: u64,
    /// The length of the payload in base64.
    pub(crate) size: u64,
    tag: [u8; 16],
    /// How much later it was last used, roughly.
    pub(crate) idled: u64,
    mac: [u8; 16],
}

impl Header {
    /// Reads the header at the start of a cookie's value. Nothing in it may be believed before [`Header::is_genuine`].
    pub(crate) fn parse(cookie: &[u8]) -> Result<Self, SealError> {
        let text = cookie.get(..HEADER_TEXT).ok_or(SealError::Malformed)?;
        // A little longer than needed: the decoder does not count exactly.
        let mut bytes = [0; HEADER + 2];
        let read = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes);
        if read.ok() != Some(HEADER) || bytes[0] != 1 {
            return Err(SealError::Malformed);
        }
        Ok(Header {
            flags: number(&bytes[1..3]) as u16,
            id: std::array::from_fn(|i| bytes[3 + i]),
            created: number(&bytes[35..40]),
            rolled: number(&bytes[40..44]),
            size: number(&bytes[44..47]),
            tag: std::array::from_fn(|i| bytes[BEFORE_TAG + i]),
            idled: number(&bytes[BEFORE_IDLING..BEFORE_MAC]),
            mac: std::array::from_fn(|i| bytes[BEFORE_MAC + i]),
        })
    }

    /// Whether it was made with that secret, and nothing in it was changed.
    pub(crate) fn is_genuine(&self, secret: &Secret) -> Result<bool, ErrorStack> {
        let mac = secret.mac(&self.id, &self.bytes()[..BEFORE_MAC])?;
        Ok(memcmp::eq(&mac, &self.mac))
    }

    /// Notes how late it was last used.
    pub(crate) fn touch(&mut self, idled: u64, secret: &Secret) -> Result<(), ErrorStack> {
        self.idled = idled.min(MOST);
        self.mac = secret.mac(&self.id, &self.bytes()[..BEFORE_MAC])?;
        Ok(())
    }

    /// As it stands in a cookie.
    pub(crate) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.bytes())
    }

    /// What a session in the database is found by.
    pub(crate) fn key(&self) -> String {
        key(&self.id)
    }

    /// What is in the payload, in base64, that belongs to this header.
    pub(crate) fn open(
        &self,
        payload: &[u8],
        secret: &Secret,
        strength: Strength,
    ) -> Result<Vec<u8>, SealError> {
        if payload.len() as u64 != self.size {
            return Err(SealError::Malformed);
        }
        let sealed = URL_SAFE_NO_PAD.decode(payload);
        let sealed = sealed.map_err(|_| SealError::Malformed)?;
        let (key, nonce) = split(secret.cipher(&self.id, strength)?);
        let aad = &self.bytes()[..BEFORE_TAG];
        let cipher = Cipher::aes_256_gcm();
        let plain = decrypt_aead(cipher, &key, Some(&nonce), aad, &sealed, &self.tag)
            .map_err(|_| SealError::Forged)?;
        if self.flags & DEFLATED == 0 {
            return Ok(plain);
        }
        let mut out = Vec::new();
        let mut inflated = DeflateDecoder::new(&*plain).take(MOST_INFLATED);
        match inflated.read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(_) => Err(SealError::Malformed),
        }
    }

    fn bytes(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[0] = 1;
        put(&mut out[1..3], self.flags.into());
        out[3..35].copy_from_slice(&self.id);
        put(&mut out[35..40], self.created);
        put(&mut out[40..44], self.rolled);
        put(&mut out[44..47], self.size);
        out[BEFORE_TAG..BEFORE_IDLING].copy_from_slice(&self.tag);
        put(&mut out[BEFORE_IDLING..BEFORE_MAC], self.idled);
        out[BEFORE_MAC..].copy_from_slice(&self.mac);
        out
    }
}

/// What a session of that id is found by in the database.
pub(crate) fn key(id: &SessionId) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

/// Seals a session with a new id: its header, and its payload in base64.
pub(crate) fn seal(
    plain: &[u8],
    flags: u16,
    created: u64,
    rolled: u64,
    secret: &Secret,
    strength: Strength,
) -> Result<(Header, String), SealError> {
    let mut id = [0; 32];
    rand_bytes(&mut id)?;
    let deflated = (plain.len() > WORTH_COMPRESSING)
        .then(|| deflate(plain))
        .flatten()
        .filter(|short| short.len() < plain.len());
    let (flags, plain) = match &deflated {
        Some(short) => (flags | DEFLATED, short.as_slice()),
        None => (flags & !DEFLATED, plain),
    };
    let size = (plain.len() as u64 * 4).div_ceil(3);
    if size > MOST || created >= 1 << 40 || rolled >= 1 << 32 {
        return Err(SealError::TooLong);
    }
    let mut header = Header {
        flags,
        id,
        created,
        rolled,
        size,
        tag: [0; 16],
        idled: 0,
        mac: [0; 16],
    };
    let (key, nonce) = split(secret.cipher(&id, strength)?);
    let aad = header.bytes();
    let sealed = encrypt_aead(
        Cipher::aes_256_gcm(),
        &key,
        Some(&nonce),
        &aad[..BEFORE_TAG],
        plain,
        &mut header.tag,
    )?;
    header.touch(0, secret)?;
    Ok((header, URL_SAFE_NO_PAD.encode(sealed)))
}

fn deflate(plain: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut encoder = DeflateEncoder::new(plain, flate2::Compression::default());
    encoder.read_to_end(&mut out).ok().map(|_| out)
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Result<[u8; 32], ErrorStack> {
    let key = PKey::hmac(key)?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
    for part in parts {
        signer.update(part)?;
    }
    let mut out = [0; 32];
    signer.sign(&mut out)?;
    Ok(out)
}

fn split(bytes: [u8; 44]) -> ([u8; 32], [u8; 12]) {
    (
        std::array::from_fn(|i| bytes[i]),
        std::array::from_fn(|i| bytes[32 + i]),
    )
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

fn put(out: &mut [u8], mut number: u64) {
    for byte in out {
        *byte = number as u8;
        number >>= 8;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What a Kong 3.9.1 with the secret `session-secret-abc` gave out.
    const KONGS: &str = "AQAAx779j6tQYuwl4mF_pf-UAtCT4EaPDSZ1Fob9uGGCUB2_vgJrAAAAAACHAADPTgboI6E3UbXbin-o0b7nAAAAAIwhRkpIpFZ_75s9PiJJlgHn7UJi1cLh2gUeHvq0dRnKS1UxuOW2l5x_38KNmH4px_FeQba-v_x7NwHpCf5BdRftV4WgkRzkerdJkjCeiFzLlsL-8_WP76oK9_j_6hSd-IVuTcO_fBOd705fwSjujzbuSwKZs";

    fn opened(cookie: &str, secret: &Secret) -> Result<Vec<u8>, SealError> {
        let header = Header::parse(cookie.as_bytes())?;
        if !header.is_genuine(secret)? {
            return Err(SealError::Forged);
        }
        header.open(&cookie.as_bytes()[HEADER_TEXT..], secret, Strength::Usual)
    }

    #[test]
    fn sessions_of_kong_are_read() {
        let secret = Secret::new("session-secret-abc").unwrap();
        let text = String::from_utf8(opened(KONGS, &secret).unwrap()).unwrap();
        assert_eq!(
            text,
            r#"[[["00000003-0000-4000-8000-000000000001","644ab6bd-a22f-4e61-a271-5b41f42dbdbe"],"default","alice"]]"#
        );
        let header = Header::parse(KONGS.as_bytes()).unwrap();
        assert_eq!(
            (header.created, header.rolled, header.idled),
            (1_795_342_015, 0, 0)
        );
        assert_eq!(header.text(), KONGS[..HEADER_TEXT]);
    }

    #[test]
    fn another_secret_or_another_byte_makes_nothing_of_it() {
        let secret = Secret::new("s").unwrap();
        let (header, payload) = seal(b"hello", 0, 100, 7, &secret, Strength::Usual).unwrap();
        let cookie = header.text() + &payload;
        assert_eq!(opened(&cookie, &secret).unwrap(), b"hello");
        assert!(opened(&cookie, &Secret::new("t").unwrap()).is_err());
        for at in 0..cookie.len() {
            let mut bytes = cookie.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(bytes).unwrap();
            // The last character of a base64 text may hold bits that mean nothing.
            assert!(
                !matches!(opened(&other, &secret), Ok(text) if text != b"hello"),
                "{at}"
            );
        }
        assert!(opened(&cookie[..cookie.len() - 1], &secret).is_err());
        assert!(opened("", &secret).is_err());
    }

    #[test]
    fn long_payloads_are_compressed() {
        let secret = Secret::random().unwrap();
        let long = b"group, ".repeat(1000);
        let (header, payload) = seal(&long, STORED, 1, 1, &secret, Strength::Slow).unwrap();
        assert!(payload.len() < 200);
        assert_eq!(header.flags, STORED | DEFLATED);
        assert!(header.is_genuine(&secret).unwrap());
        let read = header.open(payload.as_bytes(), &secret, Strength::Slow);
        assert_eq!(read.unwrap(), long);
        assert!(
            header
                .open(payload.as_bytes(), &secret, Strength::Usual)
                .is_err()
        );
    }

    #[test]
    fn a_use_is_noted_without_reading_the_payload() {
        let secret = Secret::new("s").unwrap();
        let (mut header, payload) = seal(b"x", 0, 100, 0, &secret, Strength::Usual).unwrap();
        header.touch(70, &secret).unwrap();
        let again = Header::parse(header.text().as_bytes()).unwrap();
        assert_eq!(again.idled, 70);
        assert!(again.is_genuine(&secret).unwrap());
        assert_eq!(
            again
                .open(payload.as_bytes(), &secret, Strength::Usual)
                .unwrap(),
            b"x"
        );
    }
}
