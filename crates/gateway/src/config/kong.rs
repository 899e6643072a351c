//! Settings of Kong 3.9 that Silverback knows by name but does not have, so that whoever brings a
//! `kong.conf` along learns what becomes of each line.

/// Why a setting of Kong has no effect here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsupported {
    /// It would make sense, and is not built.
    NotYet,
    /// It steers a part of Kong that Silverback does not have: nginx, Lua, its caches, its own hybrid
    /// protocol.
    Needless,
}

impl Unsupported {
    /// A sentence about the setting `name`.
    pub(super) fn sentence(self, name: &str) -> String {
        match self {
            Self::NotYet => format!("'{name}' is known to Kong, not supported here, ignored"),
            Self::Needless => {
                format!(
                    "'{name}' is known to Kong, but steers a part that Silverback does not have, ignored"
                )
            }
        }
    }
}

/// Whether `name` is a setting of Kong that Silverback does not have. `nginx_*`, `vault_*` and
/// `pluginserver_*` are open families in Kong (`DYNAMIC_KEY_NAMESPACES` in
/// `kong/conf_loader/constants.lua`).
pub(super) fn unsupported(name: &str) -> Option<Unsupported> {
    if super::table::Setting::find(name).is_some() {
        return None;
    }
    if NOT_YET.contains(&name) || name.starts_with("vault_") {
        return Some(Unsupported::NotYet);
    }
    let family = name.starts_with("nginx_") || name.starts_with("pluginserver_");
    (family || NEEDLESS.contains(&name)).then_some(Unsupported::Needless)
}

/// Kong's settings that may come.
pub(super) const NOT_YET: &[&str] = &[
    "admin_error_log",
    "admin_gui_access_log",
    "admin_gui_error_log",
    "admin_gui_listen",
    "admin_gui_path",
    "admin_gui_ssl_cert",
    "admin_gui_ssl_cert_key",
    "client_ssl",
    "client_ssl_cert",
    "client_ssl_cert_key",
    "dns_cache_size",
    "dns_no_sync",
    "dns_not_found_ttl",
    "error_template_html",
    "error_template_json",
    "error_template_plain",
    "error_template_xml",
    "lua_max_post_args",
    "lua_max_req_headers",
    "lua_max_resp_headers",
    "lua_max_uri_args",
    "lua_ssl_protocols",
    "lua_ssl_verify_depth",
    "node_id",
    "pg_ro_backlog",
    "pg_ro_database",
    "pg_ro_host",
    "pg_ro_keepalive_timeout",
    "pg_ro_max_concurrent_queries",
    "pg_ro_password",
    "pg_ro_pool_size",
    "pg_ro_port",
    "pg_ro_schema",
    "pg_ro_semaphore_timeout",
    "pg_ro_ssl",
    "pg_ro_ssl_verify",
    "pg_ro_timeout",
    "pg_ro_user",
    "pg_semaphore_timeout",
    "port_maps",
    "proxy_server",
    "proxy_server_ssl_verify",
    "proxy_stream_access_log",
    "proxy_stream_error_log",
    "request_debug",
    "request_debug_token",
    "ssl_cipher_suite",
    "ssl_ciphers",
    "ssl_dhparam",
    "ssl_prefer_server_ciphers",
    "ssl_session_cache_size",
    "ssl_session_tickets",
    "ssl_session_timeout",
    "status_access_log",
    "status_error_log",
    "status_ssl_cert",
    "status_ssl_cert_key",
    "stream_listen",
    "untrusted_lua",
    "untrusted_lua_sandbox_environment",
    "untrusted_lua_sandbox_requires",
    "vaults",
    "wasm",
    "wasm_filters",
    "wasm_filters_path",
];

/// Kong's settings for parts that Silverback does not have.
pub(super) const NEEDLESS: &[&str] = &[
    "_debug_pg_ttl_cleanup_interval",
    "client_body_buffer_size",
    "cluster_ca_cert",
    "cluster_cert",
    "cluster_cert_key",
    "cluster_cjson",
    "cluster_control_plane",
    "cluster_data_plane_purge_delay",
    "cluster_dp_labels",
    "cluster_incremental_sync",
    "cluster_listen",
    "cluster_max_payload",
    "cluster_mtls",
    "cluster_ocsp",
    "cluster_rpc",
    "cluster_server_name",
    "cluster_use_proxy",
    "db_cache_neg_ttl",
    "db_cache_ttl",
    "db_cache_warmup_entities",
    "db_resurrect_ttl",
    "db_update_propagation",
    "debug_ssl_cert",
    "debug_ssl_cert_key",
    "dedicated_config_processing",
    "host_ports",
    "kic",
    "lmdb_environment_path",
    "lmdb_map_size",
    "lua_package_cpath",
    "lua_package_path",
    "lua_socket_pool_size",
    "mem_cache_size",
    "new_dns_client",
    "openresty_path",
    "pg_backlog",
    "pg_pool_size",
    "privileged_worker",
    "resolver_address",
    "resolver_error_ttl",
    "resolver_family",
    "resolver_hosts_file",
    "resolver_lru_cache_size",
    "resolver_mem_cache_size",
    "resolver_stale_ttl",
    "resolver_valid_ttl",
    "router_consistency",
    "wasm_dynamic_module",
    "worker_consistency",
    "worker_events_max_payload",
    "worker_state_update_frequency",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_known_as_a_whole() {
        assert_eq!(
            unsupported("nginx_proxy_large_client_header_buffers"),
            Some(Unsupported::Needless)
        );
        assert_eq!(unsupported("vault_env_prefix"), None);
        assert_eq!(unsupported("vault_aws_region"), Some(Unsupported::NotYet));
        assert_eq!(
            unsupported("pluginserver_go_socket"),
            Some(Unsupported::Needless)
        );
    }

    #[test]
    fn supported_aliases_within_a_family_are_not_reported() {
        assert_eq!(unsupported("nginx_http_client_max_body_size"), None);
    }

    #[test]
    fn names_that_kong_does_not_have_are_not_known() {
        assert_eq!(unsupported("prefixx"), None);
    }

    #[test]
    fn the_lists_are_sorted_and_do_not_overlap() {
        assert!(NOT_YET.is_sorted() && NEEDLESS.is_sorted());
        assert!(NOT_YET.iter().all(|name| !NEEDLESS.contains(name)));
    }
}
