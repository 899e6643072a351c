//! Tokens for the Admin API. Only what a token is recognised by is kept; nodes have all of it in memory.
//!
//! They are no entity: there is no path to them in the API. But they are in the change log like one, so that nodes learn at once what was created
//! or revoked, and the history tells who did it.

use serde_json::json;
use tokio_postgres::{Client, Row as PgRow};
use uuid::Uuid;

use crate::cell::Cell;
use crate::decode::{raw, value};
use crate::table::ColumnType;
use crate::write::{Refusal, Step};
use crate::{Store, StoreError};

/// Their name in the change log.
pub const ADMIN_TOKENS: &str = "admin_tokens";

/// What whoever has a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Look.
    ReadOnly,
    /// Look and change.
    ReadWrite,
}

impl Role {
    /// `read-only` or `read-write`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::ReadOnly => "read-only",
            Role::ReadWrite => "read-write",
        }
    }
}

/// A token, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminToken {
    /// What people call it.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// The part of it by which it is found.
    pub lookup: String,
    /// SHA-256 of all of it.
    pub hash: Vec<u8>,
    /// When it was made, in seconds since 1970.
    pub created_at: i64,
}

const SELECT: &str = "select name, role, lookup, hash, created_at from admin_tokens order by name";
const DOCUMENT: &str = "(select to_jsonb(d) from (select id, name, role, lookup, floor(extract(epoch from created_at))::bigint \
     as created_at) as d)";

impl Store {
    /// All tokens, in the order of their names.
    ///
    /// # Errors
    /// `Unavailable`, `Internal`.
    pub async fn admin_tokens(&self) -> Result<Vec<AdminToken>, StoreError> {
        let rows = self.query(SELECT, &[]).await?;
        rows.iter().map(token).collect()
    }

    /// Keeps a token.
    ///
    /// # Errors
    /// `Unique` when the name is taken; `Unavailable`, `Internal`.
    pub async fn create_admin_token(&self, token: &AdminToken) -> Result<(), StoreError> {
        let sql = format!(
            "insert into admin_tokens (id, created_at, name, role, lookup, hash) \
             values ($1, $2, $3, $4, $5, decode($6::text, 'hex')) \
             returning '{ADMIN_TOKENS}', id, 'insert', null::jsonb, {DOCUMENT}"
        );
        let hex = token.hash.iter().map(|b| format!("{b:02x}")).collect();
        let step = Step {
            sql: sql.into(),
            cells: vec![
                Cell::Uuid(Uuid::new_v4()),
                Cell::Time(token.created_at.saturating_mul(1_000_000)),
                Cell::Text(token.name.clone()),
                Cell::Text(token.role.as_str().to_owned()),
                Cell::Text(token.lookup.clone()),
                Cell::Text(hex),
            ],
            logged: Some(0),
            inserts: None,
            clears: false,
        };
        match self.carry_out(vec![step]).await {
            Ok(_) => Ok(()),
            Err(Refusal::Store(e)) => Err(e),
            Err(Refusal::Driver(e)) => {
                let constraint = e.as_db_error().and_then(|db| db.constraint());
                if constraint == Some("admin_tokens_name_key") {
                    let fields = vec![("name", json!(token.name))];
                    return Err(StoreError::Unique { fields });
                }
                Err(e.into())
            }
        }
    }

    /// Forgets a token; from then on nobody gets in with it. False when there is none of that name.
    ///
    /// # Errors
    /// `Unavailable`, `Internal`.
    pub async fn revoke_admin_token(&self, name: &str) -> Result<bool, StoreError> {
        let sql = format!(
            "delete from admin_tokens where name = $1 returning '{ADMIN_TOKENS}', id, 'delete', {DOCUMENT}, null::jsonb"
        );
        let step = Step {
            sql: sql.into(),
            cells: vec![Cell::Text(name.to_owned())],
            logged: Some(0),
            inserts: None,
            clears: false,
        };
        match self.carry_out(vec![step]).await {
            Ok(rows) => Ok(!rows.is_empty()),
            Err(Refusal::Store(e)) => Err(e),
            Err(Refusal::Driver(e)) => Err(e.into()),
        }
    }
}

/// All tokens, as they are in the transaction of that connection.
pub(crate) async fn all(client: &Client) -> Result<Vec<AdminToken>, StoreError> {
    let rows = client.query(SELECT, &[]).await?;
    rows.iter().map(token).collect()
}

fn token(row: &PgRow) -> Result<AdminToken, StoreError> {
    let made = value(ColumnType::Seconds, raw(row, 4)?)
        .map_err(|e| StoreError::Internal(format!("a row of {ADMIN_TOKENS}: {e}")))?;
    let role: &str = row.try_get(1)?;
    Ok(AdminToken {
        name: row.try_get(0)?,
        // The table allows nothing but the two.
        role: if role == "read-write" {
            Role::ReadWrite
        } else {
            Role::ReadOnly
        },
        lookup: row.try_get(2)?,
        hash: row.try_get(3)?,
        created_at: made.as_i64().unwrap_or_default(),
    })
}
