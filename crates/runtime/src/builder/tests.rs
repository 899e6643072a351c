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

mod amended;
mod bad_routes;
mod credentials;
mod measuring;
mod refused;
mod secrets;
mod upstreams;

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
