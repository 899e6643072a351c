//! `aws-lambda`: answers requests with what a function of AWS Lambda makes of them; no upstream is turned to.
//!
//! Learnt from `kong/plugins/aws-lambda/handler.lua`, `request-util.lua` and `schema.lua`, and from the library that Kong calls AWS with
//! (`request/execute.lua` and `request/build.lua` of lua-resty-aws).

mod answer;
mod config;
mod credentials;
mod invoke;
mod payload;
mod sts;
#[cfg(test)]
mod tests;

use http::StatusCode;
use silverback_plugin::schema::EntityCheck;
use silverback_plugin::{
    AccessCtx, ConfigError, Flow, Handler, PhaseResult, Phases, Plugin, PluginEnv, PluginError,
    Response,
};

use answer::Answers;
pub use config::Config;
use invoke::Lambda;
use payload::Payload;

/// The plugin.
#[derive(Debug)]
pub struct AwsLambda {
    /// What is missing for an invocation. It may be the node's to give, so that a configuration without it is none the worse.
    lambda: Result<Lambda, &'static str>,
    payload: Payload,
    answers: Answers,
}

impl Plugin for AwsLambda {
    const NAME: &'static str = "aws-lambda";
    const PRIORITY: i32 = 750;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS;
    type Config = Config;

    fn checks() -> Vec<EntityCheck> {
        config::checks()
    }

    fn compile(config: Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        Ok(AwsLambda {
            payload: Payload::new(&config),
            answers: Answers::new(&config)?,
            lambda: Lambda::new(&config, env, |name| std::env::var(name).ok())?,
        })
    }
}

impl Handler for AwsLambda {
    async fn access_async(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let lambda = self.lambda.as_ref().map_err(|e| PluginError::new(*e))?;
        let payload = match self.payload.of(ctx).await {
            Ok(payload) => payload,
            Err(e) if e.is_body_too_long() => {
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                return Ok(Flow::Exit(Response::error(status, "Payload too large")));
            }
            Err(e) => return Err(e),
        };
        let answer = lambda.invoke(payload).await;
        let answer = answer.map_err(|e| PluginError::new(e.to_string()))?;
        Ok(Flow::Exit(self.answers.response(answer)?))
    }
}
