//! The proxy from the outside: real sockets, a mock upstream, snapshots made from rows.

mod errors;
mod plugins;
mod proxying;
mod retries;
mod tls;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use silverback_balancer::{DnsConfig, Resolver};
use silverback_entities::{Change, Row, Tables};
use silverback_plugin::{
    AccessCtx, Body, BodyCtx, ConfigError, Flow, Handler, HeaderKey, LogCtx, PhaseResult, Phases,
    Plugin, PluginDef, PluginEnv, PluginError, Response, ResponseCtx, RetryTerms,
};
use silverback_router::Flavor;
use silverback_runtime::{Builder, Current, NodeServices, Pools, Registries};
use silverback_schema::field::{integer, string};
use silverback_schema::record;
use silverback_telemetry::{AccessLog, Registry};
use uuid::Uuid;

use crate::{Listen, Listeners, ProxyConfig, Server, Shared};

record! {
    /// What the test plugin is told to do.
    pub(crate) struct Config {
        /// In access: `exit`, `panic`, `error`, `read`, `replace`, `limit`, `replace and limit`, `untyped`, `terms`.
        pub access: Option<String> = string(),
        /// The longest body to read, or to let by.
        pub max: Option<u64> = integer(),
    }
}

/// A plugin that does as it is told, marks every response and counts `log`.
struct Probe {
    config: Config,
    logged: Arc<Mutex<Vec<u16>>>,
}

impl Plugin for Probe {
    const NAME: &'static str = "probe";
    const PRIORITY: i32 = 10;
    const VERSION: &'static str = "1.0.0";
    const PHASES: Phases = Phases::ACCESS
        .and(Phases::HEADER_FILTER)
        .and(Phases::BODY_FILTER)
        .and(Phases::LOG);
    type Config = Config;

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        Ok(Probe {
            config,
            logged: env.shared("logged", Mutex::default),
        })
    }
}

impl Handler for Probe {
    async fn access_async(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        match self.config.access.as_deref().unwrap_or_default() {
            "exit" => {
                return Ok(Flow::Exit(Response::error(
                    StatusCode::IM_A_TEAPOT,
                    "told to",
                )));
            }
            "panic" => panic!("told to"),
            "error" => return Err(PluginError::new("told to")),
            "read" => {
                let max = usize::try_from(self.config.max.unwrap_or(1 << 24)).unwrap_or(usize::MAX);
                if let Ok(body) = ctx.body.read(max).await {
                    ctx.upstream.set(
                        HeaderKey::from_static("X-Length"),
                        HeaderValue::from(body.len()),
                    );
                }
            }
            "replace" => ctx.upstream.body = Some(Bytes::from_static(b"replaced")),
            "limit" | "replace and limit" => {
                let refusal = Response::error(StatusCode::PAYLOAD_TOO_LARGE, "told to");
                ctx.upstream
                    .limit_body(self.config.max.unwrap_or(0), refusal);
                if self.config.access.as_deref() != Some("limit") {
                    ctx.upstream.body = Some(Bytes::from_static(b"replaced"));
                }
            }
            "untyped" => {
                let mut response = Response::empty(StatusCode::OK);
                response.body = Body::Untyped(Bytes::from_static(b"bare"));
                return Ok(Flow::Exit(response));
            }
            "terms" => {
                ctx.facts.retry = Some(Arc::new(RetryTerms {
                    attempts: 3,
                    per_try_timeout: None,
                    deadline: Some(Duration::from_secs(10)),
                    backoff_base: Duration::from_millis(1),
                    backoff_cap: Duration::from_millis(2),
                    statuses: vec![503],
                    methods: vec![http::Method::GET],
                    on_connect_failure: true,
                    on_reset: true,
                    on_timeout: false,
                    honour_retry_after: true,
                    budget: None,
                }));
            }
            _ => {}
        }
        Ok(Flow::Next)
    }

    fn header_filter(&self, ctx: &mut ResponseCtx<'_>) -> Result<(), PluginError> {
        ctx.head.set(
            &HeaderKey::from_static("X-Probe"),
            HeaderValue::from_static("seen"),
        );
        ctx.head.remove(&http::header::CONTENT_LENGTH);
        Ok(())
    }

    fn body_filter(
        &self,
        _: &mut BodyCtx<'_>,
        chunk: &mut Option<Bytes>,
        end: bool,
    ) -> Result<(), PluginError> {
        if end {
            let mut all = chunk.take().unwrap_or_default().to_vec();
            all.extend_from_slice(b"!");
            *chunk = Some(Bytes::from(all));
        }
        Ok(())
    }

    fn log(&self, ctx: &LogCtx<'_>) {
        self.logged
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push(ctx.facts.status);
    }
}

pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Arc<Registry>,
    pub(crate) shared: Shared,
    services: Arc<NodeServices>,
}

pub(crate) fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

pub(crate) fn service(n: u128, to: SocketAddr, more: Value) -> Change {
    let mut row = json!({"id": id(n), "created_at": 1, "updated_at": 1, "protocol": "http", "host": to.ip().to_string(),
        "port": to.port(), "enabled": true, "retries": 5});
    row.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    Change {
        entity: "services".into(),
        id: id(n),
        row: Some(Row::Service(serde_json::from_value(row).unwrap())),
    }
}

pub(crate) fn route(n: u128, path: &str, service: u128, more: Value) -> Change {
    let mut row = json!({
        "id": id(n), "created_at": 1, "updated_at": 1, "protocols": ["http", "https"], "https_redirect_status_code": 426,
        "strip_path": true, "preserve_host": false, "request_buffering": true, "response_buffering": true,
        "paths": [path], "path_handling": "v0", "regex_priority": 0,
    });
    if service > 0 {
        row["service"] = json!({"id": id(service)});
    }
    row.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    Change {
        entity: "routes".into(),
        id: id(n),
        row: Some(Row::Route(serde_json::from_value(row).unwrap())),
    }
}

pub(crate) fn plugin(n: u128, route: u128, config: Value) -> Change {
    let row = json!({"id": id(n), "created_at": 1, "updated_at": 1, "name": "probe", "route": {"id": id(route)},
        "config": config, "protocols": ["http", "https"], "enabled": true});
    Change {
        entity: "plugins".into(),
        id: id(n),
        row: Some(Row::Plugin(serde_json::from_value(row).unwrap())),
    }
}

/// Serves these rows.
pub(crate) fn serve(rows: Vec<Change>, config: ProxyConfig) -> Rig {
    let handle = tokio::runtime::Handle::current();
    let metrics = Arc::new(Registry::new("node", "0"));
    let services = Arc::new(NodeServices::new(None, handle.clone(), None));
    let mut tables = Tables::default();
    rows.into_iter().for_each(|r| tables.apply(r));
    let mut builder = Builder::new(Registries {
        plugins: vec![PluginDef::of::<Probe>()],
        services: services.clone(),
        pools: Pools::new(Resolver::new(DnsConfig::default(), handle).unwrap()),
        budgets: Some((
            Arc::new(silverback_retry::Registry::new(Default::default())),
            Default::default(),
        )),
        metrics: metrics.clone(),
        flavor: Flavor::TraditionalCompatible,
        environment: silverback_runtime::Environment::default(),
        tls_verify: false,
    });
    builder.load(tables);
    let snapshot = builder.build();
    assert!(builder.problems().is_empty(), "{:?}", builder.problems());
    let shared = Shared {
        config: Arc::new(config),
        current: Current::new(snapshot),
        metrics: metrics.clone(),
        access_log: Arc::new(AccessLog::off()),
    };
    let listeners = Listeners::bind(&[Listen::http("127.0.0.1:0".parse().unwrap())], 1).unwrap();
    let server = listeners.serve(&shared, &[]).unwrap();
    let address = server.addresses()[0];
    Rig {
        server,
        address,
        metrics,
        shared,
        services,
    }
}

impl Rig {
    /// The statuses that the test plugin logged, once there are so many.
    pub(crate) async fn logged(&self, count: usize) -> Vec<u16> {
        let instance = Default::default();
        let env = PluginEnv {
            instance: &instance,
            services: &*self.services,
        };
        let logged: Arc<Mutex<Vec<u16>>> = env.shared("logged", Mutex::default);
        loop {
            let now = logged.lock().unwrap().clone();
            if now.len() >= count {
                return now;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Sends bytes and reads until the other side closes.
    pub(crate) async fn raw(&self, bytes: impl Into<Vec<u8>>) -> String {
        let (bytes, address) = (bytes.into(), self.address);
        let work = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            stream.write_all(&bytes).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            String::from_utf8_lossy(&all).into_owned()
        };
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    /// A request that closes the connection, with further header lines, each ended.
    pub(crate) async fn get(&self, target: &str, headers: &str) -> Reply {
        let text = self
            .raw(format!(
                "GET {target} HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n{headers}\r\n"
            ))
            .await;
        Reply::parse(&text)
    }

    pub(crate) async fn post(&self, target: &str, headers: &str, body: &[u8]) -> Reply {
        let length = body.len();
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        let mut all = head.into_bytes();
        all.extend_from_slice(body);
        Reply::parse(&self.raw(all).await)
    }
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn parse(text: &str) -> Reply {
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no head: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked");
        Reply {
            status,
            head: head.to_owned(),
            body: if chunked {
                unchunked(body)
            } else {
                body.to_owned()
            },
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|l| {
            let (n, v) = l.split_once(':')?;
            n.eq_ignore_ascii_case(name).then_some(v.trim())
        })
    }

    /// What the echoing upstream received.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.body.trim_end_matches('!'))
            .unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

fn unchunked(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        out.push_str(&rest[..size]);
        body = &rest[(size + 2).min(rest.len())..];
    }
    out
}
