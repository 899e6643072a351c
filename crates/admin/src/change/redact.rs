//! What the history hides.
//!
//! The history outlives what it tells of: a key that was replaced and a certificate that was deleted are still in it. Whoever may read the
//! API may read the secrets that are in force, as in Kong, but nobody needs those that were. So no secret is shown, to no role; that
//! one was changed is. They are kept, because a rollback has to bring them back, in the same database as the rows themselves.

use serde_json::{Map, Value};
use silverback_schema::field::{Field, Kind, RecordDef};

/// What is shown in place of a secret.
const HIDDEN: &str = "***";

/// Texts that are secrets wherever they are, beside those whose definition says so: Kong marks only some.
const SECRETS: [&str; 12] = [
    "access_token",
    "authenticated_userid",
    "client_secret",
    "code",
    "data",
    "jwk",
    "key",
    "password",
    "private_key",
    "refresh_token",
    "secret",
    "session_id",
];

/// Hides the secrets of a stored row.
pub(super) fn row(def: &RecordDef, row: &mut Map<String, Value>) {
    for (name, value) in row.iter_mut() {
        match def.get(name) {
            Some(field) => self::value(name, field, value),
            // Added by the log, or of a definition that is not known any more.
            None if name == "expires_at" => {}
            None => hide(value),
        }
    }
}

fn value(name: &str, field: &Field, v: &mut Value) {
    let text = matches!(field.kind, Kind::String) && SECRETS.contains(&name);
    if field.encrypted || field.referenceable || text {
        return hide(v);
    }
    match (&field.kind, v) {
        // A configuration whose plugin is not known.
        (Kind::Abstract, v) => hide(v),
        (Kind::Record(inner), Value::Object(map)) => row(inner, map),
        (Kind::Array(e) | Kind::Set(e), Value::Array(items)) => {
            items.iter_mut().for_each(|v| value("", e, v));
        }
        (Kind::Map { values, .. }, Value::Object(map)) => {
            map.iter_mut().for_each(|(k, v)| value(k, values, v));
        }
        _ => {}
    }
}

/// Where a secret is found is none.
fn hide(v: &mut Value) {
    let reference = v.as_str().is_some_and(|s| s.starts_with("{vault://"));
    if !v.is_null() && !reference {
        *v = HIDDEN.into();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use silverback_entities::core;
    use silverback_schema::field::{array, foreign, integer, map, string};

    use super::*;

    fn shown(fields: Vec<(&'static str, Field)>, v: Value) -> Value {
        let def = RecordDef {
            fields,
            ..RecordDef::default()
        };
        let mut map = v.as_object().unwrap().clone();
        row(&def, &mut map);
        map.into()
    }

    #[test]
    fn secrets_are_hidden_at_any_depth() {
        let inner = Field::new(Kind::Record(RecordDef {
            fields: vec![
                ("password", string()),
                ("user", string().referenceable()),
                ("port", integer()),
            ],
            ..RecordDef::default()
        }));
        let fields = vec![
            ("redis", inner.clone()),
            ("many", array(inner)),
            ("headers", map(string(), string()).referenceable()),
            ("secret", string()),
            ("consumer", foreign("consumers")),
        ];
        let stored = json!({
            "redis": { "password": "p", "user": "{vault://env/u}", "port": 1 },
            "many": [{ "password": "p", "user": "u", "port": null }],
            "headers": { "authorization": "x" },
            "secret": null,
            "consumer": { "id": "1" },
            "gone": "x",
            "expires_at": 5,
        });
        assert_eq!(
            shown(fields, stored),
            json!({
                "redis": { "password": "***", "user": "{vault://env/u}", "port": 1 },
                "many": [{ "password": "***", "user": "***", "port": null }],
                "headers": "***",
                "secret": null,
                "consumer": { "id": "1" },
                "gone": "***",
                "expires_at": 5,
            })
        );
    }

    #[test]
    fn keys_of_certificates_and_unknown_configurations_are_hidden() {
        let of = |name: &str, v: Value| {
            let mut map = v.as_object().unwrap().clone();
            row(&core(name).unwrap().record, &mut map);
            Value::from(map)
        };
        assert_eq!(of("certificates", json!({ "key": "PEM" }))["key"], "***");
        assert_eq!(of("keys", json!({ "jwk": "{}" }))["jwk"], "***");
        let pem = of(
            "keys",
            json!({ "pem": { "private_key": "x", "public_key": null } }),
        );
        assert_eq!(
            pem["pem"],
            json!({ "private_key": "***", "public_key": null })
        );
        assert_eq!(
            of("plugins", json!({ "config": { "a": 1 } }))["config"],
            "***"
        );
        assert_eq!(of("services", json!({ "name": "a" }))["name"], "a");
    }
}
