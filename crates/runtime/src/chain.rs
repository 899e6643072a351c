//! The ordered plugin chain of a route, and how its phases run.
//!
//! Kong's rules (`kong/runloop/plugins_iterator.lua`, `kong/init.lua`): plugins run by descending priority; which configuration of
//! a plugin applies is decided when its turn comes, because an authentication plugin before it may have found the consumer; after
//! a plugin answered the request itself the rest of the chain is still collected, so that their later phases run.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use silverback_plugin::context::{AccessCtx, BodyCtx, FailureCtx, LogCtx, ResponseCtx};
use silverback_plugin::{
    DynHandler, Flow, InstanceInfo, Phases, PluginError, Response, RetryAdvice,
};
use silverback_telemetry::Collect;
use smallvec::SmallVec;
use uuid::Uuid;

/// A plugin compiled for one row of `plugins`.
pub struct Instance {
    /// The plugin's name.
    pub name: &'static str,
    /// The phases it takes part in.
    pub phases: Phases,
    /// Where it was configured.
    pub info: InstanceInfo,
    /// The plugin.
    pub handler: Arc<dyn DynHandler>,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("name", &self.name)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// Configurations of one plugin by consumer.
pub type ByConsumer = HashMap<Uuid, Arc<Instance>, foldhash::fast::RandomState>;

/// One plugin's place in a chain. Kong's order of strength: route+service+consumer, route+consumer, service+consumer,
/// route+service, consumer, route, service, global.
#[derive(Debug, Default)]
pub struct Step {
    /// The strongest of those for a consumer and this route or its service.
    pub specific: Option<Arc<ByConsumer>>,
    /// The one for route and service together.
    pub route_and_service: Option<Arc<Instance>>,
    /// Those for a consumer alone; shared by all routes.
    pub consumer: Option<Arc<ByConsumer>>,
    /// The strongest of route, service, global.
    pub base: Option<Arc<Instance>>,
}

impl Step {
    /// The configuration that applies.
    fn resolve(&self, consumer: Option<Uuid>) -> Pick {
        let of = |map: &Option<Arc<ByConsumer>>| match (map, consumer) {
            (Some(all), Some(c)) => all.get(&c).cloned(),
            _ => None,
        };
        if let Some(i) = of(&self.specific) {
            return Pick::Consumer(i);
        }
        if self.route_and_service.is_some() {
            return Pick::RouteAndService;
        }
        if let Some(i) = of(&self.consumer) {
            return Pick::Consumer(i);
        }
        if self.base.is_some() {
            Pick::Base
        } else {
            Pick::None
        }
    }

    /// The one that applies whoever calls, unless it is a consumer with a configuration of its own.
    fn for_anybody(&self) -> Option<&Arc<Instance>> {
        self.route_and_service.as_ref().or(self.base.as_ref())
    }

    /// All configurations that may run here.
    fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        let maps = self
            .specific
            .iter()
            .chain(&self.consumer)
            .flat_map(|m| m.values());
        self.base.iter().chain(&self.route_and_service).chain(maps)
    }

    fn get<'a>(&'a self, pick: &'a Pick) -> Option<&'a Instance> {
        match pick {
            Pick::None => None,
            Pick::Base => self.base.as_deref(),
            Pick::RouteAndService => self.route_and_service.as_deref(),
            Pick::Consumer(i) => Some(i),
        }
    }
}

#[derive(Debug, Clone)]
enum Pick {
    None,
    Base,
    RouteAndService,
    Consumer(Arc<Instance>),
}

/// The configurations chosen for one request, one per step of its chain.
#[derive(Debug, Default, Clone)]
pub struct Picks(SmallVec<[Pick; 6]>);

/// What is measured of a chain's requests.
#[derive(Debug, Clone, Copy)]
enum Measuring {
    /// The same of all.
    Alike(Collect),
    /// As the configuration says that was chosen in this step.
    AsChosen(usize),
}

/// The plugins of a route in order.
#[derive(Debug)]
pub struct Chain {
    steps: Box<[Step]>,
    phases: Phases,
    measuring: Measuring,
}

impl Default for Chain {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

/// How the access phase ended.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "made and taken apart once per request; a box would be one more allocation"
)]
pub enum Outcome {
    /// The request goes on.
    Next,
    /// A plugin answered.
    Exit(Response),
    /// A plugin failed: which, and the text for the log. The client gets status 500.
    Failed(&'static str, String),
}

impl Chain {
    /// Steps in order of descending priority.
    pub fn new(steps: Vec<Step>) -> Self {
        let phases = steps
            .iter()
            .flat_map(Step::instances)
            .fold(Phases::NONE, |all, i| all | i.phases);
        Chain {
            measuring: measuring(&steps),
            steps: steps.into(),
            phases,
        }
    }

    /// Whether any plugin that may run takes part in this phase.
    pub fn has(&self, phase: Phases) -> bool {
        self.phases.has(phase)
    }

    /// The retry terms of the first plugin that has some, consumers' configurations aside.
    pub fn retry_terms(&self) -> Option<&silverback_plugin::RetryTerms> {
        self.steps
            .iter()
            .find_map(|s| s.for_anybody()?.handler.retry_terms())
    }

    /// What is measured of a request, by the first plugin that has something to say about it.
    pub fn collect(&self, picks: &Picks) -> Collect {
        match self.measuring {
            Measuring::Alike(collect) => collect,
            Measuring::AsChosen(step) => collect(self.chosen_in(step, picks)),
        }
    }

    /// Whether the chain has no plugin at all.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Runs `rewrite`. For the chain of global plugins.
    pub async fn rewrite(&self, ctx: &mut AccessCtx<'_>) -> Outcome {
        if !self.has(Phases::REWRITE) {
            return Outcome::Next;
        }
        for step in &self.steps {
            let Some(i) = step
                .base
                .as_deref()
                .filter(|i| i.phases.has(Phases::REWRITE))
            else {
                continue;
            };
            let mut done = guard(i, || i.handler.rewrite(ctx));
            if matches!(done, Ok(Flow::Await)) {
                done = guard_async(i, i.handler.rewrite_async(ctx)).await;
            }
            match done {
                Ok(Flow::Exit(r)) => return Outcome::Exit(r),
                Ok(_) => {}
                Err(text) => return Outcome::Failed(i.name, text),
            }
        }
        Outcome::Next
    }

    /// Chooses each plugin's configuration in turn and runs `access`. `picks` holds the choice for the later phases.
    pub async fn access(&self, picks: &mut Picks, ctx: &mut AccessCtx<'_>) -> Outcome {
        let mut outcome = Outcome::Next;
        for step in &self.steps {
            let pick = step.resolve(ctx.facts.consumer.as_ref().map(|c| c.id));
            picks.0.push(pick);
            if !matches!(outcome, Outcome::Next) {
                continue;
            }
            let Some(i) = picks
                .0
                .last()
                .and_then(|p| step.get(p))
                .filter(|i| i.phases.has(Phases::ACCESS))
            else {
                continue;
            };
            let mut done = guard(i, || i.handler.access(ctx));
            if matches!(done, Ok(Flow::Await)) {
                done = guard_async(i, i.handler.access_async(ctx)).await;
                // It read a body that an earlier one does not let pass.
                if let Some(refusal) = ctx.upstream.take_refusal() {
                    done = Ok(Flow::Exit(refusal));
                }
            }
            match done {
                Ok(Flow::Exit(r)) => outcome = Outcome::Exit(r),
                Ok(_) => {}
                Err(text) => outcome = Outcome::Failed(i.name, text),
            }
        }
        outcome
    }

    /// The instances chosen for a request that take part in a phase. Before `access` ran, or without a route, the global ones.
    fn chosen<'a>(
        &'a self,
        picks: &'a Picks,
        phase: Phases,
    ) -> impl Iterator<Item = &'a Instance> + 'a {
        (0..self.steps.len())
            .filter_map(move |step| self.chosen_in(step, picks))
            .filter(move |i| i.phases.has(phase))
    }

    fn chosen_in<'a>(&'a self, step: usize, picks: &'a Picks) -> Option<&'a Instance> {
        let s = self.steps.get(step)?;
        match picks.0.get(step) {
            Some(p) => s.get(p),
            None => s.base.as_deref(),
        }
    }

    /// Runs `header_filter`. A plugin that fails is logged; the others still run.
    pub fn header_filter(&self, picks: &Picks, ctx: &mut ResponseCtx<'_>) {
        if !self.has(Phases::HEADER_FILTER) {
            return;
        }
        for i in self.chosen(picks, Phases::HEADER_FILTER) {
            if let Err(text) = guard(i, || i.handler.header_filter(ctx)) {
                tracing::error!(
                    plugin = i.name,
                    request_id = ctx.facts.request_id(),
                    "header_filter: {text}"
                );
            }
        }
    }

    /// Runs `body_filter` over a piece of the response's body.
    pub fn body_filter(
        &self,
        picks: &Picks,
        ctx: &mut BodyCtx<'_>,
        chunk: &mut Option<Bytes>,
        end: bool,
    ) {
        if !self.has(Phases::BODY_FILTER) {
            return;
        }
        for i in self.chosen(picks, Phases::BODY_FILTER) {
            if let Err(text) = guard(i, || i.handler.body_filter(ctx, chunk, end)) {
                tracing::error!(
                    plugin = i.name,
                    request_id = ctx.facts.request_id(),
                    "body_filter: {text}"
                );
            }
        }
    }

    /// Runs `log`.
    pub fn log(&self, picks: &Picks, ctx: &LogCtx<'_>) {
        if !self.has(Phases::LOG) {
            return;
        }
        for i in self.chosen(picks, Phases::LOG) {
            let done = guard(i, || {
                i.handler.log(ctx);
                Ok(())
            });
            if let Err(text) = done {
                tracing::error!(
                    plugin = i.name,
                    request_id = ctx.facts.request_id(),
                    "log: {text}"
                );
            }
        }
    }

    /// Asks the plugins whether a failed attempt may be made again.
    pub fn on_failure(&self, picks: &Picks, ctx: &FailureCtx<'_>) -> RetryAdvice {
        if !self.has(Phases::ON_FAILURE) {
            return RetryAdvice::Pass;
        }
        for i in self.chosen(picks, Phases::ON_FAILURE) {
            match guard(i, || Ok(i.handler.on_failure(ctx))) {
                Ok(RetryAdvice::Pass) => {}
                Ok(advice) => return advice,
                Err(text) => {
                    tracing::error!(
                        plugin = i.name,
                        request_id = ctx.facts.request_id(),
                        "on_failure: {text}"
                    );
                }
            }
        }
        RetryAdvice::Pass
    }
}

fn measuring(steps: &[Step]) -> Measuring {
    let has_terms = |i: &Arc<Instance>| i.handler.metric_terms().is_some();
    let decides = |s: &Step| s.instances().any(has_terms);
    let Some(step) = steps.iter().position(decides) else {
        return Measuring::Alike(Collect::default());
    };
    let s = &steps[step];
    if s.specific.is_some() || s.consumer.is_some() {
        return Measuring::AsChosen(step);
    }
    Measuring::Alike(collect(s.for_anybody().map(Arc::as_ref)))
}

/// What a configuration says is measured; without one, or when it says nothing, what is always measured.
fn collect(i: Option<&Instance>) -> Collect {
    let terms = i.and_then(|i| i.handler.metric_terms());
    terms.map_or_else(Collect::default, |terms| Collect {
        latency: terms.latency,
        bandwidth: terms.bandwidth,
        per_consumer: terms.per_consumer,
    })
}

/// Runs a phase; a panic becomes an error.
fn guard<T>(i: &Instance, run: impl FnOnce() -> Result<T, PluginError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(v)) => Ok(v),
        Ok(Err(e)) => Err(e.to_string()),
        Err(p) => Err(panic_text(i, p.as_ref())),
    }
}

async fn guard_async<T>(
    i: &Instance,
    run: impl Future<Output = Result<T, PluginError>>,
) -> Result<T, String> {
    match AssertUnwindSafe(run).catch_unwind().await {
        Ok(Ok(v)) => Ok(v),
        Ok(Err(e)) => Err(e.to_string()),
        Err(p) => Err(panic_text(i, p.as_ref())),
    }
}

fn panic_text(i: &Instance, payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_owned());
    format!("plugin {} panicked: {text}", i.name)
}
