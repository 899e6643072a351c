//! Kong's declarative configuration: one file with all entities. From a text to rows that are checked, complete and refer to
//! each other by id ([`Format::parse`]), and from rows to a text ([`Writer`]).
//!
//! Which entities there are and what they look like follows from their definitions; no entity is named here. Pure: files, databases
//! and HTTP are for others. Behaviour was learnt from `kong/db/declarative/` and `kong/db/schema/others/declarative_config.lua`.

mod checked;
mod errors;
mod flattened;
mod format;
mod ids;
mod migrate;
mod text;
mod uniqueness;
mod walk;
mod writer;
mod yaml;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use checked::Accept;
pub use errors::Invalid;
pub use format::{Declared, Format, Meta};
pub use text::{EMPTY_HASH, Source, hash};
pub use writer::Writer;
pub use yaml::YamlError;

/// A complete row: every field of its definition, references as `{"id": ".."}`.
pub type Row = serde_json::Map<String, serde_json::Value>;
