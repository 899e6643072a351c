//! `correlation-id`: gives each request an id in a header, for the upstream and, when asked, for the client.
//!
//! Learnt from `kong/plugins/correlation-id/handler.lua` and `schema.lua`.

mod generator;
#[cfg(test)]
mod tests;

use http::HeaderValue;
use silverback_plugin::schema::field::{boolean, string};
use silverback_plugin::schema::record;
use silverback_plugin::{
    AccessCtx, ConfigError, Flow, Handler, HeaderKey, PhaseResult, Phases, Plugin, PluginEnv,
    PluginError, ResponseCtx,
};

use generator::Generator;

record! {
    /// Settings of `correlation-id`.
    pub struct Config {
        /// The header that carries the id.
        pub header_name: Option<String> = string().default(DEFAULT_HEADER),
        /// How ids are made: a random UUID; the UUID of a worker with a number; or addresses, process, connection and time.
        pub generator: String = string().required().default("uuid#counter").one_of(["uuid", "uuid#counter", "tracker"]),
        /// Also send the id to the client.
        pub echo_downstream: bool = boolean().required().default(false),
    }
}

const DEFAULT_HEADER: &str = "Kong-Request-ID";

/// The plugin.
#[derive(Debug)]
pub struct CorrelationId {
    header: HeaderKey,
    generator: Generator,
    echo: bool,
}

/// The id of a request, where the client is to see it.
struct Id(HeaderValue);

impl Plugin for CorrelationId {
    const NAME: &'static str = "correlation-id";
    const PRIORITY: i32 = 100_001;
    const VERSION: &'static str = "3.9.1";
    const PHASES: Phases = Phases::ACCESS.and(Phases::HEADER_FILTER);
    type Config = Config;

    fn compile(config: Config, _env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let name = config.header_name.as_deref().unwrap_or(DEFAULT_HEADER);
        let header = HeaderKey::new(name)
            .map_err(|_| ConfigError::new("header_name", "is no name of a header"))?;
        let generator = match config.generator.as_str() {
            "uuid" => Generator::Uuid,
            "tracker" => Generator::Tracker,
            _ => Generator::Counter,
        };
        Ok(CorrelationId {
            header,
            generator,
            echo: config.echo_downstream,
        })
    }
}

impl Handler for CorrelationId {
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        let given = ctx.header(self.header.name()).filter(|v| !v.is_empty());
        let id = match given {
            Some(_) if !self.echo && !ctx.facts.log_values.wanted() => return Ok(Flow::Next),
            Some(given) => given.clone(),
            None => {
                let made = self.generator.make(ctx.facts)?;
                ctx.upstream.set(self.header.clone(), made.clone());
                made
            }
        };
        let text = || String::from_utf8_lossy(id.as_bytes()).into();
        ctx.facts.log_values.set("correlation_id", text);
        if self.echo {
            ctx.facts.slots.insert(Id(id));
        }
        Ok(Flow::Next)
    }

    fn header_filter(&self, ctx: &mut ResponseCtx<'_>) -> Result<(), PluginError> {
        if !self.echo {
            return Ok(());
        }
        let known = ctx.facts.slots.get::<Id>().map(|id| id.0.clone());
        // Answers given before this plugin's turn, such as "no route matched", have no id yet.
        let known = known.or_else(|| {
            ctx.request
                .header(self.header.name())
                .filter(|v| !v.is_empty())
                .cloned()
        });
        let id = match known {
            Some(id) => id,
            None => self.generator.make(ctx.facts)?,
        };
        ctx.head.set(&self.header, id);
        Ok(())
    }
}
