//! Every plugin that comes with Silverback. A plugin that is not in this list does not exist for the gateway.

use silverback_plugin::PluginDef;
use silverback_plugin::schema::EntityDef;

/// The plugins, by descending priority.
pub fn all() -> Vec<PluginDef> {
    vec![
        PluginDef::of::<silverback_correlation_id::CorrelationId>(),
        PluginDef::of::<silverback_jwt::Jwt>(),
        PluginDef::of::<silverback_key_auth::KeyAuth>(),
        PluginDef::of::<silverback_basic_auth::BasicAuth>(),
        PluginDef::of::<silverback_hmac_auth::HmacAuth>(),
        PluginDef::of::<silverback_acl::Acl>(),
        PluginDef::of::<silverback_rate_limiting::RateLimiting>(),
        PluginDef::of::<silverback_retry_plugin::Retry>(),
        PluginDef::of::<silverback_request_transformer::RequestTransformer>(),
        PluginDef::of::<silverback_response_transformer::ResponseTransformer>(),
        PluginDef::of::<silverback_aws_lambda::AwsLambda>(),
        PluginDef::of::<silverback_prometheus::Prometheus>(),
        PluginDef::of::<silverback_http_log::HttpLog>(),
        PluginDef::of::<silverback_file_log::FileLog>(),
        PluginDef::of::<silverback_request_termination::RequestTermination>(),
    ]
}

/// Entities whose plugins are still to come: the Admin API serves them, so that a configuration can be taken over from Kong as it is. Each
/// comes after those it refers to.
pub fn entities_without_plugin() -> Vec<EntityDef> {
    [
        silverback_oauth2::entities(),
        silverback_session::entities(),
    ]
    .concat()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn names_are_unique() {
        let all = all();
        let names: BTreeSet<_> = all.iter().map(|p| p.name).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn priorities_are_those_of_kong_and_no_two_are_equal() {
        let kong: BTreeMap<String, i32> =
            serde_json::from_str(include_str!("../testdata/priorities.json")).unwrap();
        let all = all();
        for plugin in &all {
            match kong.get(plugin.name) {
                Some(priority) => assert_eq!(plugin.priority, *priority, "{}", plugin.name),
                None => assert!(
                    !kong.values().any(|p| *p == plugin.priority),
                    "{}",
                    plugin.name
                ),
            }
        }
        assert!(all.windows(2).all(|w| w[0].priority > w[1].priority));
    }

    #[test]
    fn entities_are_named_once_and_can_be_looked_up() {
        let entities: Vec<_> = all().into_iter().flat_map(|p| p.entities).collect();
        let found: Vec<_> = entities.iter().map(|e| (e.name, e.lookup)).collect();
        assert_eq!(
            found,
            [
                ("jwt_secrets", Some("key")),
                ("keyauth_credentials", Some("key")),
                ("basicauth_credentials", Some("username")),
                ("hmacauth_credentials", Some("username")),
                ("acls", Some("group")),
            ]
        );
        assert!(entities[1].ttl);
        assert!(entities[4].is_listed());
    }

    #[test]
    fn an_entity_has_a_plugin_or_waits_for_one() {
        let mut names = BTreeSet::new();
        for entity in entities_without_plugin() {
            for (_, to, _) in entity.foreign_keys() {
                assert!(
                    ["consumers", "services"].contains(&to) || names.contains(to),
                    "{to}"
                );
            }
            assert!(names.insert(entity.name), "{}", entity.name);
        }
        assert!(
            all()
                .iter()
                .flat_map(|p| &p.entities)
                .all(|e| !names.contains(e.name))
        );
    }
}
