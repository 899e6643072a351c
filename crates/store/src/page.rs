//! What is asked of collections and what comes back.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;
use uuid::Uuid;

use crate::{Row, StoreError};

/// Which row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// By primary key.
    Id(Uuid),
    /// By a unique field (its name) and its value.
    Unique(&'a str, &'a str),
}

/// Which rows of a collection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Only those below a row: the foreign field and the row's id.
    pub parent: Option<(&'static str, Uuid)>,
    /// Only those with these tags.
    pub tags: Option<TagFilter>,
    /// Most rows in the answer; 1 or more.
    pub size: u32,
    /// Where the page before ended: its `next`.
    pub offset: Option<String>,
}

/// A condition on tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagFilter {
    /// All of them (`?tags=a,b`).
    All(Vec<String>),
    /// One of them (`?tags=a/b`).
    Any(Vec<String>),
}

/// A part of a collection, in the order of the primary key.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T = Row> {
    /// The rows.
    pub rows: Vec<T>,
    /// The offset of the next page; `None` at the end.
    pub next: Option<String>,
}

/// A tag on a row, for `GET /tags`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// The entity's name.
    pub entity_name: &'static str,
    /// The row.
    pub entity_id: Uuid,
    /// The tag.
    pub tag: String,
}

/// Kong's tokens have no padding; lua-resty-core accepts them with it as well.
const B64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A token: the base64 of a JSON list with the last row's key (`kong/db/strategies/postgres/init.lua`).
pub(crate) fn token(key: &[Value]) -> String {
    B64.encode(Value::from(key).to_string())
}

/// The list in a token.
pub(crate) fn parse_token(offset: &str) -> Result<Vec<Value>, StoreError> {
    let bad = |reason| StoreError::BadOffset {
        offset: offset.to_owned(),
        reason,
    };
    let bytes = B64
        .decode(offset.trim_end_matches('='))
        .map_err(|_| bad("bad base64 encoding"))?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Array(list)) if !list.is_empty() => Ok(list),
        _ => Err(bad("bad json encoding")),
    }
}

/// The id in a token.
pub(crate) fn token_id(offset: &str) -> Result<Uuid, StoreError> {
    let list = parse_token(offset)?;
    id_of(offset, &list)
}

pub(crate) fn id_of(offset: &str, list: &[Value]) -> Result<Uuid, StoreError> {
    list.first()
        .and_then(Value::as_str)
        .and_then(|s| Uuid::parse_str(s).ok())
        .ok_or_else(|| StoreError::BadOffset {
            offset: offset.to_owned(),
            reason: "bad json encoding",
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn token_is_the_one_kong_gives_out() {
        let id = "00000001-0000-4000-8000-000000000001";
        let t = token(&[Value::from(id)]);
        assert_eq!(t, "WyIwMDAwMDAwMS0wMDAwLTQwMDAtODAwMC0wMDAwMDAwMDAwMDEiXQ");
        assert_eq!(token_id(&t).unwrap().to_string(), id);
    }

    #[test]
    fn foreign_tokens_are_refused_in_kongs_words() {
        for (offset, reason) in [
            ("bad", "bad json encoding"),
            ("", "bad json encoding"),
            ("%%", "bad base64 encoding"),
            ("W10", "bad json encoding"),
        ] {
            assert_eq!(
                token_id(offset),
                Err(StoreError::BadOffset {
                    offset: offset.into(),
                    reason
                })
            );
        }
    }
}
