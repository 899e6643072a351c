//! `POST /batch`: several writes that happen together or not at all, under one revision.

use std::collections::HashMap;
use std::sync::LazyLock;

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use silverback_schema::field::string;
use silverback_schema::{EntityDef, Op, Violations, complete};

use super::{AGAIN, Dry, end, unmoved};
use crate::app::App;
use crate::body::Payload;
use crate::crud::{self, Call};
use crate::errors::{Answer, ApiError};
use crate::paging::{Args, escape};
use crate::table::Target;
use crate::{respond, texts};

/// Most operations of one batch.
const MAX: usize = 5000;

/// In a body: stands for `{"id": ".."}` of what an earlier operation answered, or with `field` beside it for that field.
const REFERENCE: &str = "$operation";

/// What an operation may look like.
static OPERATION: LazyLock<EntityDef> = LazyLock::new(|| {
    let fields = vec![
        ("name", string().matches("^[%w_%-%.]+$")),
        (
            "method",
            string()
                .required()
                .one_of(["POST", "PUT", "PATCH", "DELETE"]),
        ),
        ("path", string().required().starts_with("/")),
        ("if_match", string()),
    ];
    EntityDef::new("operations", fields)
});

/// One write of a batch.
#[derive(Debug, Clone)]
struct Operation {
    name: Option<String>,
    method: Method,
    path: String,
    body: Map<String, Value>,
    if_match: Option<String>,
}

/// What operations answered, for those after them.
#[derive(Default)]
struct Said {
    /// The results, in order.
    all: Vec<Value>,
    by_name: HashMap<String, Map<String, Value>>,
}

impl Dry for Vec<Value> {
    fn dry(self) -> Self {
        self
    }
}

/// `POST /batch`. The body is a list of operations, or an object with the list as `operations`.
pub(crate) async fn batch(app: &App, args: &Args<'_>, body: Value) -> Answer {
    let dry_run = args.dry_run()?;
    let operations = parsed(body)?;
    let mut left = AGAIN;
    loop {
        let transaction = app.store.begin().await?;
        let inside = app.with_store(transaction.store().clone());
        let locking = app.with_store(transaction.locking());
        let done = Box::pin(run(&inside, &locking, &operations)).await;
        let Some((data, revision)) = end(transaction, done, dry_run, &mut left).await? else {
            continue;
        };
        let answer = respond::ok(&json!({ "data": data, "revision": revision }));
        return Ok(if dry_run {
            respond::dry(answer)
        } else {
            respond::written(answer, revision)
        });
    }
}

/// Carries them out one after the other, up to the first that is refused.
async fn run(app: &App, locking: &App, operations: &[Operation]) -> Result<Vec<Value>, ApiError> {
    let mut said = Said::default();
    for (i, operation) in operations.iter().enumerate() {
        let done = one(app, locking, operation, &mut said).await;
        done.map_err(|e| located(e, i, operation))?;
    }
    Ok(said.all)
}

async fn one(
    app: &App,
    locking: &App,
    operation: &Operation,
    said: &mut Said,
) -> Result<(), ApiError> {
    let path = said.path(&operation.path)?;
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path.as_str(), None),
    };
    let mut payload = Payload::default();
    for (field, value) in &operation.body {
        payload
            .fields
            .insert(field.clone(), said.value(value.clone())?);
    }
    let target = target(app, path, &operation.method)?;
    let call = |app| Call {
        app,
        method: &operation.method,
        path: path.trim_matches('/'),
        args: Args::parse(query),
        payload: payload.clone(),
    };
    if call(app).args.get("dry_run").is_some() {
        return Err(ApiError::invalid_option("dry_run", texts::DRY_RUN_OF_ALL));
    }
    if let Some(wanted) = &operation.if_match {
        Box::pin(unmoved(&call(locking), target, wanted)).await?;
    }
    let response = Box::pin(crud::serve(call(app), target)).await?;
    let status = response.status().as_u16();
    let (parts, body) = response.into_parts();
    // It is in memory already.
    let bytes = body.collect().await.map(|b| b.to_bytes());
    let body = bytes
        .ok()
        .and_then(|b| serde_json::from_slice(&b).ok())
        .unwrap_or(Value::Null);
    let mut result = Map::new();
    if let Some(name) = &operation.name {
        result.insert("name".into(), name.as_str().into());
        if let Value::Object(row) = &body {
            said.by_name.insert(name.clone(), row.clone());
        }
    }
    result.insert("status".into(), status.into());
    if let Some(etag) = parts.headers.get(http::header::ETAG) {
        result.insert("etag".into(), etag.to_str().unwrap_or_default().into());
    }
    result.insert("body".into(), body);
    said.all.push(result.into());
    Ok(())
}

/// What a path stands for.
fn target(app: &App, path: &str, method: &Method) -> Result<Target, ApiError> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.contains("//") {
        return Err(ApiError::not_found());
    }
    let found = app.paths.at(path).map_err(|_| ApiError::not_found())?;
    let endpoint = app
        .endpoints
        .get(*found.value)
        .ok_or_else(ApiError::not_found)?;
    let rows = matches!(
        endpoint.target,
        Target::Collection { .. }
            | Target::Row { .. }
            | Target::Below { .. }
            | Target::RowBelow { .. }
            | Target::Hop { .. }
    );
    if !rows {
        return Err(ApiError::bad(texts::NO_BATCH));
    }
    if !endpoint.allows(method) {
        return Err(ApiError::MethodNotAllowed);
    }
    Ok(endpoint.target)
}

impl Said {
    /// A path with `{name}` and `{name.field}` replaced.
    fn path(&self, path: &str) -> Result<String, ApiError> {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        let mut out = Vec::new();
        for segment in path.split('/') {
            let inner = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
            out.push(match inner {
                None => segment.to_owned(),
                Some(inner) => {
                    // Names may have dots themselves.
                    let (name, field) = match inner.rsplit_once('.') {
                        Some(split) if !self.by_name.contains_key(inner) => split,
                        _ => (inner, "id"),
                    };
                    match self.field(name, field)? {
                        Value::String(text) => escape(&text),
                        other => escape(&other.to_string()),
                    }
                }
            });
        }
        let path = out.join("/");
        Ok(match query {
            Some(query) => format!("{path}?{query}"),
            None => path,
        })
    }

    /// A value with all references in it replaced. How deep it nests is bounded by the parser.
    fn value(&self, value: Value) -> Result<Value, ApiError> {
        Ok(match value {
            Value::Array(items) => Value::Array(
                items
                    .into_iter()
                    .map(|v| self.value(v))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Object(map) => match (map.get(REFERENCE), map.get("field"), map.len()) {
                (Some(Value::String(name)), None, 1) => json!({ "id": self.field(name, "id")? }),
                (Some(Value::String(name)), Some(Value::String(field)), 2) => {
                    self.field(name, field)?
                }
                _ => {
                    let mut out = Map::with_capacity(map.len());
                    for (key, v) in map {
                        out.insert(key, self.value(v)?);
                    }
                    out.into()
                }
            },
            other => other,
        })
    }

    fn field(&self, name: &str, field: &str) -> Result<Value, ApiError> {
        let row = self.by_name.get(name);
        let found = row.and_then(|row| row.get(field)).filter(|v| !v.is_null());
        found.cloned().ok_or_else(|| {
            let what = match row {
                None => "no operation before it answered a row under that name".to_owned(),
                Some(_) => format!("the row it answered has no '{field}'"),
            };
            ApiError::bad(&format!("cannot refer to '{name}': {what}"))
        })
    }
}

/// The operations of a body.
fn parsed(body: Value) -> Result<Vec<Operation>, ApiError> {
    let list = match body {
        Value::Array(list) => list,
        Value::Object(mut map) => {
            let list = map.remove("operations");
            if let Some(unknown) = map.keys().next() {
                return Err(Violations::field(unknown, "unknown field").into());
            }
            match list {
                Some(Value::Array(list)) => list,
                Some(_) => return Err(Violations::field("operations", "expected an array").into()),
                None => {
                    return Err(Violations::field("operations", "required field missing").into());
                }
            }
        }
        _ => return Err(ApiError::bad(texts::NO_OPERATIONS)),
    };
    if list.len() > MAX {
        let text = format!(
            "a batch has at most {MAX} operations, this one has {}",
            list.len()
        );
        return Err(ApiError::message(StatusCode::PAYLOAD_TOO_LARGE, &text));
    }
    let mut out: Vec<Operation> = Vec::with_capacity(list.len());
    let mut names = std::collections::HashSet::new();
    for (i, item) in list.into_iter().enumerate() {
        let operation = operation(item).map_err(|e| numbered(e.into(), i))?;
        if let Some(name) = &operation.name
            && !names.insert(name.clone())
        {
            let wrong = Violations::field("name", "an operation before it has the same name");
            return Err(numbered(wrong.into(), i));
        }
        out.push(operation);
    }
    Ok(out)
}

fn operation(item: Value) -> Result<Operation, Violations> {
    let Value::Object(mut fields) = item else {
        return Err(Violations::field("operations", "expected a record"));
    };
    // Its nulls mean something, and are no business of this definition.
    let body = match fields.remove("body") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(body)) => body,
        Some(_) => return Err(Violations::field("body", "expected a record")),
    };
    let mut row = complete(&OPERATION, fields, Op::Insert, 0)?;
    let mut text = |name: &str| match row.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let (name, if_match) = (text("name"), text("if_match"));
    let (method, path) = (text("method"), text("path"));
    let method = method.and_then(|m| m.parse().ok()).unwrap_or_default();
    Ok(Operation {
        name,
        method,
        path: path.unwrap_or_default(),
        body,
        if_match,
    })
}

/// An error with the place of the operation it is about.
fn numbered(error: ApiError, i: usize) -> ApiError {
    placed(error, &format!("operation {i}"), json!({ "index": i }))
}

/// An error with the operation that it is the answer to.
fn located(error: ApiError, i: usize, operation: &Operation) -> ApiError {
    let (method, path) = (operation.method.as_str(), &operation.path);
    let mut place = json!({ "index": i, "method": method, "path": path });
    if let Some(name) = &operation.name {
        place["name"] = name.as_str().into();
    }
    let error = match error {
        // Of the operation, not of the request that brought it.
        ApiError::MethodNotAllowed => ApiError::bad(texts::METHOD_NOT_ALLOWED),
        other => other,
    };
    placed(error, &format!("operation {i} ({method} {path})"), place)
}

fn placed(error: ApiError, place: &str, operation: Value) -> ApiError {
    match error {
        ApiError::Json(status, Value::Object(mut body)) => {
            let text = body
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or_default();
            body.insert("message".into(), format!("{place}: {text}").into());
            body.insert("operation".into(), operation);
            ApiError::Json(status, body.into())
        }
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn said() -> Said {
        let row = json!({ "id": "1-2", "name": "a b", "n": 5, "none": null });
        let by_name = HashMap::from([("x.y".to_owned(), row.as_object().unwrap().clone())]);
        Said {
            all: Vec::new(),
            by_name,
        }
    }

    fn refused(e: ApiError) -> String {
        match e {
            ApiError::Json(_, body) => body["message"].as_str().unwrap().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn paths_refer_to_earlier_operations_by_segments() {
        let path = |p| said().path(p);
        assert_eq!(
            path("/services/{x.y}/routes?a={b}").unwrap(),
            "/services/1-2/routes?a={b}"
        );
        assert_eq!(path("/services/{x.y.name}").unwrap(), "/services/a%20b");
        assert_eq!(path("/a{x.y}").unwrap(), "/a{x.y}");
        assert!(refused(path("/{x}").unwrap_err()).contains("no operation before it"));
        assert!(refused(path("/{x.y.none}").unwrap_err()).contains("has no 'none'"));
    }

    #[test]
    fn bodies_refer_to_earlier_operations_wherever_a_value_is() {
        let value = |v| said().value(v).unwrap();
        assert_eq!(
            value(json!({ "service": { "$operation": "x.y" } })),
            json!({ "service": { "id": "1-2" } })
        );
        assert_eq!(
            value(json!([{ "$operation": "x.y", "field": "n" }])),
            json!([5])
        );
        // Not a reference.
        let other = json!({ "$operation": "x.y", "field": "n", "more": 1 });
        assert_eq!(value(other.clone()), other);
    }

    #[test]
    fn a_malformed_operation_is_named_in_kongs_shape() {
        let e = parsed(json!([
            { "method": "POST", "path": "/services" },
            { "method": "GET", "path": "services", "boddy": {} }
        ]));
        let ApiError::Json(status, body) = e.unwrap_err() else {
            panic!()
        };
        assert_eq!((status.as_u16(), &body["code"]), (400, &json!(2)));
        assert_eq!(body["operation"], json!({ "index": 1 }));
        for field in ["method", "path", "boddy"] {
            assert!(body["fields"][field].is_string(), "{body}");
        }
        assert!(
            body["message"]
                .as_str()
                .unwrap()
                .starts_with("operation 1: ")
        );
    }

    #[test]
    fn lists_are_bounded_and_names_are_said_once() {
        let one = json!({ "method": "POST", "path": "/services", "name": "a" });
        let twice = parsed(json!({ "operations": [one, one] })).unwrap_err();
        assert!(refused(twice).contains("same name"));
        let unnamed = json!({ "method": "POST", "path": "/services" });
        assert!(parsed(json!(vec![unnamed.clone(); MAX])).is_ok());
        let ApiError::Json(status, _) = parsed(json!(vec![unnamed; MAX + 1])).unwrap_err() else {
            panic!()
        };
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        for bad in [
            json!("x"),
            json!({}),
            json!({ "operations": {} }),
            json!([1]),
        ] {
            assert!(parsed(bad).is_err());
        }
    }
}
