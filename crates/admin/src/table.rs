//! The endpoints, computed from the entities (`kong/api/endpoints.lua`): which paths there are, what each stands for and which methods it has.

use crate::model::Model;

/// Methods of a collection.
const COLLECTION: &str = "GET, HEAD, OPTIONS, POST";
/// Methods of one row.
const ONE: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, PUT";
/// Methods of what can only be read.
const READ: &str = "GET, HEAD, OPTIONS";
/// Methods of what is asked with a body.
const ASK: &str = "OPTIONS, POST";

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
    /// `/endpoints`
    Endpoints,
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
    /// `/tags`
    Tags,
    /// `/tags/{tags}`
    Tag,
    /// `/retry-budgets`
    RetryBudgets,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Its path, with parameters in braces.
    pub(crate) path: String,
    /// What it stands for.
    pub(crate) target: Target,
    /// Its methods, in alphabetical order, as `Allow` says them.
    pub(crate) allow: &'static str,
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
        read("/endpoints", Target::Endpoints),
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
    ];
    for e in model.iter() {
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
    all.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
    all.dedup_by(|b, a| a.path == b.path);
    all
}

fn read(path: &str, target: Target) -> Endpoint {
    at(path.to_owned(), READ, target)
}

fn at(path: String, allow: &'static str, target: Target) -> Endpoint {
    Endpoint {
        path,
        target,
        allow,
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
                "/consumers",
                "/consumers/{consumers}",
                "/consumers/{consumers}/key-auth",
                "/consumers/{consumers}/key-auth/{keyauth_credentials}",
                "/consumers/{consumers}/plugins",
                "/consumers/{consumers}/plugins/{plugins}",
                "/endpoints",
                "/key-auths",
                "/key-auths/{keyauth_credentials}",
                "/key-auths/{keyauth_credentials}/consumer",
                "/plugins",
                "/plugins/enabled",
                "/plugins/schema/{name}",
                "/plugins/{plugins}",
                "/plugins/{plugins}/consumer",
                "/plugins/{plugins}/route",
                "/plugins/{plugins}/service",
                "/retry-budgets",
                "/routes",
                "/routes/{routes}",
                "/routes/{routes}/plugins",
                "/routes/{routes}/plugins/{plugins}",
                "/routes/{routes}/service",
                "/schemas/plugins/validate",
                "/schemas/plugins/{name}",
                "/schemas/{db_entity_name}/validate",
                "/schemas/{name}",
                "/services",
                "/services/{services}",
                "/services/{services}/plugins",
                "/services/{services}/plugins/{plugins}",
                "/services/{services}/routes",
                "/services/{services}/routes/{routes}",
                "/status",
                "/tags",
                "/tags/{tags}",
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
