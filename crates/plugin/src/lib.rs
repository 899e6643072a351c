//! What a plugin author compiles against.
//!
//! A plugin is one struct, made once per configuration ([`Plugin::compile`]) and shared by all requests, with a method for each
//! phase it takes part in ([`Handler`]). It sees the request through the context of the phase ([`context`]) and answers with a
//! [`Flow`]. It knows neither the proxy nor the database; what it needs of the node comes through [`PluginEnv`].
//!
//! `crates/gateway/docs/writing-a-plugin.md` is the tutorial; [`exchange`] runs a plugin without sockets.

pub mod args;
pub mod auth;
pub mod context;
pub mod cookie;
pub mod edits;
pub mod endpoint;
pub mod env;
pub mod erased;
pub mod exchange;
pub mod facts;
pub mod fields;
pub mod flow;
pub mod header;
pub mod log_values;
pub mod media_type;
pub mod members;
pub mod multipart;
pub mod pairs;
pub mod patterns;
pub mod prepared;
pub mod shown;
pub mod slots;

pub use compact_str::CompactString;
pub use context::{
    AccessCtx, BodyCtx, CaptureSource, Captures, FailureCtx, LogCtx, LogSource, NoCaptures,
    RequestView, ResponseCtx, ResponseHead, Tls,
};
pub use edits::{BodyLimit, HeaderEdit, UpstreamEdits};
pub use endpoint::{AdminAnswer, AdminCall, AdminEndpoint, AdminOperation};
pub use env::{
    ClusterCounters, CounterError, InstanceInfo, PluginEnv, Row, Rows, RowsError, Services,
    TracingTerms,
};
pub use erased::{DynHandler, PluginDef};
pub use facts::{
    Attempt, Consumer, Credential, Directory, Facts, Issued, Lookup, RouteInfo, ServiceInfo,
};
pub use flow::{Body, ConfigError, Flow, PhaseResult, PluginError, Response};
pub use header::HeaderKey;
pub use log_values::LogValues;
pub use media_type::MediaType;
pub use patterns::Patterns;
pub use prepared::Prepared;
pub use shown::Shown;
pub use silverback_schema as schema;
pub use slots::Slots;

use std::future::Future;
use std::ops::BitOr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use silverback_schema::{EntityCheck, EntityDef, Record, Shorthand};

/// A set of phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phases(u8);

impl Phases {
    /// None: for a plugin that is only asked when a snapshot is built.
    pub const NONE: Phases = Phases(0);
    /// Before routing; global configurations only.
    pub const REWRITE: Phases = Phases(1);
    /// After routing, before the request is sent on.
    pub const ACCESS: Phases = Phases(2);
    /// A response's status and headers are known and not yet sent.
    pub const HEADER_FILTER: Phases = Phases(4);
    /// A piece of the response's body is about to be sent.
    pub const BODY_FILTER: Phases = Phases(8);
    /// The exchange is over.
    pub const LOG: Phases = Phases(16);
    /// An attempt at the upstream failed.
    pub const ON_FAILURE: Phases = Phases(32);

    /// Whether all phases of `other` are in this set.
    pub const fn has(self, other: Phases) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets, usable in constants.
    pub const fn and(self, other: Phases) -> Phases {
        Phases(self.0 | other.0)
    }
}

impl BitOr for Phases {
    type Output = Phases;
    fn bitor(self, other: Phases) -> Phases {
        self.and(other)
    }
}

/// Where a plugin may be configured; Kong's `no_consumer`, `no_service`, `no_route`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes {
    /// On consumers. Authentication plugins say no: they are what finds the consumer.
    pub consumer: bool,
    /// On services.
    pub service: bool,
    /// On routes.
    pub route: bool,
}

impl Scopes {
    /// Anywhere.
    pub const ALL: Scopes = Scopes {
        consumer: true,
        service: true,
        route: true,
    };
    /// Anywhere but on consumers.
    pub const NO_CONSUMER: Scopes = Scopes {
        consumer: false,
        service: true,
        route: true,
    };
}

/// Kong's `protocols_http`: what most plugins run on.
pub const PROTOCOLS_HTTP: &[&str] = &["grpc", "grpcs", "http", "https"];

/// What a plugin is, apart from what it does.
pub trait Plugin: Sized + Send + Sync + 'static {
    /// Its name in configurations.
    const NAME: &'static str;
    /// Its place in the chain: higher runs earlier. Kong's number where Kong has the plugin.
    const PRIORITY: i32;
    /// Shown by `GET /`.
    const VERSION: &'static str;
    /// The phases it takes part in; others are never called.
    const PHASES: Phases;
    /// Where it may be configured.
    const SCOPES: Scopes = Scopes::ALL;
    /// The protocols of routes it may run on; what is taken when a configuration names none. With an empty list it is what all plugins have.
    const PROTOCOLS: &'static [&'static str] = PROTOCOLS_HTTP;
    /// Whether configurations may name other protocols although `PROTOCOLS` has HTTP's only. They are accepted, so that configurations can be
    /// taken over from Kong, and mean nothing: only HTTP is served.
    const STREAM_TOO: bool = false;
    /// Its configuration, written with [`schema::record!`].
    type Config: Record + DeserializeOwned;

    /// Checks over several fields; paths begin with `config.`.
    fn checks() -> Vec<EntityCheck> {
        Vec::new()
    }

    /// Checks that Kong has within the record `config`; paths begin there.
    fn config_checks() -> Vec<EntityCheck> {
        Vec::new()
    }

    /// Other spellings of configuration fields.
    fn shorthands() -> Vec<Shorthand> {
        Vec::new()
    }

    /// Entities of its own, such as credentials. They are stored, served by the Admin API and, when they have
    /// [`EntityDef::lookup`], indexed for [`Directory::credential`], or for [`Directory::issued`] when they do not belong to a consumer.
    /// Each comes after those it refers to.
    fn entities() -> Vec<EntityDef> {
        Vec::new()
    }

    /// Endpoints of its own in the Admin API, for what is not about rows.
    fn endpoints() -> Vec<AdminEndpoint> {
        Vec::new()
    }

    /// One of its endpoints told all nodes something ([`AdminAnswer::telling`]). Called on each of them, also on the one that told. It
    /// must not block.
    fn hear(_text: &str, _services: &dyn Services) {}

    /// Makes the plugin from a configuration that was validated. Runs once per version of a configuration, never per request:
    /// regular expressions, address blocks and templates are compiled here.
    fn compile(config: Self::Config, env: &PluginEnv<'_>) -> Result<Self, ConfigError>;
}

/// What a plugin does. Override the phases named in [`Plugin::PHASES`].
///
/// `rewrite` and `access` come in two forms. The first is called always and costs no allocation; when it answers
/// [`Flow::Await`], which it does unless overridden, the `_async` form is called.
pub trait Handler: Plugin {
    /// Before routing.
    fn rewrite(&self, _ctx: &mut AccessCtx<'_>) -> PhaseResult {
        Ok(Flow::Await)
    }

    /// Before routing, with I/O.
    fn rewrite_async(&self, _ctx: &mut AccessCtx<'_>) -> impl Future<Output = PhaseResult> + Send {
        async { Ok(Flow::Next) }
    }

    /// After routing.
    fn access(&self, _ctx: &mut AccessCtx<'_>) -> PhaseResult {
        Ok(Flow::Await)
    }

    /// After routing, with I/O.
    fn access_async(&self, _ctx: &mut AccessCtx<'_>) -> impl Future<Output = PhaseResult> + Send {
        async { Ok(Flow::Next) }
    }

    /// Edits status and headers of a response: the upstream's or one of our own.
    fn header_filter(&self, _ctx: &mut ResponseCtx<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    /// Edits a piece of a response's body; `end` with the last one.
    fn body_filter(
        &self,
        _ctx: &mut BodyCtx<'_>,
        _chunk: &mut Option<Bytes>,
        _end: bool,
    ) -> Result<(), PluginError> {
        Ok(())
    }

    /// The exchange is over. Must not block: hand over to a task made in `compile`.
    fn log(&self, _ctx: &LogCtx<'_>) {}

    /// An attempt failed: advises whether it may be tried again. The first plugin that does not [`RetryAdvice::Pass`] decides;
    /// the budget has the last word.
    fn on_failure(&self, _ctx: &FailureCtx<'_>) -> RetryAdvice {
        RetryAdvice::Pass
    }

    /// The terms of retrying that this configuration stands for, read once when the snapshot is built: their
    /// [`RetryTerms::budget`] becomes the settings of the accounts of the routes it is on. (Those of a configuration on a
    /// consumer are not read: an account belongs to a service.)
    fn retry_terms(&self) -> Option<&RetryTerms> {
        None
    }

    /// What is to be measured of requests, read once when the snapshot is built; for each request only where configurations on
    /// consumers have to be told apart. Of several plugins in a chain the first that answers decides.
    fn metric_terms(&self) -> Option<MetricTerms> {
        None
    }
}

/// What is measured of a request beside its status code, which is always counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricTerms {
    /// How long it took, in the gateway, at the upstream and altogether.
    pub latency: bool,
    /// Bytes received and sent.
    pub bandwidth: bool,
    /// Whether status codes and bytes are counted by consumer.
    pub per_consumer: bool,
    /// Whether the health of upstreams' targets is shown among the metrics: of all, when any configuration says so.
    pub upstream_health: bool,
}

/// What [`Handler::on_failure`] says.
#[derive(Clone, Debug, PartialEq)]
pub enum RetryAdvice {
    /// No opinion: Kong's rule applies.
    Pass,
    /// Do not try again; the label for the metric.
    Stop(&'static str),
    /// May be tried again, not before this long from now when given (else the terms' backoff).
    Retry(Option<Duration>),
}

/// Terms of retrying for one request, set in `access` by the `retry` plugin ([`Facts::retry`]); without them Kong's
/// `service.retries` applies.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryTerms {
    /// At most this many attempts altogether by this gateway.
    pub attempts: u32,
    /// The longest one attempt may take; the service's timeouts when `None`.
    pub per_try_timeout: Option<Duration>,
    /// The longest all attempts may take together.
    pub deadline: Option<Duration>,
    /// The longest first pause; it doubles with each attempt. What is waited is anything up to it.
    pub backoff_base: Duration,
    /// The longest pause.
    pub backoff_cap: Duration,
    /// Statuses of the upstream after which another attempt may be made, sorted.
    pub statuses: Vec<u16>,
    /// Methods that may be sent twice, beside those with an `Idempotency-Key`.
    pub methods: Vec<http::Method>,
    /// Whether connection failures, resets and timeouts are tried again.
    pub on_connect_failure: bool,
    /// Whether a reset before any response byte is tried again.
    pub on_reset: bool,
    /// Whether a timeout is tried again.
    pub on_timeout: bool,
    /// Whether `Retry-After` and gRPC pushback are honoured: up to a second is waited, more ends the attempts.
    pub honour_retry_after: bool,
    /// The budget of the service, when this configuration changes it.
    pub budget: Option<Arc<BudgetTerms>>,
}

/// Settings of a retry budget.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetTerms {
    /// Deposited for each success of a first attempt.
    pub ratio: f64,
    /// Retries per second that are always allowed, over the whole cluster.
    pub min_retries_per_second: f64,
    /// How long a deposit lives.
    pub ttl: Duration,
    /// Hard ceiling over the whole cluster: so many retries per window.
    pub ceiling: Option<(u64, Duration)>,
}

/// Compiles and runs the tutorial.
#[cfg(doctest)]
#[doc = include_str!("../../gateway/docs/writing-a-plugin.md")]
struct Tutorial;
