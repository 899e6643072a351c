//! What endpoints do that are not about rows: one entry for each of [`Target`]. A new one does not compile before it is here.

use http::Method;
use serde_json::{Value, json};
use silverback_plugin::AdminOperation;

use super::components::schema;
use crate::table::Target;

/// Groups of these operations.
pub(super) const TAGS: [(&str, &str); 5] = [
    ("node", "The node and its state."),
    ("schemas", "What rows may look like, and whether one does."),
    (
        "tags",
        "Tags over all entities; they are changed with the rows that carry them.",
    ),
    (
        "filters",
        "Filters, which there are none of: these calls are refused as by a Kong without them.",
    ),
    (
        "history",
        "Writes that happen together, what was written by whom, and the way back; Kong has none of it.",
    ),
];

/// An operation.
pub(super) struct Described {
    pub(super) tag: &'static str,
    pub(super) summary: String,
    /// Status and body of a success.
    pub(super) answer: Option<(u16, Value)>,
    /// Whether a success is plain text rather than JSON.
    pub(super) is_text: bool,
    /// Shared answers beside it.
    pub(super) also: &'static [u16],
    /// Arguments of the query.
    pub(super) query: Vec<Value>,
    /// The body that is sent.
    pub(super) body: Option<Value>,
    /// The body where only JSON is understood, and one to try.
    pub(super) json_body: Option<Value>,
    pub(super) example: Option<Value>,
    /// Whether errors may come as nginx's page.
    pub(super) has_pages: bool,
}

impl Described {
    fn new(tag: &'static str, summary: &str) -> Self {
        Described {
            tag,
            summary: summary.to_owned(),
            answer: None,
            is_text: false,
            also: &[],
            query: Vec::new(),
            body: None,
            json_body: None,
            example: None,
            has_pages: false,
        }
    }

    fn answers(mut self, schema: Value) -> Self {
        self.answer = Some((200, schema));
        self
    }

    fn also(mut self, statuses: &'static [u16]) -> Self {
        self.also = statuses;
        self
    }

    fn query(mut self, name: &str, text: &str, schema: Value) -> Self {
        self.query
            .push(json!({ "name": name, "in": "query", "description": text, "schema": schema }));
        self
    }

    fn shared(mut self, name: &str) -> Self {
        self.query
            .push(json!({ "$ref": format!("#/components/parameters/{name}") }));
        self
    }

    fn takes(mut self, schema: Value) -> Self {
        self.body = Some(schema);
        self
    }
}

/// What an endpoint of a plugin does with a method.
pub(super) fn of_plugin(plugin: &'static str, operation: &AdminOperation) -> Described {
    let has_body = matches!(operation.method, Method::POST | Method::PUT | Method::PATCH);
    Described {
        answer: operation.answer.clone(),
        also: operation.also,
        body: has_body.then(|| json!({ "type": "object" })),
        has_pages: true,
        ..Described::new(plugin, operation.summary)
    }
}

/// What an endpoint does with a method.
pub(super) fn operation(target: Target, method: &Method) -> Described {
    let of = Described::new;
    match target {
        Target::Root => of("node", "Read what the node is: versions, plugins, settings")
            .answers(root())
            .also(&[503]),
        Target::Status => of("node", "Read how the node is: connections, memory, whether its database can be reached")
            .query("unit", "How bytes are written: `b`, `k`, `m` (the default) or `g`.", json!({ "type": "string", "enum": ["b", "k", "m", "g", "B", "K", "M", "G"] }))
            .query("scale", "Digits behind the point of memory sizes.", json!({ "type": "integer", "minimum": 0, "maximum": 99, "default": 2 }))
            .answers(status())
            .also(&[400]),
        Target::Config if *method == Method::POST => {
            let mut load = of(
                "node",
                "Load a declarative configuration in place of all there is; only on a node without a database",
            )
            .query("check_hash", "`1`: do nothing when it is the one that is in force.", json!({ "type": "string", "enum": ["0", "1"] }))
            .query("flatten_errors", "`1`: errors as a flat list of entities.", json!({ "type": "string", "enum": ["0", "1"] }))
            .takes(json!({
                "type": "object",
                "properties": { "config": { "type": "string", "description": "The configuration as YAML or JSON; or the body is the configuration itself." } },
            }))
            .also(&[304, 400, 429, 503]);
            load.answer = Some((201, json!({ "type": "object", "description": "What was loaded." })));
            load
        }
        Target::Config => of("node", "Read the configuration as a declarative file; only on a node without a database")
            .answers(json!({
                "type": "object", "properties": { "config": { "type": "string" } }, "required": ["config"],
            }))
            .also(&[400, 503]),
        Target::Endpoints => of("node", "List the paths of this API").answers(json!({
            "type": "object", "properties": { "data": texts() }, "required": ["data"], "additionalProperties": false,
        })),
        Target::OpenApi => of("node", "Read this document").answers(json!({
            "type": "object", "required": ["openapi", "info", "paths"],
            "properties": { "openapi": { "type": "string", "pattern": "^3\\.1\\." } },
        })),
        Target::EnabledPlugins => of("node", "List the plugins that the node has loaded").answers(json!({
            "type": "object", "properties": { "enabled_plugins": texts() }, "required": ["enabled_plugins"], "additionalProperties": false,
        })),
        Target::Timers => of("node", "Count the node's background tasks").answers(json!({
            "type": "object", "properties": { "worker": { "type": "object" }, "stats": { "type": "object" } },
            "required": ["worker", "stats"], "additionalProperties": false,
        })),
        Target::Dns => of("node", "Read counters of name resolution")
            .answers(json!({
                "type": "object", "properties": { "worker": { "type": "object" }, "stats": { "type": "object" } },
                "required": ["worker", "stats"], "additionalProperties": false,
            }))
            .also(&[501]),
        Target::Metrics => {
            let mut metrics = of("node", "Read the node's metrics in Prometheus' text format")
                .answers(json!({ "type": "string" }))
                .also(&[404]);
            metrics.is_text = true;
            metrics
        }
        Target::Cache => of("node", "Make the node read its configuration anew").also(&[204]),
        Target::Cached if *method == Method::DELETE => {
            of("node", "Forget what is kept under a key, which is nothing").also(&[204])
        }
        Target::Cached => of("node", "Read what is kept under a key, which is nothing").also(&[404]),
        Target::Clustering => of("node", "Read of data planes; they are not known to control planes").also(&[400]),
        Target::LogLevel => of("node", "Read the level of the node's error log").answers(message()),
        Target::SetLogLevel { everywhere } => {
            let whose = if everywhere { "all nodes'" } else { "the node's" };
            of("node", &format!("Change the level of {whose} error log for a time"))
                .query("timeout", "Seconds until it is the configured one again.", json!({ "type": "integer", "minimum": 0, "default": 60 }))
                .takes(json!({ "type": "object" }))
                .answers(message())
                .also(&[400, 405, 503])
        }
        Target::RetryBudgets => of("node", "List the node's retry budgets").answers(json!({
            "type": "object",
            "properties": { "data": { "type": "array", "items": { "type": "object" } }, "next": { "type": "null" } },
            "required": ["data", "next"],
        })),
        Target::EntitySchema => of("schemas", "Read what rows of an entity may look like, in Kong's form")
            .answers(schema("schema"))
            .also(&[400, 404]),
        Target::PluginSchema => of("schemas", "Read what a plugin's rows may look like, in Kong's form")
            .answers(schema("schema"))
            .also(&[400, 404]),
        Target::PluginConfigSchema => of("schemas", "Read a plugin's configuration fields, as before Kong 1.2")
            .answers(schema("schema"))
            .also(&[400, 404]),
        Target::VaultSchema => of("schemas", "Read what a vault's rows may look like, in Kong's form")
            .answers(schema("schema"))
            .also(&[400, 404]),
        Target::FilterSchema => of("schemas", "Read what a filter's rows may look like; there are no filters").also(&[400, 404]),
        Target::ValidateEntity => of("schemas", "Check a row without making it")
            .takes(json!({ "type": "object" }))
            .answers(schema("message"))
            .also(&[400, 404, 503]),
        Target::ValidatePlugin => of("schemas", "Check a plugin's row without making it")
            .takes(schema("plugins.new"))
            .answers(schema("message"))
            .also(&[400, 404, 503]),
        Target::ValidateVault => of("schemas", "Check a vault's row without making it")
            .takes(schema("vaults.new"))
            .answers(schema("message"))
            .also(&[400, 404, 503]),
        Target::Tags | Target::Tag if *method != Method::GET => {
            let refused = of("tags", "Refused: tags are changed with the rows that carry them").also(&[400, 503]);
            if *method == Method::DELETE { refused } else { refused.takes(json!({ "type": "object" })) }
        }
        Target::Tags => of("tags", "List all tags of all rows")
            .shared("size").shared("offset")
            .answers(schema("tag.page"))
            .also(&[400, 503]),
        Target::Tag => of("tags", "List the rows that carry a tag")
            .shared("size").shared("offset")
            .answers(schema("tag.page"))
            .also(&[400, 503]),
        Target::UpstreamHealth => of("upstreams", "List the targets of one of the upstreams with their health, or read the balancer's view of it")
            .shared("size").shared("offset")
            .query("balancer_health", "`1`: not the targets, but the balancer's view of the upstream.", json!({ "type": "string", "enum": ["1", "0"] }))
            .answers(health())
            .also(&[400, 404, 503]),
        Target::AllTargets => of("targets", "List all targets of one of the upstreams, in the order of their ids")
            .shared("size").shared("offset")
            .answers(schema("targets.page"))
            .also(&[400, 404, 503]),
        Target::Report { healthy } => {
            let word = if healthy { "healthy" } else { "unhealthy" };
            of("targets", &format!("Say that a target, or one of its addresses, is {word}"))
                .takes(json!({ "type": "object" }))
                .also(&[204, 400, 404, 503])
        }
        Target::Filters => {
            let refused = of("filters", "Refused: there are no filters").also(&[400]);
            if matches!(*method, Method::GET | Method::DELETE) { refused } else { refused.takes(json!({ "type": "object" })) }
        }
        Target::Batch => {
            let mut batch = of("history", "Carry out several writes together or not at all")
                .answers(batch_answer())
                .also(&[400, 404, 405, 409, 503]);
            batch.json_body = Some(batch_body());
            batch.example = Some(json!([
                { "name": "made", "method": "POST", "path": "/key-sets", "body": { "name": "in-a-batch" } },
                { "method": "PATCH", "path": "/key-sets/{made}", "body": { "tags": ["batch"] } },
            ]));
            batch
        }
        Target::Revisions => of("history", "List what was written, newest first")
            .shared("size")
            .shared("offset")
            .answers(schema("revision.page"))
            .also(&[400, 503]),
        Target::Revision => of("history", "Read what was written under a revision")
            .answers(schema("revision.whole"))
            .also(&[400, 404, 503]),
        Target::Rollback => of("history", "Undo what was written under a revision, under a new one")
            .takes(json!({ "type": "object" }))
            .answers(json!({
                "type": "object",
                "properties": {
                    "rolled_back": { "type": "integer" }, "revision": { "type": ["integer", "null"] },
                    "changes": { "type": "integer", "minimum": 0 },
                },
                "required": ["rolled_back", "revision", "changes"],
                "additionalProperties": false,
            }))
            .also(&[400, 404, 409, 503]),
        // Not of this table: rows are described by their definitions, what plugins bring by them, and where there is nothing there is nothing to say.
        Target::Collection { .. }
        | Target::Row { .. }
        | Target::Below { .. }
        | Target::RowBelow { .. }
        | Target::Hop { .. }
        | Target::OfPlugin { .. }
        | Target::Disabled => of("node", "Nothing").also(&[404, 405]),
    }
}

/// A parameter of a path that names no row.
pub(super) fn parameter(target: Target, name: &str) -> &'static str {
    match (target, name) {
        (Target::PluginSchema | Target::PluginConfigSchema, _) => "The plugin's name.",
        (Target::VaultSchema, _) => "The kind of vault.",
        (Target::FilterSchema, _) => "The filter's name.",
        (Target::EntitySchema | Target::ValidateEntity, _) => {
            "The entity's name, such as `services` or `keyauth_credentials`."
        }
        (Target::Tag, _) => "The tag.",
        (Target::Cached, _) => "The key.",
        (Target::SetLogLevel { .. }, _) => {
            "The level: `debug`, `info`, `notice`, `warn`, `error`, `crit`, `alert` or `emerg`."
        }
        (Target::Filters, _) => "The filter chain.",
        (Target::Revision | Target::Rollback, _) => "The revision's number.",
        (Target::Report { .. }, _) => "One of the target's addresses, with or without a port.",
        _ => "",
    }
}

/// Something that such a parameter can be.
pub(super) fn example(target: Target) -> Option<Value> {
    let text = match target {
        Target::PluginSchema | Target::PluginConfigSchema => "key-auth",
        Target::VaultSchema => "env",
        Target::EntitySchema | Target::ValidateEntity => "services",
        Target::Tag => "mine",
        Target::SetLogLevel { .. } => "info",
        Target::Revision | Target::Rollback => "1",
        Target::Report { .. } => "10.0.0.1:8080",
        _ => return None,
    };
    Some(text.into())
}

fn message() -> Value {
    json!({
        "type": "object", "properties": { "message": { "type": "string" } }, "required": ["message"], "additionalProperties": false,
    })
}

fn batch_body() -> Value {
    let operation = json!({
        "type": "object",
        "properties": {
            "name": { "type": ["string", "null"], "pattern": "^[A-Za-z0-9_.-]+$", "description": "By which later operations refer to this one." },
            "method": { "type": "string", "enum": ["POST", "PUT", "PATCH", "DELETE"] },
            "path": { "type": "string", "pattern": "^/" },
            "body": { "type": ["object", "null"] },
            "if_match": { "type": ["string", "null"], "description": "As the header `If-Match`." },
        },
        "required": ["method", "path"],
        "additionalProperties": false,
    });
    let list = json!({ "type": "array", "items": operation, "maxItems": 5000 });
    json!({ "anyOf": [
        list,
        { "type": "object", "properties": { "operations": list }, "required": ["operations"] },
    ] })
}

fn batch_answer() -> Value {
    json!({
        "type": "object",
        "properties": {
            "data": { "type": "array", "items": {
                "type": "object",
                "properties": {
                    "name": { "type": "string" }, "status": { "type": "integer" }, "etag": { "type": "string" }, "body": {},
                },
                "required": ["status", "body"],
                "additionalProperties": false,
            } },
            "revision": { "type": ["integer", "null"] },
        },
        "required": ["data", "revision"],
        "additionalProperties": false,
    })
}

fn texts() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

fn root() -> Value {
    json!({
        "type": "object",
        "properties": {
            "version": { "type": "string", "description": "The version of Kong whose API this is." },
            "silverback_version": { "type": "string", "description": "The gateway's own version." },
            "tagline": { "type": "string" },
            "edition": { "type": "string" },
            "hostname": { "type": "string" },
            "node_id": { "type": "string", "format": "uuid" },
            "lua_version": { "type": "string", "description": "There is no Lua here; clients read it." },
            "timers": {
                "type": "object", "properties": { "running": count(), "pending": count() }, "required": ["running", "pending"],
            },
            "pids": { "type": "object", "properties": { "master": count(), "workers": { "type": "array", "items": count() } } },
            "plugins": {
                "type": "object",
                "properties": {
                    "available_on_server": {
                        "type": "object",
                        "additionalProperties": {
                            "type": "object", "properties": { "version": { "type": "string" }, "priority": { "type": "integer" } },
                        },
                    },
                    "enabled_in_cluster": texts(),
                },
                "required": ["available_on_server", "enabled_in_cluster"],
            },
            "configuration": { "type": "object", "description": "The node's settings; secrets are hidden." },
        },
        "required": ["version", "hostname", "node_id", "timers", "plugins", "configuration"],
    })
}

fn status() -> Value {
    let counts = [
        "connections_accepted",
        "connections_active",
        "connections_handled",
        "connections_reading",
        "connections_waiting",
        "connections_writing",
        "total_requests",
    ];
    let server: serde_json::Map<String, Value> = counts
        .iter()
        .map(|name| ((*name).to_owned(), count()))
        .collect();
    json!({
        "type": "object",
        "properties": {
            "server": { "type": "object", "properties": server, "required": counts },
            "memory": {
                "type": "object",
                "properties": {
                    "workers_lua_vms": { "type": "array", "items": {
                        "type": "object", "properties": { "pid": count(), "http_allocated_gc": { "type": "string" } },
                    } },
                    "lua_shared_dicts": { "type": "object" },
                },
            },
            "configuration_hash": { "type": "string", "description": "Of the declarative configuration, on a node without a database." },
            "database": { "type": "object", "properties": { "reachable": { "type": "boolean" } }, "required": ["reachable"] },
        },
        "required": ["server", "memory", "database"],
    })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn health() -> Value {
    let targets = json!({
        "type": "object",
        "properties": {
            "data": { "type": "array", "items": { "allOf": [
                { "type": "object", "properties": { "id": { "type": "string" }, "target": { "type": "string" }, "health": schema("health"), "data": { "type": "object" } },
                  "required": ["id", "target", "health"] },
            ] } },
            "next": { "type": ["string", "null"] },
            "offset": { "type": "string" },
            "node_id": { "type": "string", "format": "uuid" },
        },
        "required": ["data", "next", "node_id"],
    });
    let balancer = json!({
        "type": "object",
        "properties": {
            "data": {
                "type": "object",
                "properties": {
                    "id": { "type": "string", "format": "uuid" }, "health": schema("health"), "balancer_health": schema("health"),
                    "details": { "type": "object" },
                },
                "required": ["id", "health"],
            },
            "next": { "type": "null" },
            "node_id": { "type": "string", "format": "uuid" },
        },
        "required": ["data", "next", "node_id"],
    });
    json!({ "oneOf": [targets, balancer] })
}
