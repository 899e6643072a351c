//! `/config`: the whole configuration at once, when there is no database (`kong/api/routes/config.lua`).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value, json};
use silverback_declarative::{EMPTY_HASH, Format, Source, Writer, hash};
use silverback_schema::Violations;
use silverback_store::{Row, StoreError};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::app::App;
use crate::body;
use crate::crud::{accept, now};
use crate::errors::{Answer, ApiError};
use crate::paging::Args;
use crate::{respond, texts};

/// Largest configuration in a request.
const MAX_BYTES: usize = 512 * 1024 * 1024;

/// What `/config` needs beside the store.
pub(crate) struct Declarative {
    format: Format,
    /// One configuration is loaded at a time. Whoever loads one holds it to the end, whether or not somebody still waits for the answer.
    loading: Arc<Mutex<()>>,
}

impl Declarative {
    pub(crate) fn new(format: Format) -> Self {
        Declarative {
            format,
            loading: Arc::default(),
        }
    }
}

/// `GET` and `POST /config`.
pub(crate) async fn serve(app: &Arc<App>, parts: &Parts, body: Body) -> Answer {
    let Some(declarative) = &app.declarative else {
        body::discard(body).await;
        return Err(ApiError::bad(texts::HAS_DATABASE));
    };
    let (app, declarative) = (app.clone(), declarative.clone());
    let runtime = Handle::current();
    if parts.method != Method::POST {
        body::discard(body).await;
        return aside(move || runtime.block_on(get(&app, &declarative.format))).await;
    }
    let Ok(loading) = declarative.loading.clone().try_lock_owned() else {
        body::discard(body).await;
        return Ok(busy());
    };
    let raw = body::collect(body, MAX_BYTES).await?;
    let parts = parts.clone();
    aside(move || {
        let _loading = loading;
        let asked = runtime.block_on(Asked::read(&parts, raw))?;
        post(&app, &declarative.format, asked)
    })
    .await
}

/// Large configurations take seconds: not on the threads that answer others.
async fn aside(work: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| {
        tracing::error!(error = %e, "a configuration could not be loaded or read");
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Err(ApiError::message(status, texts::UNEXPECTED))
    })
}

async fn get(app: &App, format: &Format) -> Answer {
    let entities: Vec<_> = format.exported().collect();
    let mut writer = Writer::new();
    app.store
        .export(&entities, |def, row| {
            writer.row(def, row);
            Ok::<_, StoreError>(())
        })
        .await?;
    Ok(respond::ok(&json!({ "config": writer.take() })))
}

fn post(app: &App, format: &Format, asked: Asked) -> Answer {
    let bad = |body: Value| ApiError::Json(StatusCode::BAD_REQUEST, body);
    let (mut tree, new_hash) = match asked.config {
        Config::Tree(tree, hash) => (tree, hash),
        Config::Text(text) => {
            let tree = format.read(&text, Source::Nameless);
            (tree.map_err(|e| bad(e.to_json()))?, hash(&text))
        }
    };
    if asked.check_hash && app.store.configuration_hash().as_deref() == Some(new_hash.as_str()) {
        return Ok(respond::empty(StatusCode::NOT_MODIFIED));
    }
    let check = |entity: &str, row: &Row| -> Result<(), Violations> {
        app.model
            .get(entity)
            .map_or(Ok(()), |entity| accept(app, entity, row))
    };
    let declared = format.check(&mut tree, now(), &check).map_err(|e| {
        bad(if asked.flatten_errors {
            e.to_json_flattened(&tree, format)
        } else {
            e.to_json()
        })
    })?;
    drop(tree);
    let shown = declared.to_json();
    if asked.dry_run {
        return Ok(respond::dry(respond::json(StatusCode::CREATED, &shown)));
    }
    let new_hash = if declared.entities.is_empty() {
        EMPTY_HASH.to_owned()
    } else {
        new_hash
    };
    let rows: BTreeMap<String, Vec<Row>> = declared
        .entities
        .into_iter()
        .map(|(name, rows)| (name.to_owned(), rows))
        .collect();
    app.store.replace(rows, new_hash)?;
    Ok(respond::json(StatusCode::CREATED, &shown))
}

fn busy() -> Response {
    let mut response = respond::json(
        StatusCode::TOO_MANY_REQUESTS,
        &json!({ "message": texts::CONFIG_BUSY }),
    );
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// A `POST`, taken apart.
struct Asked {
    config: Config,
    check_hash: bool,
    flatten_errors: bool,
    dry_run: bool,
}

enum Config {
    /// JSON that is the configuration itself, with the hash of the body.
    Tree(Map<String, Value>, String),
    /// JSON or YAML.
    Text(Bytes),
}

impl Asked {
    /// The configuration is the body, or the field `config` of JSON or of a form.
    async fn read(parts: &Parts, raw: Bytes) -> Result<Self, ApiError> {
        let parsed = body::parse(&parts.headers, raw.clone()).await;
        let mut fields = match parsed {
            Ok(payload) => payload.fields,
            // Whatever it is said to be, it may be YAML.
            Err(ApiError::UnsupportedMediaType) => Map::new(),
            Err(e) => return Err(e),
        };
        let args = Args::parse(parts.uri.query());
        let dry_run = args.dry_run()?;
        let mut option = |name: &str| {
            let field = fields.remove(name);
            args.get(name)
                .map(|text| Value::from(text.to_owned()))
                .or(field)
        };
        let check_hash = option("check_hash").is_some_and(|v| v == "1" || v == 1);
        let flatten_errors = option("flatten_errors").as_ref().is_some_and(truthy);
        let config = if fields.get("_format_version").is_some_and(|v| !v.is_null()) {
            Config::Tree(fields, hash(&raw))
        } else {
            match fields.remove("config") {
                Some(Value::String(text)) => Config::Text(text.into()),
                Some(Value::Object(tree)) => Config::Tree(tree, hash(&raw)),
                _ if raw.is_empty() => return Err(ApiError::bad(texts::NO_CONFIG)),
                _ => Config::Text(raw),
            }
        };
        Ok(Asked {
            config,
            check_hash,
            flatten_errors,
            dry_run,
        })
    }
}

fn truthy(v: &Value) -> bool {
    match v {
        Value::String(s) => ["true", "1", "on", "yes"].contains(&s.to_lowercase().as_str()),
        Value::Number(n) => n.as_i64() == Some(1),
        other => *other == true,
    }
}
