//! Sends entries to the server.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method};
use silverback_export::fields::milliseconds;
use silverback_export::http::{basic_authorization, target};
use silverback_export::{Deliver, HttpClient, Receiver, receiver};
use silverback_plugin::ConfigError;
use silverback_plugin::schema::checks::split_url;

use crate::Config;

/// A request with entries for its body.
pub(crate) struct Post {
    to: Receiver,
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
        let given = config.headers.iter().flatten();
        let mut headers = receiver::headers(given).map_err(|e| at("headers")(&e))?;
        let content_type = config.content_type.as_deref().unwrap_or("application/json");
        let content_type = HeaderValue::try_from(content_type);
        headers.insert(
            CONTENT_TYPE,
            content_type.map_err(|e| at("content_type")(&e))?,
        );
        if let Some(authorization) = url.userinfo.and_then(basic_authorization) {
            headers.insert(AUTHORIZATION, authorization);
        }
        let to = Receiver {
            client,
            method,
            to,
            headers,
        };
        Ok(Post { to, list })
    }

    /// Host and port, for the log.
    pub(crate) fn server(&self) -> String {
        self.to.server()
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
        let body = self.body(batch);
        self.to.send(body, |status| status.as_u16() < 300).await
    }
}
