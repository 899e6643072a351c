use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use silverback_plugin::exchange::{Compiled, Exchange, consumer};
use silverback_plugin::schema::record;
use silverback_plugin::{
    AccessCtx, Attempt, ConfigError, Flow, Handler, HeaderKey, LogCtx, PhaseResult, Phases, Plugin,
    PluginEnv, Response,
};

use super::{Entry, Latencies, tries, upstream_status};

record! {
    /// What the plugin of these tests does.
    pub struct Config {
        /// Answers itself.
        pub exit: bool = silverback_plugin::schema::field::boolean().required().default(false),
        /// What it adds to the entry.
        pub adds: serde_json::Map<String, Value> = silverback_plugin::schema::field::map(
            silverback_plugin::schema::field::string(),
            silverback_plugin::schema::field::string(),
        ).required().default(json!({})),
    }
}

/// Keeps what it would log.
struct Keeper {
    config: Config,
    kept: Mutex<Vec<(String, Value)>>,
}

impl Plugin for Keeper {
    const NAME: &'static str = "keeper";
    const PRIORITY: i32 = 1;
    const VERSION: &'static str = "1";
    const PHASES: Phases = Phases::ACCESS.and(Phases::LOG);
    type Config = Config;

    fn compile(config: Config, _: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        Ok(Keeper {
            config,
            kept: Mutex::default(),
        })
    }
}

impl Handler for Keeper {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let header = HeaderKey::new("X-Added").unwrap();
        ctx.upstream.set(header, HeaderValue::from_static("1"));
        for (field, value) in &self.config.adds {
            let field: &'static str = Box::leak(field.clone().into_boxed_str());
            ctx.facts.log_values.set(field, || value.clone());
        }
        match self.config.exit {
            true => Ok(Flow::Exit(Response::error(StatusCode::FORBIDDEN, "no"))),
            false => Ok(Flow::Next),
        }
    }

    fn log(&self, ctx: &LogCtx<'_>) {
        let entry = Entry::of(ctx);
        let kept = (entry.to_json(), entry.to_value());
        self.kept.lock().unwrap().push(kept);
    }
}

/// What is logged of an exchange, the same in both forms.
async fn logged(exchange: Exchange, config: Value) -> Value {
    let keeper = Compiled::<Keeper>::new(config);
    exchange.run_on(&keeper).await;
    let (text, value) = keeper.plugin().kept.lock().unwrap().remove(0);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    value
}

#[tokio::test]
async fn an_exchange_is_told_as_kong_tells_it() {
    let alice = consumer(5, "alice");
    let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let exchange = Exchange::post("/lp?q=1&q=a%20b&flag", "text/plain", "hello")
        .host("Log.test")
        .header("authorization", "Bearer secret")
        .header("x-two", "1")
        .header("x-two", "2")
        .at(at)
        .authenticated(Some(&alice), None)
        .upstream(
            200,
            &[("x-up", "1"), ("set-cookie", "a=1"), ("set-cookie", "b=2")],
            "body",
        );
    let entry = logged(exchange, json!({})).await;
    let mut names: Vec<_> = entry
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "client_ip",
            "consumer",
            "latencies",
            "request",
            "response",
            "route",
            "service",
            "source",
            "started_at",
            "tries",
            "upstream_status",
            "upstream_uri",
            "workspace",
            "workspace_name",
        ]
    );
    let request = &entry["request"];
    assert_eq!(request["uri"], "/lp?q=1&q=a%20b&flag");
    assert_eq!(request["url"], "http://log.test:8000/lp?q=1&q=a%20b&flag");
    assert_eq!(
        request["querystring"],
        json!({ "q": ["1", "a b"], "flag": true })
    );
    assert_eq!(
        request["headers"],
        json!({
            "content-type": "text/plain", "authorization": "REDACTED", "x-two": ["1", "2"], "x-added": "1"
        })
    );
    assert_eq!(
        (&request["method"], request.get("tls")),
        (&json!("POST"), None)
    );
    assert_eq!(request["id"], "0123456789abcdef0123456789abcdef");
    assert_eq!(
        entry["response"],
        json!({ "status": 200, "headers": { "x-up": "1", "set-cookie": ["a=1", "b=2"] }, "size": 47 })
    );
    assert_eq!(
        entry["latencies"],
        json!({ "kong": 2, "proxy": 13, "request": 20, "receive": 5 })
    );
    assert_eq!(
        entry["tries"],
        json!([{
            "balancer_start": 1_700_000_000_125_u64, "balancer_start_ns": 1_700_000_000_125_000_000_u64,
            "balancer_latency": 0, "balancer_latency_ns": 12000, "ip": "127.0.0.1", "port": 9000
        }])
    );
    assert_eq!(entry["upstream_uri"], "/lp?q=1&q=a%20b&flag");
    assert_eq!(entry["upstream_status"], "200");
    assert_eq!(entry["source"], "upstream");
    assert_eq!(entry["started_at"], 1_700_000_000_123_u64);
    assert_eq!(entry["client_ip"], "127.0.0.1");
    assert_eq!(entry["consumer"]["username"], "alice");
    assert_eq!(entry["route"]["name"], "r");
    assert_eq!(entry["service"]["name"], "s");
}

#[tokio::test]
async fn an_answer_of_the_gateway_has_no_upstream() {
    let entry = logged(Exchange::get("/x").tls(), json!({ "exit": true })).await;
    assert_eq!(entry["source"], "kong");
    assert_eq!(entry["upstream_status"], "");
    assert_eq!(entry["tries"], json!([]));
    assert_eq!(
        entry["latencies"],
        json!({ "kong": 2, "proxy": -1, "request": 20, "receive": 0 })
    );
    assert_eq!(
        entry["request"]["tls"],
        json!({ "version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "client_verify": "NONE" })
    );
    assert_eq!(entry["request"]["url"], "https://localhost:8443/x");
}

#[tokio::test]
async fn plugins_add_fields_and_replace_others() {
    let adds = |adds: Value| logged(Exchange::get("/"), json!({ "adds": adds }));
    let plain = adds(json!({})).await;
    let added = adds(json!({ "correlation_id": "a\"b" })).await;
    assert_eq!(added["correlation_id"], "a\"b");
    assert_eq!(added["route"], plain["route"]);
    let deeper =
        adds(json!({ "ai.x.y": "1", "ai.x.z": "2", "source": "mine", "source.no": "3" })).await;
    assert_eq!(deeper["ai"], json!({ "x": { "y": "1", "z": "2" } }));
    assert_eq!(deeper["source"], "mine");
    let names =
        |v: &Value| -> BTreeSet<String> { v.as_object().unwrap().keys().cloned().collect() };
    let more: Vec<_> = names(&deeper).difference(&names(&plain)).cloned().collect();
    assert_eq!(more, ["ai"]);
}

#[test]
fn all_but_the_last_try_say_how_they_failed() {
    let attempt = |status, failure| Attempt {
        target: SocketAddr::from(([10, 0, 0, 1], 80)),
        started: UNIX_EPOCH,
        choosing: None,
        connect: None,
        status,
        failure,
    };
    let all = [
        attempt(None, Some("connect-failure")),
        attempt(None, Some("read-timeout")),
        attempt(Some(503), Some("status")),
        attempt(None, Some("reset")),
    ];
    assert_eq!(upstream_status(&all), "502, 504, 503, 502");
    let said = tries(&all);
    let said: Vec<_> = said.iter().map(|t| (t.state, t.code)).collect();
    let failed = |code| (Some("failed"), Some(code));
    assert_eq!(said, [failed(502), failed(504), failed(503), (None, None)]);
}

#[tokio::test]
async fn a_failure_of_the_upstream_is_waited_for_and_told_by_the_gateway() {
    let done = Exchange::get("/").run::<Keeper>(json!({})).await;
    let f = done.facts();
    let after = |ms| f.started + Duration::from_millis(ms);
    let mut facts = silverback_plugin::Facts::new(f.request_id, f.peer, "http", 8000);
    facts.started = f.started;
    facts.proxied = Some(after(3));
    facts.responded = Some(after(10));
    let latencies = Latencies::of(&facts, after(12));
    let whole = (
        latencies.kong,
        latencies.proxy,
        latencies.receive,
        latencies.request,
    );
    assert_eq!(whole, (3, 7, 2, 12));
}
