//! What the plugin is told.

use silverback_plugin::schema::field::{boolean, number, set, string};
use silverback_plugin::schema::record;

record! {
    /// Settings of `jwt`.
    pub struct Config {
        /// Arguments of the query to look for tokens in.
        pub uri_param_names: Option<Vec<String>> = set(string()).default(vec!["jwt"]),
        /// Cookies to look for tokens in.
        pub cookie_names: Option<Vec<String>> = set(string()).default(Vec::<String>::new()),
        /// The claim, or else the member of the token's header, that names the key the token is signed with.
        pub key_claim_name: Option<String> = string().default("iss"),
        /// Secrets are kept in URL-safe base64: what they stand for is the secret.
        pub secret_is_base64: bool = boolean().required().default(false),
        /// Claims that are checked beside the signature: `exp`, `nbf`.
        pub claims_to_verify: Option<Vec<String>> = set(string().one_of(["exp", "nbf"])),
        /// A consumer, by id or username, who calls when authentication fails. Without it the request is refused.
        pub anonymous: Option<String> = string(),
        /// Also authenticate `OPTIONS` requests.
        pub run_on_preflight: bool = boolean().required().default(true),
        /// Seconds from now in which a token has to expire; 0 for any time. Needs `exp` among the claims that are checked.
        pub maximum_expiration: Option<f64> = number().between(0, 31_536_000).default(0),
        /// Headers to look for tokens in, behind the word `Bearer`.
        pub header_names: Option<Vec<String>> = set(string()).default(vec!["authorization"]),
        /// The realm named in `WWW-Authenticate` when authentication fails.
        pub realm: Option<String> = string().optional(),
    }
}
