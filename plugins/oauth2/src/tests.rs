use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use openssl::sha::sha256;
use serde_json::{Map, Value, json};
use silverback_plugin::exchange::{
    Compiled, Exchange, FakeDirectory, FakeRows, FakeServices, Outcome, config, consumer,
    schema_without_descriptions,
};
use silverback_plugin::{InstanceInfo, Plugin};
use uuid::Uuid;

use crate::application::APPLICATIONS;
use crate::code::CODES;
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
        ("/oauth2/token//", None),
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
async fn an_application_gets_a_token_for_itself() {
    let node = Node::new(json!({ "mandatory_scope": true }));
    let form = "grant_type=client_credentials&client_id=cid&client_secret=sec";
    let done = node
        .tokens(&format!("{form}&scope=email+phone&state=st"))
        .await;
    assert_eq!(
        done.exit_status(200).header("cache-control"),
        Some("no-store")
    );
    assert_eq!(done.header("pragma"), Some("no-cache"));
    let body = done.body_json();
    assert_eq!(body["access_token"].as_str().unwrap().len(), 32);
    assert_eq!(
        (
            &body["token_type"],
            &body["expires_in"],
            &body["state"],
            body.get("refresh_token")
        ),
        (&json!("bearer"), &json!(7200), &json!("st"), None)
    );
    let row = node.rows.all(TOKENS).remove(0);
    assert_eq!(row["service"], json!({ "id": SERVICE }));
    assert_eq!(row["credential"], json!({ "id": APPLICATION }));
    assert_eq!(
        (&row["scope"], &row["ttl"]),
        (&json!("email phone"), &json!(1_209_600))
    );

    for (more, error, description) in [
        ("", "invalid_scope", "You must specify a scope"),
        ("&scope=zz", "invalid_scope", "\"zz\" is an invalid scope"),
        (
            "&scope=email&scope=phone",
            "invalid_scope",
            "scope must be a string",
        ),
        (
            "&scope=email&authenticated_userid=u",
            "invalid_provision_key",
            "Invalid provision_key",
        ),
    ] {
        let done = node.tokens(&format!("{form}{more}")).await;
        is_refused(&done, 400, error, description);
    }
    assert_eq!(node.rows.all(TOKENS).len(), 1);
}

#[tokio::test]
async fn an_application_proves_who_it_is() {
    let mut node = Node::new(json!({}));
    node.application(
        "open",
        json!({ "client_type": "public", "client_secret": null }),
    );
    let hash = crate::secret::hash("sec").unwrap();
    node.application(
        "hashed",
        json!({ "client_secret": hash, "hash_secret": true }),
    );
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let grant = "grant_type=client_credentials";
    let post = |form: String| Exchange::post("/oauth2/token", FORM, form).tls();

    for form in [
        "client_id=cid&client_secret=sec",
        "client_id=hashed&client_secret=sec",
        "client_id=open",
    ] {
        assert_eq!(
            node.tokens(&format!("{grant}&{form}")).await.status(),
            200,
            "{form}"
        );
    }
    for form in [
        "client_id=cid&client_secret=bad",
        "client_id=cid",
        "client_id=hashed&client_secret=bad",
        "client_id=nope&client_secret=sec",
        "",
    ] {
        let done = node.tokens(&format!("{grant}&{form}")).await;
        is_refused(
            &done,
            400,
            "invalid_client",
            "Invalid client authentication",
        );
    }
    let done = node
        .tokens(&format!("{grant}&client_id=open&client_secret=x"))
        .await;
    is_refused(
        &done,
        400,
        "invalid_request",
        "client_secret is disallowed for public clients",
    );

    let done = node
        .run(post(grant.to_owned()).header("authorization", &basic("cid:sec")))
        .await;
    assert_eq!(done.status(), 200);
    for header in [
        basic("cid:bad"),
        basic("cid"),
        "Bearer x".to_owned(),
        "Basic *".to_owned(),
    ] {
        let done = node
            .run(post("grant_type=password".to_owned()).header("authorization", &header))
            .await;
        is_refused(
            &done,
            401,
            "invalid_client",
            "Invalid client authentication",
        );
        assert_eq!(
            done.header("www-authenticate"),
            Some("Basic realm=\"OAuth2.0\"")
        );
    }
}

#[tokio::test]
async fn a_password_is_changed_for_a_token_that_can_be_refreshed() {
    let node = Node::new(json!({}));
    let form = "grant_type=password&client_id=cid&client_secret=sec&provision_key=prov&authenticated_userid=u2&scope=email";
    let body = node.tokens(form).await.body_json();
    let refresh = body["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(node.rows.all(TOKENS)[0]["authenticated_userid"], "u2");
    for (without, error) in [
        ("&provision_key=prov", "invalid_provision_key"),
        ("&authenticated_userid=u2", "invalid_authenticated_userid"),
    ] {
        let done = node.tokens(&form.replace(without, "")).await;
        assert_eq!(refusal(&done).1, error);
    }

    let form =
        format!("grant_type=refresh_token&client_id=cid&client_secret=sec&refresh_token={refresh}");
    let second = node.tokens(&form).await.body_json();
    assert_ne!(second["refresh_token"], body["refresh_token"]);
    assert_ne!(second["access_token"], body["access_token"]);
    let rows = node.rows.all(TOKENS);
    assert_eq!(
        (
            rows.len(),
            &rows[0]["authenticated_userid"],
            &rows[0]["scope"]
        ),
        (1, &json!("u2"), &json!("email"))
    );
    is_refused(
        &node.tokens(&form).await,
        400,
        "invalid_request",
        "Invalid refresh_token",
    );
}

#[tokio::test]
async fn what_refreshes_a_token_may_stay_the_same() {
    let mut node = Node::new(json!({ "reuse_refresh_token": true }));
    node.application("cid2", json!({}));
    let form = "grant_type=password&client_id=cid&client_secret=sec&provision_key=prov&authenticated_userid=u2&scope=email";
    let first = node.tokens(form).await.body_json();
    let refresh = first["refresh_token"].as_str().unwrap();
    let form = |client: &str| {
        format!(
            "grant_type=refresh_token&client_id={client}&client_secret=sec&refresh_token={refresh}"
        )
    };
    let second = node.tokens(&form("cid")).await.body_json();
    assert_eq!(second["refresh_token"], first["refresh_token"]);
    assert_ne!(second["access_token"], first["access_token"]);
    let rows = node.rows.all(TOKENS);
    assert_eq!(
        (rows.len(), &rows[0]["access_token"]),
        (1, &second["access_token"])
    );
    is_refused(
        &node.tokens(&form("cid2")).await,
        400,
        "invalid_client",
        "Invalid client authentication",
    );

    // What may be allowed has changed since.
    let services = FakeServices::with_rows(node.rows.clone());
    let settings = settled(json!({ "scopes": ["phone"] }));
    node.plugin = Compiled::with(settings, &InstanceInfo::default(), &services);
    is_refused(
        &node.tokens(&form("cid")).await,
        400,
        "invalid_scope",
        "Scope mismatch",
    );
}

#[tokio::test]
async fn a_user_is_sent_back_with_a_code() {
    let node = Node::new(json!({}));
    let form = "response_type=code&client_id=cid&provision_key=prov&authenticated_userid=u3&scope=email&state=st";
    let (status, uri) = node.sent_back(form).await;
    let code = node.rows.all(CODES).remove(0);
    let text = code["code"].as_str().unwrap();
    assert_eq!(
        (status, uri),
        (200, format!("https://app.test/cb?code={text}&state=st&x=y"))
    );
    assert_eq!(
        (&code["ttl"], &code["challenge"], &code["challenge_method"]),
        (&json!(300), &Value::Null, &Value::Null)
    );

    let form = format!("grant_type=authorization_code&client_id=cid&client_secret=sec&code={text}");
    let body = node.tokens(&form).await.body_json();
    assert_eq!(body["refresh_token"].as_str().unwrap().len(), 32);
    let token = node.rows.all(TOKENS).remove(0);
    assert_eq!(
        (&token["authenticated_userid"], &token["scope"]),
        (&json!("u3"), &json!("email"))
    );
    is_refused(
        &node.tokens(&form).await,
        400,
        "invalid_request",
        "Invalid code",
    );
    for form in [
        "grant_type=authorization_code&client_id=cid&client_secret=sec&code=nope",
        "grant_type=authorization_code&client_id=cid&client_secret=sec",
    ] {
        is_refused(
            &node.tokens(form).await,
            400,
            "invalid_request",
            "Invalid code",
        );
    }
}

#[tokio::test]
async fn a_code_is_good_once_for_one_application_and_soon() {
    let mut node = Node::new(json!({}));
    node.application("cid2", json!({}));
    let code = node.code("").await;
    let form = |client: &str| {
        format!("grant_type=authorization_code&client_id={client}&client_secret=sec&code={code}")
    };
    is_refused(
        &node.tokens(&form("cid2")).await,
        400,
        "invalid_request",
        "Invalid code",
    );
    let form = form("cid");
    let both = tokio::join!(node.tokens(&form), node.tokens(&form));
    let mut statuses = [both.0.status(), both.1.status()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);

    let code = node.code("").await;
    node.rows.set_now(1_700_000_300);
    let form = format!("grant_type=authorization_code&client_id=cid&client_secret=sec&code={code}");
    is_refused(
        &node.tokens(&form).await,
        400,
        "invalid_request",
        "Invalid code",
    );
}

#[tokio::test]
async fn a_user_is_sent_back_with_a_token_or_with_what_is_wrong() {
    let node = Node::new(json!({}));
    let form = "client_id=cid&provision_key=prov&authenticated_userid=u3";
    let (_, uri) = node
        .sent_back(&format!(
            "{form}&response_type=token&redirect_uri=https://app.test/other"
        ))
        .await;
    let token = node.rows.all(TOKENS).remove(0);
    assert_eq!(
        uri,
        format!(
            "https://app.test/other#access_token={}&expires_in=7200&token_type=bearer",
            token["access_token"].as_str().unwrap()
        )
    );
    assert_eq!(token["refresh_token"], Value::Null);

    for (more, uri) in [
        (
            "response_type=zz",
            "https://app.test/cb?error=unsupported_response_type&error_description=Invalid%20response_type&x=y",
        ),
        (
            "response_type=code&scope=zz",
            "https://app.test/cb?error=invalid_scope&error_description=%22zz%22%20is%20an%20invalid%20scope&x=y",
        ),
        (
            "response_type=code&redirect_uri=https://evil&state=s",
            "https://app.test/cb?error=invalid_request&error_description=Invalid%20redirect_uri%20that%20does%20not%20match%20with%20any%20redirect_uri%20created%20with%20the%20application&state=s&x=y",
        ),
    ] {
        assert_eq!(
            node.sent_back(&format!("{form}&{more}")).await,
            (400, uri.to_owned())
        );
    }
    for (form, error) in [
        (
            "response_type=code&client_id=nope&provision_key=prov&authenticated_userid=u",
            "invalid_client",
        ),
        (
            "response_type=code&client_id=cid&provision_key=bad&authenticated_userid=u",
            "invalid_provision_key",
        ),
        (
            "response_type=code&client_id=cid&provision_key=prov&authenticated_userid=+",
            "invalid_authenticated_userid",
        ),
    ] {
        let done = node.post("/oauth2/authorize", form).await;
        assert_eq!((refusal(&done).0, refusal(&done).1.as_str()), (400, error));
    }
}

#[tokio::test]
async fn who_began_with_a_challenge_has_to_show_its_verifier() {
    let node = Node::new(json!({}));
    let verifier = "v".repeat(43);
    let challenge = URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes()));
    let change = |code: &str, more: &str| {
        format!("grant_type=authorization_code&client_id=cid&client_secret=sec&code={code}{more}")
    };
    // Padding and the other alphabet mean the same.
    for asked in [
        challenge.clone(),
        format!("{challenge}=")
            .replace('_', "%2F")
            .replace('-', "%2B"),
    ] {
        let code = node
            .code(&format!(
                "&code_challenge={asked}&code_challenge_method=s256"
            ))
            .await;
        for (more, error, description) in [
            (
                "",
                "invalid_request",
                "code_verifier is required for PKCE authorization requests",
            ),
            (
                "&code_verifier",
                "invalid_request",
                "code_verifier is not a string",
            ),
            (
                "&code_verifier=short",
                "invalid_request",
                "code_verifier must be between 43 and 128 characters",
            ),
            (
                &format!("&code_verifier={}", "w".repeat(43)),
                "invalid_grant",
                "Invalid code",
            ),
        ] {
            is_refused(
                &node.tokens(&change(&code, more)).await,
                400,
                error,
                description,
            );
        }
        let done = node
            .tokens(&change(&code, &format!("&code_verifier={verifier}")))
            .await;
        assert_eq!(done.status(), 200);
    }
    let form = "response_type=code&client_id=cid&provision_key=prov&authenticated_userid=u";
    for (more, text) in [
        (
            "&code_challenge_method=S256",
            "code_challenge%20is%20required%20when%20code_method%20is%20present",
        ),
        (
            "&code_challenge=x&code_challenge_method=plain",
            "code_challenge_method%20is%20not%20supported%2c%20must%20be%20S256",
        ),
    ] {
        let (status, uri) = node.sent_back(&format!("{form}{more}")).await;
        assert!(status == 400 && uri.contains(text), "{uri}");
    }
}

#[tokio::test]
async fn a_challenge_can_be_demanded() {
    for (pkce, of_public, of_confidential) in [
        ("none", false, false),
        ("lax", true, false),
        ("strict", true, true),
    ] {
        let mut node = Node::new(json!({ "pkce": pkce }));
        node.application("open", json!({ "client_type": "public" }));
        for (client, kind, demanded) in [
            ("open", "public", of_public),
            ("cid", "confidential", of_confidential),
        ] {
            let form = format!(
                "response_type=code&client_id={client}&provision_key=prov&authenticated_userid=u"
            );
            let (status, uri) = node.sent_back(&form).await;
            assert_eq!(status == 400, demanded, "{pkce} {uri}");
            let text = format!("code_challenge%20is%20required%20for%20{kind}%20clients");
            assert_eq!(uri.contains(&text), demanded, "{pkce} {uri}");
        }
    }
}

#[tokio::test]
async fn endpoints_are_for_https() {
    let form = "grant_type=client_credentials&client_id=cid&client_secret=sec";
    let post = || Exchange::post("/oauth2/token", FORM, form);
    let node = Node::new(json!({}));
    let forwarded = || post().header("x-forwarded-proto", "https");
    for plain in [post(), forwarded().from_trusted_peer()] {
        is_refused(
            &node.run(plain).await,
            400,
            "access_denied",
            "You must use HTTPS",
        );
    }
    let node = Node::new(json!({ "accept_http_if_already_terminated": true }));
    for plain in [
        post(),
        forwarded(),
        post().from_trusted_peer(),
        post()
            .header("x-forwarded-proto", "http")
            .from_trusted_peer(),
    ] {
        is_refused(
            &node.run(plain).await,
            400,
            "access_denied",
            "You must use HTTPS",
        );
    }
    let several = forwarded()
        .header("x-forwarded-proto", "https")
        .from_trusted_peer();
    is_refused(
        &node.run(several).await,
        400,
        "access_denied",
        "Only one X-Forwarded-Proto header allowed",
    );
    assert_eq!(
        node.run(forwarded().from_trusted_peer()).await.status(),
        200
    );
}

#[tokio::test]
async fn endpoints_are_for_post_and_ways_have_to_be_open() {
    let node = Node::new(
        json!({ "enable_authorization_code": false, "enable_implicit_grant": false, "enable_password_grant": false }),
    );
    let done = node.run(Exchange::get("/oauth2/token").tls()).await;
    let text = "The HTTP method GET is invalid for the token endpoint";
    is_refused(&done, 405, "invalid_method", text);
    assert_eq!(
        done.header("www-authenticate").unwrap(),
        format!("Bearer error=\"invalid_method\" error_description=\"{text}\"")
    );
    let done = node
        .run(Exchange::new("PUT", "/oauth2/authorize").tls())
        .await;
    assert_eq!(
        refusal(&done).2,
        "The HTTP method PUT is invalid for the authorization endpoint"
    );
    for grant in ["password", "zz", ""] {
        let done = node.tokens(&format!("grant_type={grant}&client_id=cid&client_secret=sec&provision_key=prov&authenticated_userid=u")).await;
        is_refused(&done, 400, "unsupported_grant_type", "Invalid grant_type");
    }
    for kind in ["code", "token"] {
        let form =
            format!("response_type={kind}&client_id=cid&provision_key=prov&authenticated_userid=u");
        let (_, uri) = node.sent_back(&form).await;
        assert!(uri.contains("unsupported_response_type"), "{uri}");
    }
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
