//! Values on their way into Postgres.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use serde_json::Value;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::table::{ColumnType, Table};
use crate::{Row, StoreError};

/// Microseconds between 1970 and 2000, where Postgres counts from.
pub(crate) const EPOCH_2000: i64 = 946_684_800_000_000;

/// A parameter, already in the form its column needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Null,
    Uuid(Uuid),
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// Microseconds since 1970.
    Time(i64),
    /// The moment after all others, which in an update stands for the one that is there.
    Kept,
    /// JSON text.
    Json(String),
    Texts(Vec<String>),
}

impl ToSql for Cell {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Cell::Null => return Ok(IsNull::Yes),
            Cell::Uuid(v) => out.put_slice(v.as_bytes()),
            Cell::Text(v) => out.put_slice(v.as_bytes()),
            Cell::Int(v) => out.put_i64(*v),
            Cell::Float(v) => out.put_f64(*v),
            Cell::Bool(v) => out.put_u8(u8::from(*v)),
            Cell::Time(v) => out.put_i64(v - EPOCH_2000),
            // Postgres' `infinity`.
            Cell::Kept => out.put_i64(i64::MAX),
            Cell::Json(v) => {
                // The version of jsonb's binary form.
                out.put_u8(1);
                out.put_slice(v.as_bytes());
            }
            Cell::Texts(v) => return v.to_sql(ty, out),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The moment, in microseconds since 1970.
pub(crate) fn now_micros() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// One cell per column, `id` first, and `expires_at` last for entities that expire. `base` is the field that a ttl counts from
/// (`created_at` of a new row); now, in whole seconds, when there is none: then the row replaces one that is there, and without any `ttl`
/// (not even null) keeps its end.
///
/// Null in a field that the server fills becomes a new id or the time.
pub(crate) fn cells(table: &Table, row: &Row, base: Option<&str>) -> Result<Vec<Cell>, StoreError> {
    let now = now_micros();
    let mut out = Vec::with_capacity(table.columns.len() + 1);
    for c in &table.columns {
        let value = row.get(c.field).unwrap_or(&Value::Null);
        let cell = if value.is_null() && c.auto {
            match c.ty {
                ColumnType::Uuid => Cell::Uuid(Uuid::new_v4()),
                ColumnType::Seconds => Cell::Time(whole(now)),
                ColumnType::Fraction => Cell::Time(now / 1000 * 1000),
                _ => Cell::Null,
            }
        } else {
            cell(c.ty, value).ok_or_else(|| {
                StoreError::Invalid(format!("{}: cannot be stored: {value}", c.field))
            })?
        };
        out.push(cell);
    }
    if table.def.ttl && base.is_none() && !row.contains_key("ttl") {
        out.push(Cell::Kept);
    } else if table.def.ttl {
        let left = row.get("ttl").and_then(Value::as_i64).filter(|t| *t > 0);
        let from = base
            .and_then(|f| table.columns.iter().position(|c| c.field == f))
            .and_then(|i| match out.get(i) {
                Some(Cell::Time(t)) => Some(*t),
                _ => None,
            });
        out.push(left.map_or(Cell::Null, |t| {
            Cell::Time(
                from.unwrap_or_else(|| whole(now))
                    .saturating_add(t.saturating_mul(1_000_000)),
            )
        }));
    }
    Ok(out)
}

/// The value in the form of its column; `None` when it does not fit, which validation rules out for all but huge numbers.
pub(crate) fn cell(ty: ColumnType, value: &Value) -> Option<Cell> {
    if value.is_null() {
        return Some(Cell::Null);
    }
    Some(match ty {
        ColumnType::Uuid => Cell::Uuid(Uuid::parse_str(value.as_str()?).ok()?),
        ColumnType::Ref => Cell::Uuid(Uuid::parse_str(value.get("id")?.as_str()?).ok()?),
        ColumnType::Text => Cell::Text(value.as_str()?.to_owned()),
        ColumnType::Int => Cell::Int(whole_number(value)?),
        ColumnType::Float => Cell::Float(value.as_f64()?),
        ColumnType::Bool => Cell::Bool(value.as_bool()?),
        ColumnType::Seconds => Cell::Time(time(whole_number(value)? as f64)?),
        ColumnType::Fraction => Cell::Time(time(value.as_f64()?)?),
        ColumnType::Json => Cell::Json(value.to_string()),
        ColumnType::Texts => Cell::Texts(
            value
                .as_array()?
                .iter()
                .map(|v| v.as_str().map(str::to_owned))
                .collect::<Option<_>>()?,
        ),
    })
}

fn whole(micros: i64) -> i64 {
    micros / 1_000_000 * 1_000_000
}

/// Clients may write `5.0`.
fn whole_number(v: &Value) -> Option<i64> {
    v.as_i64().or_else(|| {
        let f = v.as_f64()?;
        // Beyond 2^53 a float no longer says which whole number was meant.
        (f.fract() == 0.0 && f.abs() <= 9_007_199_254_740_992.0).then_some(f as i64)
    })
}

/// Seconds to microseconds, within the years Postgres knows.
fn time(seconds: f64) -> Option<i64> {
    (seconds.abs() < 9e12 / 32.0).then(|| (seconds * 1000.0).round() as i64 * 1000)
}
