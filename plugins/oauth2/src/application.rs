//! Applications: who may ask for tokens.

use serde_json::{Map, Value};
use silverback_plugin::schema::checks::split_url;
use silverback_plugin::schema::field::{array, boolean, foreign, id, string, timestamp};
use silverback_plugin::schema::typedefs::credential_tags;
use silverback_plugin::schema::{EntityDef, OnDelete, Record, Transformation, record};

use crate::secret;

/// The entity's name.
pub(crate) const APPLICATIONS: &str = "oauth2_credentials";

record! {
    /// An application of a consumer.
    struct Application {
        /// The primary key.
        id: String = id(),
        /// When the row was made.
        created_at: i64 = timestamp(),
        /// Whose it is.
        consumer: Value = foreign("consumers").required().on_delete(OnDelete::Cascade),
        /// What users are told that the application is called.
        name: String = string().required().len_min(1),
        /// The name that the application gives; 32 random letters and digits when it is left out.
        client_id: String = string().optional().unique().auto().len_min(1),
        /// The application's secret; 32 random letters and digits when it is left out.
        client_secret: Option<String> = string().optional().auto().encrypted().len_min(1),
        /// Whether only a hash of the secret is kept. Can only be changed together with the secret.
        hash_secret: bool = boolean().required().default(false),
        /// Where users may be sent back to.
        redirect_uris: Option<Vec<String>> = array(string().required().len_min(1).check(redirect_uri)).optional(),
        /// Words for grouping and filtering.
        tags: Option<Vec<String>> = credential_tags(),
        /// Whether the application can keep a secret.
        client_type: String = string().required().default("confidential").one_of(["confidential", "public"]).len_min(1),
    }
}

pub(crate) fn def() -> EntityDef {
    EntityDef::new(APPLICATIONS, Application::fields())
        .collection("oauth2")
        .endpoint_key("client_id")
        .nested("consumer", "oauth2")
        .lookup("client_id")
        .transformation(Transformation {
            input: vec!["hash_secret"],
            needs: vec!["client_secret"],
            on_write: hashed,
        })
}

fn hashed(row: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let secret = row.get("client_secret").and_then(Value::as_str);
    match secret {
        Some(secret) if row.get("hash_secret") == Some(&Value::Bool(true)) => {
            let hash = secret::hash(secret).map_err(|e| e.to_string())?;
            Ok(Map::from_iter([("client_secret".to_owned(), hash.into())]))
        }
        _ => Ok(Map::new()),
    }
}

fn redirect_uri(v: &Value) -> Result<(), String> {
    let uri = v.as_str().unwrap_or_default();
    let parts = split_url(uri);
    if parts.host.is_none() || parts.scheme.is_none() {
        Err(format!("cannot parse '{uri}'"))
    } else if uri.contains('#') {
        Err(format!("fragment not allowed in '{uri}'"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use silverback_plugin::exchange::entity_schema_without_descriptions;
    use silverback_plugin::schema::{Op, Violations, complete, patch};

    use super::*;

    fn made(mut row: Value) -> Result<Map<String, Value>, Violations> {
        row["consumer"] = json!({ "id": "00000003-0000-4000-8000-000000000001" });
        complete(&def(), row.as_object().unwrap().clone(), Op::Insert, 1)
    }

    #[test]
    fn the_schema_is_that_of_kong() {
        let facts: Value =
            serde_json::from_str(include_str!("../testdata/credential_schema.json")).unwrap();
        assert_eq!(entity_schema_without_descriptions(&def()), facts);
    }

    #[test]
    fn users_are_sent_to_whole_urls_without_fragments() {
        for (uri, text) in [
            ("nope", "cannot parse 'nope'"),
            ("https:///x", "cannot parse 'https:///x'"),
            (
                "https://x.test/#f",
                "fragment not allowed in 'https://x.test/#f'",
            ),
            (
                "https://x.test/#",
                "fragment not allowed in 'https://x.test/#'",
            ),
        ] {
            let refused = made(json!({ "name": "a", "redirect_uris": [uri] })).unwrap_err();
            assert_eq!(refused.0["redirect_uris"], json!([text]));
        }
        for uri in [
            "https://x.test/cb?a=b",
            "app://callback",
            "http://[::1]:8080/",
        ] {
            assert!(
                made(json!({ "name": "a", "redirect_uris": [uri] })).is_ok(),
                "{uri}"
            );
        }
        assert_eq!(
            made(json!({ "name": "a" })).unwrap()["redirect_uris"],
            Value::Null
        );
    }

    #[test]
    fn a_secret_is_hashed_on_demand() {
        let plain = made(json!({ "name": "a", "client_secret": "s" })).unwrap();
        assert_eq!(plain["client_secret"], "s");
        for given in [
            json!({ "name": "a", "client_secret": "s", "hash_secret": true }),
            json!({ "name": "a", "hash_secret": true }),
        ] {
            let row = made(given).unwrap();
            let kept = row["client_secret"].as_str().unwrap();
            assert!(kept.starts_with("$pbkdf2-sha512$i=10000,l=32$"), "{kept}");
        }
    }

    #[test]
    fn a_hash_stays_until_a_secret_comes_with_what_to_do_with_it() {
        let change = |row: &Map<String, Value>, v: Value| {
            patch(&def(), row, v.as_object().unwrap().clone(), 1)
        };
        let row = made(json!({ "name": "a", "client_secret": "s", "hash_secret": true })).unwrap();
        let renamed = change(&row, json!({ "name": "b" })).unwrap();
        assert_eq!(renamed["client_secret"], row["client_secret"]);
        for part in [
            json!({ "client_secret": "t" }),
            json!({ "hash_secret": false }),
        ] {
            assert_eq!(
                change(&row, part).unwrap_err().message(),
                "schema violation (all or none of these fields must be set: 'hash_secret', 'client_secret')"
            );
        }
        let plain = change(&row, json!({ "client_secret": "t", "hash_secret": false })).unwrap();
        assert_eq!(plain["client_secret"], "t");
    }
}
