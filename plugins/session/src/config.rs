//! What the plugin is told.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use silverback_plugin::schema::field::{boolean, number, set, string};
use silverback_plugin::schema::{Field, Shorthand, record};

record! {
    /// Settings of `session`.
    pub struct Config {
        /// What the keys of sessions are made of; without it a node makes sessions that only it understands, until it is restarted.
        pub secret: Option<String> = string().optional().default(SECRET.as_str()).encrypted().referenceable(),
        /// Where sessions are kept: in the cookie itself, encrypted (`cookie`), or in the database (`kong`).
        pub storage: Option<String> = string().one_of(["cookie", "kong"]).default("cookie"),
        /// Whom a session is for: routes with other audiences do not take it.
        pub audience: Option<String> = string().default("default"),
        /// Seconds without a request after which a session ends; 0 for any number.
        pub idling_timeout: Option<f64> = number().default(900),
        /// Seconds after which a session is replaced by a new one; it is, when a request comes in their last quarter. 0 for never.
        pub rolling_timeout: Option<f64> = number().default(3600),
        /// Seconds after which a session ends, replaced or not; 0 for any number.
        pub absolute_timeout: Option<f64> = number().default(86_400),
        /// Seconds for which a session in the database is still good after it was replaced.
        pub stale_ttl: Option<f64> = number().default(10),
        /// The name of the cookie.
        pub cookie_name: Option<String> = string().default("session"),
        /// The path that the cookie is for.
        pub cookie_path: Option<String> = string().default("/"),
        /// The domain that the cookie is for; the host of the request when null.
        pub cookie_domain: Option<String> = string(),
        /// Whether browsers send the cookie with requests that other sites cause.
        pub cookie_same_site: Option<String> = string().one_of(["Strict", "Lax", "None", "Default"]).default("Strict"),
        /// Hide the cookie from scripts.
        pub cookie_http_only: Option<bool> = boolean().default(true),
        /// Let browsers send the cookie over HTTPS only.
        pub cookie_secure: Option<bool> = boolean().default(true),
        /// Give browsers a second cookie, which outlives them and from which a session is made anew.
        pub remember: Option<bool> = boolean().default(false),
        /// The name of that second cookie.
        pub remember_cookie_name: Option<String> = string().default("remember"),
        /// Seconds for which the second cookie is good; it is replaced whenever it is used. 0 for any number.
        pub remember_rolling_timeout: Option<f64> = number().default(604_800),
        /// Seconds after which the second cookie ends, replaced or not; 0 for any number.
        pub remember_absolute_timeout: Option<f64> = number().default(2_592_000),
        /// What the client is told of its session, in headers of the response (`Session-Id`, ...).
        pub response_headers: Option<Vec<String>> = properties(),
        /// What the upstream is told of the session, in headers of the request.
        pub request_headers: Option<Vec<String>> = properties(),
        /// Also look for the wish to log out in bodies of requests.
        pub read_body_for_logout: Option<bool> = boolean().default(false),
        /// Methods of requests that may log out.
        pub logout_methods: Option<Vec<String>> = set(string().one_of(["GET", "POST", "DELETE"])).default(vec!["POST", "DELETE"]),
        /// The argument of the query that logs out.
        pub logout_query_arg: Option<String> = string().default("session_logout"),
        /// The field of the body that logs out.
        pub logout_post_arg: Option<String> = string().default("session_logout"),
    }
}

/// Taken where no secret is given: another one each time the program is started, as in Kong. It is part of the schema, so it is stored with
/// the configuration.
static SECRET: LazyLock<String> = LazyLock::new(|| {
    let mut bytes = [0; 32];
    match openssl::rand::rand_bytes(&mut bytes) {
        Ok(()) => STANDARD.encode(bytes).replace(['/', '+', '='], "x"),
        // No secret at all: each instance then makes a key for itself, or fails for the same reason.
        Err(_) => String::new(),
    }
});

fn properties() -> Field {
    set(string().one_of([
        "id",
        "audience",
        "subject",
        "timeout",
        "idling-timeout",
        "rolling-timeout",
        "absolute-timeout",
    ]))
}

/// Names of before Kong 3.2, which it still takes.
pub(crate) fn shorthands() -> Vec<Shorthand> {
    fn shorthand(
        name: &'static str,
        field: Field,
        translate: fn(&Value) -> Map<String, Value>,
    ) -> Shorthand {
        Shorthand {
            name,
            field,
            translate,
            shown_from: None,
            wins: true,
        }
    }
    fn as_is(name: &str, value: &Value) -> Map<String, Value> {
        Map::from_iter([(name.to_owned(), value.clone())])
    }
    vec![
        shorthand("cookie_lifetime", number(), |v| as_is("rolling_timeout", v)),
        shorthand("cookie_idletime", number(), |v| match v {
            Value::Null => as_is("idling_timeout", &Value::from(0)),
            v => as_is("idling_timeout", v),
        }),
        shorthand("cookie_renew", number(), |_| Map::new()),
        shorthand("cookie_discard", number(), |v| as_is("stale_ttl", v)),
        shorthand("cookie_samesite", string(), |v| match v.as_str() {
            Some("off") => as_is("cookie_same_site", &Value::from("Lax")),
            _ => as_is("cookie_same_site", v),
        }),
        shorthand("cookie_httponly", boolean(), |v| {
            as_is("cookie_http_only", v)
        }),
        shorthand("cookie_persistent", boolean(), |v| as_is("remember", v)),
    ]
}
