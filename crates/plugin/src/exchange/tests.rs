#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use http::{HeaderValue, StatusCode};
use serde_json::json;
use silverback_schema::field::string;

use super::*;
use crate::{ConfigError, HeaderKey, PhaseResult, Plugin};

silverback_schema::record! {
    /// Settings of the plugin under test.
    struct Config {
        /// What `access` does.
        then: String = string().required().default("pass").one_of(["pass", "exit", "fail"]),
    }
}

/// Takes part in every phase, waits in two of them, and writes down what was called.
struct All {
    then: String,
    called: Mutex<Vec<&'static str>>,
}

impl All {
    fn call(&self, phase: &'static str) {
        self.called.lock().unwrap().push(phase);
    }
}

impl Plugin for All {
    const NAME: &'static str = "all";
    const PRIORITY: i32 = 1;
    const VERSION: &'static str = "1";
    const PHASES: Phases = Phases::REWRITE
        .and(Phases::ACCESS)
        .and(Phases::HEADER_FILTER)
        .and(Phases::BODY_FILTER)
        .and(Phases::LOG);
    type Config = Config;

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        Ok(All {
            then: config.then,
            called: Mutex::default(),
        })
    }
}

impl Handler for All {
    async fn rewrite_async(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        assert!(ctx.route.is_none());
        self.call("rewrite");
        Ok(Flow::Next)
    }

    async fn access_async(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        self.call("access");
        assert_eq!(ctx.body.read(10).await.unwrap(), "body");
        assert!(ctx.body.read(3).await.is_err());
        match self.then.as_str() {
            "exit" => Ok(Flow::Exit(Response::error(StatusCode::IM_A_TEAPOT, "tea"))),
            "fail" => Err(PluginError::new("broken")),
            _ => Ok(Flow::Next),
        }
    }

    fn header_filter(&self, ctx: &mut ResponseCtx<'_>) -> Result<(), PluginError> {
        self.call("header_filter");
        let local = ctx.facts.local_response.to_string();
        ctx.head.set(
            &HeaderKey::from_static("X-Local"),
            HeaderValue::from_str(&local).unwrap(),
        );
        Ok(())
    }

    fn body_filter(
        &self,
        _ctx: &mut BodyCtx<'_>,
        chunk: &mut Option<Bytes>,
        end: bool,
    ) -> Result<(), PluginError> {
        self.call("body_filter");
        assert!(end);
        *chunk = chunk.take().map(|c| c.to_ascii_uppercase().into());
        Ok(())
    }

    fn log(&self, ctx: &LogCtx<'_>) {
        self.call("log");
        assert!(ctx.facts.status >= 200);
    }
}

async fn run(then: &str) -> Outcome {
    let plugin = Compiled::<All>::new(json!({ "then": then }));
    let exchange = Exchange::post("/", "text/plain", "body");
    let done = exchange
        .upstream(201, &[("x-a", "b")], "up")
        .run_on(&plugin)
        .await;
    let order = ["rewrite", "access", "header_filter", "body_filter", "log"];
    assert_eq!(*plugin.plugin().called.lock().unwrap(), order);
    done
}

#[tokio::test]
async fn the_upstreams_response_goes_through_the_response_phases() {
    let done = run("pass").await;
    assert_eq!(done.passed().status(), 201);
    assert_eq!(
        (done.header("x-a"), done.header("x-local")),
        (Some("b"), Some("false"))
    );
    assert_eq!(done.body_text(), "UP");
}

#[tokio::test]
async fn so_does_a_response_of_the_plugin() {
    let done = run("exit").await;
    assert_eq!(done.exit_status(418).header("x-local"), Some("true"));
    assert!(done.body_text().contains(r#""MESSAGE":"TEA""#));
    assert_eq!(done.header("x-a"), None);
}

#[tokio::test]
async fn a_plugin_that_fails_answers_500() {
    let done = run("fail").await;
    done.exit_status(500);
    assert_eq!(done.failed().to_string(), "broken");
}

#[test]
fn configurations_are_checked_and_filled() {
    assert_eq!(config::<All>(json!({})).unwrap()["then"], "pass");
    let refused = config::<All>(json!({ "then": "x", "y": 1 })).unwrap_err();
    assert!(
        refused
            .message()
            .starts_with("2 schema violations (config.then: expected one of:")
    );
}
