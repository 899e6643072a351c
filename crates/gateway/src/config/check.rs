//! Checks that concern several settings, or the machine. Where Kong has the check (`check_and_parse` in
//! `kong/conf_loader/parse.lua`), its words are used.

use std::collections::BTreeMap;

use super::Listener;
use super::load::Problem;
use super::pem;
use super::table::Config;
use super::words::{Database, Role};

/// Adds to `problems` what must not be, and to `notices` what is odd. `plugins` is what the binary
/// offers, when that is known.
pub(super) fn check(
    config: &Config,
    plugins: Option<&[String]>,
    problems: &mut Vec<Problem>,
    notices: &mut Vec<String>,
) {
    let mut report = Report { config, problems };
    report.role();
    report.listeners();
    report.certificates();
    report.plugins(plugins);

    if config.real_ip_header == "proxy_protocol"
        && !config
            .proxy_listeners()
            .iter()
            .any(|listener| listener.proxy_protocol)
    {
        report.add(
            "real_ip_header",
            "real_ip_header = proxy_protocol needs an address in proxy_listen with the flag proxy_protocol",
        );
    }
    if !config.dns_hostsfile.is_file() {
        report.add("dns_hostsfile", "dns_hostsfile: file does not exist");
    }
    if config.dns_order.is_empty() {
        report.add("dns_order", "dns_order must not be empty");
    }

    if config.anonymous_reports {
        notices.push(
            "anonymous_reports = on has no effect: Silverback reports nothing to anybody"
                .to_owned(),
        );
    }
    let open = |l: &Listener| !l.is_loopback() && !l.tls;
    if config.admin_require_token && config.admin_listeners().iter().any(open) {
        notices.push(
            "admin_listen: tokens cross the network in the clear where ssl is not set".to_owned(),
        );
    }
    if config.pg_ssl_verify && !config.pg_ssl {
        notices.push("pg_ssl_verify = on has no effect while pg_ssl is off".to_owned());
    }
    if config.database != Database::Off
        && (config.declarative_config.is_some() || config.declarative_config_string.is_some())
    {
        notices.push(
            "declarative_config and declarative_config_string have no effect without database = off"
                .to_owned(),
        );
    }
    if config.role == Role::DataPlane
        && !config.admin_listen.is_empty()
        && given(config, "admin_listen")
    {
        notices.push("admin_listen has no effect when role = \"data_plane\"".to_owned());
    }
    if config.role == Role::ControlPlane
        && !config.proxy_listen.is_empty()
        && given(config, "proxy_listen")
    {
        notices.push("proxy_listen has no effect when role = \"control_plane\"".to_owned());
    }
}

struct Report<'a> {
    config: &'a Config,
    problems: &'a mut Vec<Problem>,
}

impl Report<'_> {
    fn add(&mut self, setting: &str, message: impl Into<String>) {
        let source = Some(self.config.origin().of(setting).clone());
        self.problems.push(Problem {
            message: message.into(),
            source,
        });
    }

    fn role(&mut self) {
        if self.config.admin_require_token && self.config.database == Database::Off {
            self.add(
                "admin_require_token",
                "admin_require_token: tokens are kept in the database, and there is none when database = off; use ssl and \
                 admin_ssl_client_ca",
            );
        }
        if self.config.role == Role::ControlPlane && self.config.database == Database::Off {
            self.add(
                "database",
                "in-memory storage can not be used when role = \"control_plane\"",
            );
        }
        if self.config.role == Role::ControlPlane && self.config.admin_listen.is_empty() {
            self.add(
                "admin_listen",
                "admin_listen must be specified when role = \"control_plane\"",
            );
        }
        if self.config.role == Role::DataPlane && self.config.proxy_listen.is_empty() {
            self.add(
                "proxy_listen",
                "proxy_listen must be specified when role = \"data_plane\"",
            );
        }
    }

    fn listeners(&mut self) {
        let config = self.config;
        let certificates = !config.admin_ssl_client_ca.is_empty();
        if !config.admin_allow_remote && !config.admin_require_token {
            for listener in config
                .admin_listeners()
                .iter()
                .filter(|listener| !(listener.is_loopback() || certificates && listener.tls))
            {
                self.add(
                    "admin_listen",
                    format!(
                        "admin_listen: other machines could reach {}, and would need neither a token nor a certificate; \
                         use a loopback address such as 127.0.0.1:{}, or set admin_require_token = on, or ssl and \
                         admin_ssl_client_ca, or, to let everybody in, admin_allow_remote = on",
                        listener.addr,
                        listener.addr.port()
                    ),
                );
            }
        }
        if certificates && !config.admin_listeners().iter().any(|l| l.tls) {
            self.add(
                "admin_ssl_client_ca",
                "admin_ssl_client_ca needs an address in admin_listen with the flag ssl",
            );
        }
        for url in config
            .admin_gui_url
            .iter()
            .map(|url| ("admin_gui_url", url))
            .chain(
                config
                    .admin_gui_api_url
                    .iter()
                    .map(|url| ("admin_gui_api_url", url)),
            )
        {
            if !is_web_url(url.1) {
                self.add(
                    url.0,
                    format!("{}: not a URL with http:// or https://", url.0),
                );
            }
        }
        if config.status_listen.iter().any(|listener| listener.tls) {
            self.add("status_listen", "status_listen: ssl is not supported yet");
        }

        let mut seen = BTreeMap::new();
        let all = [
            ("proxy_listen", config.proxy_listeners()),
            ("admin_listen", config.admin_listeners()),
            ("status_listen", &config.status_listen),
        ];
        for (name, list) in all {
            for listener in list.iter().filter(|listener| listener.addr.port() != 0) {
                if let Some(other) = seen.insert(listener.addr, name) {
                    self.add(
                        name,
                        format!("{name}: {} is already used by {other}", listener.addr),
                    );
                }
            }
        }
    }

    fn certificates(&mut self) {
        let config = self.config;
        let tls = |list: &[Listener]| list.iter().any(|listener| listener.tls);
        let mut messages = Vec::new();
        if tls(config.proxy_listeners()) {
            messages.extend(pem::check_pairs("", &config.ssl_cert, &config.ssl_cert_key));
        }
        if tls(config.admin_listeners()) {
            messages.extend(pem::check_pairs(
                "admin_",
                &config.admin_ssl_cert,
                &config.admin_ssl_cert_key,
            ));
        }
        self.problems
            .extend(messages.into_iter().map(|message| Problem {
                message,
                source: None,
            }));
        let name = "lua_ssl_trusted_certificate";
        for message in pem::check_trusted(name, &config.lua_ssl_trusted_certificate) {
            self.add(name, message);
        }
    }

    fn plugins(&mut self, offers: Option<&[String]>) {
        let Some(offers) = offers else { return };
        let offers: Vec<&str> = offers.iter().map(String::as_str).collect();
        if let Err(missing) = self.config.plugins.select(&offers) {
            for name in missing {
                self.add(
                    "plugins",
                    format!("plugins: {name} plugin is enabled but not installed"),
                );
            }
        }
    }
}

fn is_web_url(text: &str) -> bool {
    let url = text.parse::<http::Uri>().ok();
    url.is_some_and(|u| matches!(u.scheme_str(), Some("http" | "https")) && u.host().is_some())
}

fn given(config: &Config, name: &str) -> bool {
    config.origin().of(name) != &super::Source::Default
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::config::{ConfigError, Loader};

    fn problems(settings: &[(&str, &str)]) -> Vec<String> {
        let loader = settings
            .iter()
            .fold(Loader::new(), |loader, (name, value)| {
                loader.set(name, value)
            });
        match loader.plugins(["key-auth"]).load() {
            Ok(_) => Vec::new(),
            Err(ConfigError::Invalid(problems)) => problems
                .into_iter()
                .map(|problem| problem.message)
                .collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_admin_api_beyond_loopback_needs_consent() {
        let open = ("admin_listen", "127.0.0.1:1, 0.0.0.0:2, [::]:3");
        let refused = problems(&[open]);
        assert_eq!(refused.len(), 2, "{refused:?}");
        assert!(refused[0].contains("0.0.0.0:2") && refused[0].contains("admin_allow_remote = on"));
        assert_eq!(
            problems(&[open, ("admin_allow_remote", "on")]),
            Vec::<String>::new()
        );
        assert_eq!(
            problems(&[open, ("role", "data_plane")]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_token_or_a_certificate_is_as_good() {
        let open = ("admin_listen", "0.0.0.0:2");
        assert_eq!(
            problems(&[open, ("admin_require_token", "on")]),
            Vec::<String>::new()
        );
        let ca = ("admin_ssl_client_ca", "/etc/hosts");
        let refused = problems(&[("admin_listen", "0.0.0.0:2, 127.0.0.1:3 ssl"), ca]);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].contains("0.0.0.0:2"));
        assert_eq!(
            problems(&[("admin_listen", "0.0.0.0:2 ssl"), ca]),
            Vec::<String>::new()
        );
        let refused = problems(&[("admin_listen", "127.0.0.1:2"), ca]);
        assert!(refused[0].contains("with the flag ssl"), "{refused:?}");
    }

    #[test]
    fn user_interfaces_have_urls() {
        for good in [
            "http://a.test:8002",
            "https://a.test/manager, http://b.test",
        ] {
            assert_eq!(problems(&[("admin_gui_url", good)]), Vec::<String>::new());
        }
        for bad in ["a.test", "ftp://a.test", "http://"] {
            assert_eq!(problems(&[("admin_gui_url", bad)]).len(), 1, "{bad}");
            assert_eq!(problems(&[("admin_gui_api_url", bad)]).len(), 1, "{bad}");
        }
    }

    #[test]
    fn roles_need_their_listeners() {
        assert_eq!(
            problems(&[("role", "control_plane"), ("admin_listen", "off")]),
            ["admin_listen must be specified when role = \"control_plane\""]
        );
        assert_eq!(
            problems(&[("role", "data_plane"), ("proxy_listen", "off")]),
            ["proxy_listen must be specified when role = \"data_plane\""]
        );
        assert_eq!(
            problems(&[("proxy_listen", "off"), ("admin_listen", "off")]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn one_address_serves_one_purpose() {
        assert_eq!(
            problems(&[
                ("proxy_listen", "127.0.0.1:8001"),
                ("status_listen", "127.0.0.1:0, 127.0.0.1:0")
            ]),
            ["admin_listen: 127.0.0.1:8001 is already used by proxy_listen"]
        );
    }

    #[test]
    fn certificates_matter_only_where_there_is_tls() {
        let cert = ("ssl_cert", "/no/such/file");
        assert_eq!(problems(&[cert]), ["ssl_cert_key must be specified"]);
        assert_eq!(
            problems(&[cert, ("proxy_listen", "127.0.0.1:1")]),
            Vec::<String>::new()
        );
        assert_eq!(
            problems(&[
                ("admin_listen", "127.0.0.1:1 ssl"),
                ("admin_ssl_cert_key", "/no/such/file")
            ]),
            ["admin_ssl_cert must be specified"]
        );
    }

    #[test]
    fn the_rest_of_the_machine_is_looked_at() {
        assert_eq!(
            problems(&[("dns_hostsfile", "/no/such/file")]),
            ["dns_hostsfile: file does not exist"]
        );
        assert_eq!(
            problems(&[("lua_ssl_trusted_certificate", "system, /no/such/file")]),
            ["lua_ssl_trusted_certificate: failed loading certificate from /no/such/file"]
        );
        assert_eq!(
            problems(&[("plugins", "bundled, ghost")]),
            ["plugins: ghost plugin is enabled but not installed"]
        );
        assert_eq!(
            problems(&[("status_listen", "127.0.0.1:1 ssl")]),
            ["status_listen: ssl is not supported yet"]
        );
        assert_eq!(problems(&[("real_ip_header", "proxy_protocol")]).len(), 1);
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let loader = Loader::new()
            .set("anonymous_reports", "on")
            .set("pg_ssl_verify", "on")
            .set("role", "data_plane")
            .set("admin_listen", "127.0.0.1:1");
        let notices = loader.load().unwrap().notices;
        assert_eq!(notices.len(), 3, "{notices:?}");
    }
}
