//! From the definition of `plugins` and a plugin's own to the definition by which rows of that plugin are validated, stored and shown.

use serde_json::Value;

use crate::check::EntityCheck;
use crate::entity::EntityDef;
use crate::field::{Field, Kind, RecordDef, foreign, set, string};
use crate::violations::Violations;

/// Where a plugin may be configured; Kong's `no_consumer`, `no_service`, `no_route`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes {
    /// On consumers.
    pub consumer: bool,
    /// On services.
    pub service: bool,
    /// On routes.
    pub route: bool,
}

/// Which protocols of routes a plugin may be configured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols<'a> {
    /// The default.
    pub default: &'a [&'static str],
    /// Whether others than HTTP's may be given although the default has none of them (Kong's `protocols`, not its `protocols_http`).
    pub stream_too: bool,
}

impl<'a> From<&'a [&'static str]> for Protocols<'a> {
    fn from(default: &'a [&'static str]) -> Self {
        Protocols {
            default,
            stream_too: false,
        }
    }
}

const HTTP: [&str; 4] = ["grpc", "grpcs", "http", "https"];
const ALL: [&str; 8] = [
    "grpc",
    "grpcs",
    "http",
    "https",
    "tcp",
    "tls",
    "tls_passthrough",
    "udp",
];

/// The definition of rows of the plugin `name`: `base` (that of `plugins`) with the plugin's `config`, `protocols` and scopes.
///
/// `config` is filled with defaults even when it is left out. When the default of `protocols` has HTTP's only, no others may be given
/// (Kong's `protocols_http`) unless [`Protocols::stream_too`] says so; when it is empty, the field of `base` stays. A closed scope must be null. Paths in `checks` begin with
/// `config.`.
pub fn plugin_entity<'a>(
    base: &EntityDef,
    name: &'static str,
    config: RecordDef,
    checks: Vec<EntityCheck>,
    protocols: impl Into<Protocols<'a>>,
    scopes: Scopes,
) -> EntityDef {
    let Protocols {
        default: protocols,
        stream_too,
    } = protocols.into();
    let mut def = base.clone();
    def.record.checks.extend(checks);
    for (field_name, field) in &mut def.record.fields {
        match *field_name {
            "name" => field.eq = Some(name.into()),
            "config" => {
                *field = Field::new(Kind::Record(config.clone()))
                    .required()
                    .describe(field.description.clone());
            }
            "protocols" if !protocols.is_empty() => {
                let http = !stream_too && protocols.iter().all(|p| HTTP.contains(p));
                let allowed = if http {
                    protocols.to_vec()
                } else {
                    ALL.to_vec()
                };
                *field = set(string().required().len_min(1).one_of(allowed))
                    .required()
                    .default(protocols.to_vec())
                    .describe(field.description.clone());
            }
            "consumer" if !scopes.consumer => close(field, "consumers"),
            "service" if !scopes.service => close(field, "services"),
            "route" if !scopes.route => close(field, "routes"),
            _ => {}
        }
    }
    def
}

/// What is wrong with the `name` of a plugin's row when it names no plugin that we have (also when it is missing or no text); nothing else
/// is then reported.
pub fn unknown_plugin(name: Option<&Value>) -> Violations {
    match name {
        None | Some(Value::Null) => Violations::field("name", "required field missing"),
        Some(Value::String(s)) if s.is_empty() => {
            Violations::field("name", "length must be at least 1")
        }
        Some(Value::String(s)) => Violations::field(
            "name",
            format!("plugin '{s}' not enabled; add it to the 'plugins' configuration property"),
        ),
        Some(_) => Violations::field("name", "expected a string"),
    }
}

fn close(field: &mut Field, entity: &'static str) {
    *field = foreign(entity)
        .eq(Value::Null)
        .describe(field.description.clone());
}
