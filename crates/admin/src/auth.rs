//! Who may: tokens and client certificates. Kong has this only in its Enterprise edition (`Kong-Admin-Token`).
//!
//! Nodes have what tokens are recognised by in memory, told by the store when one is created or revoked, so that no request waits for
//! Postgres and known tokens go on working while it is away. Tokens are long and random: one SHA-256 is enough, there is nothing to guess.

mod jwt;
mod token;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use silverback_store::{AdminToken, Role};

use crate::errors::ApiError;
use crate::server::{Peer, Tls};
use crate::table::Target;
use crate::texts;

pub use token::NewToken;

#[cfg(test)]
pub(crate) use jwt::tests::made as test_jwt;

const ADMIN_TOKEN: HeaderName = HeaderName::from_static("kong-admin-token");
const API_KEY: HeaderName = HeaderName::from_static("apikey");

/// The tokens that let in, shared with whoever learns about them. Clones are the same.
#[derive(Clone, Default)]
pub struct Tokens(Arc<ArcSwapOption<HashMap<String, AdminToken>>>);

impl Tokens {
    /// From now on these, and no others.
    pub fn replace(&self, all: Vec<AdminToken>) {
        let by_lookup = all.into_iter().map(|t| (t.lookup.clone(), t)).collect();
        self.0.store(Some(Arc::new(by_lookup)));
    }

    /// What a text that a client sent is.
    fn find(&self, text: &str) -> Found {
        let known = self.0.load();
        let Some(known) = known.as_ref() else {
            return Found::NotYet;
        };
        let Some(token) = token::lookup(text).and_then(|part| known.get(part)) else {
            return Found::Nothing;
        };
        let hash = openssl::sha::sha256(text.as_bytes());
        // Equal lengths are what the comparison in constant time asks for.
        if token.hash.len() == hash.len() && openssl::memcmp::eq(&token.hash, &hash) {
            Found::Token {
                name: token.name.clone(),
                role: token.role,
            }
        } else {
            Found::Nothing
        }
    }
}

/// What a text is.
enum Found {
    Token {
        name: String,
        role: Role,
    },
    Nothing,
    /// The tokens are not known yet.
    NotYet,
}

/// What is asked of those who come.
#[derive(Clone, Default)]
pub(crate) struct Guard {
    pub(crate) tokens: Tokens,
    /// Whether a token is needed where no certificate lets in.
    pub(crate) token_required: bool,
    /// Whether clients on TLS need a certificate, or else a token.
    pub(crate) certificates: bool,
}

/// Somebody who may come in; in the extensions of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    /// As the history keeps it.
    pub(crate) actor: Arc<str>,
    role: Role,
}

impl Who {
    /// Refuses what this one may not do at an endpoint.
    pub(crate) fn may(&self, method: &Method, target: Target) -> Result<(), ApiError> {
        let only_asks = matches!(
            target,
            Target::ValidateEntity | Target::ValidatePlugin | Target::ValidateVault
        );
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if self.role == Role::ReadWrite || reads || only_asks {
            Ok(())
        } else {
            Err(ApiError::message(StatusCode::FORBIDDEN, texts::READ_ONLY))
        }
    }
}

impl Guard {
    /// Who comes.
    pub(crate) fn identify(&self, parts: &http::request::Parts) -> Result<Who, ApiError> {
        let tls = parts.extensions.get::<Tls>();
        if let Some(subject) = tls.and_then(|tls| tls.subject.as_ref()) {
            return Ok(Who {
                actor: format!("certificate:{subject}").into(),
                role: Role::ReadWrite,
            });
        }
        let needed = self.token_required || self.certificates && tls.is_some();
        let presented = presented(&parts.headers);
        match presented.map_or(Found::Nothing, |text| self.tokens.find(&text)) {
            Found::Token { name, role } => Ok(Who {
                actor: format!("token:{name}").into(),
                role,
            }),
            Found::NotYet if needed => Err(ApiError::unavailable(texts::DATABASE_AWAY)),
            _ if needed => Err(ApiError::Unauthorized),
            // Other credentials than ours are nobody's business where none is asked for.
            _ => Ok(Who {
                actor: match parts.extensions.get::<Peer>() {
                    Some(peer) => format!("address:{}", peer.0.ip()).into(),
                    None => "unknown".into(),
                },
                role: Role::ReadWrite,
            }),
        }
    }
}

/// The token in a request: `Kong-Admin-Token`; `apikey`, as Konga sends it for key-auth; `Authorization` with the token itself or in a JWT
/// as bearer, or as the password.
fn presented(headers: &HeaderMap) -> Option<String> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(token) = text(ADMIN_TOKEN).or_else(|| text(API_KEY)) {
        return Some(token.to_owned());
    }
    let (scheme, value) = text(header::AUTHORIZATION)?.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return match jwt::token(value) {
            Some(inside) => inside,
            None => Some(value.to_owned()),
        };
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let plain = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
        return plain
            .split_once(':')
            .map(|(_, password)| password.to_owned());
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(header: HeaderName, value: &str) -> Option<String> {
        presented(&HeaderMap::from_iter([(header, value.parse().unwrap())]))
    }

    #[test]
    fn a_token_comes_in_many_headers() {
        let some = Some("sbat_x_y".to_owned());
        assert_eq!(with(ADMIN_TOKEN, "sbat_x_y"), some);
        assert_eq!(with(API_KEY, "sbat_x_y"), some);
        assert_eq!(with(header::AUTHORIZATION, "Bearer sbat_x_y"), some);
        assert_eq!(with(header::AUTHORIZATION, "bearer  sbat_x_y "), some);
        let basic = format!("Basic {}", STANDARD.encode("konga:sbat_x_y"));
        assert_eq!(with(header::AUTHORIZATION, &basic), some);
        for nothing in ["Basic !", "Digest x", "sbat_x_y", "Basic eA=="] {
            assert_eq!(with(header::AUTHORIZATION, nothing), None, "{nothing}");
        }
        assert_eq!(presented(&HeaderMap::new()), None);
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let tokens = Tokens::default();
        let new = NewToken::generate().unwrap();
        assert!(matches!(tokens.find(&new.text), Found::NotYet));
        tokens.replace(vec![AdminToken {
            name: "ci".into(),
            role: Role::ReadOnly,
            lookup: new.lookup.clone(),
            hash: new.hash.clone(),
            created_at: 0,
        }]);
        assert!(matches!(tokens.find(&new.text), Found::Token { name, .. } if name == "ci"));
        let mut other = new.text.clone();
        other.pop();
        for wrong in [&other, &new.lookup, &format!("sbat_{}_", new.lookup), ""] {
            assert!(matches!(tokens.find(wrong), Found::Nothing), "{wrong}");
        }
        tokens.replace(Vec::new());
        assert!(matches!(tokens.find(&new.text), Found::Nothing));
    }
}
