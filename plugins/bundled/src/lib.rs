//! Every plugin that comes with Silverback. A plugin that is not in this list does not exist for the gateway.

use silverback_plugin::PluginDef;

/// The plugins, by descending priority.
pub fn all() -> Vec<PluginDef> {
    vec![
        PluginDef::of::<silverback_correlation_id::CorrelationId>(),
        PluginDef::of::<silverback_bot_detection::BotDetection>(),
        PluginDef::of::<silverback_cors::Cors>(),
        PluginDef::of::<silverback_session::Sessions>(),
        PluginDef::of::<silverback_jwt::Jwt>(),
        PluginDef::of::<silverback_oauth2::OAuth2>(),
        PluginDef::of::<silverback_key_auth::KeyAuth>(),
        PluginDef::of::<silverback_basic_auth::BasicAuth>(),
        PluginDef::of::<silverback_hmac_auth::HmacAuth>(),
        PluginDef::of::<silverback_ip_restriction::IpRestriction>(),
        PluginDef::of::<silverback_request_size_limiting::RequestSizeLimiting>(),
        PluginDef::of::<silverback_acl::Acl>(),
        PluginDef::of::<silverback_rate_limiting::RateLimiting>(),
        PluginDef::of::<silverback_response_ratelimiting::ResponseRateLimiting>(),
        PluginDef::of::<silverback_retry_plugin::Retry>(),
        PluginDef::of::<silverback_request_transformer::RequestTransformer>(),
        PluginDef::of::<silverback_response_transformer::ResponseTransformer>(),
        PluginDef::of::<silverback_redirect::Redirect>(),
        PluginDef::of::<silverback_standard_webhooks::StandardWebhooks>(),
        PluginDef::of::<silverback_aws_lambda::AwsLambda>(),
        PluginDef::of::<silverback_proxy_cache::ProxyCache>(),
        PluginDef::of::<silverback_opentelemetry::OpenTelemetry>(),
        PluginDef::of::<silverback_prometheus::Prometheus>(),
        PluginDef::of::<silverback_http_log::HttpLog>(),
        PluginDef::of::<silverback_statsd::Statsd>(),
        PluginDef::of::<silverback_file_log::FileLog>(),
        PluginDef::of::<silverback_udp_log::UdpLog>(),
        PluginDef::of::<silverback_tcp_log::TcpLog>(),
        PluginDef::of::<silverback_loggly::Loggly>(),
        PluginDef::of::<silverback_syslog::Syslog>(),
        PluginDef::of::<silverback_request_termination::RequestTermination>(),
    ]
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
                ("sessions", Some("session_id")),
                ("jwt_secrets", Some("key")),
                ("oauth2_credentials", Some("client_id")),
                ("oauth2_authorization_codes", None),
                ("oauth2_tokens", Some("access_token")),
                ("keyauth_credentials", Some("key")),
                ("basicauth_credentials", Some("username")),
                ("hmacauth_credentials", Some("username")),
                ("acls", Some("group")),
            ]
        );
        assert!(entities[5].ttl);
        assert!(entities[8].is_listed());
    }

    #[test]
    fn an_entity_comes_after_those_it_refers_to() {
        let mut names = BTreeSet::from(["consumers", "services", "plugins"]);
        for entity in all().into_iter().flat_map(|p| p.entities) {
            for (_, to, _) in entity.foreign_keys() {
                assert!(names.contains(to), "{to}");
            }
            assert!(names.insert(entity.name), "{}", entity.name);
        }
    }
}
