//! A place that takes batches over HTTP.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use serde_json::Value;

use crate::HttpClient;

/// The most of an answer's body that goes into our log.
const SHOWN: usize = 200;

/// Where requests go, and what they have in common.
#[derive(Debug)]
pub struct Receiver {
    /// Sends them.
    pub client: HttpClient,
    /// Their method.
    pub method: Method,
    /// Their target.
    pub to: Uri,
    /// Their headers.
    pub headers: HeaderMap,
}

impl Receiver {
    /// Host and port, for the log.
    pub fn server(&self) -> String {
        let authority = self.to.authority();
        authority.map(ToString::to_string).unwrap_or_default()
    }

    /// Sends a body.
    ///
    /// # Errors
    /// What the log says of it, in Kong's words: there was no answer, or one with a status that is not among those `taken`.
    pub async fn send(&self, body: Bytes, taken: fn(StatusCode) -> bool) -> Result<(), String> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.to.clone();
        *request.headers_mut() = self.headers.clone();
        let answer = self.client.send(request).await;
        let answer = answer.map_err(|e| format!("failed request to {}: {e}", self.server()))?;
        if taken(answer.status) {
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

/// Headers as a configuration says them.
///
/// # Errors
/// When one cannot be sent.
pub fn headers<'a>(
    given: impl IntoIterator<Item = (&'a String, &'a Value)>,
) -> Result<HeaderMap, http::Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let value = HeaderValue::try_from(value.as_str().unwrap_or_default())?;
        headers.insert(HeaderName::try_from(name)?, value);
    }
    Ok(headers)
}
