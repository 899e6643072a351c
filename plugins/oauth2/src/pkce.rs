//! Proof that a code is changed by whom it was given to (RFC 7636), as `kong/plugins/oauth2/access.lua` has it.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use openssl::sha::sha256;

use crate::answer::Refusal;
use crate::client::{Client, same};
use crate::parameters::{Parameter, Parameters};

/// Takes what others write, with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Who has to prove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pkce {
    Nobody,
    Public,
    All,
}

impl Pkce {
    pub(crate) fn of(setting: Option<&str>) -> Self {
        match setting {
            Some("none") => Pkce::Nobody,
            Some("strict") => Pkce::All,
            _ => Pkce::Public,
        }
    }

    /// Whether that application has to.
    pub(crate) fn is_demanded_of(self, client: &Client) -> bool {
        match self {
            Pkce::Nobody => false,
            Pkce::Public => client.is_public,
            Pkce::All => true,
        }
    }
}

/// The challenge of a request, in the one form in which it is kept; always S256.
pub(crate) fn challenge(parameters: &Parameters) -> Result<Option<String>, Refusal> {
    let method = parameters.get("code_challenge_method");
    let Some(challenge) = parameters.text("code_challenge") else {
        return match method {
            Parameter::Missing => Ok(None),
            _ => Err(Refusal::request(
                "code_challenge is required when code_method is present",
            )),
        };
    };
    match method {
        Parameter::Missing => {}
        Parameter::Text(method) if method == "S256" || method == "s256" => {}
        _ => {
            return Err(Refusal::request(
                "code_challenge_method is not supported, must be S256",
            ));
        }
    }
    let spelled = challenge.replace('+', "-").replace('/', "_");
    Ok(Some(match LENIENT.decode(spelled) {
        Ok(bytes) => URL_SAFE_NO_PAD.encode(bytes),
        Err(_) => challenge.into_owned(),
    }))
}

/// Holds the verifier of a request against the challenge that the code was asked for with.
pub(crate) fn verify(parameters: &Parameters, challenge: Option<&str>) -> Result<(), Refusal> {
    let verifier = match parameters.get("code_verifier") {
        Parameter::Text(verifier) => verifier,
        Parameter::Missing => {
            return Err(Refusal::request(
                "code_verifier is required for PKCE authorization requests",
            ));
        }
        Parameter::NoText => return Err(Refusal::request("code_verifier is not a string")),
    };
    if !(43..=128).contains(&verifier.len()) {
        return Err(Refusal::request(
            "code_verifier must be between 43 and 128 characters",
        ));
    }
    let made = URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes()));
    match challenge {
        Some(challenge) if same(&made, challenge) => Ok(()),
        _ => Err(Refusal::new("invalid_grant", "Invalid code")),
    }
}
