//! The field model in Kong's vocabulary: an entity or a plugin's configuration is described once, and validation, defaults,
//! form coercion and the answer of `GET /schemas/...` follow from the description.
//!
//! Pure: no I/O, no knowledge of which entities exist. The vocabulary is that of Kong's `db/schema/init.lua`.

pub mod check;
pub mod entity;
pub mod field;

pub use check::{CustomViolation, EntityCheck, Shorthand};
pub use entity::{EntityDef, Nested};
pub use field::{Field, Kind, Named, OnDelete, Pattern, Record, RecordDef};

#[doc(hidden)]
pub use serde as __serde;
