//! Requests over HTTP and HTTPS, on connections that are kept.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_openssl::client::legacy::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use silverback_plugin::schema::checks::UrlParts;
use tokio::time::timeout;

/// What we call ourselves.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("silverback/", env!("CARGO_PKG_VERSION")));

/// The longest body of an answer that is read, unless said otherwise.
const LONGEST_ANSWER: usize = 1 << 20;

/// A client with its connections. Use it in tasks on the node's background runtime: connections live there.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeouts: Timeouts,
    longest_answer: usize,
}

/// How long a server may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For taking the connection.
    pub connect: Duration,
    /// For taking the request.
    pub send: Duration,
    /// For the head of its answer, and for the body.
    pub read: Duration,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] ErrorStack),
    /// It took too long.
    #[error("timeout")]
    Timeout,
    /// No connection, or it broke.
    #[error("{0}")]
    Broken(String),
    /// The body is longer than we read.
    #[error("the answer is too long")]
    TooLong,
}

impl HttpClient {
    /// A client. `timeout` is for connecting, for the head of an answer and for its body, each; an idle connection is kept for `keepalive`.
    /// With `verify` the certificates of servers have to be good.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(timeout: Duration, keepalive: Duration, verify: bool) -> Result<Self, HttpError> {
        let timeouts = Timeouts {
            connect: timeout,
            send: Duration::ZERO,
            read: timeout,
        };
        Self::with_timeouts(timeouts, keepalive, verify)
    }

    /// A client with several limits of time; the rest as in [`HttpClient::new`].
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn with_timeouts(
        timeouts: Timeouts,
        keepalive: Duration,
        verify: bool,
    ) -> Result<Self, HttpError> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(timeouts.connect));
        let mut https = HttpsConnector::with_connector(http, connector(verify)?)?;
        https.set_callback(move |tls, _| {
            tls.set_verify_hostname(verify);
            Ok(())
        });
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(keepalive)
            .http1_title_case_headers(true)
            .build(https);
        Ok(HttpClient {
            client,
            timeouts,
            longest_answer: LONGEST_ANSWER,
        })
    }

    /// The longest body of an answer that is read, in bytes, in place of a mebibyte.
    #[must_use]
    pub fn longest_answer(mut self, bytes: usize) -> Self {
        self.longest_answer = bytes;
        self
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Answer, HttpError> {
        let mut request = request.map(Full::new);
        request.headers_mut().entry(USER_AGENT).or_insert(AGENT);
        // Connecting has its own limit, and comes first.
        let Timeouts {
            connect,
            send,
            read,
        } = self.timeouts;
        let head = connect.saturating_add(send).saturating_add(read);
        let answer = timeout(head, self.client.request(request)).await;
        let answer = answer
            .map_err(|_| HttpError::Timeout)?
            .map_err(|e| HttpError::Broken(with_causes(&e)))?;
        let (head, body) = answer.into_parts();
        let body = timeout(read, Limited::new(body, self.longest_answer).collect()).await;
        let body = body.map_err(|_| HttpError::Timeout)?.map_err(|e| {
            if e.is::<LengthLimitError>() {
                HttpError::TooLong
            } else {
                HttpError::Broken(with_causes(e.as_ref()))
            }
        })?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }
}

/// TLS as a client.
pub(crate) fn connector(verify: bool) -> Result<openssl::ssl::SslConnectorBuilder, ErrorStack> {
    let mut tls = SslConnector::builder(SslMethod::tls_client())?;
    if !verify {
        tls.set_verify(SslVerifyMode::NONE);
    }
    Ok(tls)
}

/// An error with what caused it: the outer ones say little.
pub(crate) fn with_causes(e: &dyn Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        let said = e.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = e.source();
    }
    text
}

/// What a request is sent to: the server of a URL with that path, which may have a query.
///
/// # Errors
/// What is wrong with the URL.
pub fn target(url: &UrlParts<'_>, path_and_query: &str) -> Result<Uri, String> {
    let host = url.host.unwrap_or_default();
    let authority = match (host.contains(':'), url.port) {
        (true, Some(port)) => format!("[{host}]:{port}"),
        (true, None) => format!("[{host}]"),
        (false, Some(port)) => format!("{host}:{port}"),
        (false, None) => host.to_owned(),
    };
    if url.port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("has no port that is a number".to_owned());
    }
    let scheme = url.scheme.unwrap_or_default().to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err("is neither http nor https".to_owned());
    }
    Uri::builder()
        .scheme(scheme.as_str())
        .authority(authority)
        .path_and_query(path_and_query)
        .build()
        .map_err(|e| e.to_string())
}

/// The header that says who calls, from `user:password`.
pub fn basic_authorization(userinfo: &str) -> Option<HeaderValue> {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(userinfo);
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
