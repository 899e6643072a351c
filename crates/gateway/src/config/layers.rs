//! The layers of a configuration before it is typed: which text counts for which setting, and what is
//! said about the rest.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::kong;
use super::load::{ConfigError, Problem, Source};
use super::parse;
use super::table::{SETTINGS, Setting};

pub(super) const KONG_PREFIX: &str = "KONG_";
const OWN_PREFIX: &str = "SILVERBACK_";

/// What was given so far, by the name of the setting.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) given: BTreeMap<&'static str, Given>,
    pub(super) problems: Vec<Problem>,
    pub(super) notices: Vec<String>,
}

impl Layers {
    pub(super) fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        if !path.exists() {
            return Err(ConfigError::NoFile(path.to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for line in parse::lines(&text) {
            match line {
                Ok(line) => {
                    let source = Source::File {
                        path: path.to_owned(),
                        line: line.number,
                    };
                    if let Some(before) = seen.insert(line.name.clone(), line.number) {
                        self.notices.push(format!(
                            "'{}' is given in lines {before} and {} of {}; the later one counts",
                            line.name,
                            line.number,
                            path.display()
                        ));
                    }
                    self.give(&line.name, line.value, source);
                }
                Err(line) => self.problems.push(Problem {
                    message: "expected 'name = value'".to_owned(),
                    source: Some(Source::File {
                        path: path.to_owned(),
                        line,
                    }),
                }),
            }
        }
        Ok(())
    }

    pub(super) fn read_environment(&mut self, variables: &[(OsString, OsString)]) {
        let mut ours: Vec<_> = variables
            .iter()
            .filter_map(|(key, value)| {
                let key = key.to_str()?;
                let name = key
                    .strip_prefix(OWN_PREFIX)
                    .or_else(|| key.strip_prefix(KONG_PREFIX))?;
                let lower = name.to_ascii_lowercase();
                // Kong reads upper-case names only.
                (name == name.to_ascii_uppercase()).then_some((key, lower, value))
            })
            .collect();
        ours.sort();
        for (key, name, value) in ours {
            let known = Setting::find(&name).is_some() || kong::unsupported(&name).is_some();
            if !known && (key.starts_with(KONG_PREFIX) || is_not_a_setting(&name)) {
                continue;
            }
            let source = Source::Environment(key.to_owned());
            match value.to_str() {
                Some(value) => self.give(&name, value.to_owned(), source),
                None => self.problems.push(Problem {
                    message: format!("{name} is not valid UTF-8"),
                    source: Some(source),
                }),
            }
        }
    }

    /// Takes one value, under any name a setting has.
    pub(super) fn give(&mut self, name: &str, value: String, source: Source) {
        let Some(setting) = Setting::find(name) else {
            self.notices.push(match kong::unsupported(name) {
                Some(why) => format!("{} ({source})", why.sentence(name)),
                None => unknown(name, &source),
            });
            return;
        };
        if value.trim_start().starts_with("{vault://") {
            let message = format!(
                "{}: references to vaults are not supported yet",
                setting.name
            );
            self.problems.push(Problem {
                message,
                source: Some(source),
            });
            return;
        }
        let alias = setting.name != name;
        // Within one layer an alias wins over the name, as Kong has it for its nginx_* names.
        let weaker = self.given.get(setting.name).is_some_and(|earlier| {
            let (before, now) = (earlier.source.rank(), source.rank());
            before > now || (before == now && earlier.alias && !alias)
        });
        if !weaker {
            self.given.insert(
                setting.name,
                Given {
                    text: value,
                    source,
                    alias,
                },
            );
        }
    }
}

pub(super) struct Given {
    pub(super) text: String,
    pub(super) source: Source,
    /// Whether it was given under another name than the setting's first.
    alias: bool,
}

fn unknown(name: &str, source: &Source) -> String {
    let nearest = SETTINGS
        .iter()
        .flat_map(|setting| {
            [setting.name]
                .into_iter()
                .chain(setting.aliases.iter().copied())
        })
        .map(|known| (distance(name, known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().div_ceil(4));
    match nearest {
        Some((_, known)) => {
            format!("unknown setting '{name}' is ignored ({source}); did you mean '{known}'?")
        }
        None => format!("unknown setting '{name}' is ignored ({source})"),
    }
}

/// Variables after our prefix that others set: Kubernetes makes `<SERVICE>_SERVICE_HOST`,
/// `<SERVICE>_PORT_<N>_TCP` and so on for every service, and tests and tools have theirs.
fn is_not_a_setting(name: &str) -> bool {
    let service_link = name.starts_with("service_")
        || name.contains("_service_host")
        || name.contains("_service_port")
        || name == "port"
        || name.starts_with("port_")
        || name.ends_with("_port")
        || ["_tcp", "_udp"]
            .iter()
            .any(|protocol| name.contains("_port_") && name.contains(protocol));
    service_link
        || ["test_", "bench_", "update_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// How many letters to add, drop or change to make one word of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;
    use crate::config::{Loaded, Loader};

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        file
    }

    fn with_file(text: &str) -> Result<Loaded, ConfigError> {
        Loader::new().file(Some(file(text).path())).load()
    }

    fn problems(result: Result<Loaded, ConfigError>) -> Vec<String> {
        match result {
            Err(ConfigError::Invalid(problems)) => {
                problems.iter().map(ToString::to_string).collect()
            }
            other => panic!("expected problems, got {other:?}"),
        }
    }

    #[test]
    fn each_layer_wins_over_the_one_before() {
        let file = file(
            "pg_host = from-file\npg_user = from-file\npg_database = from-file\nprefix = /from-file\n",
        );
        let loader = Loader::new()
            .file(Some(file.path()))
            .environment([
                ("KONG_PG_USER", "from-kong"),
                ("KONG_PG_DATABASE", "from-kong"),
                ("SILVERBACK_PG_DATABASE", "from-own"),
                ("KONG_PREFIX", "/from-kong"),
            ])
            .set("prefix", "/from-command-line/");
        let config = loader.load().unwrap().config;
        assert_eq!(config.pg_host, "from-file");
        assert_eq!(config.pg_user, "from-kong");
        assert_eq!(config.pg_database, "from-own");
        assert_eq!(config.prefix, Path::new("/from-command-line"));
        assert_eq!(
            config.origin().of("pg_user"),
            &Source::Environment("KONG_PG_USER".into())
        );
        assert_eq!(config.origin().of("prefix"), &Source::CommandLine);
        assert!(matches!(
            config.origin().of("pg_host"),
            Source::File { line: 1, .. }
        ));
    }

    #[test]
    fn an_unknown_setting_is_ignored_with_a_hint() {
        let notices = with_file("pg_hots = x\nblubb = 1\n").unwrap().notices;
        assert!(notices[0].starts_with("unknown setting 'pg_hots' is ignored ("));
        assert!(
            notices[0].ends_with("did you mean 'pg_host'?"),
            "{notices:?}"
        );
        assert!(
            notices[1].starts_with("unknown setting 'blubb'")
                && !notices[1].contains("did you mean")
        );
    }

    #[test]
    fn settings_that_only_kong_has_are_named_as_such() {
        let notices = with_file("mem_cache_size = 128m\nadmin_gui_listen = off\n")
            .unwrap()
            .notices;
        assert!(notices[0].starts_with("'mem_cache_size' is known to Kong, but steers a part"));
        assert!(
            notices[1]
                .starts_with("'admin_gui_listen' is known to Kong, not supported here, ignored")
        );
        let environment = [("KONG_NGINX_HTTP_SEND_TIMEOUT", "3s")];
        let notices = Loader::new()
            .environment(environment)
            .load()
            .unwrap()
            .notices;
        assert!(
            notices[0].starts_with("'nginx_http_send_timeout' is known to Kong"),
            "{notices:?}"
        );
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        let environment = [
            ("KONG_ADMIN_PORT_8001_TCP_ADDR", "10.0.0.1"),
            ("KONG_WHATEVER", "x"),
            ("SILVERBACK_SERVICE_HOST", "10.0.0.1"),
            ("SILVERBACK_PROXY_SERVICE_PORT_HTTP", "80"),
            ("SILVERBACK_PROXY_PORT_80_TCP_PROTO", "tcp"),
            ("SILVERBACK_PORT", "tcp://10.0.0.1:80"),
            ("SILVERBACK_TEST_DATABASE", "x"),
            ("kong_pg_port", "x"),
        ];
        assert_eq!(
            Loader::new()
                .environment(environment)
                .load()
                .unwrap()
                .notices,
            Vec::<String>::new()
        );
        let notices = Loader::new()
            .environment([("SILVERBACK_PG_HOTS", "x")])
            .load()
            .unwrap()
            .notices;
        assert!(
            notices[0].contains("environment variable SILVERBACK_PG_HOTS"),
            "{notices:?}"
        );
    }

    #[test]
    fn an_alias_wins_within_its_layer_but_not_over_a_stronger_one() {
        for text in [
            "real_ip_header = A\nnginx_proxy_real_ip_header = B\n",
            "nginx_proxy_real_ip_header = B\nreal_ip_header = A\n",
        ] {
            assert_eq!(with_file(text).unwrap().config.real_ip_header, "B");
        }
        let file = file("nginx_http_client_max_body_size = 1m\n");
        let loader = Loader::new().file(Some(file.path()));
        assert_eq!(
            loader.clone().load().unwrap().config.client_max_body_size,
            1 << 20
        );
        let loader = loader.environment([("SILVERBACK_CLIENT_MAX_BODY_SIZE", "2m")]);
        assert_eq!(loader.load().unwrap().config.client_max_body_size, 2 << 20);
    }

    #[test]
    fn a_setting_given_twice_takes_the_later_value_and_says_so() {
        let loaded = with_file("pg_host = a\npg_host = b\n").unwrap();
        assert_eq!(loaded.config.pg_host, "b");
        assert!(
            loaded.notices[0].contains("'pg_host' is given in lines 1 and 2"),
            "{:?}",
            loaded.notices
        );
    }

    #[test]
    fn vault_references_are_refused_rather_than_taken_literally() {
        let problems = problems(with_file("pg_password = {vault://env/pg-password}\n"));
        assert!(problems[0].starts_with("pg_password: references to vaults are not supported yet"));
    }

    #[test]
    fn a_value_that_is_not_text_is_reported() {
        let environment = [(
            OsString::from("SILVERBACK_PG_HOST"),
            OsString::from_vec(vec![0xff]),
        )];
        assert!(
            problems(Loader::new().environment(environment).load())[0]
                .starts_with("pg_host is not valid UTF-8")
        );
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("pg_hots", "pg_host"), 2);
    }
}
