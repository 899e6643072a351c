//! The endpoints, computed from the entities (`kong/api/endpoints.lua`): which paths there are, what each stands for and which methods it has.

use std::borrow::Cow;

use crate::model::Model;

/// Methods of a collection.
const COLLECTION: &str = "GET, HEAD, OPTIONS, POST";
/// Methods of one row.
const ONE: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, PUT";
/// Methods of what can only be read.
const READ: &str = "GET, HEAD, OPTIONS";
/// Methods of a report; Kong has no POST, but user interfaces for it do send it.
const REPORT: &str = "OPTIONS, POST, PUT";
/// Methods of what is asked with a body.
const ASK: &str = "OPTIONS, POST";

/// Methods of what can only be set.
const SET: &str = "OPTIONS, PUT";
/// Methods of what can only be thrown away.
const FORGET: &str = "DELETE, OPTIONS";
/// Methods of what can be seen and thrown away.
const LOOK_OR_FORGET: &str = "DELETE, GET, HEAD, OPTIONS";

/// What a path stands for. Names are those of entities; `field` is the reference from the lower to the upper row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/routes`
    Collection { entity: &'static str },
    /// `/routes/{routes}`
    Row { entity: &'static str },
    /// `/services/{services}/routes`
    Below {
        parent: &'static str,
        field: &'static str,
        entity: &'static str,
    },
    /// `/services/{services}/routes/{routes}`
    RowBelow {
        parent: &'static str,
        field: &'static str,
        entity: &'static str,
    },
    /// `/routes/{routes}/service`
    Hop {
        entity: &'static str,
        field: &'static str,
        to: &'static str,
    },
    /// `/`
    Root,
    /// `/status`
    Status,
    /// `/config`
    Config,
    /// `/endpoints`
    Endpoints,
    /// `/openapi.json`
    OpenApi,
    /// `/plugins/enabled`
    EnabledPlugins,
    /// `/plugins/schema/{name}`
    PluginConfigSchema,
    /// `/schemas/{name}`
    EntitySchema,
    /// `/schemas/{name}/validate`
    ValidateEntity,
    /// `/schemas/plugins/{name}`
    PluginSchema,
    /// `/schemas/plugins/validate`
    ValidatePlugin,
    /// `/schemas/vaults/{name}`
    VaultSchema,
    /// `/schemas/vaults/validate`
    ValidateVault,
    /// `/schemas/filters/{name}`
    FilterSchema,
    /// `/upstreams/{upstreams}/health`
    UpstreamHealth,
    /// `/upstreams/{upstreams}/targets/all`
    AllTargets,
    /// `/upstreams/{upstreams}/targets/{targets}/healthy`, `.../{address}/healthy`, and the same with `unhealthy`
    Report { healthy: bool },
    /// What would follow from the definitions and Kong does not have.
    Disabled,
    /// What needs filters, which there are none of.
    Filters,
    /// `/tags`
    Tags,
    /// `/tags/{tags}`
    Tag,
    /// `/retry-budgets`
    RetryBudgets,
    /// `/batch`
    Batch,
    /// `/revisions`
    Revisions,
    /// `/revisions/{revision}`
    Revision,
    /// `/revisions/{revision}/rollback`
    Rollback,
    /// `/timers`
    Timers,
    /// `/status/dns`
    Dns,
    /// `/metrics`
    Metrics,
    /// `/cache`
    Cache,
    /// `/cache/{key}`
    Cached,
    /// `/clustering/data-planes`, `/clustering/status`
    Clustering,
    /// `/debug/node/log-level`
    LogLevel,
    /// `/debug/node/log-level/{log_level}`; everywhere: `/debug/cluster/log-level/{log_level}`
    SetLogLevel { everywhere: bool },
    /// An endpoint that a plugin brings: which one of its endpoints.
    OfPlugin { plugin: &'static str, nth: usize },
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Its path, with parameters in braces.
    pub(crate) path: String,
    /// What it stands for.
    pub(crate) target: Target,
    /// Its methods, in alphabetical order, as `Allow` says them.
    pub(crate) allow: Cow<'static, str>,
}

impl Endpoint {
    /// Whether it has that method.
    pub(crate) fn allows(&self, method: &http::Method) -> bool {
        self.allow.split(", ").any(|m| m == method.as_str())
    }
}

/// All endpoints, in the order in which `GET /endpoints` shows them: segment by segment.
pub(crate) fn endpoints(model: &Model) -> Vec<Endpoint> {
    let mut all = vec![
        read("/", Target::Root),
        read("/status", Target::Status),
        at("/config".into(), COLLECTION, Target::Config),
        read("/endpoints", Target::Endpoints),
        read("/openapi.json", Target::OpenApi),
        read("/plugins/enabled", Target::EnabledPlugins),
        read("/plugins/schema/{name}", Target::PluginConfigSchema),
        read("/schemas/{name}", Target::EntitySchema),
        read("/schemas/plugins/{name}", Target::PluginSchema),
        at(
            "/schemas/{db_entity_name}/validate".into(),
            ASK,
            Target::ValidateEntity,
        ),
        at(
            "/schemas/plugins/validate".into(),
            ASK,
            Target::ValidatePlugin,
        ),
        // Kong lists the methods of a row and a collection for tags too, and refuses what would write.
        at("/tags".into(), COLLECTION, Target::Tags),
        at("/tags/{tags}".into(), ONE, Target::Tag),
        read("/retry-budgets", Target::RetryBudgets),
        at("/batch".into(), ASK, Target::Batch),
        read("/revisions", Target::Revisions),
        read("/revisions/{revision}", Target::Revision),
        at(
            "/revisions/{revision}/rollback".into(),
            ASK,
            Target::Rollback,
        ),
        read("/timers", Target::Timers),
        read("/status/dns", Target::Dns),
        read("/metrics", Target::Metrics),
        at("/cache".into(), FORGET, Target::Cache),
        at("/cache/{key}".into(), LOOK_OR_FORGET, Target::Cached),
        read("/clustering/data-planes", Target::Clustering),
        read("/clustering/status", Target::Clustering),
        read("/debug/node/log-level", Target::LogLevel),
        at(
            "/debug/node/log-level/{log_level}".into(),
            SET,
            Target::SetLogLevel { everywhere: false },
        ),
        at(
            "/debug/cluster/log-level/{log_level}".into(),
            SET,
            Target::SetLogLevel { everywhere: true },
        ),
    ];
    all.extend(special(model));
    for p in model.plugins() {
        let plugin = p.plugin.name;
        for (nth, endpoint) in p.plugin.endpoints.iter().enumerate() {
            all.push(Endpoint {
                path: endpoint.path.to_owned(),
                target: Target::OfPlugin { plugin, nth },
                allow: endpoint.allow().into(),
            });
        }
    }
    for e in model.iter().filter(|e| e.def.in_api) {
        let (entity, collection) = (e.def.name, e.def.collection);
        all.push(at(
            format!("/{collection}"),
            COLLECTION,
            Target::Collection { entity },
        ));
        all.push(at(
            format!("/{collection}/{{{entity}}}"),
            ONE,
            Target::Row { entity },
        ));
        for &(field, to) in &e.foreign {
            all.push(at(
                format!("/{collection}/{{{entity}}}/{field}"),
                ONE,
                Target::Hop { entity, field, to },
            ));
        }
        for nested in &e.def.nested {
            let found = e
                .foreign
                .iter()
                .find(|(f, _)| *f == nested.field)
                .and_then(|(_, to)| model.get(to));
            let Some(parent) = found else { continue };
            let (parent, above, field) = (parent.def.name, parent.def.collection, nested.field);
            let path = format!("/{above}/{{{parent}}}/{}", nested.segment);
            let row = format!("{path}/{{{entity}}}");
            all.push(at(
                path,
                COLLECTION,
                Target::Below {
                    parent,
                    field,
                    entity,
                },
            ));
            all.push(at(
                row,
                ONE,
                Target::RowBelow {
                    parent,
                    field,
                    entity,
                },
            ));
        }
    }
    // Of two with the same path the first stays.
    all.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
    all.dedup_by(|b, a| a.path == b.path);
    all
}

/// What definitions do not say (`kong/api/routes/upstreams.lua`, `targets.lua`, `snis.lua`, `filter_chains.lua`).
fn special(model: &Model) -> Vec<Endpoint> {
    let mut all = Vec::new();
    let mut add = |path: &str, allow, target| all.push(at(path.to_owned(), allow, target));
    if model.get("targets").is_some() {
        add("/targets", COLLECTION, Target::Disabled);
        add("/targets/{targets}", ONE, Target::Disabled);
        add("/targets/{targets}/upstream", ONE, Target::Disabled);
        add(
            "/upstreams/{upstreams}/health",
            READ,
            Target::UpstreamHealth,
        );
        add(
            "/upstreams/{upstreams}/targets/all",
            READ,
            Target::AllTargets,
        );
        for (word, healthy) in [("healthy", true), ("unhealthy", false)] {
            let one = "/upstreams/{upstreams}/targets/{targets}";
            let target = Target::Report { healthy };
            add(&format!("{one}/{word}"), REPORT, target);
            add(&format!("{one}/{{address}}/{word}"), REPORT, target);
        }
    }
    if model.get("snis").is_some() {
        add("/snis/{snis}/certificate", ONE, Target::Disabled);
    }
    if model.get("vaults").is_some() {
        add("/schemas/vaults/{name}", READ, Target::VaultSchema);
        add("/schemas/vaults/validate", ASK, Target::ValidateVault);
    }
    add("/schemas/filters/{name}", READ, Target::FilterSchema);
    add("/filter-chains", COLLECTION, Target::Filters);
    add("/filter-chains/{filter_chains}", ONE, Target::Filters);
    for above in ["route", "service"] {
        add(
            &format!("/filter-chains/{{filter_chains}}/{above}"),
            ONE,
            Target::Filters,
        );
        let chains = format!("/{above}s/{{{above}s}}/filter-chains");
        add(&chains, COLLECTION, Target::Filters);
        add(&format!("{chains}/{{filter_chains}}"), ONE, Target::Filters);
    }
    for which in ["all", "disabled", "enabled"] {
        add(
            &format!("/routes/{{routes}}/filters/{which}"),
            READ,
            Target::Filters,
        );
    }
    all
}

fn read(path: &str, target: Target) -> Endpoint {
    at(path.to_owned(), READ, target)
}

fn at(path: String, allow: &'static str, target: Target) -> Endpoint {
    Endpoint {
        path,
        target,
        allow: allow.into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Method;
    use silverback_entities::CORE;
    use silverback_schema::EntityDef;
    use silverback_schema::field::{foreign, id, string};

    use super::*;

    fn table() -> Vec<Endpoint> {
        let keys = EntityDef::new(
            "keyauth_credentials",
            vec![
                ("id", id()),
                ("consumer", foreign("consumers")),
                ("key", string().unique()),
            ],
        )
        .collection("key-auths")
        .endpoint_key("key")
        .nested("consumer", "key-auth");
        let mut defs = CORE.clone();
        defs.push(keys);
        endpoints(&Model::new(defs, Vec::new()))
    }

    #[test]
    fn paths_of_core_entities_are_those_of_kong() {
        let all = table();
        let paths: Vec<&str> = all.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/",
                "/batch",
                "/ca_certificates",
                "/ca_certificates/{ca_certificates}",
                "/cache",
                "/cache/{key}",
                "/certificates",
                "/certificates/{certificates}",
                "/certificates/{certificates}/services",
                "/certificates/{certificates}/services/{services}",
                "/certificates/{certificates}/snis",
                "/certificates/{certificates}/snis/{snis}",
                "/certificates/{certificates}/upstreams",
                "/certificates/{certificates}/upstreams/{upstreams}",
                "/clustering/data-planes",
                "/clustering/status",
                "/config",
                "/consumers",
                "/consumers/{consumers}",
                "/consumers/{consumers}/key-auth",
                "/consumers/{consumers}/key-auth/{keyauth_credentials}",
                "/consumers/{consumers}/plugins",
                "/consumers/{consumers}/plugins/{plugins}",
                "/debug/cluster/log-level/{log_level}",
                "/debug/node/log-level",
                "/debug/node/log-level/{log_level}",
                "/endpoints",
                "/filter-chains",
                "/filter-chains/{filter_chains}",
                "/filter-chains/{filter_chains}/route",
                "/filter-chains/{filter_chains}/service",
                "/key-auths",
                "/key-auths/{keyauth_credentials}",
                "/key-auths/{keyauth_credentials}/consumer",
                "/key-sets",
                "/key-sets/{key_sets}",
                "/key-sets/{key_sets}/keys",
                "/key-sets/{key_sets}/keys/{keys}",
                "/keys",
                "/keys/{keys}",
                "/keys/{keys}/set",
                "/metrics",
                "/openapi.json",
                "/plugins",
                "/plugins/enabled",
                "/plugins/schema/{name}",
                "/plugins/{plugins}",
                "/plugins/{plugins}/consumer",
                "/plugins/{plugins}/route",
                "/plugins/{plugins}/service",
                "/retry-budgets",
                "/revisions",
                "/revisions/{revision}",
                "/revisions/{revision}/rollback",
                "/routes",
                "/routes/{routes}",
                "/routes/{routes}/filter-chains",
                "/routes/{routes}/filter-chains/{filter_chains}",
                "/routes/{routes}/filters/all",
                "/routes/{routes}/filters/disabled",
                "/routes/{routes}/filters/enabled",
                "/routes/{routes}/plugins",
                "/routes/{routes}/plugins/{plugins}",
                "/routes/{routes}/service",
                "/schemas/filters/{name}",
                "/schemas/plugins/validate",
                "/schemas/plugins/{name}",
                "/schemas/vaults/validate",
                "/schemas/vaults/{name}",
                "/schemas/{db_entity_name}/validate",
                "/schemas/{name}",
                "/services",
                "/services/{services}",
                "/services/{services}/client_certificate",
                "/services/{services}/filter-chains",
                "/services/{services}/filter-chains/{filter_chains}",
                "/services/{services}/plugins",
                "/services/{services}/plugins/{plugins}",
                "/services/{services}/routes",
                "/services/{services}/routes/{routes}",
                "/snis",
                "/snis/{snis}",
                "/snis/{snis}/certificate",
                "/status",
                "/status/dns",
                "/tags",
                "/tags/{tags}",
                "/targets",
                "/targets/{targets}",
                "/targets/{targets}/upstream",
                "/timers",
                "/upstreams",
                "/upstreams/{upstreams}",
                "/upstreams/{upstreams}/client_certificate",
                "/upstreams/{upstreams}/health",
                "/upstreams/{upstreams}/targets",
                "/upstreams/{upstreams}/targets/all",
                "/upstreams/{upstreams}/targets/{targets}",
                "/upstreams/{upstreams}/targets/{targets}/healthy",
                "/upstreams/{upstreams}/targets/{targets}/unhealthy",
                "/upstreams/{upstreams}/targets/{targets}/{address}/healthy",
                "/upstreams/{upstreams}/targets/{targets}/{address}/unhealthy",
                "/vaults",
                "/vaults/{vaults}",
            ]
        );
    }

    #[test]
    fn methods_follow_from_what_a_path_stands_for() {
        let all = table();
        let of = |path: &str| all.iter().find(|e| e.path == path).unwrap();
        assert_eq!(of("/services").allow, "GET, HEAD, OPTIONS, POST");
        assert_eq!(
            of("/routes/{routes}/service").allow,
            "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"
        );
        assert!(of("/").allows(&Method::HEAD));
        assert!(!of("/").allows(&Method::POST));
        assert!(!of("/services").allows(&Method::from_bytes(b"FOO").unwrap()));
        assert_eq!(
            of("/consumers/{consumers}/key-auth").target,
            Target::Below {
                parent: "consumers",
                field: "consumer",
                entity: "keyauth_credentials"
            }
        );
    }
}
