//! References to secrets: stored and shown as they were written, resolved where requests are served.

use serde_json::{Value, json};
use silverback_plugin::context::AccessCtx;
use silverback_plugin::schema::field::{array, string};
use silverback_plugin::schema::record;
use silverback_plugin::{
    ConfigError, Flow, Handler, PhaseResult, Phases, Plugin, PluginEnv, Response,
};
use silverback_testkit::gateway::{Gateway, Setup};
use silverback_testkit::upstream::Upstream;

use crate::Outcome;

record! {
    /// What is told.
    struct TellingConfig {
        /// A secret.
        secret: Option<String> = string().referenceable(),
        /// More secrets.
        more: Option<Vec<String>> = array(string().referenceable()),
        /// No place for a secret.
        plain: Option<String> = string(),
    }
}

/// Answers with its configuration.
struct Telling(TellingConfig);

impl Plugin for Telling {
    const NAME: &'static str = "telling";
    const PRIORITY: i32 = 1;
    const VERSION: &'static str = "0.0.1";
    const PHASES: Phases = Phases::ACCESS;
    type Config = TellingConfig;

    fn compile(config: TellingConfig, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        Ok(Telling(config))
    }
}

impl Handler for Telling {
    fn access(&self, _ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let c = &self.0;
        let told = json!({ "secret": c.secret, "more": c.more, "plain": c.plain });
        Ok(Flow::Exit(Response::json(
            http::StatusCode::OK,
            told.to_string(),
        )))
    }
}

async fn told(gateway: &Gateway) -> anyhow::Result<Value> {
    Ok(gateway.get("/").expect(200).await?.json())
}

#[tokio::test]
async fn secrets_are_resolved_for_requests_and_never_shown() -> Outcome {
    // The one variable that every process has.
    let secret = std::env::var("PATH")?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new()
        .extend(|g| g.plugin::<Telling>())
        .start()
        .await?;
    gateway
        .service("s", &upstream)
        .paths(["/"])
        .create()
        .await?;
    let admin = gateway.admin();
    let config = json!({
        "secret": "{vault://env/path}", "more": ["a", "{vault://mine/th}", "{vault://env/no-such-secret}"],
        "plain": "{vault://env/path}"
    });
    let id = gateway.plugin("", "telling", config.clone()).await?;
    let plain = "{vault://env/path}";
    assert_eq!(
        told(&gateway).await?,
        json!({ "secret": secret, "more": ["a", "", ""], "plain": plain })
    );

    let vault = json!({ "name": "env", "prefix": "mine", "config": { "prefix": "PA" } });
    admin.post("/vaults", &vault).expect(201).await?;
    assert_eq!(told(&gateway).await?["more"], json!(["a", secret, ""]));

    // Another node reads the same, and the Admin API shows what was written.
    let other = gateway.another().await?;
    assert_eq!(told(&other).await?["more"][1], json!(secret));
    let row = admin
        .get(&format!("/plugins/{id}"))
        .expect(200)
        .await?
        .json();
    assert_eq!(row["config"], config);
    let changed = json!({ "config": { "secret": "{vault://mine/th}" } });
    let changed = admin
        .patch(&format!("/plugins/{id}"), &changed)
        .expect(200)
        .await?;
    assert_eq!(changed.json()["config"]["secret"], "{vault://mine/th}");
    assert_eq!(told(&gateway).await?["secret"], json!(secret));

    admin.delete("/vaults/mine").expect(204).await?;
    assert_eq!(told(&gateway).await?["secret"], "");
    Ok(())
}

#[tokio::test]
async fn references_are_accepted_where_the_schema_says_so() -> Outcome {
    let gateway = Gateway::start().await?;
    let admin = gateway.admin();
    let body = json!({ "cert": "{vault://env/cert}", "key": "{vault://env/key}" });
    let row = admin.post("/certificates", &body).expect(201).await?.json();
    assert_eq!((&row["cert"], &row["key"]), (&body["cert"], &body["key"]));
    let jwk = json!({ "kid": "a", "jwk": "{vault://env/jwk}" });
    admin.post("/keys", &jwk).expect(201).await?;
    let pem = json!({ "kid": "b", "pem": { "private_key": "{vault://env/pem}" } });
    admin.post("/keys", &pem).expect(201).await?;
    let redis = json!({ "name": "rate-limiting", "config": {
        "minute": 1, "policy": "redis",
        "redis": { "host": "127.0.0.1", "password": "{vault://env/redis/password}" }
    }});
    let row = admin.post("/plugins", &redis).expect(201).await?.json();
    assert_eq!(
        row["config"]["redis"]["password"],
        "{vault://env/redis/password}"
    );
    let not_here = json!({ "name": "s", "host": "{vault://env/host}" });
    admin.post("/services", &not_here).expect(400).await?;
    Ok(())
}
