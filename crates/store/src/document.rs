//! What the change log keeps of a row: a JSON document in the Admin API's form, with `expires_at` (whole seconds since 1970) in place of
//! `ttl` for entities whose rows expire.
//!
//! Statements that change rows answer, after the row itself, one change each: entity, id, operation, the document before and the
//! document after it, either null when there is none. Where a row is known before it is written the same document is made here.

use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;

use crate::Row;
use crate::cell::Cell;
use crate::sql::{literal, quote};
use crate::table::{Column, ColumnType, Table};

/// An SQL expression for the document of a row of `alias`.
pub(crate) fn of_row(alias: &str, columns: &[Column], ttl: bool) -> String {
    let alias = quote(alias);
    let mut fields: Vec<String> = columns
        .iter()
        .map(|c| {
            let column = format!("{alias}.{}", quote(&c.name));
            let value = match c.ty {
                ColumnType::Seconds => format!("floor(extract(epoch from {column}))::bigint"),
                ColumnType::Fraction => format!("round(extract(epoch from {column})::numeric, 3)"),
                ColumnType::Ref => format!(
                    "case when {column} is null then null else jsonb_build_object('id', {column}) end"
                ),
                _ => column,
            };
            format!("{value} as {}", quote(c.field))
        })
        .collect();
    if ttl {
        fields.push(format!(
            "floor(extract(epoch from {alias}.expires_at))::bigint as expires_at"
        ));
    }
    format!(
        "(select to_jsonb(d) from (select {}) as d)",
        fields.join(", ")
    )
}

/// What a statement answers that inserts a row or replaces one: the change. What is read of the table in `returning` is as it was before
/// the statement.
pub(crate) fn upserted(name: &str, columns: &[Column], ttl: bool) -> String {
    let table = quote(name);
    // `xmax` is 0 in a row that was inserted and the updating transaction's number in one that was there.
    format!(
        "{}, {table}.id, case when xmax = 0 then 'insert' else 'update' end, \
         case when xmax = 0 then null else (select {} from {table} as old where old.id = {table}.id) end, {}",
        literal(name),
        of_row("old", columns, ttl),
        of_row(name, columns, ttl)
    )
}

/// The document of a row that is written with these cells.
pub(crate) fn of_cells(table: &Table, row: &Row, cells: &[Cell]) -> Cell {
    let mut out = Vec::with_capacity(512);
    let mut serializer = serde_json::Serializer::new(&mut out);
    match write(&mut serializer, table, row, cells) {
        Ok(()) => String::from_utf8(out).map_or(Cell::Null, Cell::Json),
        // Values that are JSON already, in memory: there is nothing that could fail.
        Err(_) => Cell::Null,
    }
}

fn write(
    serializer: &mut serde_json::Serializer<&mut Vec<u8>>,
    table: &Table,
    row: &Row,
    cells: &[Cell],
) -> Result<(), serde_json::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (c, cell) in table.columns.iter().zip(cells) {
        match (row.get(c.field).unwrap_or(&Value::Null), cell) {
            // Filled by the server.
            (Value::Null, Cell::Uuid(id)) => map.serialize_entry(c.field, id)?,
            (Value::Null, Cell::Time(t)) if c.ty == ColumnType::Fraction => {
                map.serialize_entry(c.field, &(t.div_euclid(1000) as f64 / 1000.0))?;
            }
            (Value::Null, Cell::Time(t)) => {
                map.serialize_entry(c.field, &t.div_euclid(1_000_000))?;
            }
            (value, _) => map.serialize_entry(c.field, value)?,
        }
    }
    if table.def.ttl {
        let at = match cells.get(table.columns.len()) {
            Some(Cell::Time(t)) => Some(t.div_euclid(1_000_000)),
            _ => None,
        };
        map.serialize_entry("expires_at", &at)?;
    }
    map.end()
}
