//! What can go wrong, in the words of the data model rather than of Postgres.

use serde_json::Value;
use tokio_postgres::error::{DbError, SqlState};

use crate::table::Table;

/// Why a read or write did not happen.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// Postgres is away, starting, out of connections or too slow; the same call may succeed later.
    #[error("Postgres is unavailable: {0}")]
    Unavailable(String),
    /// Another row has these values. Only `id` is named when the primary key is taken.
    #[error("another row has the same {}", .fields.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", "))]
    Unique {
        /// The fields that are unique (together) and their values in the refused row; references as `{"id": ..}`.
        fields: Vec<(&'static str, Value)>,
    },
    /// A reference points at nothing.
    #[error("{field} does not reference an existing row of {entity}")]
    ForeignMissing {
        /// The field.
        field: &'static str,
        /// The entity pointed at.
        entity: &'static str,
        /// The id that is not there.
        id: Value,
    },
    /// A row cannot go because others point at it.
    #[error("an existing row of {by_entity} references this row of {entity}")]
    Referenced {
        /// The entity of the row that was to go.
        entity: &'static str,
        /// The entity of a row that points at it.
        by_entity: &'static str,
    },
    /// A paging token that was never given out.
    #[error("'{offset}' is not a valid offset: {reason}")]
    BadOffset {
        /// The token.
        offset: String,
        /// Kong's words: `bad base64 encoding`, `bad json encoding`.
        reason: &'static str,
    },
    /// A value that Postgres cannot hold, such as text with a NUL character.
    #[error("{0}")]
    Invalid(String),
    /// There is no database, so that single rows cannot be written; Kong's words.
    #[error("{0}")]
    ReadOnly(String),
    /// A fault of ours or of the database's state.
    #[error("{0}")]
    Internal(String),
}

/// Why [`crate::Store::update_with`] did not happen.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UpdateError<E> {
    /// The store's reason.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The closure refused.
    #[error("the change was refused")]
    Rejected(E),
}

impl StoreError {
    /// A driver error that has nothing to do with the values of one row.
    pub(crate) fn from_driver(e: &tokio_postgres::Error) -> Self {
        match e.as_db_error() {
            Some(db) => from_db(db),
            None => StoreError::Unavailable(chain(e)),
        }
    }

    /// A driver error of a statement that writes a row of `table`; `value` answers the row's value of a field.
    pub(crate) fn of_write(
        e: &tokio_postgres::Error,
        table: &Table,
        tables: &crate::table::Tables,
        value: impl Fn(&str) -> Value,
    ) -> Self {
        let Some(db) = e.as_db_error() else {
            return Self::from_driver(e);
        };
        let constraint = db.constraint().unwrap_or_default();
        if *db.code() == SqlState::UNIQUE_VIOLATION {
            if let Some(fields) = table.unique_of(constraint) {
                return StoreError::Unique {
                    fields: fields.iter().map(|f| (*f, value(f))).collect(),
                };
            }
        } else if *db.code() == SqlState::FOREIGN_KEY_VIOLATION
            || *db.code() == SqlState::RESTRICT_VIOLATION
        {
            if let Some((field, entity)) = table.foreign_of(constraint) {
                // The same constraint speaks when a row is deleted that others of its own table point at; no entity does that.
                let id = value(field).get("id").cloned().unwrap_or(Value::Null);
                return StoreError::ForeignMissing { field, entity, id };
            }
            if let Some(by) = db.table().and_then(|t| tables.get(t)) {
                return StoreError::Referenced {
                    entity: table.name,
                    by_entity: by.name,
                };
            }
        }
        from_db(db)
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(e: tokio_postgres::Error) -> Self {
        StoreError::from_driver(&e)
    }
}

/// True when the same transaction may well succeed if it is run again.
pub(crate) fn is_conflict(e: &tokio_postgres::Error) -> bool {
    e.code().is_some_and(|c| {
        *c == SqlState::T_R_DEADLOCK_DETECTED || *c == SqlState::T_R_SERIALIZATION_FAILURE
    })
}

/// True when a row that others hold was not to be had within `lock_timeout`.
pub(crate) fn is_locked(e: &tokio_postgres::Error) -> bool {
    e.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

fn from_db(db: &DbError) -> StoreError {
    let code = db.code();
    let text = format!("{} (SQLSTATE {})", db.message(), code.code());
    if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME {
        return StoreError::Unavailable(format!(
            "the database is not set up, run the migrations: {text}"
        ));
    }
    // 57014 is our statement timeout, 55P03 a lock that was not to be had in time; 25006 a standby that has not been promoted yet; 28, 3D a
    // login or database that is not there (yet).
    match (code.code(), &code.code()[..2]) {
        // A deadlock or a conflict, after it was tried again: it is nobody's fault.
        ("40P01" | "40001", _) => StoreError::Unavailable(text),
        ("57014" | "25006" | "25P03" | "55P03", _)
        | (_, "08" | "53" | "57" | "58" | "28" | "3D") => StoreError::Unavailable(text),
        ("54000", _) | (_, "22") => StoreError::Invalid(db.message().to_owned()),
        _ => StoreError::Internal(text),
    }
}

/// The driver's texts say what was done; the reason is in the sources.
fn chain(e: &dyn std::error::Error) -> String {
    let mut out = e.to_string();
    let mut at = e.source();
    while let Some(s) = at {
        let text = s.to_string();
        if !out.contains(&text) {
            out.push_str(": ");
            out.push_str(&text);
        }
        at = s.source();
    }
    out
}

/// As [`chain`], for the pool's errors, whose source is the driver's error.
pub(crate) fn from_pool(e: deadpool_postgres::PoolError) -> StoreError {
    use deadpool_postgres::{HookError, PoolError};
    match e {
        PoolError::Backend(e) | PoolError::PostCreateHook(HookError::Backend(e)) => {
            match StoreError::from_driver(&e) {
                StoreError::Unavailable(t) | StoreError::Internal(t) | StoreError::Invalid(t) => {
                    StoreError::Unavailable(t)
                }
                other => other,
            }
        }
        PoolError::Timeout(t) => {
            StoreError::Unavailable(format!("no connection in time ({t:?})").to_lowercase())
        }
        other => StoreError::Unavailable(chain(&other)),
    }
}
