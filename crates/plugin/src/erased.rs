//! A plugin without its type: what registries and chains hold.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};
use silverback_schema::plugin_def::Protocols;
use silverback_schema::{EntityCheck, EntityDef, Record, RecordDef};

use crate::context::{AccessCtx, BodyCtx, FailureCtx, LogCtx, ResponseCtx};
use crate::endpoint::AdminEndpoint;
use crate::env::{PluginEnv, Services};
use crate::flow::{ConfigError, PhaseResult, PluginError};
use crate::{Handler, MetricTerms, Phases, RetryAdvice, RetryTerms, Scopes};

/// The answer of an asynchronous phase.
pub type PhaseFuture<'a> = Pin<Box<dyn Future<Output = PhaseResult> + Send + 'a>>;

/// [`Handler`] without its type.
pub trait DynHandler: Send + Sync {
    /// See [`Handler::rewrite`].
    fn rewrite(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult;
    /// See [`Handler::rewrite_async`].
    fn rewrite_async<'a>(&'a self, ctx: &'a mut AccessCtx<'_>) -> PhaseFuture<'a>;
    /// See [`Handler::access`].
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult;
    /// See [`Handler::access_async`].
    fn access_async<'a>(&'a self, ctx: &'a mut AccessCtx<'_>) -> PhaseFuture<'a>;
    /// See [`Handler::header_filter`].
    fn header_filter(&self, ctx: &mut ResponseCtx<'_>) -> Result<(), PluginError>;
    /// See [`Handler::body_filter`].
    fn body_filter(
        &self,
        ctx: &mut BodyCtx<'_>,
        chunk: &mut Option<Bytes>,
        end: bool,
    ) -> Result<(), PluginError>;
    /// See [`Handler::log`].
    fn log(&self, ctx: &LogCtx<'_>);
    /// See [`Handler::on_failure`].
    fn on_failure(&self, ctx: &FailureCtx<'_>) -> RetryAdvice;
    /// See [`Handler::retry_terms`].
    fn retry_terms(&self) -> Option<&RetryTerms>;
    /// See [`Handler::metric_terms`].
    fn metric_terms(&self) -> Option<MetricTerms>;
}

impl<H: Handler> DynHandler for H {
    fn rewrite(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        Handler::rewrite(self, ctx)
    }
    fn rewrite_async<'a>(&'a self, ctx: &'a mut AccessCtx<'_>) -> PhaseFuture<'a> {
        Box::pin(Handler::rewrite_async(self, ctx))
    }
    fn access(&self, ctx: &mut AccessCtx<'_>) -> PhaseResult {
        Handler::access(self, ctx)
    }
    fn access_async<'a>(&'a self, ctx: &'a mut AccessCtx<'_>) -> PhaseFuture<'a> {
        Box::pin(Handler::access_async(self, ctx))
    }
    fn header_filter(&self, ctx: &mut ResponseCtx<'_>) -> Result<(), PluginError> {
        Handler::header_filter(self, ctx)
    }
    fn body_filter(
        &self,
        ctx: &mut BodyCtx<'_>,
        chunk: &mut Option<Bytes>,
        end: bool,
    ) -> Result<(), PluginError> {
        Handler::body_filter(self, ctx, chunk, end)
    }
    fn log(&self, ctx: &LogCtx<'_>) {
        Handler::log(self, ctx)
    }
    fn on_failure(&self, ctx: &FailureCtx<'_>) -> RetryAdvice {
        Handler::on_failure(self, ctx)
    }
    fn retry_terms(&self) -> Option<&RetryTerms> {
        Handler::retry_terms(self)
    }
    fn metric_terms(&self) -> Option<MetricTerms> {
        Handler::metric_terms(self)
    }
}

/// Makes a plugin from its validated configuration.
pub type Compile =
    fn(&Map<String, Value>, &PluginEnv<'_>) -> Result<Arc<dyn DynHandler>, ConfigError>;

/// A plugin as it is registered.
#[derive(Clone)]
pub struct PluginDef {
    /// Its name.
    pub name: &'static str,
    /// Its place in the chain: higher runs earlier.
    pub priority: i32,
    /// Its version.
    pub version: &'static str,
    /// The phases it takes part in.
    pub phases: Phases,
    /// Where it may be configured.
    pub scopes: Scopes,
    /// The protocols it may run on.
    pub protocols: &'static [&'static str],
    /// Whether it may be configured for routes of other protocols as well.
    pub stream_too: bool,
    /// The form of its configuration.
    pub config: RecordDef,
    /// Checks over several fields; paths begin with `config.`.
    pub checks: Vec<EntityCheck>,
    /// Entities of its own.
    pub entities: Vec<EntityDef>,
    /// Endpoints of its own in the Admin API.
    pub endpoints: Vec<AdminEndpoint>,
    /// Takes in what one of them told all nodes.
    pub hear: fn(&str, &dyn Services),
    /// Makes it.
    pub compile: Compile,
}

impl PluginDef {
    /// The registration of a plugin.
    pub fn of<P: Handler>() -> Self {
        PluginDef {
            name: P::NAME,
            priority: P::PRIORITY,
            version: P::VERSION,
            phases: P::PHASES,
            scopes: P::SCOPES,
            protocols: P::PROTOCOLS,
            stream_too: P::STREAM_TOO,
            config: RecordDef {
                fields: P::Config::fields(),
                checks: P::config_checks(),
                shorthands: P::shorthands(),
            },
            checks: P::checks(),
            entities: P::entities(),
            endpoints: P::endpoints(),
            hear: P::hear,
            compile: |config, env| {
                let config = serde_json::from_value(Value::Object(config.clone()))
                    .map_err(|e| ConfigError::new("", e.to_string()))?;
                Ok(Arc::new(P::compile(config, env)?))
            },
        }
    }

    /// The protocols it may be configured for.
    pub fn protocols(&self) -> Protocols<'static> {
        Protocols {
            default: self.protocols,
            stream_too: self.stream_too,
        }
    }
}

impl std::fmt::Debug for PluginDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginDef")
            .field("name", &self.name)
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}
