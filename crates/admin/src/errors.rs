//! Everything but success: one type, and how the store's and the schema's errors become Kong's answers (`kong/db/errors.lua`).

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use silverback_schema::Violations;
use silverback_store::{StoreError, UpdateError};

use crate::respond;
use crate::{lua, texts};

/// What is asked of those who are not known. Nobody is asked for a password: browsers would open a window.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"silverback\"");

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// A status and a JSON body.
    Json(StatusCode, Value),
    /// 405; the methods that are allowed are known where the endpoint is.
    MethodNotAllowed,
    /// 401.
    Unauthorized,
    /// 415, in HTML as nginx says it for Kong.
    UnsupportedMediaType,
}

/// What a handler answers.
pub(crate) type Answer = Result<Response, ApiError>;

impl ApiError {
    /// `{"message": text}`.
    pub(crate) fn message(status: StatusCode, text: &str) -> Self {
        ApiError::Json(status, json!({ "message": text }))
    }

    /// 400 with nothing but a message.
    pub(crate) fn bad(text: &str) -> Self {
        ApiError::message(StatusCode::BAD_REQUEST, text)
    }

    /// 404 without saying what was not found.
    pub(crate) fn not_found() -> Self {
        ApiError::message(StatusCode::NOT_FOUND, texts::NOT_FOUND)
    }

    /// 404 with an id of the request, as where Kong answers with `kong.response.error`.
    pub(crate) fn not_found_with_id() -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        tracing::debug!(request_id = %id, "not found");
        ApiError::Json(
            StatusCode::NOT_FOUND,
            json!({ "message": texts::NOT_FOUND, "request_id": id }),
        )
    }

    /// 404 of a change: says by which key the row was looked for.
    pub(crate) fn no_such_row(field: &str, value: &str) -> Self {
        let v = Value::from(value);
        let key = lua::table([(field, &v)]);
        let message = if field == "id" {
            format!("could not find the entity with primary key '{key}'")
        } else {
            format!("could not find the entity with '{key}'")
        };
        coded(
            StatusCode::NOT_FOUND,
            6,
            "not found",
            message,
            Some(("fields", json!({ field: value }))),
        )
    }

    /// 400: the value in the path cannot be that of the row's unique field.
    pub(crate) fn invalid_unique(field: &str, text: &str) -> Self {
        coded(
            StatusCode::BAD_REQUEST,
            10,
            &format!("invalid unique {field}"),
            text.to_owned(),
            None,
        )
    }

    /// 400: the entity has no other key than the id, and this is none.
    pub(crate) fn invalid_primary_key() -> Self {
        let text = Value::from("expected a valid UUID");
        let message = format!("invalid primary key: '{}'", lua::table([("id", &text)]));
        coded(
            StatusCode::BAD_REQUEST,
            1,
            "invalid primary key",
            message,
            Some(("fields", json!({ "id": text }))),
        )
    }

    /// 400: `?size=`.
    pub(crate) fn invalid_size(text: &str) -> Self {
        coded(
            StatusCode::BAD_REQUEST,
            9,
            "invalid size",
            text.to_owned(),
            None,
        )
    }

    /// 400: `?offset=` of a list whose offsets are numbers.
    pub(crate) fn bad_offset(offset: &str) -> Self {
        let message = format!("'{offset}' is not a valid offset: a number is expected");
        coded(StatusCode::BAD_REQUEST, 7, "invalid offset", message, None)
    }

    /// 400: `?tags=` or `ttl`.
    pub(crate) fn invalid_option(option: &str, text: &str) -> Self {
        let message = format!("invalid option ({option}: {text})");
        coded(
            StatusCode::BAD_REQUEST,
            11,
            "invalid options",
            message,
            Some(("options", json!({ option: text }))),
        )
    }

    /// 400: rows that were named by a unique field and are not there; (foreign field, unique field, value, entity).
    pub(crate) fn unresolved(all: &[(&str, &str, Value, &str)]) -> Self {
        let mut fields = Map::new();
        let mut parts = Vec::new();
        for (field, unique, value, entity) in all {
            let key = lua::table([(*unique, value)]);
            let text = format!(
                "the foreign key cannot be resolved with '{key}' for an existing '{entity}' entity"
            );
            parts.push(format!("{field}.{unique}: {text}"));
            if let Value::Object(inner) = fields.entry(*field).or_insert_with(|| json!({})) {
                inner.insert((*unique).to_owned(), text.into());
            }
        }
        parts.sort_unstable();
        let message = match parts.as_slice() {
            [one] => format!("foreign key unresolved ({one})"),
            many => format!(
                "{} foreign keys unresolved ({})",
                many.len(),
                many.join("; ")
            ),
        };
        coded(
            StatusCode::BAD_REQUEST,
            13,
            "foreign keys unresolved",
            message,
            Some(("fields", fields.into())),
        )
    }

    /// 400: rows that are no references in the database's sense still need this one.
    pub(crate) fn referenced(text: &str) -> Self {
        coded(
            StatusCode::BAD_REQUEST,
            19,
            "referenced by others",
            text.to_owned(),
            None,
        )
    }

    /// 412: the row is not as the client knows it.
    pub(crate) fn precondition(text: &str) -> Self {
        coded(
            StatusCode::PRECONDITION_FAILED,
            100,
            "precondition failed",
            text.to_owned(),
            None,
        )
    }

    /// 409: what happened since is in the way.
    pub(crate) fn conflict(text: &str) -> Self {
        coded(StatusCode::CONFLICT, 101, "conflict", text.to_owned(), None)
    }

    /// 503: nothing is wrong with the request.
    pub(crate) fn unavailable(text: &str) -> Self {
        coded(
            StatusCode::SERVICE_UNAVAILABLE,
            8,
            "database error",
            text.to_owned(),
            None,
        )
    }
}

fn coded(
    status: StatusCode,
    code: u8,
    name: &str,
    message: String,
    more: Option<(&str, Value)>,
) -> ApiError {
    let mut body = Map::new();
    body.insert("message".into(), message.into());
    body.insert("name".into(), name.into());
    body.insert("code".into(), code.into());
    if let Some((key, v)) = more {
        body.insert(key.to_owned(), v);
    }
    ApiError::Json(status, Value::Object(body))
}

impl From<Violations> for ApiError {
    fn from(v: Violations) -> Self {
        ApiError::Json(StatusCode::BAD_REQUEST, v.to_json())
    }
}

impl From<StoreError> for ApiError {
    fn from(e: StoreError) -> Self {
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        match e {
            StoreError::Unavailable(why) => {
                tracing::warn!(error = %why, "the database is unavailable");
                ApiError::unavailable(texts::DATABASE_AWAY)
            }
            StoreError::Unique { fields } => {
                let key = lua::table(fields.iter().map(|(n, v)| (*n, v)));
                let primary = matches!(fields.as_slice(), [("id", _)]);
                let shown: Map<String, Value> =
                    fields.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
                let more = Some(("fields", Value::Object(shown)));
                if primary {
                    let message = format!("primary key violation on key '{key}'");
                    return coded(BAD, 3, "primary key violation", message, more);
                }
                let message = format!("UNIQUE violation detected on '{key}'");
                coded(
                    StatusCode::CONFLICT,
                    5,
                    "unique constraint violation",
                    message,
                    more,
                )
            }
            StoreError::ForeignMissing { field, entity, id } => {
                let key = lua::table([("id", &id)]);
                let message = format!(
                    "the foreign key '{key}' does not reference an existing '{entity}' entity."
                );
                let more = Some(("fields", json!({ field: { "id": id } })));
                coded(BAD, 4, "foreign key violation", message, more)
            }
            StoreError::Referenced { entity, by_entity } => {
                let message =
                    format!("an existing '{by_entity}' entity references this '{entity}' entity");
                let more = Some(("fields", json!({ "@referenced_by": by_entity })));
                coded(BAD, 4, "foreign key violation", message, more)
            }
            StoreError::BadOffset { offset, reason } => {
                let message = format!("'{offset}' is not a valid offset: {reason}");
                coded(BAD, 7, "invalid offset", message, None)
            }
            StoreError::ReadOnly(text) => coded(
                StatusCode::METHOD_NOT_ALLOWED,
                12,
                "operation unsupported",
                text,
                None,
            ),
            StoreError::Invalid(text) => ApiError::bad(&text),
            StoreError::Internal(why) => {
                tracing::error!(error = %why, "the store failed");
                ApiError::message(StatusCode::INTERNAL_SERVER_ERROR, texts::UNEXPECTED)
            }
        }
    }
}

/// What the Admin API's answer would say of a failure of the store; `None` when it would tell nothing of use.
pub fn error_message(e: StoreError) -> Option<String> {
    if matches!(e, StoreError::Internal(_) | StoreError::Unavailable(_)) {
        return None;
    }
    match ApiError::from(e) {
        ApiError::Json(_, body) => body.get("message")?.as_str().map(str::to_owned),
        _ => None,
    }
}

impl From<UpdateError<ApiError>> for ApiError {
    fn from(e: UpdateError<ApiError>) -> Self {
        match e {
            UpdateError::Store(e) => e.into(),
            UpdateError::Rejected(e) => e,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            ApiError::Json(status, body) => respond::json(status, &body),
            ApiError::MethodNotAllowed => respond::json(
                StatusCode::METHOD_NOT_ALLOWED,
                &json!({ "message": texts::METHOD_NOT_ALLOWED }),
            ),
            ApiError::Unauthorized => {
                let body = json!({ "message": texts::UNAUTHORIZED });
                let mut response = respond::json(StatusCode::UNAUTHORIZED, &body);
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, CHALLENGE);
                response
            }
            ApiError::UnsupportedMediaType => respond::page(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn json_of(e: ApiError) -> (u16, Value) {
        match e {
            ApiError::Json(status, body) => (status.as_u16(), body),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn unique_violations_are_conflicts() {
        let e = StoreError::Unique {
            fields: vec![("name", json!("svc1"))],
        };
        assert_eq!(
            json_of(e.into()),
            (
                409,
                json!({
                    "message": "UNIQUE violation detected on '{name=\"svc1\"}'",
                    "name": "unique constraint violation",
                    "code": 5,
                    "fields": { "name": "svc1" }
                })
            )
        );
    }

    #[test]
    fn unique_together_prints_all_fields_in_order() {
        let null = Value::Null;
        let fields = vec![
            ("name", json!("key-auth")),
            ("route", null.clone()),
            ("service", null.clone()),
            ("consumer", null),
        ];
        let (status, body) = json_of(StoreError::Unique { fields }.into());
        assert_eq!(status, 409);
        assert_eq!(
            body["message"],
            "UNIQUE violation detected on '{consumer=null,name=\"key-auth\",route=null,service=null}'"
        );
    }

    #[test]
    fn a_taken_id_is_a_primary_key_violation() {
        let (status, body) = json_of(
            StoreError::Unique {
                fields: vec![("id", json!("x"))],
            }
            .into(),
        );
        assert_eq!((status, &body["code"]), (400, &json!(3)));
        assert_eq!(body["message"], "primary key violation on key '{id=\"x\"}'");
    }

    #[test]
    fn foreign_keys_that_point_at_nothing_are_named() {
        let e = StoreError::ForeignMissing {
            field: "service",
            entity: "services",
            id: json!("x"),
        };
        assert_eq!(
            json_of(e.into()),
            (
                400,
                json!({
                    "message": "the foreign key '{id=\"x\"}' does not reference an existing 'services' entity.",
                    "name": "foreign key violation",
                    "code": 4,
                    "fields": { "service": { "id": "x" } }
                })
            )
        );
    }

    #[test]
    fn rows_that_others_need_stay() {
        let e = StoreError::Referenced {
            entity: "services",
            by_entity: "routes",
        };
        let (status, body) = json_of(e.into());
        assert_eq!(status, 400);
        assert_eq!(
            body["message"],
            "an existing 'routes' entity references this 'services' entity"
        );
        assert_eq!(body["fields"], json!({ "@referenced_by": "routes" }));
    }

    #[test]
    fn a_database_that_is_away_is_503_in_kongs_shape() {
        let (status, body) = json_of(StoreError::Unavailable("refused".into()).into());
        assert_eq!(status, 503);
        assert_eq!(
            (&body["name"], &body["code"]),
            (&json!("database error"), &json!(8))
        );
        assert!(!body.to_string().contains("refused"));
    }

    #[test]
    fn offsets_and_names_have_their_own_texts() {
        let e = StoreError::BadOffset {
            offset: "bad".into(),
            reason: "bad json encoding",
        };
        assert_eq!(
            json_of(e.into()).1["message"],
            "'bad' is not a valid offset: bad json encoding"
        );
        let (_, body) = json_of(ApiError::unresolved(&[(
            "service",
            "name",
            json!("nope"),
            "services",
        )]));
        assert_eq!(
            body["message"],
            "foreign key unresolved (service.name: the foreign key cannot be resolved with '{name=\"nope\"}' \
             for an existing 'services' entity)"
        );
        let (_, body) = json_of(ApiError::no_such_row("name", "nope"));
        assert_eq!(
            body["message"],
            "could not find the entity with '{name=\"nope\"}'"
        );
        let (_, body) = json_of(ApiError::no_such_row("id", "x"));
        assert_eq!(
            body["message"],
            "could not find the entity with primary key '{id=\"x\"}'"
        );
    }
}
