//! Checks in code that several entities share, with Kong's texts (`kong/db/schema/typedefs.lua`, `kong/tools/utils.lua`).

mod host;
mod path;
mod regex;

use serde_json::Value;

pub(crate) use host::{host, host_pattern, ip_or_cidr, sni};
pub use path::normalize as normalize_path;
pub(crate) use path::{path_normalized, route_path};

/// Checks of strings run on strings only.
fn text(v: &Value) -> &str {
    v.as_str().unwrap_or_default()
}

/// A tag: printable ASCII without `,` and `/`, or any UTF-8.
pub(crate) fn tag(v: &Value) -> Result<(), String> {
    let s = v.as_str().unwrap_or_default();
    let bad = |c: char| c == ',' || c == '/' || (c.is_ascii() && !(' '..='~').contains(&c));
    if s.contains(bad) {
        return Err(format!(
            "invalid tag '{s}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"
        ));
    }
    Ok(())
}

/// A name: ASCII letters, digits and `.-_~`, or any non-ASCII UTF-8.
pub(crate) fn utf8_name(v: &Value) -> Result<(), String> {
    let s = v.as_str().unwrap_or_default();
    let bad = |c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_' | '~');
    if s.contains(bad) {
        return Err(format!(
            "invalid value '{s}': the only accepted ascii characters are alphanumerics or ., -, _, and ~"
        ));
    }
    Ok(())
}
