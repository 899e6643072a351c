//! What references to secrets stand for: `{vault://<vault>/<secret>[/<member>][?<setting>=..][#<version>]}`
//! (`kong/pdk/vault.lua`, `kong/vaults/env/init.lua`).
//!
//! `<vault>` is a kind of vault, of which there is one, `env`, or the prefix of a row of `vaults`. A reference that cannot be resolved is
//! an empty text, as in Kong; it is reported.

use std::collections::HashMap;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use silverback_entities::{Tables, Vault};
use silverback_schema::RecordDef;
use silverback_schema::reference::{has_references, replace_references};
use uuid::Uuid;

/// The kind of vault that is the environment of the process.
const ENV: &str = "env";

/// Environment variables.
#[derive(Clone, Default)]
pub struct Environment {
    variables: Arc<HashMap<String, String>>,
    /// Before the names of secrets of the vault `env` itself.
    prefix: Arc<str>,
}

impl Environment {
    /// Those of this process, as they are now. Variables that are no text are left out.
    pub fn of_process() -> Self {
        let text = |(k, v): (std::ffi::OsString, std::ffi::OsString)| {
            Some((k.into_string().ok()?, v.into_string().ok()?))
        };
        Environment {
            variables: Arc::new(std::env::vars_os().filter_map(text).collect()),
            prefix: "".into(),
        }
    }

    /// These.
    pub fn of<const N: usize>(all: [(&str, &str); N]) -> Self {
        let all = all.map(|(k, v)| (k.to_owned(), v.to_owned()));
        Environment {
            variables: Arc::new(all.into()),
            prefix: "".into(),
        }
    }

    /// What `{vault://env/..}` puts before a secret's name unless the reference says it (Kong's `vault_env_prefix`); one that no
    /// variable can have counts as none.
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.prefix = if is_prefix(prefix) { prefix } else { "" }.into();
        self
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The values are secrets.
        write!(f, "Environment({} variables)", self.variables.len())
    }
}

/// Why a reference stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VaultError {
    #[error("{0} [{1}]")]
    Malformed(&'static str, String),
    #[error("could not find vault ({0})")]
    NoVault(String),
    #[error("could not get value from external vault (no value found)")]
    NoValue,
    #[error("could not get value from external vault (could not get subfield value: {0})")]
    NoMember(String),
}

/// The vaults of a configuration.
pub(crate) struct Vaults<'a> {
    environment: &'a Environment,
    rows: &'a HashMap<Uuid, Arc<Vault>>,
}

impl<'a> Vaults<'a> {
    pub(crate) fn new(environment: &'a Environment, tables: &'a Tables) -> Self {
        Vaults {
            environment,
            rows: &tables.vaults,
        }
    }

    /// A record with its references resolved, and what could not be; `None` when it has no references.
    pub(crate) fn resolved(
        &self,
        def: &RecordDef,
        data: &Map<String, Value>,
    ) -> Option<(Map<String, Value>, Vec<String>)> {
        if !has_references(def, data) {
            return None;
        }
        let (mut data, mut problems) = (data.clone(), Vec::new());
        replace_references(def, &mut data, &mut |reference| {
            self.secret(reference).unwrap_or_else(|why| {
                problems.push(format!("unable to resolve reference {reference} ({why})"));
                String::new()
            })
        });
        Some((data, problems))
    }

    /// What a reference stands for.
    pub(crate) fn secret(&self, reference: &str) -> Result<String, VaultError> {
        let r = Reference::parse(reference)?;
        let row = self.rows.values().find(|v| v.prefix == r.vault);
        let kind = match row {
            _ if r.vault == ENV => ENV,
            Some(row) => row.name.as_str(),
            None => return Err(VaultError::NoVault(r.vault)),
        };
        if kind != ENV {
            return Err(VaultError::NoVault(kind.to_owned()));
        }
        let own = match row {
            Some(row) if r.vault != ENV => row.config.get("prefix").and_then(Value::as_str),
            _ => Some(&*self.environment.prefix),
        };
        let prefix = r.prefix.as_deref().or(own).unwrap_or_default();
        let previous = if r.version == Some(2) {
            "_PREVIOUS"
        } else {
            ""
        };
        let name = format!("{prefix}{}", r.secret).replace('-', "_");
        let name = name.to_ascii_uppercase() + previous;
        let value = self
            .environment
            .variables
            .get(&name)
            .ok_or(VaultError::NoValue)?;
        match &r.member {
            None => Ok(value.clone()),
            Some(member) => member_of(value, member).map_err(VaultError::NoMember),
        }
    }
}

/// A member of a JSON object that is a text. Kong finds members of the object itself only, and so does this.
fn member_of(json: &str, member: &str) -> Result<String, String> {
    let Ok(Value::Object(map)) = serde_json::from_str::<Value>(json) else {
        // Kong shows the value here. It is a secret.
        return Err("the value is no JSON object".to_owned());
    };
    match map.get(member) {
        Some(Value::String(text)) => Ok(text.clone()),
        None => Err(format!("subfield {member} not found in JSON secret")),
        Some(other) => {
            let kind = match other {
                Value::Number(_) => "number",
                Value::Bool(_) => "boolean",
                Value::Null => "userdata",
                _ => "table",
            };
            Err(format!(
                "unexpected {kind} value in JSON secret for subfield {member}"
            ))
        }
    }
}

/// A reference, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Reference {
    vault: String,
    secret: String,
    member: Option<String>,
    /// The setting `prefix`, which is the only one there is.
    prefix: Option<String>,
    version: Option<i64>,
}

impl Reference {
    fn parse(text: &str) -> Result<Self, VaultError> {
        let bad = |why| VaultError::Malformed(why, text.to_owned());
        let url = text
            .strip_prefix("{vault://")
            .and_then(|rest| rest.strip_suffix('}'))
            .ok_or_else(|| bad("not a reference"))?;
        let (url, fragment) = match url.split_once('#') {
            Some((url, fragment)) => (url, Some(fragment)),
            None => (url, None),
        };
        let version = fragment
            .map(|f| f.trim().parse())
            .transpose()
            .map_err(|_| bad("reference url has invalid version"))?;
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let (vault, path) = path
            .split_once('/')
            .ok_or_else(|| bad("reference url is missing path"))?;
        if vault.is_empty() {
            return Err(bad("reference url is missing host"));
        }
        if path.is_empty() {
            return Err(bad("reference url has empty path"));
        }
        let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let mut parts: Vec<String> = path
            .split('/')
            .filter(|p| !p.is_empty())
            .map(decoded)
            .collect();
        // The last part is a member, unless there is no other or a slash at the end.
        let member = if parts.len() > 1 && !path.ends_with('/') {
            parts.pop()
        } else {
            None
        };
        if parts.is_empty() {
            return Err(bad("reference url has invalid path"));
        }
        let prefix = form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "prefix")
            .map(|(_, value)| value.into_owned())
            .filter(|prefix| is_prefix(prefix));
        Ok(Reference {
            vault: vault.to_owned(),
            secret: parts.join("/"),
            member,
            prefix,
            version,
        })
    }
}

/// What the schema of the vault takes; anything else is as if it were not said.
fn is_prefix(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-'))
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use silverback_entities::{Change, Row};

    use super::*;

    fn environment() -> Environment {
        Environment::of([
            ("MY_VAR", "one"),
            ("MY_VAR_PREVIOUS", "zero"),
            ("X_MY_VAR", "two"),
            ("A/B", "odd"),
            ("PAIR", r#"{"user":"u","deep":{"x":"y"},"n":1,"none":null}"#),
        ])
    }

    fn tables() -> Tables {
        let mut tables = Tables::default();
        for (n, prefix, name, config) in [
            (1, "mine", "env", json!({ "prefix": "x_" })),
            (2, "bare", "env", json!({ "prefix": null })),
            (3, "cloud", "aws", json!({})),
        ] {
            let id = Uuid::from_u128(n);
            let row = json!({ "id": id, "prefix": prefix, "name": name, "config": config, "created_at": 1, "updated_at": 1 });
            tables.apply(Change {
                entity: "vaults".into(),
                id,
                row: Some(Row::Vault(serde_json::from_value(row).unwrap())),
            });
        }
        tables
    }

    fn secret(reference: &str) -> Result<String, String> {
        let (environment, tables) = (environment(), tables());
        let vaults = Vaults::new(&environment, &tables);
        vaults.secret(reference).map_err(|e| e.to_string())
    }

    #[test]
    fn secrets_are_environment_variables() {
        for (reference, value) in [
            ("{vault://env/my-var}", "one"),
            ("{vault://env/MY_VAR}", "one"),
            ("{vault://env/my-var#2}", "zero"),
            ("{vault://env/my-var#1}", "one"),
            ("{vault://env/my-var?prefix=x_}", "two"),
            ("{vault://env/my-var?prefix=%2F}", "one"),
            ("{vault://mine/my-var}", "two"),
            ("{vault://mine/my-var?prefix=}", "two"),
            ("{vault://bare/my%2Dvar}", "one"),
            ("{vault://env/a/b/}", "odd"),
            ("{vault://env/pair/user}", "u"),
        ] {
            assert_eq!(secret(reference).as_deref(), Ok(value), "{reference}");
        }
    }

    #[test]
    fn the_built_in_vault_may_have_a_prefix() {
        let (environment, tables) = (environment().with_prefix("x-"), tables());
        let vaults = Vaults::new(&environment, &tables);
        for (reference, value) in [
            ("{vault://env/my-var}", "two"),
            ("{vault://env/var?prefix=my_}", "one"),
            ("{vault://bare/my-var}", "one"),
            ("{vault://mine/my-var}", "two"),
        ] {
            assert_eq!(
                vaults.secret(reference).as_deref(),
                Ok(value),
                "{reference}"
            );
        }
    }

    #[test]
    fn what_cannot_be_resolved_says_why() {
        let none = "could not get value from external vault (no value found)";
        let sub = "could not get value from external vault (could not get subfield value: ";
        for (reference, why) in [
            ("{vault://env/nope}", none.to_owned()),
            ("{vault://mine/pair}", none.to_owned()),
            ("{vault://nobody/x}", "could not find vault (nobody)".into()),
            ("{vault://cloud/x}", "could not find vault (aws)".into()),
            (
                "{vault://env/my-var/x}",
                format!("{sub}the value is no JSON object)"),
            ),
            (
                "{vault://env/pair/x}",
                format!("{sub}subfield x not found in JSON secret)"),
            ),
            (
                "{vault://env/pair/n}",
                format!("{sub}unexpected number value in JSON secret for subfield n)"),
            ),
            (
                "{vault://env/pair/deep}",
                format!("{sub}unexpected table value in JSON secret for subfield deep)"),
            ),
            (
                "{vault://env}",
                "reference url is missing path [{vault://env}]".into(),
            ),
            (
                "{vault://env/}",
                "reference url has empty path [{vault://env/}]".into(),
            ),
            (
                "{vault://env//}",
                "reference url has invalid path [{vault://env//}]".into(),
            ),
            (
                "{vault:///x}",
                "reference url is missing host [{vault:///x}]".into(),
            ),
            (
                "{vault://env/x#y}",
                "reference url has invalid version [{vault://env/x#y}]".into(),
            ),
            ("x", "not a reference [x]".into()),
        ] {
            assert_eq!(secret(reference), Err(why), "{reference}");
        }
    }

    #[test]
    fn an_environment_does_not_tell_its_values() {
        assert!(!format!("{:?}", environment()).contains("one"));
        assert!(!Environment::of_process().variables.is_empty());
    }
}
