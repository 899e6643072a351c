//! Sends entries to the server.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use serde_json::Value;
use silverback_export::fields::milliseconds;
use silverback_export::http::{basic_authorization, target};
use silverback_export::{Deliver, HttpClient};
use silverback_plugin::ConfigError;
use silverback_plugin::schema::checks::split_url;

use crate::Config;

/// The most of an answer's body that goes into our log.
const SHOWN: usize = 200;

/// A request with entries for its body.
pub(crate) struct Post {
    client: HttpClient,
    method: Method,
    to: Uri,
    headers: HeaderMap,
    /// Whether the body is a list, however many entries there are.
    list: bool,
}

impl Post {
    pub(crate) fn new(config: &Config, list: bool) -> Result<Self, ConfigError> {
        let at = |field| move |e: &dyn std::fmt::Display| ConfigError::new(field, e.to_string());
        let url = split_url(&config.http_endpoint);
        let endpoint = at("http_endpoint");
        // Kong sends to the path and leaves the query out.
        let to = target(&url, url.path.unwrap_or("/")).map_err(|e| endpoint(&e))?;
        let method = config.method.as_deref().unwrap_or("POST");
        let method = Method::from_bytes(method.as_bytes()).map_err(|e| at("method")(&e))?;
        let (timeout, keepalive) = (milliseconds(config.timeout), milliseconds(config.keepalive));
        let client = HttpClient::new(timeout, keepalive, false).map_err(|e| endpoint(&e))?;
        let mut headers = HeaderMap::new();
        for (name, value) in config.headers.iter().flatten() {
            let name = HeaderName::try_from(name).map_err(|e| at("headers")(&e))?;
            let value = HeaderValue::try_from(value.as_str().unwrap_or_default());
            headers.insert(name, value.map_err(|e| at("headers")(&e))?);
        }
        let content_type = config.content_type.as_deref().unwrap_or("application/json");
        let content_type = HeaderValue::try_from(content_type);
        headers.insert(
            CONTENT_TYPE,
            content_type.map_err(|e| at("content_type")(&e))?,
        );
        if let Some(authorization) = url.userinfo.and_then(basic_authorization) {
            headers.insert(AUTHORIZATION, authorization);
        }
        Ok(Post {
            client,
            method,
            to,
            headers,
            list,
        })
    }

    /// Host and port, for the log.
    pub(crate) fn server(&self) -> String {
        self.to
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    fn body(&self, batch: &[String]) -> Bytes {
        match batch {
            [one] if !self.list => Bytes::from(one.clone()),
            several => Bytes::from(format!("[{}]", several.join(","))),
        }
    }
}

impl Deliver for Post {
    type Entry = String;

    async fn deliver(&self, batch: &[String]) -> Result<(), String> {
        let mut request = Request::new(self.body(batch));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.to.clone();
        *request.headers_mut() = self.headers.clone();
        let answer = self.client.send(request).await;
        let answer = answer.map_err(|e| format!("failed request to {}: {e}", self.server()))?;
        if answer.status.as_u16() < 300 {
            return Ok(());
        }
        let body = answer.body.get(..SHOWN).unwrap_or(&answer.body);
        Err(format!(
            "request to {} returned status code {} and body {}",
            self.server(),
            answer.status.as_u16(),
            Value::from(String::from_utf8_lossy(body))
        ))
    }
}
