//! An API of one's own on a database of one's own.

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use silverback_entities::CORE;
use silverback_plugin::schema::field::string;
use silverback_plugin::schema::{EntityDef, Violations, record};
use silverback_plugin::{ConfigError, Handler, Phases, Plugin, PluginDef, PluginEnv};
use silverback_store::{PgConfig, Store, migrate};
use silverback_testkit::postgres::{Database, Server};
use tower::ServiceExt;
use uuid::Uuid;

use super::contract::contract;
use super::plugin_endpoints::Chatty;
use crate::{AdminBuilder, NodeInfo};

record! {
    /// A pattern.
    pub(super) struct PickyConfig {
        /// Anything but `bad`.
        pub(super) pattern: String = string().required().default("good"),
    }
}

/// A plugin with a configuration that its schema likes and it does not.
pub(super) struct Picky;

impl Plugin for Picky {
    const NAME: &'static str = "picky";
    const PRIORITY: i32 = 1;
    const VERSION: &'static str = "0.0.1";
    const PHASES: Phases = Phases::ACCESS;
    type Config = PickyConfig;

    fn compile(config: PickyConfig, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        if config.pattern == "bad" {
            Err(ConfigError::new("pattern", "cannot be used"))
        } else {
            Ok(Picky)
        }
    }
}

impl Handler for Picky {}

pub(super) fn plugins() -> Vec<PluginDef> {
    vec![
        PluginDef::of::<Picky>(),
        PluginDef::of::<Chatty>(),
        PluginDef::of::<silverback_key_auth::KeyAuth>(),
        PluginDef::of::<silverback_correlation_id::CorrelationId>(),
        PluginDef::of::<silverback_request_termination::RequestTermination>(),
    ]
}

/// An answer.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// The body; null when there is none, a string when it is no JSON.
    pub(super) body: Value,
}

impl Got {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|v| v.to_str().unwrap())
            .unwrap_or_default()
    }

    pub(super) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    /// The body, of an answer with that status.
    pub(super) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }
}

/// The API.
pub(super) struct Api {
    pub(super) router: Router,
    pub(super) db: Option<Database>,
}

impl Api {
    pub(super) async fn new() -> Self {
        Api::with(|builder| builder).await
    }

    /// With something added to the builder.
    pub(super) async fn with(extend: impl FnOnce(AdminBuilder) -> AdminBuilder) -> Self {
        let prepare = |url: String| async move { migrate::up(&config(&url)).await.map(drop) };
        let db = Server::shared()
            .unwrap()
            .database_like("admin", prepare)
            .await
            .unwrap();
        let router = extend(builder(config(db.url()))).bind().unwrap().router();
        Api {
            router,
            db: Some(db),
        }
    }

    /// Every answer in these tests has to be one that `GET /openapi.json` speaks of.
    pub(super) async fn raw(&self, request: Request<Body>) -> Got {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = match bytes.as_ref() {
            [] => Value::Null,
            text => serde_json::from_slice(text)
                .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(text).into_owned())),
        };
        let got = Got {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        };
        contract().check(&method, &path, &got);
        got
    }

    pub(super) async fn send(&self, method: Method, path: &str, body: Value) -> Got {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        self.raw(request).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Got {
        self.send(Method::POST, path, body).await
    }

    pub(super) async fn patch(&self, path: &str, body: Value) -> Got {
        self.send(Method::PATCH, path, body).await
    }

    pub(super) async fn put(&self, path: &str, body: Value) -> Got {
        self.send(Method::PUT, path, body).await
    }

    pub(super) async fn bare(&self, method: Method, path: &str) -> Got {
        self.raw(
            Request::builder()
                .method(method)
                .uri(path)
                .body(Body::empty())
                .unwrap(),
        )
        .await
    }

    pub(super) async fn get(&self, path: &str) -> Got {
        self.bare(Method::GET, path).await
    }

    pub(super) async fn delete(&self, path: &str) -> u16 {
        self.bare(Method::DELETE, path).await.status
    }

    /// A form.
    pub(super) async fn form(&self, method: Method, path: &str, body: &'static str) -> Got {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(body))
            .unwrap();
        self.raw(request).await
    }

    /// A service, a route on it and a consumer.
    pub(super) async fn furnished() -> Self {
        let api = Api::new().await;
        for (path, body) in [
            ("/services", json!({ "name": "svc", "host": "a.test" })),
            ("/services", json!({ "name": "other", "host": "b.test" })),
            (
                "/services/svc/routes",
                json!({ "name": "r", "paths": ["/r"] }),
            ),
            ("/routes", json!({ "name": "free", "paths": ["/free"] })),
            (
                "/consumers",
                json!({ "username": "alice", "custom_id": "a1" }),
            ),
        ] {
            api.post(path, body)
                .await
                .expect(StatusCode::CREATED.as_u16());
        }
        api
    }
}

/// The store's settings for a connection string of the test kit.
pub(super) fn config(url: &str) -> PgConfig {
    let rest = url.strip_prefix("postgres://").unwrap();
    let (login, place) = rest.rsplit_once('@').unwrap();
    let (user, password) = login.split_once(':').unwrap();
    let (address, database) = place.split_once('/').unwrap();
    let (host, port) = address.rsplit_once(':').unwrap();
    PgConfig {
        host: host.into(),
        port: port.parse().unwrap(),
        user: user.into(),
        password: Some(password.into()),
        database: database.into(),
        ..PgConfig::default()
    }
}

/// The core entities and those of plugins.
pub(super) fn entities() -> Vec<EntityDef> {
    let mut entities = CORE.clone();
    let of_plugins = silverback_bundled::all()
        .into_iter()
        .flat_map(|p| p.entities);
    entities.extend(of_plugins);
    entities
}

/// A builder over that database, with a check that refuses a route called `unbuildable` and panics for a service called `boom`.
pub(super) fn builder(cfg: PgConfig) -> AdminBuilder {
    let entities = entities();
    let store = Store::new(cfg, entities.clone()).unwrap();
    let node = NodeInfo {
        node_id: Uuid::from_u128(7),
        hostname: "here".into(),
        version: "1.2.3".into(),
        configuration: json!({ "role": "traditional" }),
    };
    AdminBuilder::new(store, entities, plugins(), node)
        .check("routes", |row| match row["name"].as_str() {
            Some("unbuildable") => Err(Violations::field("paths", "no router can be built")),
            _ => Ok(()),
        })
        .check("services", |row| {
            assert_ne!(row["name"], "boom", "asked for");
            Ok(())
        })
}
