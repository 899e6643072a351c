//! Roles: credentials for a while, given by AWS' Security Token Service (`AssumeRole`).

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use aws_credential_types::Credentials;
use bytes::Bytes;
use chrono::DateTime;
use form_urlencoded::Serializer;
use http::{HeaderValue, Request, Uri, header};
use silverback_export::HttpClient;
use silverback_plugin::ConfigError;
use tokio::sync::Mutex;

use crate::Config;
use crate::invoke::{InvokeError, Service};

/// So long before its end a session is not used any more.
const MARGIN: Duration = Duration::from_secs(60);

/// So long a failure is the answer to all.
const FAILED_FOR: Duration = Duration::from_secs(3);

/// A role that is assumed when it is needed, and again when its session ends.
#[derive(Debug)]
pub(crate) struct Role {
    sts: Service,
    question: Bytes,
    /// Who asks.
    caller: Credentials,
    session: ArcSwapOption<Credentials>,
    /// One asks for all. Holds why it failed last, and when.
    asking: Mutex<Option<(InvokeError, Instant)>>,
}

impl Role {
    /// The role that a configuration names.
    pub(crate) fn of(
        config: &Config,
        client: &HttpClient,
        region: &str,
        caller: &Credentials,
    ) -> Option<Result<Self, ConfigError>> {
        let role = config.aws_assume_role_arn.as_ref()?;
        let session = config.aws_role_session_name.as_deref().unwrap_or("kong");
        let question = Serializer::new(String::new())
            .append_pair("Action", "AssumeRole")
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", role)
            .append_pair("RoleSessionName", session)
            .finish();
        let uri = match &config.aws_sts_endpoint_url {
            Some(url) => url.parse::<Uri>(),
            None => format!("https://sts.{region}.amazonaws.com/").parse(),
        };
        let uri = match uri {
            Ok(uri) => uri,
            Err(e) => return Some(Err(ConfigError::new("aws_sts_endpoint_url", e.to_string()))),
        };
        Some(Ok(Role {
            sts: Service {
                client: client.clone(),
                name: "sts",
                region: region.to_owned(),
                uri,
            },
            question: question.into(),
            caller: caller.clone(),
            session: ArcSwapOption::empty(),
            asking: Mutex::new(None),
        }))
    }

    /// The credentials of a session that has not ended.
    pub(crate) async fn credentials(&self) -> Result<Arc<Credentials>, InvokeError> {
        if let Some(session) = self.session.load_full().filter(|s| lasts(s)) {
            return Ok(session);
        }
        let mut failed = self.asking.lock().await;
        if let Some(session) = self.session.load_full().filter(|s| lasts(s)) {
            return Ok(session);
        }
        // Those who waited for the answer would otherwise ask one after the other, each for as long as the first.
        if let Some((why, _)) = failed.as_ref().filter(|(_, at)| at.elapsed() < FAILED_FOR) {
            return Err(why.clone());
        }
        match self.ask().await {
            Ok(session) => {
                let session = Arc::new(session);
                self.session.store(Some(session.clone()));
                *failed = None;
                Ok(session)
            }
            Err(e) => {
                *failed = Some((e.clone(), Instant::now()));
                Err(e)
            }
        }
    }

    async fn ask(&self) -> Result<Credentials, InvokeError> {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let request = Request::post(self.sts.uri.clone())
            .header(header::CONTENT_TYPE, form)
            .body(self.question.clone())
            .map_err(|e| InvokeError::Sign(e.to_string()))?;
        let answer = self.sts.call(request, &self.caller).await?;
        let text = String::from_utf8_lossy(&answer.body);
        if !answer.status.is_success() {
            return Err(InvokeError::Role(format!("{}: {text}", answer.status)));
        }
        session(&text).ok_or_else(|| InvokeError::Role("the answer has no credentials".to_owned()))
    }
}

fn lasts(session: &Credentials) -> bool {
    let end = session.expiry();
    end.is_none_or(|end| end > SystemTime::now() + MARGIN)
}

/// The credentials in an answer.
fn session(xml: &str) -> Option<Credentials> {
    let end = DateTime::parse_from_rfc3339(element(xml, "Expiration")?).ok()?;
    Some(Credentials::new(
        element(xml, "AccessKeyId")?,
        element(xml, "SecretAccessKey")?,
        Some(element(xml, "SessionToken")?.to_owned()),
        Some(end.into()),
        "role",
    ))
}

/// What an element holds that is there once and holds text which needs no escapes.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::tests::settings;

    #[tokio::test]
    async fn those_who_wait_share_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sts = format!("http://{}/", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
                let mut request = Vec::new();
                while !request.ends_with(b"RoleSessionName=kong") {
                    request.push(stream.read_u8().await.unwrap());
                }
                let answer =
                    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
                stream.write_all(answer).await.unwrap();
            }
        });
        let config = settings(json!({"aws_assume_role_arn": "r", "aws_sts_endpoint_url": sts}));
        let client = HttpClient::new(Duration::from_secs(60), Duration::ZERO, true).unwrap();
        let caller = Credentials::new("k", "s", None, None, "test");
        let role = Role::of(&config, &client, "eu-west-1", &caller);
        let role = role.unwrap().unwrap();
        let (a, b, c) = tokio::join!(role.credentials(), role.credentials(), role.credentials());
        for failed in [a, b, c] {
            assert_eq!(
                failed.unwrap_err().to_string(),
                "the role cannot be assumed: 403 Forbidden: no"
            );
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_answer_has_a_key_and_its_end() {
        let xml = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
                   <AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s+/=</SecretAccessKey><SessionToken>t</SessionToken>\
                   <Expiration>2030-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let made = session(xml).unwrap();
        assert_eq!(made.access_key_id(), "ASIA1");
        assert_eq!(made.secret_access_key(), "s+/=");
        assert_eq!(made.session_token(), Some("t"));
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_456_000);
        assert_eq!(made.expiry(), Some(end));
        assert!(session("<ErrorResponse/>").is_none());
    }
}
