//! What the plugin is told.

use serde_json::{Map, Value};
use silverback_plugin::schema::field::{array, boolean, number, string};
use silverback_plugin::schema::{CustomViolation, EntityCheck, record};

record! {
    /// Settings of `oauth2`.
    pub struct Config {
        /// What can be allowed: the words that a scope may have.
        pub scopes: Option<Vec<String>> = array(string()),
        /// Whether a scope has to be asked for.
        pub mandatory_scope: bool = boolean().required().default(false),
        /// What the page shows with which users say what they allow, beside the user; 32 random letters and digits when it is left out.
        pub provision_key: String = string().unique().auto().required().encrypted(),
        /// Seconds in which a token is good; 0 for any time.
        pub token_expiration: f64 = number().required().default(7200),
        /// Give out codes that applications change for tokens (RFC 6749, 4.1).
        pub enable_authorization_code: bool = boolean().required().default(false),
        /// Give tokens out by way of the browser (RFC 6749, 4.2).
        pub enable_implicit_grant: bool = boolean().required().default(false),
        /// Give tokens out to applications for themselves (RFC 6749, 4.4).
        pub enable_client_credentials: bool = boolean().required().default(false),
        /// Give tokens out for users whom the application knows (RFC 6749, 4.3).
        pub enable_password_grant: bool = boolean().required().default(false),
        /// Take the token out of the request before it goes on.
        pub hide_credentials: bool = boolean().required().default(false),
        /// Believe trusted proxies that what they pass on came over HTTPS.
        pub accept_http_if_already_terminated: bool = boolean().required().default(false),
        /// A consumer, by id or username, who calls when authentication fails. Without it the request is refused.
        pub anonymous: Option<String> = string(),
        /// Tokens are good for all services whose configuration says the same.
        pub global_credentials: bool = boolean().required().default(false),
        /// The header that has the token.
        pub auth_header_name: Option<String> = string().default("authorization"),
        /// Seconds after which a token cannot be refreshed any more; 0 for any time.
        pub refresh_token_ttl: f64 = number().between(0, 100_000_000).required().default(1_209_600),
        /// What refreshes a token stays the same.
        pub reuse_refresh_token: bool = boolean().required().default(false),
        /// Who has to prove that a code is changed by whom it was given to (RFC 7636): nobody (`none`), applications that cannot keep a secret (`lax`), all (`strict`). Who begins with a challenge has to in any case.
        pub pkce: Option<String> = string().optional().default("lax").one_of(["none", "lax", "strict"]),
        /// The realm named in `WWW-Authenticate` when authentication fails.
        pub realm: Option<String> = string().optional(),
    }
}

/// Checks within the configuration.
pub(crate) fn config_checks() -> Vec<EntityCheck> {
    vec![EntityCheck::Conditional {
        if_field: "mandatory_scope",
        if_match: Box::new(boolean().eq(true)),
        then_field: "scopes",
        then_match: Box::new(array(string()).required()),
        then_err: None,
    }]
}

/// Checks of the configuration as a whole.
pub(crate) fn checks() -> Vec<EntityCheck> {
    vec![EntityCheck::Unlisted {
        when_valid: vec!["config"],
        run: some_grant,
    }]
}

fn some_grant(row: &Map<String, Value>) -> Result<(), CustomViolation> {
    const GRANTS: [&str; 4] = [
        "enable_authorization_code",
        "enable_implicit_grant",
        "enable_client_credentials",
        "enable_password_grant",
    ];
    let config = row.get("config");
    let is_on = |grant| config.and_then(|c| c.get(grant)) == Some(&Value::Bool(true));
    if GRANTS.into_iter().any(is_on) {
        return Ok(());
    }
    let text = format!(
        "at least one of these fields must be true: {}",
        GRANTS.join(", ")
    );
    Err(CustomViolation::Field("config", text.into()))
}
