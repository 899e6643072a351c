mod endpoints;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeDirectory, FakeRows, FakeServices, Outcome, config, consumer,
    schema_without_descriptions,
};
use silverback_plugin::{InstanceInfo, Plugin};
use uuid::Uuid;

use crate::application::APPLICATIONS;
use crate::token::TOKENS;
use crate::{Endpoint, OAuth2};

const NOW: u64 = 1_700_000_000;
const FORM: &str = "application/x-www-form-urlencoded";
const SERVICE: &str = "00000000-0000-0000-0000-000000000001";
const APPLICATION: &str = "00000000-0000-0000-0000-000000000064";

/// A node with a database; applications and tokens given by hand are in memory, those made later only in the database.
struct Node {
    rows: Arc<FakeRows>,
    directory: FakeDirectory,
    plugin: Compiled<OAuth2>,
}

impl Node {
    fn new(settings: Value) -> Self {
        let rows = Arc::new(FakeRows::new(OAuth2::entities()));
        let services = FakeServices::with_rows(rows.clone());
        let plugin = Compiled::with(settled(settings), &InstanceInfo::default(), &services);
        let mut node = Node {
            rows,
            directory: FakeDirectory::default(),
            plugin,
        };
        node.application("cid", json!({}));
        node
    }

    /// An application of alice's. The first has the id [`APPLICATION`].
    fn application(&mut self, client_id: &str, more: Value) {
        let mut fields = json!({
            "name": "app", "client_secret": "sec", "hash_secret": false, "client_type": "confidential",
            "redirect_uris": ["https://app.test/cb?x=y", "https://app.test/other"],
        });
        merge(&mut fields, more);
        let alice = consumer(7, "alice");
        let fields = object(fields);
        self.directory
            .add_credential_with(APPLICATIONS, client_id, &alice, fields);
    }

    fn token(&mut self, text: &str, more: Value) {
        let mut fields = json!({
            "service": { "id": SERVICE }, "expires_in": 100, "created_at": NOW, "scope": "email",
            "authenticated_userid": "u1",
        });
        merge(&mut fields, more);
        let mut fields = object(fields);
        fields.retain(|_, v| !v.is_null());
        let to = Some((APPLICATIONS, "cid"));
        self.directory.add_issued(TOKENS, text, to, fields);
    }

    async fn run(&self, exchange: Exchange) -> Outcome {
        self.at(0, exchange).await
    }

    async fn at(&self, seconds: u64, exchange: Exchange) -> Outcome {
        let exchange = exchange
            .directory(self.directory.clone())
            .at(UNIX_EPOCH + Duration::from_secs(NOW + seconds));
        exchange.run_on(&self.plugin).await
    }

    /// What an endpoint answers over HTTPS.
    async fn post(&self, path: &str, form: &str) -> Outcome {
        self.run(Exchange::post(path, FORM, form.to_owned()).tls())
            .await
    }

    async fn tokens(&self, form: &str) -> Outcome {
        self.post("/oauth2/token", form).await
    }

    /// What a user is sent back with.
    async fn sent_back(&self, form: &str) -> (u16, String) {
        let done = self.post("/any/oauth2/authorize", form).await;
        let uri = done.body_json()["redirect_uri"]
            .as_str()
            .unwrap()
            .to_owned();
        (done.status(), uri)
    }

    async fn code(&self, more: &str) -> String {
        let form = format!(
            "response_type=code&client_id=cid&provision_key=prov&authenticated_userid=u3{more}"
        );
        let (status, uri) = self.sent_back(&form).await;
        assert_eq!(status, 200, "{uri}");
        let code = uri.split(['?', '&']).find_map(|p| p.strip_prefix("code="));
        code.unwrap().to_owned()
    }
}

fn settled(mut settings: Value) -> Value {
    let usual = json!({
        "provision_key": "prov", "scopes": ["email", "phone"], "enable_authorization_code": true,
        "enable_implicit_grant": true, "enable_client_credentials": true, "enable_password_grant": true,
    });
    let mut all = usual;
    merge(&mut all, settings.take());
    all
}

fn merge(into: &mut Value, more: Value) {
    for (name, value) in object(more) {
        into[name] = value;
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn refusal(done: &Outcome) -> (u16, String, String) {
    let body = done.body_json();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    (done.status(), text("error"), text("error_description"))
}

#[track_caller]
fn is_refused(done: &Outcome, status: u16, error: &str, description: &str) {
    let wanted = (status, error.to_owned(), description.to_owned());
    assert_eq!(refusal(done), wanted);
}

const INVALID: &str = "The access token is invalid or has expired";

#[test]
fn schema_is_that_of_kong() {
    let facts: Value = serde_json::from_str(include_str!("../testdata/schema.json")).unwrap();
    assert_eq!(schema_without_descriptions::<OAuth2>(), facts);
}

#[test]
fn a_grant_has_to_be_open_and_scopes_there_when_they_are_mandatory() {
    let refused = config::<OAuth2>(json!({})).unwrap_err();
    assert_eq!(
        refused.message(),
        "schema violation (config: at least one of these fields must be true: enable_authorization_code, enable_implicit_grant, enable_client_credentials, enable_password_grant)"
    );
    let refused = json!({ "enable_password_grant": true, "mandatory_scope": true });
    assert!(config::<OAuth2>(refused).is_err());
    let made = config::<OAuth2>(json!({ "enable_password_grant": true })).unwrap();
    assert_eq!(made["provision_key"].as_str().unwrap().len(), 32);
}

#[test]
fn endpoints_are_below_any_path() {
    for (path, endpoint) in [
        ("/oauth2/token", Some(Endpoint::Token)),
        ("/a/oauth2/token/", Some(Endpoint::Token)),
        ("/a/oauth2/authorize", Some(Endpoint::Authorize)),
        ("/oauth2/authorize/", Some(Endpoint::Authorize)),
        ("/oauth2/token/x", None),
        ("/oauth2/token//", Some(Endpoint::Token)),
        ("/a/oauth2//%74oken", Some(Endpoint::Token)),
        ("/", None),
    ] {
        assert_eq!(Endpoint::of(path.as_bytes()), endpoint, "{path}");
    }
}

#[tokio::test]
async fn a_token_lets_its_applications_owner_in() {
    let mut node = Node::new(json!({}));
    node.token("tok", json!({}));
    let get = || Exchange::get("/");
    for exchange in [
        get().header("authorization", "Bearer tok"),
        get().header("authorization", "token  tok"),
        get().header("authorization", "tok"),
        Exchange::get("/?a=b&access_token=tok"),
        Exchange::post("/", FORM, "access_token=tok"),
        Exchange::post("/", "application/json", r#"{"access_token": "tok"}"#),
    ] {
        let done = node.run(exchange).await;
        done.passed();
        assert_eq!(done.upstream_header("x-consumer-username"), Some("alice"));
        assert_eq!(done.upstream_header("x-credential-identifier"), Some("cid"));
        assert_eq!(done.upstream_header("x-authenticated-scope"), Some("email"));
        assert_eq!(done.upstream_header("x-authenticated-userid"), Some("u1"));
        assert_eq!(done.upstream_header("x-anonymous-consumer"), None);
        let credential = done.facts().credential.as_ref().unwrap();
        assert_eq!(credential.id.to_string(), APPLICATION);
    }
    assert_eq!(node.rows.reads(), 0);
}

#[tokio::test]
async fn what_the_client_says_of_itself_is_taken_away() {
    let mut node = Node::new(json!({}));
    node.token(
        "tok",
        json!({ "scope": null, "authenticated_userid": null }),
    );
    let done = Exchange::get("/")
        .header("authorization", "bearer tok")
        .header("x-authenticated-scope", "root")
        .header("x-authenticated-userid", "root");
    let done = node.run(done).await;
    assert_eq!(done.upstream_header("x-authenticated-scope"), None);
    assert_eq!(done.upstream_header("x-authenticated-userid"), None);
}

#[tokio::test]
async fn requests_without_a_good_token_are_refused() {
    let mut node = Node::new(json!({ "realm": "r" }));
    node.token("elsewhere", json!({ "service": { "id": APPLICATION } }));
    node.token("global", json!({ "service": null }));
    node.token("old", json!({}));
    node.token("eternal", json!({ "expires_in": 0 }));
    let with = |token: &str| Exchange::get("/").header("authorization", &format!("Bearer {token}"));

    for exchange in [
        Exchange::get("/"),
        Exchange::get("/?access_token="),
        Exchange::get("/?access_token=a&access_token=b"),
    ] {
        let done = node.run(exchange).await;
        is_refused(&done, 401, "invalid_request", "The access token is missing");
        assert_eq!(done.header("www-authenticate"), Some("Bearer realm=\"r\""));
    }
    for token in ["nope", "elsewhere", "Basic xyz"] {
        let done = node.run(with(token)).await;
        is_refused(&done, 401, "invalid_token", INVALID);
        assert_eq!(
            done.header("www-authenticate").unwrap(),
            format!("Bearer realm=\"r\" error=\"invalid_token\" error_description=\"{INVALID}\"")
        );
    }
    let global = "The access token is global, but the current plugin is configured without 'global_credentials'";
    is_refused(
        &node.run(with("global")).await,
        401,
        "invalid_token",
        global,
    );
    node.at(100, with("old")).await.passed();
    is_refused(
        &node.at(101, with("old")).await,
        401,
        "invalid_token",
        INVALID,
    );
    node.at(1_000_000, with("eternal")).await.passed();
}

#[tokio::test]
async fn tokens_of_all_services_are_good_where_that_is_said() {
    let mut node = Node::new(json!({ "global_credentials": true }));
    node.token("global", json!({ "service": null }));
    node.token("own", json!({}));
    node.token("elsewhere", json!({ "service": { "id": APPLICATION } }));
    for (token, good) in [("global", true), ("own", true), ("elsewhere", false)] {
        let done = node
            .run(Exchange::get(&format!("/?access_token={token}")))
            .await;
        assert_eq!(done.exited(), !good, "{token}");
    }
    let made = node
        .tokens("grant_type=client_credentials&client_id=cid&client_secret=sec")
        .await;
    assert_eq!(made.status(), 200);
    assert_eq!(node.rows.all(TOKENS)[0]["service"], Value::Null);
}

#[tokio::test]
async fn the_anonymous_consumer_may_call_instead() {
    let mut node = Node::new(json!({ "anonymous": "anon" }));
    node.directory.add_consumer(&consumer(9, "anon"));
    node.token("tok", json!({}));
    let done = node
        .run(Exchange::get("/?access_token=nope").header("x-authenticated-userid", "me"))
        .await;
    done.passed();
    assert_eq!(done.upstream_header("x-consumer-username"), Some("anon"));
    assert_eq!(done.upstream_header("x-anonymous-consumer"), Some("true"));
    assert_eq!(done.upstream_header("x-authenticated-userid"), None);

    // Who has proven who it is by other means stays that.
    let other = node.run(Exchange::get("/?access_token=tok")).await;
    let proven = Exchange::get("/?access_token=tok")
        .authenticated(Some(&consumer(8, "bob")), other.facts().credential.as_ref());
    let done = node.run(proven).await;
    assert_eq!(
        done.facts().consumer.as_ref().unwrap().username.as_deref(),
        Some("bob")
    );
}

#[tokio::test]
async fn tokens_can_be_hidden_from_the_upstream() {
    let mut node = Node::new(json!({ "hide_credentials": true, "auth_header_name": "x-token" }));
    node.token("tok", json!({}));
    let done = node
        .run(Exchange::get("/").header("x-token", "Bearer tok"))
        .await;
    assert_eq!(done.passed().upstream_header("x-token"), None);
    let done = node.run(Exchange::get("/?a=b&access_token=tok&c=d")).await;
    assert_eq!(done.passed().edits().query.as_deref(), Some("a=b&c=d"));
    let done = node
        .run(Exchange::post("/", FORM, "a=b&access_token=tok"))
        .await;
    assert_eq!(done.passed().edits().body.as_deref(), Some(&b"a=b"[..]));
}

#[tokio::test]
async fn a_token_made_a_moment_ago_is_found_in_the_database() {
    let node = Node::new(json!({}));
    let done = node
        .tokens("grant_type=client_credentials&client_id=cid&client_secret=sec&scope=phone")
        .await;
    let token = done.body_json()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let known = Exchange::get("/").header("authorization", &format!("Bearer {token}"));
    // The application is in no node's memory yet either, but its owner is.
    let application = json!({
        "id": APPLICATION, "name": "app", "client_id": "new", "consumer": { "id": Uuid::from_u128(7) },
    });
    use silverback_plugin::Rows as _;
    node.rows
        .insert(APPLICATIONS, object(application))
        .await
        .unwrap();
    let done = node.run(known).await;
    done.passed();
    assert_eq!(done.upstream_header("x-authenticated-scope"), Some("phone"));
    assert_eq!(done.upstream_header("x-credential-identifier"), Some("new"));
    assert_eq!(done.upstream_header("x-consumer-username"), Some("alice"));

    node.rows.set_away(true);
    let done = node.run(Exchange::get("/?access_token=nope")).await;
    assert_eq!(
        done.failed().to_string(),
        "the database is out of reach: connection refused"
    );
}

#[tokio::test]
async fn without_a_database_tokens_are_checked_and_none_are_given_out() {
    let mut node = Node::new(json!({}));
    node.token("tok", json!({}));
    node.plugin = Compiled::new(settled(json!({})));
    node.run(Exchange::get("/?access_token=tok")).await.passed();
    is_refused(
        &node.run(Exchange::get("/?access_token=nope")).await,
        401,
        "invalid_token",
        INVALID,
    );
    let done = node
        .tokens("grant_type=client_credentials&client_id=cid&client_secret=sec")
        .await;
    assert_eq!(
        done.failed().to_string(),
        "tokens cannot be given out: there is no database"
    );
}
