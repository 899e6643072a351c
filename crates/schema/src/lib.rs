//! The field model in Kong's vocabulary: an entity or a plugin's configuration is described once, and validation, defaults,
//! form coercion and the answer of `GET /schemas/...` follow from the description.
//!
//! Pure: no I/O, no knowledge of which entities exist. The vocabulary is that of Kong's `db/schema/init.lua`.

pub mod check;
pub mod checks;
pub mod entity;
pub mod field;
pub mod form;
pub mod lua_pattern;
pub mod output;
pub mod plugin_def;
pub mod reference;
pub mod render;
pub mod typedefs;
pub mod validate;
pub mod violations;

pub use check::{CustomViolation, EntityCheck, Shorthand};
pub use entity::{Catalogue, EntityDef, Nested, Transformation, Variant};
pub use field::{Field, Kind, Named, OnDelete, Pattern, Record, RecordDef};
pub use validate::{Op, complete, patch};
pub use violations::Violations;

#[doc(hidden)]
pub use serde as __serde;
