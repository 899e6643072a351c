//! What the plugin is told.

use silverback_plugin::schema::field::{array, boolean, number, string};
use silverback_plugin::schema::record;

use crate::signature::ALGORITHMS;

record! {
    /// Settings of `hmac-auth`.
    pub struct Config {
        /// Take the header with the signature out of the request before it goes to the upstream.
        pub hide_credentials: bool = boolean().required().default(false),
        /// Seconds by which the date of a request may differ from now.
        pub clock_skew: Option<f64> = number().default(300).gt(0.0),
        /// A consumer, by id or username, who calls when authentication fails. Without it the request is refused.
        pub anonymous: Option<String> = string(),
        /// Check the body against the header `Digest`. The whole body is then held in memory.
        pub validate_request_body: bool = boolean().required().default(false),
        /// Headers that have to be signed.
        pub enforce_headers: Option<Vec<String>> = array(string()).default(Vec::<String>::new()),
        /// The algorithms that signatures may be made with.
        pub algorithms: Option<Vec<String>> = array(string().one_of(ALGORITHMS)).default(ALGORITHMS.to_vec()),
        /// The realm named in `WWW-Authenticate` when authentication fails.
        pub realm: Option<String> = string().optional(),
    }
}
