//! What the plugin is told.

use serde_json::{Map, Value};
use silverback_plugin::schema::field::{Field, boolean, integer, number, string};
use silverback_plugin::schema::typedefs::{host, port, url};
use silverback_plugin::schema::{CustomViolation, EntityCheck, record};

record! {
    /// Settings of `aws-lambda`.
    pub struct Config {
        /// Longest wait for the function, in milliseconds.
        pub timeout: f64 = number().required().default(60_000),
        /// How long an idle connection to Lambda is kept, in milliseconds.
        pub keepalive: f64 = number().required().default(60_000),
        /// The id of the access key; without one the node's environment is asked.
        pub aws_key: Option<String> = string().encrypted().referenceable(),
        /// The secret of the access key.
        pub aws_secret: Option<String> = string().encrypted().referenceable(),
        /// The role in whose name the function is invoked.
        pub aws_assume_role_arn: Option<String> = string().encrypted().referenceable(),
        /// What the session of that role is called.
        pub aws_role_session_name: Option<String> = string().default("kong"),
        /// Where that role is asked for; without it, the region's own service.
        pub aws_sts_endpoint_url: Option<String> = url(),
        /// The region of the function; without one the node's environment is asked.
        pub aws_region: Option<String> = host(),
        /// The function, by name or ARN.
        pub function_name: Option<String> = string().optional(),
        /// Version or alias of the function.
        pub qualifier: Option<String> = string(),
        /// Whether the function's answer is waited for (`RequestResponse`), not waited for (`Event`), or the call only tried (`DryRun`).
        pub invocation_type: String = string().required().default("RequestResponse").one_of(["RequestResponse", "Event", "DryRun"]),
        /// Whether the end of the function's log is shown in the header `X-Amz-Log-Result`.
        pub log_type: String = string().required().default("Tail").one_of(["Tail", "None"]),
        /// Where Lambda is; without it, the region's own service.
        pub host: Option<String> = host(),
        /// The port there.
        pub port: Option<u16> = port().default(443),
        /// Speak plain HTTP, for services of one's own.
        pub disable_https: Option<bool> = switch(false),
        /// The status of the answer when the function failed.
        pub unhandled_status: Option<u16> = integer().between(100, 999),
        /// Give the function the method.
        pub forward_request_method: Option<bool> = switch(false),
        /// Give the function path and query.
        pub forward_request_uri: Option<bool> = switch(false),
        /// Give the function the headers.
        pub forward_request_headers: Option<bool> = switch(false),
        /// Give the function the body, and its fields where it is a form or JSON.
        pub forward_request_body: Option<bool> = switch(false),
        /// The function answers with status, headers and body of the response.
        pub is_proxy_integration: Option<bool> = switch(false),
        /// Give the function the request as Amazon's API Gateway would.
        pub awsgateway_compatible: Option<bool> = switch(false),
        /// A proxy on the way to Lambda. Not supported: a configuration with one is refused.
        pub proxy_url: Option<String> = url(),
        /// Leave out bodies of more than 8 KiB.
        pub skip_large_bodies: Option<bool> = switch(true),
        /// Give the function the body in Base64, where it may be binary.
        pub base64_encode_body: Option<bool> = switch(true),
        /// How credentials are asked for on EC2. The node's metadata is not asked, so it means nothing.
        pub aws_imds_protocol_version: String = string().required().default("v1").one_of(["v1", "v2"]),
        /// Whether empty lists in the function's answer reach the client as empty objects (`legacy`) or as they are (`correct`).
        pub empty_arrays_mode: String = string().required().default("legacy").one_of(["legacy", "correct"]),
    }
}

fn switch(default: bool) -> Field {
    boolean().default(default)
}

pub(crate) fn checks() -> Vec<EntityCheck> {
    vec![
        EntityCheck::MutuallyRequired(vec!["config.aws_key", "config.aws_secret"]),
        EntityCheck::Custom {
            field_sources: vec!["config.proxy_url"],
            run_with_missing_fields: false,
            run: proxy_scheme,
        },
    ]
}

fn proxy_scheme(row: &Map<String, Value>) -> Result<(), CustomViolation> {
    let url = row.get("config").and_then(|c| c.get("proxy_url"));
    let scheme = url
        .and_then(Value::as_str)
        .and_then(|u| u.split_once("://"));
    match scheme {
        Some((scheme, _)) if scheme != "http" => Err(CustomViolation::Entity(
            "proxy_url scheme must be http".to_owned(),
        )),
        _ => Ok(()),
    }
}
