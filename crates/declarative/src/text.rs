//! Texts to trees: JSON or YAML, by the name of the file or by trying (`unserialize` in `kong/db/declarative/init.lua`).

use openssl::hash::MessageDigest;
use serde_json::{Map, Value};

use crate::errors::Invalid;
use crate::yaml;

/// The hash of a configuration with nothing in it.
pub const EMPTY_HASH: &str = "00000000000000000000000000000000";

/// Where a text comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// A file; its name ends in `json`, `yaml` or `yml`.
    File(&'a str),
    /// Somewhere without a name: JSON, or else YAML.
    Nameless,
}

/// By which one text is told from another: MD5 in hexadecimal digits. It protects nothing, whoever sends a configuration may do
/// anything anyway.
pub fn hash(contents: &[u8]) -> String {
    // MD5 may be forbidden by the machine's OpenSSL (FIPS); then no two texts are known to be the same.
    let digest = openssl::hash::hash(MessageDigest::md5(), contents);
    digest.map_or_else(
        |_| uuid::Uuid::new_v4().simple().to_string(),
        |d| d.iter().map(|b| format!("{b:02x}")).collect(),
    )
}

/// The object that a text stands for.
pub(crate) fn parse(contents: &[u8], source: Source<'_>) -> Result<Map<String, Value>, Invalid> {
    let (json, yaml) = match source {
        Source::Nameless => (true, true),
        Source::File(name) => (
            name.ends_with("json"),
            name.ends_with("yaml") || name.ends_with("yml"),
        ),
    };
    if let (Source::File(name), false, false) = (source, json, yaml) {
        return Err(Invalid::text(format!(
            "unknown file type: {name}. (Accepted types: json, yaml)"
        )));
    }
    let failed =
        |why: String| Invalid::text(format!("failed parsing declarative configuration: {why}"));
    let text = std::str::from_utf8(contents).map_err(|_| failed("it is not UTF-8 text".into()))?;
    if json {
        match serde_json::from_str(text) {
            Ok(Value::Object(tree)) => return Ok(tree),
            Ok(_) if !yaml => return Err(failed("expected an object".into())),
            Err(e) if !yaml => return Err(failed(e.to_string())),
            _ => {}
        }
    }
    match yaml::parse(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        Ok(Value::Object(tree)) => Ok(tree),
        Ok(_) => Err(failed("expected an object".into())),
        Err(e) => Err(failed(e.to_string())),
    }
}
