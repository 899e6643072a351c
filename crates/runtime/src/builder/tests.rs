//! The builder from the outside: rows in, snapshot out.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};
use silverback_balancer::{DnsConfig, Resolver};
use silverback_entities::{Change, CredentialRow, IssuedRow, Row, Tables};
use silverback_plugin::context::{AccessCtx, BodySource, NoCaptures, RequestView};
use silverback_plugin::facts::{Directory, Facts};
use silverback_plugin::schema::field::{boolean, foreign, string};
use silverback_plugin::schema::{EntityDef, record};
use silverback_plugin::{
    ConfigError, Flow, Handler, PhaseResult, Phases, Plugin, PluginDef, PluginEnv, PluginError,
    Response, UpstreamEdits,
};
use silverback_router::{Flavor, Request};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::*;
use crate::chain::{Outcome, Picks};
use crate::registry::{NodeServices, Pools};
use crate::vault::Environment;

mod bad_routes;
mod measuring;
mod secrets;

record! {
    /// What the test plugin is told.
    pub(super) struct Config {
        /// Written into a request header.
        pub mark: String = string().required().referenceable(),
        /// Refused at compile time.
        pub bad: Option<bool> = boolean(),
        /// Panics in access.
        pub panic: Option<bool> = boolean(),
    }
}

/// Answers status 200 + its mark, or identifies the consumer named by `apikey`.
struct Mark(Config);

impl Plugin for Mark {
    const NAME: &'static str = "mark";
    const PRIORITY: i32 = 10;
    const VERSION: &'static str = "1.0.0";
    const PHASES: Phases = Phases::ACCESS;
    type Config = Config;

    fn compile(config: Config, _: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        if config.bad == Some(true) {
            return Err(ConfigError::new("bad", "is bad"));
        }
        Ok(Mark(config))
    }
}

impl Handler for Mark {
    fn access(&self, _: &mut AccessCtx<'_>) -> PhaseResult {
        assert!(self.0.panic != Some(true), "told to");
        Ok(Flow::Exit(Response::json(
            StatusCode::OK,
            self.0.mark.clone(),
        )))
    }
}

struct Auth;

impl Plugin for Auth {
    const NAME: &'static str = "auth";
    const PRIORITY: i32 = 100;
    const VERSION: &'static str = "1.0.0";
    const PHASES: Phases = Phases::ACCESS;
    type Config = Config;

    fn entities() -> Vec<EntityDef> {
        vec![
            EntityDef::new(
                "testkeys",
                vec![
                    ("key", string().unique()),
                    ("consumer", foreign("consumers").required()),
                ],
            )
            .lookup("key"),
            EntityDef::new("testgroups", vec![("group", string())]).lookup("group"),
            EntityDef::new(
                "testtokens",
                vec![
                    ("token", string().unique()),
                    ("owner", foreign("testkeys").required()),
                ],
            )
            .lookup("token"),
            EntityDef::new("testsessions", vec![("sid", string().unique())]).lookup("sid"),
        ]
    }

    fn compile(_: Config, _: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        Ok(Auth)
    }
}

impl Handler for Auth {
    async fn access_async(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let key = ctx
            .request
            .header("apikey")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        if let Some(c) = ctx.directory.credential("testkeys", key) {
            ctx.facts.consumer = Some(c.consumer.clone());
        }
        Ok(Flow::Next)
    }
}

fn registries() -> Registries {
    let resolver = Resolver::new(DnsConfig::default(), Handle::current()).unwrap();
    Registries {
        plugins: vec![PluginDef::of::<Mark>(), PluginDef::of::<Auth>()],
        services: Arc::new(NodeServices::new(None, Handle::current(), None)),
        pools: Pools::new(resolver),
        budgets: Some((
            Arc::new(silverback_retry::Registry::new(Default::default())),
            Default::default(),
        )),
        metrics: Arc::new(silverback_telemetry::Registry::new("node", "0")),
        flavor: Flavor::TraditionalCompatible,
        environment: environment(),
        tls_verify: false,
    }
}

/// A secret, and a certificate with its key.
fn environment() -> Environment {
    static PAIR: LazyLock<[String; 2]> = LazyLock::new(|| {
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        [made.cert.pem(), made.signing_key.serialize_pem()]
    });
    Environment::of([
        ("SECRET", "s3cr3t"),
        ("CERT", &PAIR[0]),
        ("CERT_KEY", &PAIR[1]),
    ])
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn change(entity: &str, n: u128, row: Option<Row>) -> Change {
    Change {
        entity: entity.into(),
        id: id(n),
        row,
    }
}

fn service(n: u128) -> Change {
    let row = json!({"id": id(n), "created_at": 1, "updated_at": 1, "protocol": "http", "host": "127.0.0.1", "port": 80, "enabled": true});
    change(
        "services",
        n,
        Some(Row::Service(serde_json::from_value(row).unwrap())),
    )
}

fn route(n: u128, path: &str, service: u128) -> Change {
    let row = json!({
        "id": id(n), "created_at": 1, "updated_at": 1, "protocols": ["http", "https"], "https_redirect_status_code": 426,
        "strip_path": true, "preserve_host": false, "request_buffering": true, "response_buffering": true,
        "service": {"id": id(service)}, "paths": [path], "path_handling": "v0", "regex_priority": 0,
    });
    change(
        "routes",
        n,
        Some(Row::Route(serde_json::from_value(row).unwrap())),
    )
}

fn consumer(n: u128, name: &str) -> Change {
    let row = json!({"id": id(n), "created_at": 1, "updated_at": 1, "username": name});
    change(
        "consumers",
        n,
        Some(Row::Consumer(serde_json::from_value(row).unwrap())),
    )
}

fn key(n: u128, consumer: u128, key: &str) -> Change {
    let row = CredentialRow {
        id: id(n),
        consumer: id(consumer),
        lookup: key.into(),
        expires_at: None,
        extra: Map::new(),
    };
    change("testkeys", n, Some(Row::Credential(row)))
}

/// `scope` holds the numbers of route, service, consumer; 0 for none.
fn plugin(n: u128, name: &str, scope: [u128; 3], config: Value) -> Change {
    let to = |n: u128| {
        if n == 0 {
            Value::Null
        } else {
            json!({"id": id(n)})
        }
    };
    let row = json!({
        "id": id(n), "name": name, "created_at": 1, "updated_at": 1, "config": config, "enabled": true, "protocols": ["http"],
        "route": to(scope[0]), "service": to(scope[1]), "consumer": to(scope[2]),
    });
    change(
        "plugins",
        n,
        Some(Row::Plugin(serde_json::from_value(row).unwrap())),
    )
}

struct NoBody;

#[async_trait]
impl BodySource for NoBody {
    async fn read(&mut self, _: usize) -> Result<Bytes, PluginError> {
        Ok(Bytes::new())
    }
}

fn find(s: &Snapshot, path: &str) -> Option<crate::RouteRuntime> {
    let headers = http::HeaderMap::new();
    let request = Request {
        method: "GET",
        host: "h.test",
        host_port: None,
        port: 80,
        path: path.as_bytes(),
        headers: &headers,
        sni: None,
        scheme: "http",
    };
    s.router.find(&request).map(|m| s.routes[m.entry].clone())
}

/// The mark with which a request for a path with a key is answered.
async fn ask(s: &Snapshot, path: &str, key: &str) -> String {
    match access(s, path, key).await.0 {
        Outcome::Next => "next".into(),
        Outcome::Failed(name, text) => format!("{name} failed: {text}"),
        Outcome::Exit(r) => match r.body {
            silverback_plugin::Body::Bytes { bytes, .. } => {
                String::from_utf8(bytes.to_vec()).unwrap()
            }
            silverback_plugin::Body::Error(text) => format!("{} {text}", r.status.as_u16()),
            other => panic!("{other:?}"),
        },
    }
}

/// How such a request goes through the chain, and the configurations chosen for it.
async fn access(s: &Snapshot, path: &str, key: &str) -> (Outcome, Picks) {
    let route = find(s, path).expect("a route");
    let parts = http::Request::builder()
        .uri(path)
        .header("apikey", key)
        .body(())
        .unwrap()
        .into_parts()
        .0;
    let peer: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let mut ctx = AccessCtx {
        request: RequestView {
            parts: &parts,
            path_and_query: path.as_bytes(),
            host: "h.test",
        },
        facts: &mut Facts::new([b'0'; 32], peer, "http", 80),
        upstream: &mut UpstreamEdits::default(),
        upstream_target: path.as_bytes(),
        directory: &s.directory,
        route: Some(route.info()),
        service: None,
        body: &mut NoBody,
        captures: &NoCaptures,
    };
    let mut picks = Picks::default();
    let outcome = route.chain.access(&mut picks, &mut ctx).await;
    (outcome, picks)
}

fn mark(text: &str) -> Value {
    json!({"mark": text})
}

#[tokio::test]
async fn the_strongest_configuration_wins_in_kongs_order() {
    let mut b = Builder::new(registries());
    b.apply(
        1,
        vec![
            service(1),
            route(2, "/", 1),
            consumer(3, "alice"),
            key(4, 3, "k"),
            plugin(5, "auth", [0, 0, 0], mark("")),
        ],
    );
    // From the weakest to the strongest: each is added and must win over all before it.
    let scopes = [
        [0, 0, 0],
        [0, 1, 0],
        [2, 0, 0],
        [0, 0, 3],
        [2, 1, 0],
        [0, 1, 3],
        [2, 0, 3],
        [2, 1, 3],
    ];
    for (n, scope) in scopes.into_iter().enumerate() {
        let text = format!("{scope:?}");
        b.apply(2, vec![plugin(100 + n as u128, "mark", scope, mark(&text))]);
        assert_eq!(ask(&b.build(), "/", "k").await, text);
    }
    assert_eq!(
        ask(&b.build(), "/", "other").await,
        "[2, 1, 0]",
        "without the consumer"
    );
    assert_eq!(b.problems(), []);
}

#[tokio::test]
async fn a_credential_touches_neither_router_nor_chains() {
    let mut b = Builder::new(registries());
    b.apply(
        1,
        vec![
            service(1),
            route(2, "/", 1),
            plugin(5, "mark", [2, 0, 0], mark("m")),
        ],
    );
    let before = b.build();
    b.apply(2, vec![consumer(3, "alice"), key(4, 3, "k")]);
    let after = b.build();
    assert!(
        Arc::ptr_eq(&before.router, &after.router)
            && before
                .routes
                .iter()
                .zip(after.routes.iter())
                .all(|(a, b)| a.same(b))
    );
    assert!(before.directory.credential("testkeys", "k").is_none());
    assert_eq!(
        after
            .directory
            .credential("testkeys", "k")
            .unwrap()
            .consumer
            .username
            .as_deref(),
        Some("alice")
    );
    assert_eq!(after.revision, 2);
}

#[tokio::test]
async fn a_route_leaves_other_routes_and_a_plugin_leaves_the_router() {
    let mut b = Builder::new(registries());
    b.apply(1, vec![service(1), route(2, "/a", 1)]);
    let one = b.build();
    b.apply(2, vec![route(3, "/b", 1)]);
    let two = b.build();
    assert!(find(&one, "/a").unwrap().same(&find(&two, "/a").unwrap()));
    let two = b.settle().unwrap_or(two);
    b.apply(3, vec![plugin(5, "mark", [3, 0, 0], mark("m"))]);
    let three = b.build();
    assert!(Arc::ptr_eq(&two.router, &three.router));
    assert_eq!(ask(&three, "/b", "").await, "m");
    assert_eq!(ask(&three, "/a", "").await, "next");
}

#[tokio::test]
async fn a_renamed_consumer_reaches_its_credentials_and_a_deleted_one_is_gone() {
    let mut b = Builder::new(registries());
    b.apply(1, vec![key(4, 3, "k"), consumer(3, "alice")]);
    assert!(
        b.build().directory.credential("testkeys", "k").is_some(),
        "a credential may arrive before its consumer"
    );
    b.apply(2, vec![consumer(3, "bob")]);
    let s = b.build();
    assert_eq!(
        s.directory
            .credential("testkeys", "k")
            .unwrap()
            .consumer
            .username
            .as_deref(),
        Some("bob")
    );
    assert!(s.directory.consumer("alice").is_none() && s.directory.consumer("bob").is_some());
    b.apply(3, vec![key(4, 3, "k2")]);
    let s = b.build();
    assert!(
        s.directory.credential("testkeys", "k").is_none()
            && s.directory.credential("testkeys", "k2").is_some()
    );
    b.apply(
        4,
        vec![change("testkeys", 4, None), change("consumers", 3, None)],
    );
    let s = b.build();
    assert!(
        s.directory.credential("testkeys", "k2").is_none() && s.directory.consumer("bob").is_none()
    );
}

fn membership(n: u128, consumer: u128, group: &str) -> Change {
    let row = CredentialRow {
        id: id(n),
        consumer: id(consumer),
        lookup: group.into(),
        expires_at: None,
        extra: Map::new(),
    };
    change("testgroups", n, Some(Row::Credential(row)))
}

#[tokio::test]
async fn values_that_many_share_are_listed_by_consumer() {
    let mut b = Builder::new(registries());
    let of = |s: &Snapshot, n: u128| s.values_of("testgroups", id(n)).join(" ");
    b.apply(
        1,
        vec![
            membership(6, 3, "b"),
            membership(5, 3, "a"),
            membership(7, 4, "a"),
        ],
    );
    let before = b.build();
    assert_eq!((of(&before, 3), of(&before, 4)), ("a b".into(), "a".into()));
    b.apply(
        2,
        vec![membership(5, 3, "z"), change("testgroups", 7, None)],
    );
    let after = b.build();
    assert_eq!(
        (of(&after, 3), of(&after, 4)),
        ("z b".into(), String::new())
    );
    assert_eq!(of(&before, 3), "a b", "an older snapshot stays as it was");
    b.load(b.tables().clone());
    assert_eq!(of(&b.build(), 3), "z b");
}

fn issued(entity: &str, n: u128, lookup: &str, owner: Option<u128>) -> Change {
    let mut fields = Map::new();
    if let Some(owner) = owner {
        fields.insert("owner".to_owned(), json!({ "id": id(owner) }));
    }
    let row = IssuedRow {
        id: id(n),
        lookup: lookup.into(),
        expires_at: None,
        fields,
    };
    change(entity, n, Some(Row::Issued(row)))
}

#[tokio::test]
async fn what_was_given_out_is_found_with_the_credential_it_was_given_to() {
    let mut b = Builder::new(registries());
    let owner = |s: &Snapshot| {
        let credential = s.issued("testtokens", "t")?.credential.clone()?;
        Some((
            credential.lookup.to_vec(),
            credential.consumer.username.clone()?,
        ))
    };
    let is = |key: &str, name: &str| Some((key.as_bytes().to_vec(), name.into()));
    b.apply(
        1,
        vec![
            issued("testtokens", 5, "t", Some(4)),
            issued("testsessions", 6, "s", None),
        ],
    );
    let s = b.build();
    assert!(
        s.issued("testtokens", "t").is_none(),
        "its credential is not there yet"
    );
    assert!(s.issued("testsessions", "s").unwrap().credential.is_none());

    b.apply(2, vec![key(4, 3, "k"), consumer(3, "alice")]);
    assert_eq!(owner(&b.build()), is("k", "alice"));
    b.apply(3, vec![consumer(3, "bob")]);
    assert_eq!(owner(&b.build()), is("k", "bob"));
    b.apply(4, vec![key(4, 3, "k2")]);
    assert_eq!(owner(&b.build()), is("k2", "bob"));
    b.load(b.tables().clone());
    let before = b.build();
    assert_eq!(owner(&before), is("k2", "bob"));

    b.apply(5, vec![issued("testtokens", 5, "t2", Some(4))]);
    let s = b.build();
    assert!(s.issued("testtokens", "t").is_none() && s.issued("testtokens", "t2").is_some());
    b.apply(6, vec![change("testkeys", 4, None)]);
    assert!(
        b.build().issued("testtokens", "t2").is_none(),
        "gone with its credential"
    );
    b.apply(
        7,
        vec![
            change("testtokens", 5, None),
            change("testsessions", 6, None),
        ],
    );
    assert!(b.build().issued("testsessions", "s").is_none());
    assert_eq!(
        owner(&before),
        is("k2", "bob"),
        "an older snapshot stays as it was"
    );
}

#[tokio::test]
async fn an_expired_credential_is_not_found() {
    let mut b = Builder::new(registries());
    let row = CredentialRow {
        id: id(4),
        consumer: id(3),
        lookup: "k".into(),
        expires_at: Some(1),
        extra: Map::new(),
    };
    b.apply(
        1,
        vec![
            consumer(3, "alice"),
            change("testkeys", 4, Some(Row::Credential(row))),
        ],
    );
    let mut token = IssuedRow {
        id: id(5),
        lookup: "s".into(),
        expires_at: Some(1),
        fields: Map::new(),
    };
    let session = |row: &IssuedRow| change("testsessions", 5, Some(Row::Issued(row.clone())));
    b.apply(2, vec![session(&token)]);
    let s = b.build();
    assert!(s.credential("testkeys", "k").is_none() && s.issued("testsessions", "s").is_none());
    token.expires_at = Some(i64::MAX);
    b.apply(3, vec![session(&token)]);
    assert!(b.build().issued("testsessions", "s").is_some());
}

#[tokio::test]
async fn a_plugin_that_cannot_be_made_keeps_its_last_good_form() {
    let mut b = Builder::new(registries());
    b.apply(
        1,
        vec![
            service(1),
            route(2, "/", 1),
            plugin(5, "mark", [0, 0, 0], mark("good")),
        ],
    );
    b.build();
    b.apply(
        2,
        vec![plugin(
            5,
            "mark",
            [0, 0, 0],
            json!({"mark": "new", "bad": true}),
        )],
    );
    assert_eq!(ask(&b.build(), "/", "").await, "good");
    assert_eq!(
        b.problems()[0].to_string(),
        format!("plugins {}: mark: config.bad: is bad", id(5))
    );
    b.apply(3, vec![plugin(5, "mark", [0, 0, 0], mark("new"))]);
    assert_eq!(ask(&b.build(), "/", "").await, "new");
    assert_eq!(b.problems(), []);
}

const REFUSED: &str = "500 An unexpected error occurred";

#[tokio::test]
async fn what_a_plugin_guards_is_refused_while_it_cannot_be_made() {
    let mut b = Builder::new(registries());
    let bad = || plugin(5, "mark", [2, 0, 0], json!({"mark": "", "bad": true}));
    b.apply(
        1,
        vec![
            service(1),
            route(2, "/guarded", 1),
            route(3, "/open", 1),
            bad(),
        ],
    );
    for revision in 2..4 {
        let s = b.build();
        assert_eq!(ask(&s, "/guarded", "").await, REFUSED);
        assert_eq!(ask(&s, "/open", "").await, "next");
        assert_eq!(b.problems().len(), 1);
        b.apply(revision, vec![plugin(6, "mark", [0, 0, 9], mark("m"))]);
    }
    b.apply(4, vec![plugin(5, "mark", [2, 0, 0], mark("mended"))]);
    assert_eq!(ask(&b.build(), "/guarded", "").await, "mended");
    assert_eq!(b.problems(), []);
    b.apply(5, vec![bad()]);
    assert_eq!(ask(&b.build(), "/guarded", "").await, "mended");
}

#[tokio::test]
async fn what_an_unknown_plugin_guards_is_refused() {
    let mut b = Builder::new(registries());
    b.apply(
        1,
        vec![
            service(1),
            route(2, "/guarded", 1),
            route(3, "/open", 1),
            consumer(4, "alice"),
            key(5, 4, "k"),
            plugin(6, "auth", [0, 0, 0], mark("")),
            plugin(7, "newer", [2, 0, 0], json!({})),
            plugin(8, "newer", [0, 0, 4], json!({})),
        ],
    );
    let s = b.build();
    assert_eq!(ask(&s, "/guarded", "").await, REFUSED);
    assert_eq!(ask(&s, "/open", "").await, "next");
    assert_eq!(ask(&s, "/open", "k").await, REFUSED, "of alice");
    let of_the_row = |p: &Problem| p.what == "the plugin 'newer' is not known to this node";
    assert_eq!(b.problems().iter().filter(|p| of_the_row(p)).count(), 2);
    b.apply(
        2,
        vec![change("plugins", 7, None), change("plugins", 8, None)],
    );
    assert_eq!(ask(&b.build(), "/guarded", "k").await, "next");
    assert_eq!(b.problems(), []);
}

#[tokio::test]
async fn a_route_that_cannot_be_built_leaves_the_old_ones_in_force_and_is_left_out_at_first() {
    let mut b = Builder::new(registries());
    b.apply(1, vec![service(1), route(2, "/good", 1)]);
    b.build();
    b.apply(2, vec![route(3, "~/bad(", 1)]);
    assert!(find(&b.build(), "/good").is_some());
    assert_eq!(b.problems()[0].id, id(3));

    let mut fresh = Builder::new(registries());
    fresh.load(b.tables().clone());
    assert!(find(&fresh.build(), "/good").is_some());
    assert_eq!(fresh.problems().len(), 1);
}

#[tokio::test]
async fn a_panic_in_a_plugin_becomes_a_failure() {
    let mut b = Builder::new(registries());
    b.apply(
        1,
        vec![
            service(1),
            route(2, "/", 1),
            plugin(5, "mark", [0, 0, 0], json!({"mark": "", "panic": true})),
        ],
    );
    assert_eq!(
        ask(&b.build(), "/", "").await,
        "mark failed: plugin mark panicked: told to"
    );
}

#[tokio::test]
async fn plugins_can_show_the_rows_of_routes_and_services() {
    let mut b = Builder::new(registries());
    b.apply(1, vec![service(1), route(2, "/", 1), route(3, "/b", 1)]);
    let s = b.build();
    assert_eq!(s.row("routes", id(3)).unwrap()["paths"], json!(["/b"]));
    assert_eq!(s.row("services", id(1)).unwrap()["host"], "127.0.0.1");
    assert!(s.row("routes", id(1)).is_none() && s.row("consumers", id(3)).is_none());
}

#[tokio::test]
async fn routes_of_a_disabled_service_are_not_there() {
    let mut b = Builder::new(registries());
    let mut off = service(1);
    if let Some(Row::Service(s)) = &mut off.row {
        s.enabled = false;
    }
    b.apply(1, vec![off, route(2, "/", 1)]);
    assert!(find(&b.build(), "/").is_none());
    b.apply(2, vec![service(1)]);
    assert!(find(&b.build(), "/").is_some());
}

#[tokio::test]
async fn loading_the_same_rows_again_keeps_what_was_made_of_them() {
    let mut b = Builder::new(registries());
    b.apply(
        1,
        vec![
            service(1),
            route(2, "/", 1),
            plugin(5, "mark", [0, 0, 0], mark("m")),
        ],
    );
    let before = b.build();
    let again: Tables = serde_json::from_value(serde_json::to_value(b.tables()).unwrap()).unwrap();
    b.load(again);
    let after = b.build();
    let service = |s: &Snapshot| find(s, "/").unwrap().service.clone().unwrap();
    assert!(Arc::ptr_eq(&service(&before), &service(&after)));
    assert!(Arc::ptr_eq(&before.global, &after.global));
}

#[tokio::test]
async fn the_retry_account_of_a_service_survives_a_change_of_its_row() {
    let mut b = Builder::new(registries());
    b.apply(1, vec![service(1), route(2, "/", 1)]);
    let now = silverback_retry::Moment::from_millis(1_000);
    find(&b.build(), "/").unwrap().budgets.deposit(now);
    b.apply(2, vec![service(1)]);
    let deposits: Vec<_> = find(&b.build(), "/")
        .unwrap()
        .budgets
        .gauges(now)
        .iter()
        .map(|g| g.deposits)
        .collect();
    assert_eq!(deposits, [1, 1]);
}

/// What a snapshot answers for the paths that the test below uses.
fn all_answers(s: &Snapshot) -> Vec<(String, Option<Uuid>, bool)> {
    let paths = (0..40).map(|n| format!("/p{n}"));
    let answer = |path: String| {
        let found = find(s, &path).map(|r| r.info().id);
        let shown = found.is_some_and(|id| s.row("routes", id).is_some());
        (path, found, shown)
    };
    paths.map(answer).collect()
}

#[tokio::test]
async fn amended_routes_are_those_of_a_whole_build() {
    let mut b = Builder::new(registries());
    let start = (10..30).map(|n| route(n, &format!("/p{}", n - 10), 1 + n % 2));
    b.apply(
        1,
        [service(1), service(2)].into_iter().chain(start).collect(),
    );
    b.build();
    let off = json!({
        "id": id(2), "created_at": 1, "updated_at": 2, "protocol": "http", "host": "up.test", "port": 80, "enabled": false,
    });
    let off = change(
        "services",
        2,
        Some(Row::Service(serde_json::from_value(off).unwrap())),
    );
    let steps = vec![
        vec![route(40, "/p30", 1)],
        vec![change("routes", 12, None), route(13, "/p31", 2)],
        vec![route(40, "/p32", 2), route(41, "/p0/longer", 1)],
        vec![off],
        vec![change("routes", 40, None), route(12, "/p2", 1)],
        vec![service(2), service(3), route(42, "/p33", 3)],
        vec![plugin(5, "mark", [42, 0, 0], mark("m"))],
        vec![change("routes", 42, None), change("services", 3, None)],
        vec![route(43, "~/p(33|34)$", 1), route(44, "/p34", 1)],
    ];
    for (n, step) in steps.into_iter().enumerate() {
        b.apply(2 + n as i64, step);
        let amended = b.build();
        let whole = build(b.tables().clone(), registries()).unwrap();
        assert_eq!(all_answers(&amended), all_answers(&whole), "after step {n}");
        assert_eq!(
            amended.routes.iter().count(),
            whole.routes.iter().count(),
            "after step {n}"
        );
        assert!(amended.routes.by_id(id(99)).is_none());
    }
    let settled = b.settle().unwrap();
    assert_eq!(all_answers(&settled), all_answers(&b.build()));
    assert!(b.settle().is_none(), "nothing is left to settle");
}

#[tokio::test]
async fn more_changes_than_are_amended_are_built_as_a_whole() {
    let mut b = Builder::new(registries());
    b.apply(1, vec![service(1)]);
    b.build();
    b.apply(
        2,
        (10..1000).map(|n| route(n, &format!("/p{n}"), 1)).collect(),
    );
    let all = b.build();
    assert!(b.settle().is_none());
    assert_eq!(find(&all, "/p999").map(|r| r.info().id), Some(id(999)));
}
