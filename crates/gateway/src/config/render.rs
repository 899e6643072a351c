//! What is made from the table for people and programs to read: the default file, the reference, the
//! effective configuration, and the `configuration` object of `GET /`.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::kong;
use super::listen::Listener;
use super::load::{Origin, Source};
use super::parse::escape;
use super::table::{Config, SETTINGS, Setting};
use super::tokens::loaded_plugins;

/// What stands in place of a secret, as in Kong.
const HIDDEN: &str = "******";

impl Config {
    /// Where the values came from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Each setting with its value as text, in the order of the table; secrets hidden.
    pub fn shown(&self) -> impl Iterator<Item = (&'static Setting, String)> {
        SETTINGS.iter().map(|setting| {
            let text = self.text_of(setting.name).unwrap_or_default();
            let hide = setting.secret && !text.is_empty();
            (setting, if hide { HIDDEN.to_owned() } else { text })
        })
    }

    /// The whole configuration as a configuration file, with a comment where a value is not the
    /// default; secrets hidden.
    #[must_use]
    pub fn effective(&self) -> String {
        let mut text = String::new();
        for (setting, value) in self.shown() {
            let line = format!("{} = {}", setting.name, escape(&value));
            // Writing to a String cannot fail.
            let _ = match self.origin.of(setting.name) {
                Source::Default => writeln!(text, "{}", line.trim_end()),
                source => writeln!(text, "{line}  # {source}"),
            };
        }
        text
    }

    /// The `configuration` object of `GET /`: every setting under its name and Kong's other names for
    /// it, and what Kong derives from them. What is not set is left out; secrets are hidden.
    /// `loaded` are the names of the plugins that this node loaded.
    ///
    /// Unlike Kong's, an empty list is `[]` and not `{}`.
    #[must_use]
    pub fn to_json(&self, loaded: &[&str]) -> Value {
        let mut object = Map::new();
        for setting in SETTINGS {
            let Some(value) = self.json_of(setting.name) else {
                continue;
            };
            let empty = value.as_array().is_some_and(Vec::is_empty);
            let value = if setting.secret && !empty {
                json!(HIDDEN)
            } else {
                value
            };
            for name in [setting.name].iter().chain(setting.aliases) {
                object.insert((*name).to_owned(), value.clone());
            }
        }
        let listeners = |list: &[Listener]| list.iter().map(Listener::json).collect::<Value>();
        let tls = |list: &[Listener]| json!(list.iter().any(|listener| listener.tls));
        let derived = [
            ("proxy_listeners", listeners(self.proxy_listeners())),
            ("proxy_ssl_enabled", tls(self.proxy_listeners())),
            ("admin_listeners", listeners(self.admin_listeners())),
            ("admin_ssl_enabled", tls(self.admin_listeners())),
            ("status_listeners", listeners(&self.status_listen)),
            ("status_ssl_enabled", tls(&self.status_listen)),
            ("enabled_headers", self.headers.json()),
            ("enabled_headers_upstream", self.headers_upstream.json()),
            ("loaded_plugins", loaded_plugins(loaded)),
        ];
        object.extend(derived.map(|(name, value)| (name.to_owned(), value)));
        Value::Object(object)
    }

    /// The settings in which `other` differs, so that a reload can say which of them need a restart.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static Setting> {
        SETTINGS
            .iter()
            .filter(|setting| self.text_of(setting.name) != other.text_of(setting.name))
            .collect()
    }

    /// Where the snapshot of the configuration is kept; `None` when it is switched off.
    #[must_use]
    pub fn snapshot_path(&self) -> Option<PathBuf> {
        self.snapshot_file.resolve(&self.prefix)
    }
}

/// The text of `silverback.conf.default`: every setting, commented out, at its default.
#[must_use]
pub fn default_conf() -> String {
    let mut text = String::from(
        "# Silverback configuration file
#
# The syntax and most names are those of kong.conf. Every setting is shown at its default; remove the
# '#' before its name to change it. Check a file with `silverback check FILE`.
#
# Each setting can also be given as an environment variable: log_level as SILVERBACK_LOG_LEVEL or, for
# those who replace Kong, KONG_LOG_LEVEL. The environment wins over the file, SILVERBACK_ over KONG_.
#
# Booleans are on or off. Lists are separated by commas. A '#' within a value is written '\\#'.
",
    );
    let mut section = "";
    for setting in SETTINGS {
        if setting.section != section {
            section = setting.section;
            let rule = "-".repeat(78);
            let _ = write!(text, "\n#{rule}\n# {}\n#{rule}\n", section.to_uppercase());
        }
        text.push('\n');
        for line in setting.doc {
            let _ = writeln!(text, "#{line}");
        }
        let _ = writeln!(text, "# Values: {}.", (setting.describe)().replace('`', ""));
        let _ = writeln!(
            text,
            "{}",
            format!("#{} = {}", setting.name, escape(setting.default)).trim_end()
        );
    }
    text
}

/// The text of `docs/configuration.md`.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = String::from(
        "# Configuration

<!-- Made from the table in crates/gateway/src/config/table.rs; do not edit by hand. -->

`silverback.conf` has the syntax of `kong.conf`: `name = value`, one to a line, `#` for comments (`\\#` where it is
meant), lists separated by commas, booleans `on` or `off`. `silverback config default` prints a file with every
setting at its default, `silverback check FILE` checks one, `silverback config show` prints what is in effect.

Values are taken from, each stronger than the one before: the defaults, the file (`-c FILE`, or the first of
`/etc/silverback/silverback.conf` and `/etc/silverback.conf` that exists), environment variables `KONG_<NAME>`,
environment variables `SILVERBACK_<NAME>`, the command line.

Names and defaults are Kong's, except for the settings marked *Silverback only*. Kong's other settings are
[listed below](#settings-of-kong-that-have-no-effect); a file that holds them works, and each is reported at start.
`silverback reload` brings changes of the settings marked *reloadable* into effect; the others need a restart.
",
    );
    let mut section = "";
    for setting in SETTINGS {
        if setting.section != section {
            section = setting.section;
            let _ = write!(text, "\n## {section}\n");
        }
        let _ = write!(text, "\n### `{}`\n\n", setting.name);
        for line in setting.doc {
            let _ = writeln!(text, "{}", line.trim());
        }
        let default = if setting.default.is_empty() {
            "none".to_owned()
        } else {
            format!("`{}`", setting.default)
        };
        let _ = write!(
            text,
            "\n* Values: {}\n* Default: {default}\n",
            (setting.describe)()
        );
        if !setting.aliases.is_empty() {
            let names: Vec<_> = setting
                .aliases
                .iter()
                .map(|name| format!("`{name}`"))
                .collect();
            let _ = writeln!(text, "* Also: {}", names.join(", "));
        }
        let marks: Vec<_> = [
            (setting.own, "Silverback only"),
            (setting.reload, "reloadable"),
            (setting.secret, "never printed"),
        ]
        .into_iter()
        .filter_map(|(marked, mark)| marked.then_some(mark))
        .collect();
        if !marks.is_empty() {
            let _ = writeln!(text, "* *{}*", marks.join(", "));
        }
    }
    text.push_str("\n## Settings of Kong that have no effect\n\nNot supported yet:\n\n");
    names(&mut text, kong::NOT_YET, "all other `vault_*`");
    text.push_str("\nFor parts of Kong that Silverback does not have:\n\n");
    names(
        &mut text,
        kong::NEEDLESS,
        "all other `nginx_*`, `pluginserver_*`",
    );
    text
}

fn names(text: &mut String, names: &[&str], families: &str) {
    let mut line = String::new();
    for name in names.iter().map(|name| format!("`{name}`,")) {
        if line.len() + name.len() >= 110 {
            let _ = writeln!(text, "{}", line.trim_end());
            line.clear();
        }
        let _ = write!(line, "{name} ");
    }
    let _ = writeln!(text, "{line}{families}");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Loader;

    /// Compares a committed file with what it is made from; `SILVERBACK_UPDATE_DOCS=1` writes it.
    fn assert_fresh(path: &str, made: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if std::env::var_os("SILVERBACK_UPDATE_DOCS").is_some() {
            std::fs::write(&path, made).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == made,
            "{} is stale: run this test with SILVERBACK_UPDATE_DOCS=1",
            path.display()
        );
    }

    #[test]
    fn the_committed_reference_is_fresh() {
        assert_fresh("docs/configuration.md", &reference_markdown());
    }

    #[test]
    fn the_committed_default_file_is_fresh() {
        assert_fresh("silverback.conf.default", &default_conf());
    }

    #[test]
    fn the_default_file_is_the_default_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("silverback.conf");
        // Every setting uncommented: a `#` directly before a name and ` =`.
        let text: String = default_conf()
            .lines()
            .map(|line| {
                match line
                    .strip_prefix('#')
                    .and_then(|rest| rest.split_once(" ="))
                {
                    Some((name, _)) if Setting::find(name).is_some() => format!("{}\n", &line[1..]),
                    _ => format!("{line}\n"),
                }
            })
            .collect();
        std::fs::write(&path, text).unwrap();
        let loaded = Loader::new().file(Some(&path)).load().unwrap();
        assert_eq!(loaded.notices, Vec::<String>::new());
        for setting in SETTINGS {
            assert!(
                matches!(loaded.config.origin().of(setting.name), Source::File { .. }),
                "{}",
                setting.name
            );
        }
        assert_eq!(
            loaded
                .config
                .differences(&Loader::new().load().unwrap().config)
                .len(),
            0
        );
    }

    #[test]
    fn the_effective_configuration_can_be_read_again_and_hides_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("silverback.conf");
        let config = Loader::new()
            .set("pg_password", "hunter2")
            .set("pg_user", "a#b")
            .load()
            .unwrap()
            .config;
        let text = config.effective();
        assert!(
            text.contains("pg_password = ******  # command line\n") && !text.contains("hunter2")
        );
        assert!(text.contains("pg_port = 5432\n"));
        std::fs::write(&path, text).unwrap();
        let again = Loader::new().file(Some(&path)).load().unwrap().config;
        let names: Vec<_> = config
            .differences(&again)
            .iter()
            .map(|setting| setting.name)
            .collect();
        assert_eq!(names, ["pg_password"]);
    }

    #[test]
    fn the_admin_api_shows_types_as_kong_does() {
        let config = Loader::new()
            .set("pg_password", "hunter2")
            .load()
            .unwrap()
            .config;
        let object = config.to_json(&["key-auth"]);
        assert_eq!(object["database"], "postgres");
        assert_eq!(object["pg_port"], 5432);
        assert_eq!(object["pg_timeout"], 5000);
        assert_eq!(object["pg_ssl"], false);
        assert_eq!(object["pg_password"], "******");
        assert_eq!(object["real_ip_recursive"], "off");
        assert_eq!(object["nginx_http_client_max_body_size"], "0");
        assert_eq!(object["nginx_worker_processes"], "auto");
        assert_eq!(object["nginx_main_worker_processes"], "auto");
        assert_eq!(
            object["admin_listen"],
            json!(["127.0.0.1:8001 reuseport backlog=16384"])
        );
        assert_eq!(object["plugins"], json!(["bundled"]));
        assert_eq!(object["loaded_plugins"], json!({"key-auth": true}));
        assert_eq!(object["proxy_listeners"][1]["ssl"], true);
        assert_eq!(object["proxy_ssl_enabled"], true);
        assert_eq!(object["enabled_headers"]["Via"], true);
        assert_eq!(object["dns_order"], json!(["LAST", "SRV", "A", "CNAME"]));
        assert_eq!(object["trusted_ips"], json!([]));
        assert!(object.get("pg_schema").is_none());
        assert!(!object.to_string().contains("hunter2"));
    }

    #[test]
    fn keys_are_hidden_in_the_admin_api() {
        let dir = tempfile::tempdir().unwrap();
        let pair = crate::config::selfsigned::ensure(dir.path(), "a").unwrap();
        let loader = Loader::new()
            .set("ssl_cert", pair.cert.to_str().unwrap())
            .set("ssl_cert_key", pair.key.to_str().unwrap());
        let object = loader.load().unwrap().config.to_json(&[]);
        assert_eq!(object["ssl_cert"], json!([pair.cert]));
        assert_eq!(object["ssl_cert_key"], "******");
    }

    #[test]
    fn a_reload_can_tell_what_changed() {
        let before = Loader::new().load().unwrap().config;
        let after = Loader::new()
            .set("log_level", "debug")
            .set("pg_host", "x")
            .load()
            .unwrap()
            .config;
        let changed: Vec<_> = before
            .differences(&after)
            .into_iter()
            .map(|setting| (setting.name, setting.reload))
            .collect();
        assert_eq!(changed, [("log_level", true), ("pg_host", false)]);
    }

    #[test]
    fn the_snapshot_lies_under_the_prefix_unless_it_is_off() {
        let config = Loader::new().set("prefix", "/p").load().unwrap().config;
        assert_eq!(config.snapshot_path(), Some("/p/snapshot".into()));
        let config = Loader::new()
            .set("snapshot_file", "off")
            .load()
            .unwrap()
            .config;
        assert_eq!(config.snapshot_path(), None);
    }
}
