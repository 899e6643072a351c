//! What is done to a response's headers. Learnt from `kong/plugins/response-transformer/header_transformer.lua`.
//!
//! Whether a header is there, and what a renamed one says, is asked of the response as it was before the first change: a header that
//! was taken away is not added, one that was renamed is not replaced under its new name.

use http::header::{self, HeaderName, HeaderValue};
use silverback_plugin::header::{self as names, escaped_value};
use silverback_plugin::pairs::split;
use silverback_plugin::{ConfigError, HeaderKey, ResponseHead};
use smallvec::SmallVec;

use crate::config::Config;

/// Changes of headers, in the order in which they are made.
#[derive(Debug)]
pub(crate) struct HeaderEdits {
    remove: Vec<HeaderName>,
    rename: Vec<(HeaderName, Option<HeaderKey>)>,
    replace: Vec<(HeaderKey, HeaderValue)>,
    add: Vec<(HeaderKey, HeaderValue)>,
    append: Vec<(HeaderKey, HeaderValue)>,
}

impl HeaderEdits {
    pub(crate) fn compile(config: &Config) -> Result<Self, ConfigError> {
        let mut remove = Vec::new();
        for (name, _) in config.remove.headers.iter().filter_map(|p| split(p)) {
            let name = names::escaped_name(name);
            if name.contains('_') {
                remove.push(key(&name, "remove.headers")?.name().clone());
            }
            remove.push(key(&dashed(&name), "remove.headers")?.name().clone());
        }
        // The body's framing is the gateway's business.
        remove.retain(|n| *n != header::TRANSFER_ENCODING);
        let mut rename = Vec::new();
        for (old, new) in config.rename.headers.iter().filter_map(|p| split(p)) {
            let (old, new) = (
                dashed(&names::escaped_name(old)),
                dashed(&names::escaped_name(new)),
            );
            let old = key(&old, "rename.headers")?.name().clone();
            let new = Some(key(&new, "rename.headers")?).filter(|k| !frames(k.name()));
            if old != header::TRANSFER_ENCODING {
                rename.push((old, new));
            }
        }
        Ok(HeaderEdits {
            remove,
            rename,
            replace: values(&config.replace.headers, "replace.headers")?,
            add: values(&config.add.headers, "add.headers")?,
            append: values(&config.append.headers, "append.headers")?,
        })
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.remove.is_empty()
            && self.rename.is_empty()
            && self.replace.is_empty()
            && self.add.is_empty()
            && self.append.is_empty()
    }

    pub(crate) fn apply(&self, head: &mut dyn ResponseHead) {
        let before = head.headers();
        let renamed: SmallVec<[SmallVec<[HeaderValue; 1]>; 2]> = self
            .rename
            .iter()
            .map(|(old, _)| before.get_all(old).iter().cloned().collect())
            .collect();
        let there: SmallVec<[bool; 16]> = self
            .replace
            .iter()
            .chain(&self.add)
            .map(|(k, _)| before.contains_key(k.name()))
            .collect();
        let (replaced, added) = there.split_at(self.replace.len());

        for name in &self.remove {
            head.remove(name);
        }
        for ((old, new), values) in self.rename.iter().zip(renamed) {
            if values.is_empty() {
                continue;
            }
            if let Some(new) = new {
                head.remove(new.name());
                for value in values {
                    head.append(new, value);
                }
            }
            head.remove(old);
        }
        for ((key, value), there) in self.replace.iter().zip(replaced) {
            if *there {
                head.set(key, value.clone());
            }
        }
        for ((key, value), there) in self.add.iter().zip(added) {
            if !*there {
                head.set(key, value.clone());
            }
        }
        for (key, value) in &self.append {
            if single(key.name()) {
                head.set(key, value.clone());
            } else {
                head.append(key, value.clone());
            }
        }
    }
}

/// Names and values that are to be set. Those without a value and those that would break the body's framing are left out.
fn values(
    pairs: &[String],
    field: &'static str,
) -> Result<Vec<(HeaderKey, HeaderValue)>, ConfigError> {
    let mut out = Vec::with_capacity(pairs.len());
    for (name, text) in pairs.iter().filter_map(|p| split(p)) {
        let key = key(&dashed(&names::escaped_name(name)), field)?;
        if !text.is_empty() && !frames(key.name()) {
            out.push((key, escaped_value(text.as_bytes())));
        }
    }
    Ok(out)
}

fn key(name: &str, field: &'static str) -> Result<HeaderKey, ConfigError> {
    HeaderKey::new(name).map_err(|e| ConfigError::new(field, e.to_string()))
}

/// nginx writes underscores as dashes when a header is set by name.
fn dashed(name: &str) -> String {
    name.replace('_', "-")
}

/// A wrong one would make the client read the body wrongly.
fn frames(name: &HeaderName) -> bool {
    matches!(*name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING)
}

/// Headers of which a response has one: appending replaces it, as in nginx.
fn single(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::ACCEPT_RANGES
            | header::CONTENT_ENCODING
            | header::CONTENT_RANGE
            | header::CONTENT_TYPE
            | header::DATE
            | header::ETAG
            | header::EXPIRES
            | header::LAST_MODIFIED
            | header::LOCATION
            | header::REFRESH
            | header::SERVER
    )
}
