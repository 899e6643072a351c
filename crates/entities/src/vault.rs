//! Vaults: where secrets are that a configuration only refers to. There is one kind, the environment of the process.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use silverback_schema::field::{Kind, RecordDef, id, string, timestamp};
use silverback_schema::{EntityDef, Field, Record, Violations, record};
use uuid::Uuid;

use crate::tags;

record! {
    /// A vault that references may name by its prefix: `{vault://<prefix>/<secret>}`.
    pub struct Vault {
        /// The primary key.
        pub id: Uuid = id(),
        /// The unique name by which references find the vault.
        pub prefix: String = string().required().unique_across_ws().len_min(1).not_one_of(["env"])
            .matches("^[a-z][a-z%d-]-[a-z%d]+$"),
        /// The kind of vault.
        pub name: String = string().required().len_min(1),
        /// A text for people.
        pub description: Option<String> = string().len_min(1),
        /// The vault's own configuration; its form depends on the kind.
        pub config: Map<String, Value> = Field::new(Kind::Abstract),
        /// When the row was made.
        pub created_at: i64 = timestamp(),
        /// When the row was last changed.
        pub updated_at: i64 = timestamp(),
        /// Words for grouping and filtering.
        pub tags: Option<Vec<String>> = tags(),
    }
}

record! {
    /// Secrets in environment variables.
    pub struct EnvVault {
        /// Put before a secret's name to get that of the variable.
        pub prefix: Option<String> = string().matches("^[%a_-][%a%d_-]*$"),
    }
}

/// The definitions of rows of each kind of vault, by its name.
pub static VAULT_KINDS: LazyLock<Vec<(&'static str, EntityDef)>> = LazyLock::new(|| {
    let mut env = def();
    for (name, field) in &mut env.record.fields {
        match *name {
            "name" => field.eq = Some("env".into()),
            "config" => {
                let fields = EnvVault::fields();
                *field = Field::new(Kind::Record(RecordDef {
                    fields,
                    ..RecordDef::default()
                }))
                .required()
                .describe(field.description.clone());
            }
            _ => {}
        }
    }
    vec![("env", env)]
});

/// What is wrong with the `name` of a vault's row when it names no kind that we have; nothing else is then reported.
pub fn unknown_vault(name: Option<&Value>) -> Violations {
    let text = match name {
        None | Some(Value::Null) => "required field missing".to_owned(),
        Some(Value::String(name)) => format!("vault '{name}' is not installed"),
        Some(_) => "expected a string".to_owned(),
    };
    Violations::field("name", text)
}

pub(crate) fn def() -> EntityDef {
    EntityDef::new("vaults", Vault::fields())
        .endpoint_key("prefix")
        .identity(&["prefix"])
        .example(
            || json!({ "name": "env", "prefix": "my-vault", "config": { "prefix": "SECRET_" } }),
        )
}
