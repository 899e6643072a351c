//! The entity: a username and the hash of its password.

use serde_json::{Map, Value};
use sha1::{Digest, Sha1};
use silverback_plugin::schema::field::{foreign, id, string, timestamp};
use silverback_plugin::schema::typedefs::credential_tags;
use silverback_plugin::schema::{EntityDef, OnDelete, Record, Transformation, record};

record! {
    /// A username of a consumer, with its password.
    struct Credential {
        /// The primary key.
        id: String = id(),
        /// When the row was made.
        created_at: i64 = timestamp(),
        /// Whose it is.
        consumer: Value = foreign("consumers").required().on_delete(OnDelete::Cascade),
        /// The name that the caller gives.
        username: String = string().required().unique().len_min(1),
        /// The password. Only its hash is kept and shown.
        password: String = string().required().encrypted().len_min(1),
        /// Words for grouping and filtering.
        tags: Option<Vec<String>> = credential_tags(),
    }
}

/// The entity of usernames.
pub const CREDENTIALS: &str = "basicauth_credentials";

pub(crate) fn def() -> EntityDef {
    EntityDef::new(CREDENTIALS, Credential::fields())
        .collection("basic-auths")
        .endpoint_key("username")
        .nested("consumer", "basic-auth")
        .lookup("username")
        .transformation(Transformation {
            input: vec!["password"],
            needs: vec!["consumer.id"],
            on_write: hashed,
        })
}

fn hashed(row: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let password = row.get("password").and_then(Value::as_str);
    let consumer = row.get("consumer").and_then(|c| c.get("id")?.as_str());
    match (password, consumer) {
        (Some(password), Some(consumer)) => {
            let hash = hash(password.as_bytes(), consumer);
            Ok(Map::from_iter([("password".to_owned(), hash.into())]))
        }
        _ => Err("a password and a consumer are needed".to_owned()),
    }
}

/// What is kept of a password: the SHA-1 of the password and its consumer's id, in hexadecimal digits. It is that of Kong, so that
/// databases and declarative files can be taken over.
pub(crate) fn hash(password: &[u8], consumer: &str) -> String {
    let digits = b"0123456789abcdef";
    let digit = |n: u8| char::from(digits[usize::from(n)]);
    let digest = digest(password, consumer);
    let pairs = digest.iter().map(|b| [digit(b >> 4), digit(b & 15)]);
    pairs.flatten().collect()
}

/// What [`hash`] writes down.
pub(crate) type Hash = [u8; 20];

pub(crate) fn digest(password: &[u8], consumer: &str) -> Hash {
    Sha1::new()
        .chain_update(password)
        .chain_update(consumer)
        .finalize()
        .into()
}

/// The hash that is kept, `None` when the text is none.
pub(crate) fn kept(text: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    if pairs.len() != hash.len() {
        return None;
    }
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(hash)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use silverback_plugin::exchange::entity_schema_without_descriptions;
    use silverback_plugin::schema::{Op, complete, patch};

    use super::*;

    const ALICE: &str = "00000003-0000-4000-8000-000000000001";

    fn object(v: Value) -> Map<String, Value> {
        v.as_object().unwrap().clone()
    }

    fn alices(more: Value) -> Map<String, Value> {
        let mut row = object(more);
        row.insert("consumer".into(), json!({ "id": ALICE }));
        row
    }

    #[test]
    fn the_schema_is_that_of_kong() {
        let facts: Value =
            serde_json::from_str(include_str!("../testdata/credential_schema.json")).unwrap();
        assert_eq!(entity_schema_without_descriptions(&def()), facts);
    }

    #[test]
    fn the_hash_is_that_of_kong() {
        assert_eq!(
            hash(b"pw", ALICE),
            "13370b4e2a710391d07a4860b7990cd06e712f5c"
        );
        assert_eq!(
            hash(b"pw2", ALICE),
            "3e6395010fee3ddf025d76479049cc4cb4245698"
        );
        assert_eq!(
            hash(b"x", ALICE),
            "fba5d07339011c4d460eca10a5f30022c6e7a225"
        );
    }

    #[test]
    fn a_kept_hash_is_read_as_it_is_written() {
        let text = hash(b"pw", ALICE);
        assert_eq!(kept(&text), Some(digest(b"pw", ALICE)));
        for no_hash in [
            "",
            "pw",
            &text[1..],
            &text.to_uppercase(),
            &format!("{text}00"),
        ] {
            assert_eq!(kept(no_hash), None, "{no_hash}");
        }
        let accent = format!("{}\u{e9}", &text[2..]);
        assert_eq!(kept(&accent), None);
    }

    #[test]
    fn a_password_is_hashed_when_it_is_written_and_only_then() {
        let def = &super::def();
        let row = complete(
            def,
            alices(json!({ "username": "a", "password": "pw" })),
            Op::Insert,
            1,
        )
        .unwrap();
        assert_eq!(row["password"], hash(b"pw", ALICE));
        let renamed = patch(def, &row, alices(json!({ "username": "b" })), 1).unwrap();
        assert_eq!(renamed["password"], hash(b"pw", ALICE));
        let changed = patch(def, &row, alices(json!({ "password": " pw2 " })), 1).unwrap();
        assert_eq!(
            changed["password"],
            hash(b" pw2 ", ALICE),
            "spaces belong to it"
        );
    }

    #[test]
    fn another_consumer_needs_the_password_again() {
        let def = &super::def();
        let row = complete(
            def,
            alices(json!({ "username": "a", "password": "pw" })),
            Op::Insert,
            1,
        )
        .unwrap();
        let bob = json!({ "id": "00000003-0000-4000-8000-000000000002" });
        for part in [json!({ "consumer": bob }), json!({ "password": "pw" })] {
            let refused = patch(def, &row, object(part), 1).unwrap_err();
            assert_eq!(
                refused.message(),
                "schema violation (all or none of these fields must be set: 'password', 'consumer.id')"
            );
        }
        let moved = patch(
            def,
            &row,
            object(json!({ "consumer": bob, "password": "pw" })),
            1,
        )
        .unwrap();
        assert_eq!(
            moved["password"],
            hash(b"pw", "00000003-0000-4000-8000-000000000002")
        );
    }
}
