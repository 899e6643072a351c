//! What the plugin is told.

use silverback_plugin::schema::field::{boolean, integer, string};
use silverback_plugin::schema::record;

record! {
    /// Settings of `request-size-limiting`.
    pub struct Config {
        /// The longest body of a request, in units of `size_unit`.
        pub allowed_payload_size: Option<i64> = integer().default(DEFAULT_SIZE),
        /// The unit of `allowed_payload_size`: a kilobyte has 1024 bytes, a megabyte 1024 kilobytes.
        pub size_unit: Unit = string().required().default("megabytes").one_of(["megabytes", "kilobytes", "bytes"]),
        /// Whether requests without a `Content-Length` are refused, unless they are chunked.
        pub require_content_length: bool = boolean().required().default(false),
    }
}

const DEFAULT_SIZE: i64 = 128;

/// A unit of sizes.
#[derive(Debug, Clone, Copy, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// 1048576 bytes.
    Megabytes,
    /// 1024 bytes.
    Kilobytes,
    /// One byte.
    Bytes,
}

impl Config {
    /// The longest body in bytes; `None` when not even an empty one is short enough.
    pub(crate) fn most(&self) -> Option<u64> {
        let unit = match self.size_unit {
            Unit::Megabytes => 1 << 20,
            Unit::Kilobytes => 1 << 10,
            Unit::Bytes => 1,
        };
        let size = self.allowed_payload_size.unwrap_or(DEFAULT_SIZE);
        Some(u64::try_from(size).ok()?.saturating_mul(unit))
    }
}
