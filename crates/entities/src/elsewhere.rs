//! Entities of Kong's data model that keep nothing here; there is only their schema to see.

use silverback_schema::field::{
    Kind, RecordDef, integer, map, number, set, string, timestamp, uuid,
};
use silverback_schema::{EntityDef, Field};

use crate::workspace;

pub(crate) fn defs() -> Vec<EntityDef> {
    vec![
        workspace::def(),
        data_planes(),
        parameters(),
        tags_of_all(),
        rate_limiting_counters(),
    ]
}

fn record(fields: Vec<(&'static str, Field)>) -> Field {
    Field::new(Kind::Record(RecordDef {
        fields,
        ..RecordDef::default()
    }))
}

/// Data planes that are connected to a control plane.
fn data_planes() -> EntityDef {
    let states = [
        "unknown",
        "normal",
        "kong_version_incompatible",
        "plugin_set_incompatible",
        "plugin_version_incompatible",
        "filter_set_incompatible",
    ];
    let version = string()
        .match_none("%.%.", "must not have empty version segments")
        .match_any(
            ["^%d+[%.%d]*$", "^%d+[%.%d]*%-?.*$"],
            "invalid version number: must be in format of X.Y.Z",
        );
    EntityDef::new(
        "clustering_data_planes",
        vec![
            ("id", uuid().auto().required().describe("The node's id.")),
            (
                "last_seen",
                timestamp().describe("When it was last heard of."),
            ),
            (
                "updated_at",
                timestamp().describe("When the row was last changed."),
            ),
            ("ip", string().required().describe("Its address.")),
            (
                "config_hash",
                string()
                    .len_eq(32)
                    .describe("The digest of the configuration it serves."),
            ),
            ("hostname", string().required().describe("Its host's name.")),
            ("version", version.describe("The version it runs.")),
            (
                "sync_status",
                string()
                    .required()
                    .default("unknown")
                    .one_of(states)
                    .describe("Whether it can take the configuration."),
            ),
            (
                "labels",
                map(string(), string()).describe("Words for telling it from others."),
            ),
            (
                "cert_details",
                record(vec![(
                    "expiry_timestamp",
                    number()
                        .seconds_since_1970()
                        .optional()
                        .describe("When its certificate expires."),
                )])
                .required()
                .describe("Its certificate."),
            ),
            (
                "rpc_capabilities",
                set(string()).describe("What it can be asked."),
            ),
        ],
    )
}

/// What nodes of Kong keep of themselves in the database.
fn parameters() -> EntityDef {
    EntityDef::new(
        "parameters",
        vec![
            ("created_at", timestamp().describe("When the row was made.")),
            (
                "key",
                string().required().unique().describe("What is kept."),
            ),
            ("value", string().required().describe("Its value.")),
        ],
    )
}

/// Tags are part of the rows that carry them.
fn tags_of_all() -> EntityDef {
    EntityDef::new(
        "tags",
        vec![
            ("tag", string().required().len_min(1).describe("The tag.")),
            (
                "entity_name",
                string().required().describe("What kind of row carries it."),
            ),
            (
                "entity_id",
                uuid()
                    .auto()
                    .required()
                    .describe("The id of the row that carries it."),
            ),
        ],
    )
}

/// Counters of `rate-limiting`, which are kept in another form.
fn rate_limiting_counters() -> EntityDef {
    EntityDef::new(
        "ratelimiting_metrics",
        vec![
            (
                "identifier",
                string().required().len_min(0).describe("Whose requests."),
            ),
            (
                "period",
                string().required().describe("The kind of window."),
            ),
            (
                "period_date",
                integer()
                    .required()
                    .seconds_since_1970()
                    .describe("When the window began."),
            ),
            (
                "service_id",
                uuid().required().describe("The service's id."),
            ),
            ("route_id", uuid().required().describe("The route's id.")),
            ("value", integer().required().describe("How many requests.")),
        ],
    )
}
