//! Requests to answers: the axum router made from the endpoint table, and the layer that every answer goes through.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use silverback_plugin::Services;
use silverback_store::Store;

use crate::auth::{Guard, Who};
use crate::body::{self, Payload};
use crate::change;
use crate::cors::{self, Asked, Origins};
use crate::crud::{self, Call};
use crate::declarative::{self, Declarative};
use crate::errors::{Answer, ApiError};
use crate::info::{self, NodeInfo};
use crate::model::Model;
use crate::paging::Args;
use crate::server::Peer;
use crate::status::StatusSource;
use crate::table::{Endpoint, Target};
use crate::{debug, plugin_endpoints, respond, schemas, tags, texts};

const LATENCY: HeaderName = HeaderName::from_static("x-kong-admin-latency");

/// Longest time for an answer. The store has shorter limits of its own; this is for what it does not think of.
const MAX_TIME: Duration = Duration::from_secs(60);

/// What handlers work with. A clone costs a few counters: a request that writes has one of its own, with a store that acts on its behalf.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) model: Arc<Model>,
    pub(crate) endpoints: Arc<[Endpoint]>,
    /// Which endpoint a path is, for paths that do not come as requests.
    pub(crate) paths: Arc<matchit::Router<usize>>,
    /// The answer of `GET /openapi.json`.
    pub(crate) openapi: Bytes,
    pub(crate) node: Arc<NodeInfo>,
    pub(crate) status: Arc<dyn StatusSource>,
    /// The node as the endpoints of plugins see it.
    pub(crate) services: Arc<dyn Services>,
    pub(crate) origins: Arc<Origins>,
    /// For a node without a database.
    pub(crate) declarative: Option<Arc<Declarative>>,
    pub(crate) guard: Guard,
    /// `Server:` of every answer.
    pub(crate) product: HeaderValue,
}

impl App {
    /// The same over another store.
    pub(crate) fn with_store(&self, store: Store) -> Self {
        App {
            store,
            ..self.clone()
        }
    }
}

/// The API as a service.
pub(crate) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for endpoint in app.endpoints.iter().cloned() {
        let (path, app, endpoint) = (endpoint.path.clone(), app.clone(), Arc::new(endpoint));
        let handler = any(move |request: Request| {
            let (app, endpoint) = (app.clone(), endpoint.clone());
            async move { dispatch(&app, &endpoint, request).await }
        });
        if path != "/" {
            // One slash at the end is as good as none (`default_route` in `kong/api/api_helpers.lua`).
            router = router.route(&format!("{path}/"), handler.clone());
        }
        router = router.route(&path, handler);
    }
    router
        .fallback(|request: Request| unknown(request.into_body()))
        .layer(middleware::from_fn_with_state(app, outermost))
}

/// A path there is nothing at.
async fn unknown(body: Body) -> Response {
    body::discard(body).await;
    ApiError::not_found().into_response()
}

async fn dispatch(app: &Arc<App>, endpoint: &Endpoint, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.uri.path().contains("//") {
        // A parameter may be empty for axum, not for Kong.
        return unknown(body).await;
    }
    if parts.method == Method::OPTIONS {
        body::discard(body).await;
        return match endpoint.target {
            // These are not there for anybody who asks, whatever the question.
            Target::Disabled => ApiError::not_found().into_response(),
            Target::Filters => ApiError::bad(texts::NO_FILTERS).into_response(),
            _ => {
                let mut response = respond::empty(StatusCode::NO_CONTENT);
                cors::methods(response.headers_mut(), &endpoint.allow);
                response
            }
        };
    }
    let args = Args::parse(parts.uri.query());
    let terms = || change::check_terms(&parts.method, &args, endpoint.target, &parts.headers);
    let may = who(&parts).and_then(|w| w.may(&parts.method, endpoint.target));
    let answer = if let Err(e) = may {
        body::discard(body).await;
        Err(e)
    } else if let Some(e) = terms().err().filter(|_| endpoint.allows(&parts.method)) {
        body::discard(body).await;
        Err(e)
    } else if endpoint.target == Target::Config && endpoint.allows(&parts.method) {
        // However long it takes: a configuration is loaded even when nobody waits any more.
        declarative::serve(app, &parts, body).await
    } else if endpoint.allows(&parts.method) {
        match tokio::time::timeout(MAX_TIME, answer(app, endpoint.target, &parts, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(ApiError::unavailable(texts::TOO_SLOW)),
        }
    } else {
        body::discard(body).await;
        Err(ApiError::MethodNotAllowed)
    };
    // RFC 9110 (15.5.6) would have an Allow header on a 405; Kong has none, and recorded clients do without it.
    answer.into_response()
}

async fn answer(app: &App, target: Target, parts: &http::request::Parts, body: Body) -> Answer {
    let path = parts.uri.path();
    if target == Target::Batch {
        let operations = body::read_json(&parts.headers, body).await?;
        let acting = app.with_store(app.store.acting_as(&who(parts)?.actor));
        return change::batch(&acting, &Args::parse(parts.uri.query()), operations).await;
    }
    // Bodies of other requests are ignored, whatever they are; clients do send them.
    let payload = match parts.method {
        Method::POST | Method::PUT | Method::PATCH => body::read(&parts.headers, body).await?,
        _ => {
            body::discard(body).await;
            Payload::default()
        }
    };
    let writes = !matches!(parts.method, Method::GET | Method::HEAD);
    let acting = match writes {
        true => Some(app.with_store(app.store.acting_as(&who(parts)?.actor))),
        false => None,
    };
    let call = Call {
        app: acting.as_ref().unwrap_or(app),
        method: &parts.method,
        path: path
            .strip_suffix('/')
            .unwrap_or(path)
            .trim_start_matches('/'),
        args: Args::parse(parts.uri.query()),
        payload,
    };
    match target {
        Target::Root => info::root(&call).await,
        Target::Status => info::status(&call).await,
        Target::Endpoints => info::endpoints(&call),
        Target::OpenApi => Ok(respond::ok_bytes(app.openapi.clone())),
        Target::EnabledPlugins => info::enabled_plugins(&call),
        Target::RetryBudgets => info::retry_budgets(&call),
        Target::Timers => info::timers(&call),
        Target::Dns => info::dns(&call),
        Target::Metrics => info::metrics(&call),
        Target::Cache => info::forget(&call),
        Target::Cached => info::cached(&call),
        Target::Clustering => info::clustering(&call),
        Target::LogLevel => debug::level(&call),
        Target::SetLogLevel { everywhere } => debug::set_level(&call, everywhere).await,
        Target::OfPlugin { plugin, nth } => plugin_endpoints::serve(call, plugin, nth).await,
        Target::EntitySchema => schemas::entity(&call),
        Target::PluginSchema => schemas::plugin(&call),
        Target::PluginConfigSchema => schemas::plugin_config(&call),
        Target::ValidateEntity => schemas::validate_entity(call),
        Target::ValidatePlugin => schemas::validate_plugin(call),
        Target::VaultSchema => schemas::vault(&call),
        Target::ValidateVault => schemas::validate_vault(call),
        Target::FilterSchema => schemas::filter(&call),
        Target::Disabled | Target::Config => Err(ApiError::not_found()),
        Target::Filters => Err(ApiError::bad(texts::NO_FILTERS)),
        Target::Tags => tags::all(call).await,
        Target::Tag => tags::one(call).await,
        Target::Batch => Err(ApiError::MethodNotAllowed),
        Target::Revisions => change::revisions(&call).await,
        Target::Revision => change::revision(&call).await,
        Target::Rollback => change::roll_back(&call).await,
        Target::Collection { .. }
        | Target::Row { .. }
        | Target::Below { .. }
        | Target::RowBelow { .. }
        | Target::Hop { .. } => change::serve(call, target, &parts.headers).await,
        Target::UpstreamHealth | Target::AllTargets | Target::Report { .. } => {
            crud::serve(call, target).await
        }
    }
}

/// Who asks. Nobody comes here who was not asked.
fn who(parts: &http::request::Parts) -> Result<&Who, ApiError> {
    parts.extensions.get().ok_or(ApiError::Unauthorized)
}

/// Lets those in who may come in, and says who they are. Browsers ask with OPTIONS before they send a token.
async fn admit(app: &App, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    if parts.method != Method::OPTIONS {
        match app.guard.identify(&parts) {
            Ok(who) => drop(parts.extensions.insert(who)),
            Err(e) => {
                body::discard(body).await;
                return e.into_response();
            }
        }
    }
    next.run(Request::from_parts(parts, body)).await
}

/// Around everything, so that also errors, unknown paths and panics are answered in full and seen in the log.
async fn outermost(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let asked = Asked::of(request.method(), request.headers());
    let method = request.method().clone();
    let uri = request.uri().clone();
    let peer = request.extensions().get::<Peer>().map(|p| p.0);
    // A handler holds nothing that a panic could leave half-done: the store's transactions roll back.
    let admitted = AssertUnwindSafe(admit(&app, request, next));
    let mut response = match admitted.catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let why = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            tracing::error!(%method, %uri, panic = why.unwrap_or("unknown"), "an Admin API handler panicked");
            ApiError::message(StatusCode::INTERNAL_SERVER_ERROR, texts::UNEXPECTED).into_response()
        }
    };
    let headers = response.headers_mut();
    asked.answer(&app.origins, headers);
    headers.insert(header::SERVER, app.product.clone());
    let took = began.elapsed();
    headers.insert(
        LATENCY,
        HeaderValue::from(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
    );
    tracing::info!(
        target: "silverback::admin::access",
        client = peer.map(|p| tracing::field::display(p.ip())),
        method = %method,
        path = uri.path(),
        status = response.status().as_u16(),
        ms = took.as_secs_f64() * 1000.0,
        "admin request"
    );
    response
}
