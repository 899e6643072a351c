//! Rows on their way out of Postgres: a serde `Deserializer` over the binary columns, so that typed entities and JSON rows alike are made
//! without a form in between.

use std::error::Error as StdError;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};
use tokio_postgres::types::{FromSql, Type};
use uuid::Uuid;

use crate::cell::{Cell, EPOCH_2000};
use crate::table::{Column, ColumnType, Table};
use crate::{Row, StoreError};

/// The bytes of a column, whatever its type.
pub(crate) struct Raw<'a>(pub(crate) Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Raw(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Raw(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A typed entity from a row that starts with the entity's columns.
pub(crate) fn typed<T: DeserializeOwned>(
    table: &Table,
    row: &tokio_postgres::Row,
) -> Result<T, StoreError> {
    T::deserialize(RowDe {
        columns: &table.columns,
        row,
    })
    .map_err(|e| unreadable(table, &e))
}

/// The row in the Admin API's form.
pub(crate) fn json(table: &Table, row: &tokio_postgres::Row) -> Result<Row, StoreError> {
    let mut out = Row::with_capacity(table.row_len());
    for (i, c) in table.columns.iter().enumerate() {
        let value = value(c.ty, raw(row, i)?).map_err(|e| unreadable(table, &e))?;
        out.insert(c.field.to_owned(), value);
    }
    if table.def.ttl {
        let value = value(ColumnType::Int, raw(row, table.columns.len())?)
            .map_err(|e| unreadable(table, &e))?;
        out.insert("ttl".to_owned(), value);
    }
    Ok(out)
}

/// A column as JSON; null when unset.
pub(crate) fn value(ty: ColumnType, raw: Option<&[u8]>) -> Result<Value, Error> {
    match raw {
        None => Ok(Value::Null),
        Some(raw) => serde::Deserialize::deserialize(ColumnDe { ty, raw }),
    }
}

/// A `timestamptz` as it is to be written again.
pub(crate) fn moment(raw: Option<&[u8]>) -> Cell {
    let micros = raw.and_then(|raw| Some(i64::from_be_bytes(raw.try_into().ok()?)));
    micros.map_or(Cell::Null, |t| Cell::Time(t.saturating_add(EPOCH_2000)))
}

pub(crate) fn raw(row: &tokio_postgres::Row, i: usize) -> Result<Option<&[u8]>, StoreError> {
    Ok(row.try_get::<_, Raw<'_>>(i)?.0)
}

fn unreadable(table: &Table, e: &Error) -> StoreError {
    StoreError::Internal(format!("a row of {} cannot be read: {e}", table.name))
}

struct RowDe<'a> {
    columns: &'a [Column],
    row: &'a tokio_postgres::Row,
}

impl<'de> Deserializer<'de> for RowDe<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(RowMap {
            columns: self.columns,
            row: self.row,
            at: 0,
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct RowMap<'a> {
    columns: &'a [Column],
    row: &'a tokio_postgres::Row,
    at: usize,
}

impl<'de> MapAccess<'de> for RowMap<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        match self.columns.get(self.at) {
            Some(c) => seed.deserialize(c.field.into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let c = &self.columns[self.at];
        let raw = self
            .row
            .try_get::<_, Raw<'_>>(self.at)
            .map_err(Error::custom)?
            .0;
        self.at += 1;
        let done = match raw {
            None => seed.deserialize(NullDe),
            Some(raw) => seed.deserialize(ColumnDe { ty: c.ty, raw }),
        };
        done.map_err(|e| Error::custom(format_args!("{}: {e}", c.field)))
    }
}

/// SQL's null.
struct NullDe;

impl<'de> Deserializer<'de> for NullDe {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A column that is not null.
struct ColumnDe<'a> {
    ty: ColumnType,
    raw: &'a [u8],
}

impl<'de> ColumnDe<'de> {
    fn text(&self) -> Result<&'de str, Error> {
        std::str::from_utf8(self.raw).map_err(Error::custom)
    }

    fn uuid(&self) -> Result<Uuid, Error> {
        Uuid::from_slice(self.raw).map_err(Error::custom)
    }

    fn int(&self) -> Result<i64, Error> {
        self.raw
            .try_into()
            .map(i64::from_be_bytes)
            .map_err(Error::custom)
    }

    /// JSON text after the byte with jsonb's version.
    fn json(&self) -> Result<serde_json::Deserializer<serde_json::de::SliceRead<'de>>, Error> {
        match self.raw {
            [1, text @ ..] => Ok(serde_json::Deserializer::from_slice(text)),
            _ => Err(Error::custom("an unknown version of jsonb")),
        }
    }
}

impl<'de> Deserializer<'de> for ColumnDe<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.ty {
            ColumnType::Text => visitor.visit_borrowed_str(self.text()?),
            ColumnType::Uuid => visitor.visit_str(
                self.uuid()?
                    .as_hyphenated()
                    .encode_lower(&mut Uuid::encode_buffer()),
            ),
            ColumnType::Int => visitor.visit_i64(self.int()?),
            ColumnType::Float => visitor.visit_f64(f64::from_bits(self.int()?.cast_unsigned())),
            ColumnType::Bool => visitor.visit_bool(self.raw == [1]),
            ColumnType::Seconds => {
                visitor.visit_i64((self.int()? + EPOCH_2000).div_euclid(1_000_000))
            }
            ColumnType::Fraction => {
                visitor.visit_f64(((self.int()? + EPOCH_2000).div_euclid(1000)) as f64 / 1000.0)
            }
            ColumnType::Json => self.json()?.deserialize_any(visitor),
            ColumnType::Texts => visitor.visit_seq(Texts::new(self.raw)?),
            ColumnType::Ref => visitor.visit_map(RefMap {
                id: Some(self.uuid()?),
            }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.ty {
            ColumnType::Uuid => visitor.visit_borrowed_bytes(self.raw),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.ty {
            ColumnType::Text => visitor.visit_enum(self.text()?.into_deserializer()),
            ColumnType::Json => self.json()?.deserialize_enum(name, variants, visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    // A UUID takes its sixteen bytes as they are instead of a text.
    fn is_human_readable(&self) -> bool {
        self.ty != ColumnType::Uuid
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

/// `{"id": ".."}`
struct RefMap {
    id: Option<Uuid>,
}

impl<'de> MapAccess<'de> for RefMap {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        match self.id {
            Some(_) => seed.deserialize("id".into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let id = self
            .id
            .take()
            .ok_or_else(|| Error::custom("a value without its key"))?;
        seed.deserialize(UuidDe(id))
    }
}

/// As [`ColumnDe`] of a UUID, for bytes that live nowhere long enough to be borrowed.
struct UuidDe(Uuid);

impl<'de> Deserializer<'de> for UuidDe {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(
            self.0
                .as_hyphenated()
                .encode_lower(&mut Uuid::encode_buffer()),
        )
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bytes(self.0.as_bytes())
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string byte_buf option unit unit_struct newtype_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

/// The elements of a one-dimensional `text[]` without nulls.
struct Texts<'a> {
    left: usize,
    raw: &'a [u8],
}

impl<'a> Texts<'a> {
    /// Dimensions, whether there are nulls, the element type; then for each dimension its length and lower bound; then the elements,
    /// each after its length. All are 32-bit, high byte first.
    fn new(mut raw: &'a [u8]) -> Result<Self, Error> {
        let dimensions = take_i32(&mut raw)?;
        take_i32(&mut raw)?;
        take_i32(&mut raw)?;
        if dimensions == 0 {
            return Ok(Texts { left: 0, raw });
        }
        let left = take_i32(&mut raw)?;
        take_i32(&mut raw)?;
        Ok(Texts {
            left: usize::try_from(left).map_err(Error::custom)?,
            raw,
        })
    }
}

fn take_i32(raw: &mut &[u8]) -> Result<i32, Error> {
    let (head, rest) = raw
        .split_first_chunk::<4>()
        .ok_or_else(|| Error::custom("an array that is cut off"))?;
    *raw = rest;
    Ok(i32::from_be_bytes(*head))
}

impl<'de> SeqAccess<'de> for Texts<'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let len = usize::try_from(take_i32(&mut self.raw)?)
            .map_err(|_| Error::custom("a null in an array"))?;
        let (text, rest) = self
            .raw
            .split_at_checked(len)
            .ok_or_else(|| Error::custom("an array that is cut off"))?;
        self.raw = rest;
        seed.deserialize(ColumnDe {
            ty: ColumnType::Text,
            raw: text,
        })
        .map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(64))
    }
}
