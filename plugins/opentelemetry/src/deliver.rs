//! Sends spans to the collector.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use prost::Message as _;
use silverback_export::fields::milliseconds;
use silverback_export::http::target;
use silverback_export::{Deliver, HttpClient, Receiver, Timeouts, receiver};
use silverback_plugin::schema::checks::split_url;
use silverback_plugin::{ConfigError, PluginEnv};

use crate::Config;
use crate::otlp::{Export, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans};

/// How long an idle connection is kept: what OpenResty has by default.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A request with encoded spans for its body.
pub(crate) struct Collector {
    to: Receiver,
    /// An encoded [`Resource`].
    resource: Bytes,
}

impl Collector {
    pub(crate) fn new(
        config: &Config,
        endpoint: &str,
        env: &PluginEnv<'_>,
    ) -> Result<Self, ConfigError> {
        let at = |field| move |e: &dyn std::fmt::Display| ConfigError::new(field, e.to_string());
        let wrong = at("traces_endpoint");
        let url = split_url(endpoint);
        let path = url.path.unwrap_or("/");
        let query = endpoint.split('#').next().and_then(|u| u.split_once('?'));
        let to = match query {
            Some((_, query)) => target(&url, &format!("{path}?{query}")),
            None => target(&url, path),
        };
        let after = |ms: Option<i64>| milliseconds(ms.map(|ms| ms as f64));
        let timeouts = Timeouts {
            connect: after(config.connect_timeout),
            send: after(config.send_timeout),
            read: after(config.read_timeout),
        };
        let client = HttpClient::with_timeouts(timeouts, KEEPALIVE, true).map_err(|e| wrong(&e))?;
        let given = config.headers.iter().flatten();
        let mut headers = receiver::headers(given).map_err(|e| at("headers")(&e))?;
        headers
            .entry(CONTENT_TYPE)
            .or_insert(HeaderValue::from_static("application/x-protobuf"));
        let to = Receiver {
            client,
            method: Method::POST,
            to: to.map_err(|e| wrong(&e))?,
            headers,
        };
        Ok(Collector {
            to,
            resource: resource(config, env).encode_to_vec().into(),
        })
    }

    /// Host and port, for the log.
    pub(crate) fn server(&self) -> String {
        self.to.server()
    }

    pub(crate) fn body(&self, spans: &[Bytes]) -> Bytes {
        let export = Export {
            resource_spans: vec![ResourceSpans {
                resource: self.resource.clone(),
                scope_spans: vec![ScopeSpans {
                    scope: Some(Scope {
                        name: "kong-internal".to_owned(),
                        version: "0.1.0".to_owned(),
                    }),
                    spans: spans.to_vec(),
                }],
            }],
        };
        export.encode_to_vec().into()
    }
}

impl Deliver for Collector {
    type Entry = Bytes;

    async fn deliver(&self, batch: &[Bytes]) -> Result<(), String> {
        let body = self.body(batch);
        self.to.send(body, |status| status.as_u16() == 200).await
    }
}

/// What is said of this gateway: what the configuration says, over what is known by itself.
fn resource(config: &Config, env: &PluginEnv<'_>) -> Resource {
    let given = config.resource_attributes.iter().flatten();
    let given: Vec<_> = given.collect();
    let mut attributes = Vec::new();
    let known = [
        ("service.name", Some("kong".to_owned())),
        (
            "service.instance.id",
            env.services.node_id().map(|id| id.to_string()),
        ),
        (
            "service.version",
            Some(<crate::OpenTelemetry as silverback_plugin::Plugin>::VERSION.to_owned()),
        ),
    ];
    for (key, value) in known {
        if let Some(value) = value.filter(|_| !given.iter().any(|(k, _)| *k == key)) {
            attributes.push(KeyValue::text(key, value));
        }
    }
    for (key, value) in given {
        attributes.push(KeyValue::text(key, value.as_str().unwrap_or_default()));
    }
    Resource { attributes }
}
