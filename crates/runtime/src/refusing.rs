//! What stands in for a plugin that this node does not know, or cannot make of its configuration.
//!
//! Such a plugin may be the one that keeps strangers out, so that leaving it out would open what it guards. Kong does not even load
//! a configuration with a plugin that it does not know (`kong/runloop/plugins_iterator.lua`); here the requests it is
//! configured for are refused and all others served.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::StatusCode;
use silverback_plugin::{
    AccessCtx, BodyCtx, DynHandler, FailureCtx, Flow, InstanceInfo, LogCtx, MetricTerms,
    PhaseResult, Phases, PluginError, Response, ResponseCtx, RetryAdvice, RetryTerms,
};

use crate::chain::Instance;

/// An instance that answers every request with status 500. Why is told once, with the other problems of the configuration.
pub(crate) fn instance(name: &'static str, info: InstanceInfo) -> Arc<Instance> {
    Arc::new(Instance {
        name,
        phases: Phases::ACCESS,
        info,
        handler: Arc::new(Refusing),
    })
}

struct Refusing;

impl DynHandler for Refusing {
    fn rewrite(&self, _: &mut AccessCtx<'_>) -> PhaseResult {
        Ok(Flow::Next)
    }

    fn rewrite_async<'a>(&'a self, _: &'a mut AccessCtx<'_>) -> BoxFuture<'a, PhaseResult> {
        Box::pin(async { Ok(Flow::Next) })
    }

    fn access(&self, _: &mut AccessCtx<'_>) -> PhaseResult {
        Ok(Flow::Exit(Response::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "An unexpected error occurred",
        )))
    }

    fn access_async<'a>(&'a self, _: &'a mut AccessCtx<'_>) -> BoxFuture<'a, PhaseResult> {
        Box::pin(async { Ok(Flow::Next) })
    }

    fn header_filter(&self, _: &mut ResponseCtx<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    fn body_filter(
        &self,
        _: &mut BodyCtx<'_>,
        _: &mut Option<Bytes>,
        _: bool,
    ) -> Result<(), PluginError> {
        Ok(())
    }

    fn log(&self, _: &LogCtx<'_>) {}

    fn on_failure(&self, _: &FailureCtx<'_>) -> RetryAdvice {
        RetryAdvice::Pass
    }

    fn retry_terms(&self) -> Option<&RetryTerms> {
        None
    }

    fn metric_terms(&self) -> Option<MetricTerms> {
        None
    }
}
