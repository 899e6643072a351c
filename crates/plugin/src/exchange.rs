//! A test kit: runs one plugin over one exchange, without sockets.
//!
//! The configuration goes through the plugin's own schema, so that defaults are filled and bad ones are refused as the Admin API does; then
//! the phases run in the order in which the gateway runs them: `rewrite`, `access`, `header_filter` and `body_filter` over the plugin's own
//! response or over the one that the upstream is told to give, `log`.
//!
//! ```
//! # use silverback_plugin::*;
//! # use silverback_plugin::exchange::Exchange;
//! # use serde_json::json;
//! # silverback_schema::record! {
//! #     /// Settings.
//! #     pub struct Config {
//! #         /// The status.
//! #         pub status: u16 = silverback_schema::field::integer().required().default(503),
//! #     }
//! # }
//! # struct Closed(u16);
//! # impl Plugin for Closed {
//! #     const NAME: &'static str = "closed";
//! #     const PRIORITY: i32 = 1;
//! #     const VERSION: &'static str = "1";
//! #     const PHASES: Phases = Phases::ACCESS;
//! #     type Config = Config;
//! #     fn compile(c: Config, _: &PluginEnv<'_>) -> Result<Self, ConfigError> { Ok(Closed(c.status)) }
//! # }
//! # impl Handler for Closed {
//! #     fn access(&self, _: &mut AccessCtx<'_>) -> PhaseResult {
//! #         let status = http::StatusCode::from_u16(self.0).map_err(|e| PluginError::new(e.to_string()))?;
//! #         Ok(Flow::Exit(Response::error(status, "closed")))
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let done = Exchange::get("/x").header("accept", "*/*").run::<Closed>(json!({})).await;
//! assert_eq!(done.exit_status(503).body_json()["message"], "closed");
//! # }
//! ```
//!
//! Everything here panics when it is used wrongly or a claim does not hold: it is for tests.

mod fakes;
mod outcome;
mod source;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use serde_json::{Map, Value};
use silverback_schema::field::{Kind, boolean, foreign, id, set, string};
use silverback_schema::plugin_def::{Scopes as SchemaScopes, plugin_entity};
use silverback_schema::{EntityDef, Field, Op, RecordDef, Violations, complete};
use uuid::Uuid;

use crate::context::{AccessCtx, BodyCtx, Captures, LogCtx, RequestView, ResponseCtx};
use crate::flow::{Body, Flow, PluginError, Response};
use crate::{
    ConfigError, Consumer, Credential, Facts, Handler, InstanceInfo, PROTOCOLS_HTTP, Phases,
    PluginDef, PluginEnv, RouteInfo, ServiceInfo, Services, UpstreamEdits,
};

pub use fakes::{FakeCounters, FakeDirectory, FakeRows, FakeServices, consumer};
use fakes::{GivenCaptures, WholeBody};
pub use outcome::{Head, Outcome};
use source::{FakeSource, attempt};

/// Checks a configuration against the plugin's schema and fills its defaults.
///
/// # Errors
/// What the Admin API would report; fields are below `config`, checks over several fields in `@entity`.
pub fn config<P: Handler>(given: Value) -> Result<Map<String, Value>, Violations> {
    let mut row = Map::new();
    row.insert("name".into(), P::NAME.into());
    row.insert("config".into(), given);
    let mut row = complete(&definition::<P>(), row, Op::Insert, 1_700_000_000)?;
    match row.remove("config") {
        Some(Value::Object(config)) => Ok(config),
        other => panic!("a plugin's config is an object, not {other:?}"),
    }
}

/// The definition of the plugin's rows: what the Admin API validates by and shows at `/schemas/plugins/<name>`.
pub fn definition<P: Handler>() -> EntityDef {
    let scope = |entity| foreign(entity).default(Value::Null);
    let base = EntityDef::new(
        "plugins",
        vec![
            ("id", id()),
            ("name", string().required()),
            ("route", scope("routes")),
            ("service", scope("services")),
            ("consumer", scope("consumers")),
            ("config", Field::new(Kind::Abstract)),
            ("protocols", protocols()),
            ("enabled", boolean().required().default(true)),
        ],
    );
    let def = PluginDef::of::<P>();
    let protocols = def.protocols();
    let config = RecordDef {
        fields: def.config.fields,
        checks: def.config.checks,
        shorthands: def.config.shorthands,
    };
    let scopes = SchemaScopes {
        consumer: def.scopes.consumer,
        service: def.scopes.service,
        route: def.scopes.route,
    };
    plugin_entity(&base, def.name, config, def.checks, protocols, scopes)
}

/// The answer of `GET /schemas/plugins/<name>` without descriptions, to compare with a recorded one.
pub fn schema_without_descriptions<P: Handler>() -> Value {
    undescribed(silverback_schema::render::plugin_schema_json(
        &definition::<P>(),
    ))
}

/// The answer of `GET /schemas/<entity>` without descriptions, to compare with a recorded one.
pub fn entity_schema_without_descriptions(def: &EntityDef) -> Value {
    undescribed(silverback_schema::render::schema_json(def))
}

/// As every row of `plugins` has it.
fn protocols() -> Field {
    let all = [
        "grpc",
        "grpcs",
        "http",
        "https",
        "tcp",
        "tls",
        "tls_passthrough",
        "udp",
    ];
    set(string().one_of(all))
        .required()
        .default(PROTOCOLS_HTTP.to_vec())
}

fn undescribed(v: Value) -> Value {
    match v {
        Value::Object(map) => map
            .into_iter()
            .filter(|(k, _)| k != "description")
            .map(|(k, v)| (k, undescribed(v)))
            .collect(),
        Value::Array(items) => items.into_iter().map(undescribed).collect(),
        other => other,
    }
}

/// A plugin made from a configuration, for several exchanges.
pub struct Compiled<P> {
    plugin: P,
}

impl<P: Handler> Compiled<P> {
    /// Makes the plugin with services of its own.
    ///
    /// # Panics
    /// When the configuration is refused.
    pub fn new(config: Value) -> Self {
        Self::with(config, &InstanceInfo::default(), &FakeServices::default())
    }

    /// Makes the plugin for a place and with given services.
    ///
    /// # Panics
    /// When the configuration is refused.
    pub fn with(config: Value, instance: &InstanceInfo, services: &dyn Services) -> Self {
        Self::try_with(config, instance, services).unwrap_or_else(|e| panic!("{}: {e}", P::NAME))
    }

    /// As [`Compiled::with`].
    ///
    /// # Errors
    /// What `compile` says.
    ///
    /// # Panics
    /// When the schema refuses the configuration.
    pub fn try_with(
        config: Value,
        instance: &InstanceInfo,
        services: &dyn Services,
    ) -> Result<Self, ConfigError> {
        let filled = self::config::<P>(config).unwrap_or_else(|v| panic!("{}: {v}", P::NAME));
        let typed = serde_json::from_value(Value::Object(filled)).unwrap_or_else(|e| {
            panic!(
                "{}: a valid configuration does not fit its type: {e}",
                P::NAME
            )
        });
        P::compile(typed, &PluginEnv { instance, services }).map(|plugin| Compiled { plugin })
    }

    /// The plugin.
    pub fn plugin(&self) -> &P {
        &self.plugin
    }
}

impl<P> From<P> for Compiled<P> {
    /// A plugin that was made in another way than from a configuration alone.
    fn from(plugin: P) -> Self {
        Compiled { plugin }
    }
}

/// One request, what is known about it, and what the upstream would answer.
pub struct Exchange {
    request: http::request::Parts,
    path_and_query: String,
    body: Bytes,
    host: String,
    client_ip: IpAddr,
    at: SystemTime,
    waited: Duration,
    caller: Option<Arc<Consumer>>,
    caller_credential: Option<Arc<Credential>>,
    directory: FakeDirectory,
    captures: GivenCaptures,
    route: RouteInfo,
    service: Option<ServiceInfo>,
    response: (StatusCode, HeaderMap, Bytes),
    tls: bool,
    peer_trusted: bool,
}

impl Exchange {
    /// A request with that method and path, which may have a query. The host is `localhost`, the client 127.0.0.1, the route `r` and the
    /// service `s` have the ids 2 and 1; the upstream answers 200 with an empty body.
    pub fn new(method: &str, path_and_query: &str) -> Self {
        let method =
            Method::from_bytes(method.as_bytes()).unwrap_or_else(|e| panic!("{method}: {e}"));
        let request = Request::builder()
            .method(method)
            .uri(path_and_query)
            .body(());
        let (request, ()) = request
            .unwrap_or_else(|e| panic!("{path_and_query}: {e}"))
            .into_parts();
        Exchange {
            request,
            path_and_query: path_and_query.to_owned(),
            body: Bytes::new(),
            host: "localhost".to_owned(),
            client_ip: IpAddr::from([127, 0, 0, 1]),
            at: SystemTime::now(),
            waited: Duration::ZERO,
            caller: None,
            caller_credential: None,
            directory: FakeDirectory::default(),
            captures: GivenCaptures(None),
            route: RouteInfo {
                id: Uuid::from_u128(2),
                name: Some("r".to_owned()),
            },
            service: Some(ServiceInfo {
                id: Uuid::from_u128(1),
                name: Some("s".to_owned()),
                host: "upstream.test".to_owned(),
            }),
            response: (StatusCode::OK, HeaderMap::new(), Bytes::new()),
            tls: false,
            peer_trusted: false,
        }
    }

    /// A `GET`.
    pub fn get(path_and_query: &str) -> Self {
        Self::new("GET", path_and_query)
    }

    /// A `POST` with a body.
    pub fn post(path_and_query: &str, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self::new("POST", path_and_query)
            .header("content-type", content_type)
            .body(body)
    }

    /// One more header; a second of the same name is added to the first.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let (name, value) = header(name, value);
        self.request.headers.append(name, value);
        self
    }

    /// The body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The host without port.
    pub fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// The client's address.
    pub fn client_ip(mut self, ip: impl Into<IpAddr>) -> Self {
        self.client_ip = ip.into();
        self
    }

    /// When the request arrived.
    pub fn at(mut self, time: SystemTime) -> Self {
        self.at = time;
        self
    }

    /// How long after its arrival it comes to the plugin.
    pub fn after(mut self, wait: Duration) -> Self {
        self.waited = wait;
        self
    }

    /// A consumer that exists.
    pub fn consumer(mut self, c: &Arc<Consumer>) -> Self {
        self.directory.add_consumer(c);
        self
    }

    /// A credential that exists, of that entity and with that key; its consumer exists too. Its id is 100.
    pub fn credential(mut self, entity: &'static str, key: &str, owner: &Arc<Consumer>) -> Self {
        self.directory.add_credential(entity, key, owner, None);
        self
    }

    /// The consumers and credentials that exist, in place of those given before.
    pub fn directory(mut self, directory: FakeDirectory) -> Self {
        self.directory = directory;
        self
    }

    /// What an authentication plugin has found out before.
    pub fn authenticated(
        mut self,
        who: Option<&Arc<Consumer>>,
        by: Option<&Arc<Credential>>,
    ) -> Self {
        self.caller = who.cloned();
        self.caller_credential = by.cloned();
        self
    }

    /// The matched route.
    pub fn route(mut self, route: RouteInfo) -> Self {
        self.route = route;
        self
    }

    /// What the route's regular expression matched in the path.
    pub fn captures(mut self, captures: Captures) -> Self {
        self.captures = GivenCaptures(Some(captures));
        self
    }

    /// The route's service.
    pub fn service(mut self, service: Option<ServiceInfo>) -> Self {
        self.service = service;
        self
    }

    /// What the upstream answers.
    pub fn upstream(
        mut self,
        status: u16,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or_else(|e| panic!("{status}: {e}"));
        let headers = headers.iter().map(|(n, v)| header(n, v)).collect();
        self.response = (status, headers, body.into());
        self
    }

    /// Over TLS.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// From a trusted proxy.
    pub fn from_trusted_peer(mut self) -> Self {
        self.peer_trusted = true;
        self
    }

    /// Runs a plugin with that configuration.
    ///
    /// # Panics
    /// When the configuration is refused.
    pub async fn run<P: Handler>(self, config: Value) -> Outcome {
        self.run_on(&Compiled::<P>::new(config)).await
    }

    /// Runs a plugin made before.
    pub async fn run_on<P: Handler>(self, compiled: &Compiled<P>) -> Outcome {
        let plugin = &compiled.plugin;
        let view = RequestView {
            parts: &self.request,
            path_and_query: self.path_and_query.as_bytes(),
            host: &self.host,
        };
        let mut facts = Facts::new(
            *b"0123456789abcdef0123456789abcdef",
            SocketAddr::new(self.client_ip, 40000),
            if self.tls { "https" } else { "http" },
            if self.tls { 8443 } else { 8000 },
        );
        facts.peer_trusted = self.peer_trusted;
        facts.started_at = self.at;
        facts.started = facts
            .started
            .checked_sub(self.waited)
            .unwrap_or_else(|| panic!("{:?} is too long", self.waited));
        facts.server = Some(IpAddr::from([127, 0, 0, 1]));
        (facts.connection, facts.connection_requests) = (7, 1);
        facts.log_values.want(P::PHASES.has(Phases::LOG));
        facts.consumer.clone_from(&self.caller);
        facts.credential.clone_from(&self.caller_credential);
        let mut edits = UpstreamEdits::default();
        let mut body = WholeBody(self.body.clone());
        let mut ended = Ok(Flow::Next);
        for phase in [Phases::REWRITE, Phases::ACCESS] {
            if !P::PHASES.has(phase) || !matches!(ended, Ok(Flow::Next)) {
                continue;
            }
            let routed = phase == Phases::ACCESS;
            let mut ctx = AccessCtx {
                request: view,
                facts: &mut facts,
                upstream: &mut edits,
                upstream_target: self.path_and_query.as_bytes(),
                directory: &self.directory,
                route: routed.then_some(&self.route),
                service: self.service.as_ref().filter(|_| routed),
                body: &mut body,
                captures: &self.captures,
            };
            ended = if routed {
                plugin.access(&mut ctx)
            } else {
                plugin.rewrite(&mut ctx)
            };
            if matches!(ended, Ok(Flow::Await)) {
                ended = match routed {
                    true => plugin.access_async(&mut ctx).await,
                    false => plugin.rewrite_async(&mut ctx).await,
                };
            }
        }
        let exit = match ended {
            Ok(Flow::Exit(response)) => Some(Ok(response)),
            // As the proxy does while the body goes by.
            Ok(Flow::Next | Flow::Await) => edits
                .refusal_of_body(self.body.len() as u64)
                .map(|refusal| Ok(refusal.clone())),
            Err(e) => Some(Err(e)),
        };
        facts.local_response = exit.is_some();
        if exit.is_none() && self.service.is_some() {
            facts.attempts.push(attempt(self.at, self.response.0));
            facts.proxied = Some(facts.started + Duration::from_millis(2));
            facts.upstream_header = Some(facts.started + Duration::from_millis(15));
        } else {
            facts.responded = Some(facts.started + Duration::from_millis(2));
        }
        let (mut head, mut response_body, exited, failure) = self.respond(exit, &facts);
        if P::PHASES.has(Phases::HEADER_FILTER) {
            let mut ctx = ResponseCtx {
                request: view,
                facts: &mut facts,
                head: &mut head,
                route: Some(&self.route),
                service: self.service.as_ref(),
            };
            plugin
                .header_filter(&mut ctx)
                .unwrap_or_else(|e| panic!("header_filter: {e}"));
        }
        if P::PHASES.has(Phases::BODY_FILTER) {
            let mut chunk = Some(response_body);
            let done = plugin.body_filter(&mut BodyCtx { facts: &mut facts }, &mut chunk, true);
            done.unwrap_or_else(|e| panic!("body_filter: {e}"));
            response_body = chunk.unwrap_or_default();
        }
        facts.status = head.status.as_u16();
        facts.response_bytes = response_body.len() as u64;
        if P::PHASES.has(Phases::LOG) {
            let response = (&head.headers, response_body.len());
            let consumer = facts.consumer.as_deref();
            let source = FakeSource::new(&self, &edits, consumer, response);
            plugin.log(&LogCtx {
                request: view,
                facts: &facts,
                ended: facts.started + Duration::from_millis(20),
                upstream: &edits,
                source: &source,
                response_headers: Some(&head.headers),
                route: Some(&self.route),
                service: self.service.as_ref(),
            });
        }
        Outcome {
            head,
            body: response_body,
            exited,
            failure,
            edits,
            facts,
            request: self.request,
        }
    }

    fn respond(
        &self,
        exit: Option<Result<Response, PluginError>>,
        facts: &Facts,
    ) -> (Head, Bytes, bool, Option<PluginError>) {
        let (response, failure) = match exit {
            None => {
                let (status, headers, body) = self.response.clone();
                return (Head { status, headers }, body, false, None);
            }
            Some(Ok(response)) => (response, None),
            Some(Err(e)) => (
                Response::error(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "An unexpected error occurred",
                ),
                Some(e),
            ),
        };
        let mut headers = HeaderMap::new();
        for (key, value) in &response.headers {
            headers.append(key.name().clone(), value.clone());
        }
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        let body = match response.body {
            Body::Empty => Bytes::new(),
            Body::Kept(bytes) => bytes,
            Body::OfStatus => {
                let plain = HeaderValue::from_static("text/plain; charset=utf-8");
                headers.insert(http::header::CONTENT_TYPE, plain);
                let text = response.status.canonical_reason().unwrap_or_default();
                Bytes::from_static(text.as_bytes())
            }
            Body::Bytes {
                content_type,
                bytes,
            } => {
                headers.insert(http::header::CONTENT_TYPE, content_type);
                bytes
            }
            Body::Untyped(bytes) => bytes,
            Body::Error(text) => {
                headers.insert(http::header::CONTENT_TYPE, json);
                serde_json::json!({ "message": text, "request_id": facts.request_id() })
                    .to_string()
                    .into()
            }
        };
        (
            Head {
                status: response.status,
                headers,
            },
            body,
            true,
            failure,
        )
    }
}

fn header(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    let key = HeaderName::from_bytes(name.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
    (
        key,
        HeaderValue::from_str(value).unwrap_or_else(|e| panic!("{value}: {e}")),
    )
}
