//! Calling Lambda: `POST /2015-03-31/functions/<function>/invocations`, signed (Signature Version 4).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::uri::InvalidUri;
use http::{HeaderName, HeaderValue, Request, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use silverback_export::{Answer, HttpClient, HttpError};
use silverback_plugin::{ConfigError, PluginEnv};

use crate::Config;
use crate::credentials::credentials;
use crate::sts::Role;

/// Lambda answers with 6 MiB at most.
const LONGEST_ANSWER: usize = 8 << 20;

const INVOCATION_TYPE: &str = "x-amz-invocation-type";
const LOG_TYPE: &str = "x-amz-log-type";

/// What stands in a path or query as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A function.
#[derive(Debug)]
pub(crate) struct Lambda {
    service: Service,
    caller: Caller,
    invocation_type: HeaderValue,
    log_type: HeaderValue,
    /// What is shared is made anew when nobody holds it.
    _shared: SharedClient,
}

/// The client, the same for all configurations with these times, so that connections outlive a change of configuration.
type SharedClient = Arc<Result<HttpClient, HttpError>>;

/// Who invokes it.
#[derive(Debug)]
enum Caller {
    Key(Credentials),
    Role(Box<Role>),
}

/// Why a function was not invoked.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum InvokeError {
    /// The request cannot be made.
    #[error("the request cannot be signed: {0}")]
    Sign(String),
    /// There was no answer.
    #[error("no answer from {0}: {1}")]
    Http(String, Arc<HttpError>),
    /// The role was not given.
    #[error("the role cannot be assumed: {0}")]
    Role(String),
}

impl Lambda {
    /// A function; `Ok(Err(..))` says what is missing to invoke it. `var` reads the node's environment.
    pub(crate) fn new(
        config: &Config,
        env: &PluginEnv<'_>,
        var: impl Fn(&str) -> Option<String>,
    ) -> Result<Result<Self, &'static str>, ConfigError> {
        if config.proxy_url.is_some() {
            return Err(ConfigError::new("proxy_url", "is not supported"));
        }
        let shared = client(config, env)?;
        let client = match &*shared {
            Ok(client) => client.clone(),
            Err(e) => return Err(ConfigError::new("disable_https", e.to_string())),
        };
        let region = config
            .aws_region
            .clone()
            .or_else(|| var("AWS_REGION"))
            .or_else(|| var("AWS_DEFAULT_REGION"));
        let Some(region) = region else {
            return Ok(Err("no region: neither aws_region nor AWS_REGION is set"));
        };
        let Some(function) = &config.function_name else {
            return Ok(Err("no function: function_name is not set"));
        };
        let Some(credentials) = credentials(config, var) else {
            return Ok(Err(
                "no credentials: neither aws_key nor AWS_ACCESS_KEY_ID is set",
            ));
        };
        let role = Role::of(config, &client, &region, &credentials).transpose()?;
        let uri = uri(config, &region, function);
        let uri = uri.map_err(|e| ConfigError::new("host", e.to_string()))?;
        let value = |field: &str, text: &str| {
            HeaderValue::from_str(text).map_err(|e| ConfigError::new(field, e.to_string()))
        };
        Ok(Ok(Lambda {
            service: Service {
                client,
                name: "lambda",
                region,
                uri,
            },
            caller: match role {
                Some(role) => Caller::Role(Box::new(role)),
                None => Caller::Key(credentials),
            },
            invocation_type: value("invocation_type", &config.invocation_type)?,
            log_type: value("log_type", &config.log_type)?,
            _shared: shared,
        }))
    }

    /// Invokes it.
    pub(crate) async fn invoke(&self, payload: Vec<u8>) -> Result<Answer, InvokeError> {
        let mut request = Request::post(self.service.uri.clone())
            .body(Bytes::from(payload))
            .map_err(|e| InvokeError::Sign(e.to_string()))?;
        let headers = request.headers_mut();
        headers.insert(INVOCATION_TYPE, self.invocation_type.clone());
        headers.insert(LOG_TYPE, self.log_type.clone());
        match &self.caller {
            Caller::Key(credentials) => self.service.call(request, credentials).await,
            Caller::Role(role) => {
                let credentials = role.credentials().await?;
                self.service.call(request, &credentials).await
            }
        }
    }
}

/// A service of AWS.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) client: HttpClient,
    pub(crate) name: &'static str,
    pub(crate) region: String,
    pub(crate) uri: Uri,
}

impl Service {
    /// Signs and sends a request.
    pub(crate) async fn call(
        &self,
        mut request: Request<Bytes>,
        credentials: &Credentials,
    ) -> Result<Answer, InvokeError> {
        self.sign(&mut request, credentials, SystemTime::now())
            .map_err(|e| InvokeError::Sign(e.to_string()))?;
        let answer = self.client.send(request).await;
        let host = || self.uri.authority().map_or("", |a| a.as_str()).to_owned();
        answer.map_err(|e| InvokeError::Http(host(), e.into()))
    }

    fn sign(
        &self,
        request: &mut Request<Bytes>,
        credentials: &Credentials,
        now: SystemTime,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let identity = credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.name)
            .time(now)
            .settings(SigningSettings::default())
            .build()?
            .into();
        let uri = request.uri().to_string();
        let headers = request
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let body = SignableBody::Bytes(request.body());
        let signable = SignableRequest::new(request.method().as_str(), uri, headers, body)?;
        let (instructions, _) = sign(signable, &params)?.into_parts();
        for (name, value) in instructions.headers() {
            let mut value = HeaderValue::from_str(value)?;
            value.set_sensitive(true);
            request
                .headers_mut()
                .insert(HeaderName::from_bytes(name.as_bytes())?, value);
        }
        Ok(())
    }
}

fn client(config: &Config, env: &PluginEnv<'_>) -> Result<SharedClient, ConfigError> {
    let millis = |field: &str, ms: f64| {
        Duration::try_from_secs_f64(ms / 1000.0).map_err(|e| ConfigError::new(field, e.to_string()))
    };
    let timeout = millis("timeout", config.timeout)?;
    let keepalive = millis("keepalive", config.keepalive)?;
    let key = format!("aws-lambda:{timeout:?}:{keepalive:?}");
    Ok(env.shared(&key, || {
        let client = HttpClient::new(timeout, keepalive, true)?;
        Ok(client.longest_answer(LONGEST_ANSWER))
    }))
}

fn uri(config: &Config, region: &str, function: &str) -> Result<Uri, InvalidUri> {
    let (scheme, usual) = match config.disable_https {
        Some(true) => ("http", 80),
        _ => ("https", 443),
    };
    let host = match &config.host {
        Some(host) if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        Some(host) => host.clone(),
        None => format!("lambda.{region}.amazonaws.com"),
    };
    let port = match config.port.unwrap_or(443) {
        port if port == usual => String::new(),
        port => format!(":{port}"),
    };
    let function = utf8_percent_encode(function, UNRESERVED);
    let mut uri = format!("{scheme}://{host}{port}/2015-03-31/functions/{function}/invocations");
    if let Some(qualifier) = &config.qualifier {
        uri.push_str("?Qualifier=");
        uri.extend(utf8_percent_encode(qualifier, UNRESERVED));
    }
    uri.parse()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use silverback_plugin::InstanceInfo;
    use silverback_plugin::exchange::FakeServices;

    use super::*;
    use crate::tests::settings;

    #[test]
    fn functions_are_where_lambda_has_them() {
        let of = |given| {
            let config = settings(given);
            let function = config.function_name.clone().unwrap();
            uri(&config, "eu-west-1", &function).unwrap().to_string()
        };
        let base = "https://lambda.eu-west-1.amazonaws.com/2015-03-31/functions";
        assert_eq!(
            of(json!({"function_name": "f"})),
            format!("{base}/f/invocations")
        );
        assert_eq!(
            of(
                json!({"function_name": "arn:aws:lambda:eu-west-1:1:function:f", "qualifier": "$LATEST"})
            ),
            format!(
                "{base}/arn%3Aaws%3Alambda%3Aeu-west-1%3A1%3Afunction%3Af/invocations?Qualifier=%24LATEST"
            )
        );
        assert_eq!(
            of(
                json!({"function_name": "f", "host": "127.0.0.1", "port": 8080, "disable_https": true})
            ),
            "http://127.0.0.1:8080/2015-03-31/functions/f/invocations"
        );
    }

    #[test]
    fn configurations_share_a_client() {
        let env = PluginEnv {
            instance: &InstanceInfo::default(),
            services: &FakeServices::default(),
        };
        let make = |function: &str| {
            let given = json!({"aws_region": "eu-west-1", "aws_key": "k", "aws_secret": "s", "function_name": function});
            let made = Lambda::new(&settings(given), &env, |_| None);
            made.unwrap().unwrap()
        };
        assert!(Arc::ptr_eq(&make("f")._shared, &make("g")._shared));
    }

    /// `post-vanilla` of the examples that AWS published for Signature Version 4.
    #[test]
    fn requests_are_signed_as_in_an_example_of_aws() {
        let service = Service {
            client: HttpClient::new(Duration::from_secs(1), Duration::from_secs(1), true).unwrap(),
            name: "service",
            region: "us-east-1".to_owned(),
            uri: Uri::from_static("https://example.amazonaws.com/"),
        };
        let credentials = Credentials::new(
            "AKIDEXAMPLE",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            None,
            None,
            "test",
        );
        let mut request = Request::post(service.uri.clone())
            .body(Bytes::new())
            .unwrap();
        // 2015-08-30T12:36:00Z
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        service.sign(&mut request, &credentials, now).unwrap();
        assert_eq!(
            request.headers()[http::header::AUTHORIZATION],
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, \
             Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
    }
}
