//! The one table of settings.
//!
//! Each entry is a name, the kind of its value, its default and its text. From it follow the fields of
//! [`Config`], reading and checking, environment variables, what the Admin API shows,
//! `silverback.conf.default` and `docs/configuration.md`. To add a setting, add it here.
//!
//! Names and defaults are Kong's (`kong/templates/kong_defaults.lua`) unless an entry says `own`.

use serde_json::Value;

use super::listen::{Listener, Listeners};
use super::net::{Cidr, DnsOrder, DnsServer, TlsVersions};
use super::number::{
    Count, Decimal, Millis, Port, PositiveSeconds, Seconds, Size, WholeSeconds, Workers,
};
use super::pem::{PemList, TrustedCertificates};
use super::tokens::{Instrumentations, PluginSelection, ResponseHeaders, UpstreamHeaders};
use super::value::{Bool, Codec, File, List, NginxBool, Optional, SecretText, Target, Text};
use super::words::{DatabaseWord, ErrorType, LogLevel, Role, RouterFlavorWord};

/// What the table says about one setting.
#[derive(Debug)]
pub struct Setting {
    /// Name in the configuration file; in upper case after `SILVERBACK_` or `KONG_` the name of the
    /// environment variable.
    pub name: &'static str,
    /// Heading of the reference under which it stands.
    pub section: &'static str,
    /// Text of the default, as in the file; empty when it is not set.
    pub default: &'static str,
    /// Lines of description.
    pub doc: &'static [&'static str],
    /// What is accepted, in a few words.
    pub describe: fn() -> String,
    /// Other names that Kong has for it. One of these wins over `name` when both are given, as in Kong.
    pub aliases: &'static [&'static str],
    /// Whether Kong has no such setting.
    pub own: bool,
    /// Whether the value is never printed.
    pub secret: bool,
    /// Whether `silverback reload` brings a new value into effect; otherwise it takes a restart.
    pub reload: bool,
}

impl Setting {
    const PLAIN: Self = Self {
        name: "",
        section: "",
        default: "",
        doc: &[],
        describe: String::new,
        aliases: &[],
        own: false,
        secret: false,
        reload: false,
    };

    /// The setting with this name or alias.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        SETTINGS
            .iter()
            .find(|setting| setting.name == name || setting.aliases.contains(&name))
    }
}

macro_rules! settings {
    ($($section:literal {
        $($(#[doc = $doc:literal])+ $name:ident: $codec:ty = $default:literal $(, { $($key:ident: $value:expr),+ })?;)+
    })+) => {
        /// Every setting, in the order of the reference.
        pub const SETTINGS: &[Setting] = &[$($(
            #[allow(clippy::needless_update, reason = "an entry may name every field")]
            Setting {
                name: stringify!($name),
                section: $section,
                default: $default,
                doc: &[$($doc),+],
                describe: <$codec as Codec>::describe,
                $($($key: $value,)+)?
                ..Setting::PLAIN
            },
        )+)+];

        /// The configuration of one node: one field per setting, by its name.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Config {
            $($($(#[doc = $doc])+ pub $name: <$codec as Codec>::Out,)+)+
            pub(super) origin: super::load::Origin,
        }

        impl Config {
            /// Reads every setting; what cannot be read takes its default and is told to `problem`.
            pub(super) fn read(
                origin: super::load::Origin,
                mut text: impl FnMut(&'static str) -> Option<String>,
                mut problem: impl FnMut(&'static str, String),
            ) -> Option<Self> {
                Some(Self {
                    $($($name: {
                        let name = stringify!($name);
                        let given = text(name).map(|raw| <$codec as Codec>::parse(name, raw.trim()));
                        match given {
                            Some(Ok(value)) => value,
                            other => {
                                if let Some(Err(error)) = other {
                                    problem(name, error);
                                }
                                // None only when the table itself is wrong, which a test rules out.
                                <$codec as Codec>::parse(name, $default).ok()?
                            }
                        }
                    },)+)+
                    origin,
                })
            }

            /// The text of one setting, as the file would have it, secrets included.
            pub(super) fn text_of(&self, name: &str) -> Option<String> {
                match name {
                    $($(stringify!($name) => Some(<$codec as Codec>::render(&self.$name)),)+)+
                    _ => None,
                }
            }

            /// The value of one setting for `GET /`, secrets included; `None` when it is not set.
            pub(super) fn json_of(&self, name: &str) -> Option<Value> {
                match name {
                    $($(stringify!($name) => <$codec as Codec>::json(&self.$name),)+)+
                    _ => None,
                }
            }
        }
    };
}

settings! {
    "General" {
        /// Working directory: logs, the pid file, generated certificates and the snapshot of the
        /// configuration lie below it. Each running gateway needs its own.
        prefix: File = "/usr/local/silverback";

        /// How much goes to the error log.
        log_level: LogLevel = "notice", { reload: true };

        /// Access log of the proxy.
        proxy_access_log: Target = "logs/access.log";

        /// Error log of the gateway. With `start --daemon` standard output and standard error go to
        /// `logs/error.log` under the prefix as well.
        proxy_error_log: Target = "logs/error.log";

        /// Access log of the Admin API.
        admin_access_log: Target = "logs/admin_access.log";

        /// Plugins that this node loads. `bundled` stands for all that come with Silverback. A plugin
        /// that is configured in the database but not loaded here is an error.
        plugins: PluginSelection = "bundled";

        /// What this node does. `traditional`: it proxies and has the Admin API. `control_plane`: the
        /// Admin API only. `data_plane`: it proxies only. All of them read the same Postgres; Kong's
        /// hybrid protocol between nodes is not spoken.
        role: Role = "traditional";

        /// Put before the name of a secret to get that of the environment variable, for references
        /// `{vault://env/...}`. Vaults made over the Admin API have a prefix of their own.
        vault_env_prefix: Optional<Text> = "";

        /// Accepted so that Kong's files work. Silverback never reports anything to anybody.
        anonymous_reports: Bool = "off";

        /// Where the last good configuration is kept on disk, so that the node can start while the
        /// database is away. The file holds credentials; only its owner can read it.
        snapshot_file: Target = "snapshot", { own: true };

        /// How long a graceful stop (`silverback quit`) waits for requests in flight.
        graceful_stop_timeout: Seconds = "10", { own: true };
    }

    "Listeners" {
        /// Addresses of the proxy. Flags: `ssl` (TLS), `http2`, `proxy_protocol` (the PROXY protocol
        /// is expected), `reuseport`, `backlog=N`, `deferred`, `bind`, `ipv6only=on|off`,
        /// `so_keepalive=on|off`. Unix domain sockets are not supported yet.
        proxy_listen: Listeners = "0.0.0.0:8000 reuseport backlog=16384, 0.0.0.0:8443 http2 ssl reuseport backlog=16384";

        /// Addresses of the Admin API; flags as for `proxy_listen`. Addresses other than loopback need
        /// `admin_require_token = on`, or `ssl` and `admin_ssl_client_ca`, or `admin_allow_remote = on`.
        admin_listen: Listeners = "127.0.0.1:8001 reuseport backlog=16384";

        /// Lets whoever reaches the Admin API own the gateway: allows addresses in `admin_listen` that other
        /// machines can reach without a token or a certificate. For containers and networks where something
        /// else keeps strangers away.
        admin_allow_remote: Bool = "off", { own: true };

        /// Whether the Admin API is for those with a token only (`silverback admin token create`), or a
        /// certificate of `admin_ssl_client_ca`; from this machine as well.
        admin_require_token: Bool = "off", { own: true };

        /// Authorities whose certificates let clients of the addresses in `admin_listen` that have `ssl` in.
        /// With it, nobody gets in there who has neither such a certificate nor a token.
        admin_ssl_client_ca: PemList = "", { own: true };

        /// URLs of Kong Manager or other user interfaces in browsers. With any, browsers may use the Admin API
        /// from these only; without, from everywhere.
        admin_gui_url: List<Text> = "";

        /// The URL under which browsers reach the Admin API, for user interfaces: `GET /` shows it. Empty: the
        /// host of the user interface and the port of `admin_listen`.
        admin_gui_api_url: Optional<Text> = "";

        /// Addresses of the status API: health and metrics, read-only, without TLS.
        status_listen: Listeners = "127.0.0.1:8007 reuseport backlog=16384";

        /// Certificates for the addresses in `proxy_listen` that have `ssl`. When empty, a self-signed
        /// one is made under the prefix at the first start.
        ssl_cert: PemList = "";

        /// Keys of `ssl_cert`, in the same order.
        ssl_cert_key: PemList = "", { secret: true };

        /// Versions of TLS offered to clients. Kong looks at this only with `ssl_cipher_suite = custom`;
        /// Silverback always does.
        ssl_protocols: TlsVersions = "TLSv1.2 TLSv1.3", { aliases: &["nginx_http_ssl_protocols"] };

        /// Certificates for the addresses in `admin_listen` that have `ssl`; as `ssl_cert`.
        admin_ssl_cert: PemList = "";

        /// Keys of `admin_ssl_cert`, in the same order.
        admin_ssl_cert_key: PemList = "", { secret: true };

        /// Threads that serve requests. `auto` is one per core.
        nginx_worker_processes: Workers = "auto", { aliases: &["nginx_main_worker_processes"] };
    }

    "Proxying" {
        /// Headers that are added to responses. `server_tokens` is `Server` and `Via`;
        /// `latency_tokens` is the four headers with a latency.
        headers: ResponseHeaders = "server_tokens, latency_tokens, X-Kong-Request-Id";

        /// Headers that are added to requests for the upstream.
        headers_upstream: UpstreamHeaders = "X-Kong-Request-Id";

        /// Addresses of proxies in front of this gateway whose `X-Forwarded-*` headers and
        /// `real_ip_header` are believed. `0.0.0.0/0,::/0` believes everybody.
        trusted_ips: List<Cidr> = "";

        /// Request header from which the address of the client is taken when the connection comes from
        /// one of `trusted_ips`; `proxy_protocol` takes it from the PROXY protocol.
        real_ip_header: Text = "X-Real-IP", { aliases: &["nginx_proxy_real_ip_header"] };

        /// Whether trusted addresses are skipped, from the right, when `real_ip_header` holds several.
        real_ip_recursive: NginxBool = "off", { aliases: &["nginx_proxy_real_ip_recursive"] };

        /// Largest body of a request; a larger one is answered with 413. `0` sets no limit. Kong has no
        /// short name for this, only the alias.
        client_max_body_size: Size = "0", { own: true, aliases: &["nginx_http_client_max_body_size"] };

        /// Format of error bodies when the request has no `Accept` header.
        error_default_type: ErrorType = "text/plain";

        /// Idle connections to upstreams that are kept open. `0` opens a new one for each request.
        upstream_keepalive_pool_size: Count = "512";

        /// Requests after which a connection to an upstream is closed. `0` sets no limit.
        upstream_keepalive_max_requests: Count = "10000";

        /// Seconds after which an idle connection to an upstream is closed. `0` sets no limit.
        upstream_keepalive_idle_timeout: Seconds = "60";

        /// Whether a request with the header `Kong-Debug: 1` is answered with `Kong-Route-Id`,
        /// `Kong-Route-Name`, `Kong-Service-Id` and `Kong-Service-Name`.
        allow_debug_header: Bool = "off";

        /// How routes are ranked. Kong's `expressions` is not supported yet.
        router_flavor: RouterFlavorWord = "traditional_compatible";
    }

    "Tracing" {
        /// What is measured of requests for the spans that plugins send. `request` is the request as a whole, `balancer` its attempts at
        /// upstreams too, `all` both. Kong's other words are refused: they are not measured here.
        tracing_instrumentations: Instrumentations = "off", { aliases: &["opentelemetry_tracing"] };

        /// Share of traces that are recorded, unless a plugin says another.
        tracing_sampling_rate: Decimal<1> = "0.01", { aliases: &["opentelemetry_tracing_sampling_rate"] };
    }

    "Retry budget" {
        /// Whether retries draw on a budget, so that they cannot keep a failing upstream down. When
        /// off, only `retries` of a service limits them, as in Kong.
        retry_budget: Bool = "on", { own: true };

        /// Retries earned by each request that succeeded at its first attempt.
        retry_budget_ratio: Decimal<10> = "0.1", { own: true };

        /// Retries per second that need not be earned, for the whole cluster and per service.
        retry_budget_min_retries_per_second: Decimal<1_000_000> = "10", { own: true };

        /// How long an earned retry can be spent.
        retry_budget_ttl: WholeSeconds<1, 30> = "10", { own: true };

        /// Most retries of the whole cluster within `retry_budget_window`, whatever was earned. Empty
        /// sets no limit.
        retry_budget_max_retries: Optional<Count> = "", { own: true };

        /// The window of `retry_budget_max_retries`.
        retry_budget_window: WholeSeconds<1, 60> = "10", { own: true };
    }

    "Database" {
        /// Where the configuration of the gateway lives. With `off` there is no database: the node starts from
        /// `declarative_config`, and the Admin API only reads, but for `POST /config`.
        database: DatabaseWord = "postgres";

        /// Only with `database = off`: the declarative configuration, a file in YAML or JSON. Without it (and
        /// without `declarative_config_string`) the node starts from what `POST /config` gave it last.
        declarative_config: Optional<File> = "";

        /// Only with `database = off`: the declarative configuration itself, in YAML or JSON.
        declarative_config_string: Optional<SecretText> = "", { secret: true };

        /// Host of the Postgres server.
        pg_host: Text = "127.0.0.1";

        /// Port of the Postgres server.
        pg_port: Port = "5432";

        /// Timeout of connecting to Postgres and of each query.
        pg_timeout: Millis = "5000";

        /// User name.
        pg_user: Text = "kong";

        /// Password.
        pg_password: Optional<SecretText> = "", { secret: true };

        /// Name of the database.
        pg_database: Text = "kong";

        /// Schema within the database. Empty leaves the choice to the server (`search_path`).
        pg_schema: Optional<Text> = "";

        /// Whether the connection to Postgres is TLS.
        pg_ssl: Bool = "off";

        /// Whether the certificate of Postgres is verified, against `lua_ssl_trusted_certificate`. Only
        /// with `pg_ssl`.
        pg_ssl_verify: Bool = "off";

        /// Most connections of this node to Postgres. `0` leaves the number to Silverback.
        pg_max_concurrent_queries: Count = "0";

        /// Idle time after which a connection to Postgres is closed. Empty or `0` sets no limit.
        pg_keepalive_timeout: Optional<Millis> = "";

        /// How many changes of rows are remembered with what was there before and after, and by whom, for
        /// `GET /revisions` and rollbacks; the oldest revisions are forgotten first. `0` keeps nothing to
        /// look at. Secrets that were are part of it, in the same database as those that are.
        history_size: Count = "100000", { own: true };

        /// How often the database is asked for changes. Changes normally arrive at once, by a
        /// notification; this is for when notifications are lost or a pooler swallows them.
        db_update_frequency: PositiveSeconds = "5";
    }

    "TLS to other servers" {
        /// Authorities whose certificates are trusted, for upstreams and for Postgres. `system` is the
        /// bundle of the operating system.
        lua_ssl_trusted_certificate: TrustedCertificates = "system";
    }

    "DNS" {
        /// Name servers. Empty takes those of `/etc/resolv.conf`.
        dns_resolver: List<DnsServer> = "";

        /// The hosts file; it is read at start.
        dns_hostsfile: File = "/etc/hosts";

        /// Kinds of record, in the order in which they are tried.
        dns_order: List<DnsOrder> = "LAST, SRV, A, CNAME";

        /// How long an answer is kept, whatever its TTL says. Empty keeps to the TTL.
        dns_valid_ttl: Optional<Seconds> = "";

        /// How long an expired answer is still used while a new one is fetched.
        dns_stale_ttl: Seconds = "3600";

        /// How long a failed lookup is remembered.
        dns_error_ttl: Seconds = "1";
    }
}

impl Config {
    /// Where this node proxies: empty for a control plane.
    #[must_use]
    pub fn proxy_listeners(&self) -> &[Listener] {
        if self.role == Role::ControlPlane {
            &[]
        } else {
            &self.proxy_listen
        }
    }

    /// Where this node has the Admin API: empty for a data plane.
    #[must_use]
    pub fn admin_listeners(&self) -> &[Listener] {
        if self.role == Role::DataPlane {
            &[]
        } else {
            &self.admin_listen
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::kong;

    #[test]
    fn every_default_of_the_table_is_valid() {
        let mut problems = Vec::new();
        let config = Config::read(
            super::super::load::Origin::default(),
            |_| None,
            |name, error| problems.push((name, error)),
        );
        assert!(config.is_some());
        let config = Config::read(
            super::super::load::Origin::default(),
            |name| Setting::find(name).map(|setting| setting.default.to_owned()),
            |name, error| problems.push((name, error)),
        );
        assert!(config.is_some());
        assert_eq!(problems, []);
    }

    #[test]
    fn names_and_aliases_are_unique_and_all_entries_are_described() {
        let mut seen = HashSet::new();
        for setting in SETTINGS {
            for name in [setting.name].iter().chain(setting.aliases) {
                assert!(seen.insert(*name), "{name} twice");
            }
            assert!(
                !setting.doc.is_empty() && !(setting.describe)().is_empty(),
                "{}",
                setting.name
            );
        }
    }

    #[test]
    fn what_we_support_is_not_listed_as_unsupported() {
        for setting in SETTINGS {
            assert!(
                kong::unsupported(setting.name).is_none(),
                "{}",
                setting.name
            );
        }
    }

    #[test]
    fn an_alias_finds_its_setting() {
        assert_eq!(
            Setting::find("nginx_main_worker_processes").unwrap().name,
            "nginx_worker_processes"
        );
        assert!(Setting::find("nginx_http_foo").is_none());
    }
}
