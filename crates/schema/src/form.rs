//! Bodies that are no JSON: `application/x-www-form-urlencoded` and `multipart/form-data`
//! (`kong/api/arguments_decoder.lua`, `kong/api/arguments.lua`).
//!
//! [`decode`] finds the structure in the keys, [`infer`] the types in the definition. Commas split nothing.

mod decode;
mod infer;

pub use decode::{MAX_PAIRS, decode, decode_multipart};
pub use infer::infer;
