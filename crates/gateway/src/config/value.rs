//! How the text of a setting becomes a typed value, and back again.
//!
//! Each [`Codec`] knows one kind of value: how to read it, how to write it as the file does, how the
//! Admin API shows it, and how the reference describes it. The table picks one per setting. What
//! concerns several settings at once is not here but in `check`.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// One kind of value.
pub trait Codec {
    /// The type of the field in [`Config`](super::Config).
    type Out: Clone + std::fmt::Debug + PartialEq;

    /// Reads `raw`, which has no white space at its ends.
    ///
    /// # Errors
    /// A whole sentence that begins with `name`, in the words of Kong's `conf_loader/parse.lua` where
    /// it has some.
    fn parse(name: &str, raw: &str) -> Result<Self::Out, String>;

    /// The value as the configuration file would have it; empty for one that is not set.
    fn render(value: &Self::Out) -> String;

    /// What is accepted, in a few words, for the reference.
    fn describe() -> String;

    /// The value as `GET /` of the Admin API has it; `None` leaves the key out, as Kong does with what
    /// is not set.
    fn json(value: &Self::Out) -> Option<Value> {
        Some(Value::String(Self::render(value)))
    }
}

/// Any text but the empty one.
pub enum Text {}

impl Codec for Text {
    type Out = String;

    fn parse(name: &str, raw: &str) -> Result<String, String> {
        non_empty(name, raw).map(str::to_owned)
    }

    fn render(value: &String) -> String {
        value.clone()
    }

    fn describe() -> String {
        "text".into()
    }
}

/// A text that is never printed; see [`Secret`].
pub enum SecretText {}

impl Codec for SecretText {
    type Out = Secret;

    fn parse(name: &str, raw: &str) -> Result<Secret, String> {
        non_empty(name, raw).map(|raw| Secret(raw.to_owned()))
    }

    fn render(value: &Secret) -> String {
        value.0.clone()
    }

    fn describe() -> String {
        "text, never printed".into()
    }
}

/// A value that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one who has to send it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("******")
    }
}

/// A path.
pub enum File {}

impl Codec for File {
    type Out = PathBuf;

    fn parse(name: &str, raw: &str) -> Result<PathBuf, String> {
        non_empty(name, raw).map(PathBuf::from)
    }

    fn render(value: &PathBuf) -> String {
        value.display().to_string()
    }

    fn describe() -> String {
        "path".into()
    }
}

/// `on` or `off`; also `true`, `yes`, `false`, `no`. Kong reads every other word as `off`.
pub enum Bool {}

impl Codec for Bool {
    type Out = bool;

    fn parse(name: &str, raw: &str) -> Result<bool, String> {
        match raw.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" => Ok(true),
            "off" | "false" | "no" => Ok(false),
            _ => Err(format!("{name} is not a boolean: '{raw}' (on, off)")),
        }
    }

    fn render(value: &bool) -> String {
        if *value { "on" } else { "off" }.into()
    }

    fn describe() -> String {
        "`on` or `off`".into()
    }

    fn json(value: &bool) -> Option<Value> {
        Some(Value::Bool(*value))
    }
}

/// A [`Bool`] that Kong hands to nginx, and therefore shows as a string in `GET /`.
pub enum NginxBool {}

impl Codec for NginxBool {
    type Out = bool;

    fn parse(name: &str, raw: &str) -> Result<bool, String> {
        Bool::parse(name, raw)
    }

    fn render(value: &bool) -> String {
        Bool::render(value)
    }

    fn describe() -> String {
        Bool::describe()
    }
}

/// A value that may be left empty.
pub struct Optional<C>(std::marker::PhantomData<C>);

impl<C: Codec> Codec for Optional<C> {
    type Out = Option<C::Out>;

    fn parse(name: &str, raw: &str) -> Result<Self::Out, String> {
        if raw.is_empty() {
            return Ok(None);
        }
        C::parse(name, raw).map(Some)
    }

    fn render(value: &Self::Out) -> String {
        value.as_ref().map(C::render).unwrap_or_default()
    }

    fn describe() -> String {
        format!("{}; may be empty", C::describe())
    }

    fn json(value: &Self::Out) -> Option<Value> {
        value.as_ref().and_then(C::json)
    }
}

/// A comma-separated list; may be empty.
pub struct List<C>(std::marker::PhantomData<C>);

impl<C: Codec> Codec for List<C> {
    type Out = Vec<C::Out>;

    fn parse(name: &str, raw: &str) -> Result<Self::Out, String> {
        entries(raw).map(|entry| C::parse(name, entry)).collect()
    }

    fn render(value: &Self::Out) -> String {
        value.iter().map(C::render).collect::<Vec<_>>().join(", ")
    }

    fn describe() -> String {
        format!("comma-separated list of: {}", C::describe())
    }

    fn json(value: &Self::Out) -> Option<Value> {
        Some(value.iter().filter_map(C::json).collect())
    }
}

/// The entries of a comma-separated list, trimmed, empty ones left out.
pub(super) fn entries(raw: &str) -> impl Iterator<Item = &str> {
    raw.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
}

/// Where a log, or another file that may be switched off, goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Nowhere.
    Off,
    /// A file; a relative one lies under the prefix.
    File(PathBuf),
}

impl Target {
    /// The absolute path, or `None` when it is switched off.
    #[must_use]
    pub fn resolve(&self, prefix: &Path) -> Option<PathBuf> {
        match self {
            Self::Off => None,
            Self::File(path) => Some(prefix.join(path)),
        }
    }
}

impl Codec for Target {
    type Out = Self;

    fn parse(name: &str, raw: &str) -> Result<Self, String> {
        let raw = non_empty(name, raw)?;
        if raw == "off" {
            return Ok(Self::Off);
        }
        if raw.starts_with("syslog:") {
            return Err(format!(
                "{name}: logging to syslog is not supported yet, got '{raw}'"
            ));
        }
        if let Some((_, format)) = raw.split_once(char::is_whitespace) {
            return Err(format!(
                "{name}: log formats and options are not supported yet, got '{}' after the path",
                format.trim()
            ));
        }
        Ok(Self::File(raw.into()))
    }

    fn render(value: &Self) -> String {
        match value {
            Self::Off => "off".into(),
            Self::File(path) => path.display().to_string(),
        }
    }

    fn describe() -> String {
        "`off` or a path; a relative one lies under `prefix`".into()
    }
}

pub(super) fn non_empty<'a>(name: &str, raw: &'a str) -> Result<&'a str, String> {
    if raw.is_empty() {
        return Err(format!("{name} must not be empty"));
    }
    Ok(raw)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn booleans_are_words_and_nothing_else() {
        for word in ["on", "true", "yes", "ON"] {
            assert_eq!(Bool::parse("x", word), Ok(true));
        }
        for word in ["off", "false", "no"] {
            assert_eq!(Bool::parse("x", word), Ok(false));
        }
        assert_eq!(
            Bool::parse("pg_ssl", "maybe").unwrap_err(),
            "pg_ssl is not a boolean: 'maybe' (on, off)"
        );
    }

    #[test]
    fn lists_are_trimmed_and_may_be_empty() {
        assert_eq!(
            List::<Text>::parse("l", " a , b ,"),
            Ok(vec!["a".into(), "b".into()])
        );
        assert_eq!(List::<Text>::parse("l", ""), Ok(vec![]));
        assert_eq!(List::<Text>::json(&vec![]), Some(json!([])));
    }

    #[test]
    fn log_targets_resolve_under_the_prefix() {
        let prefix = Path::new("/p");
        let target = |raw| {
            Target::parse("proxy_access_log", raw)
                .unwrap()
                .resolve(prefix)
        };
        assert_eq!(target("off"), None);
        assert_eq!(target("logs/a.log"), Some("/p/logs/a.log".into()));
        assert_eq!(target("/dev/stdout"), Some("/dev/stdout".into()));
        assert!(
            Target::parse("l", "syslog:server=x")
                .unwrap_err()
                .contains("syslog")
        );
        assert!(
            Target::parse("l", "logs/a.log basic")
                .unwrap_err()
                .contains("'basic'")
        );
    }

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        let secret = SecretText::parse("pg_password", "hunter2").unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret:?}"), "******");
    }
}
