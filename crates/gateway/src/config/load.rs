//! From file, environment and command line to a [`Config`]: later layers win, and everything that is
//! wrong is reported at once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::layers::Layers;
use super::table::{Config, Setting};

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: the table's default.
    Default,
    /// In the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
    },
    /// In an environment variable of this name.
    Environment(String),
    /// On the command line.
    CommandLine,
}

impl Source {
    /// How much it weighs: a greater one wins.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment(name) if name.starts_with(super::layers::KONG_PREFIX) => 2,
            Self::Environment(_) => 3,
            Self::CommandLine => 4,
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// Where the values of a [`Config`] came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The configuration file that was read, if any; absolute.
    pub file: Option<PathBuf>,
    sources: BTreeMap<&'static str, Source>,
}

impl Origin {
    /// Where the setting with this name was given.
    #[must_use]
    pub fn of(&self, name: &str) -> &Source {
        self.sources.get(name).unwrap_or(&Source::Default)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A whole sentence that begins with the setting, in Kong's words where it has some. Never holds a
    /// secret.
    pub message: String,
    /// Where it was given, when it was given in one place.
    pub source: Option<Source>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            None | Some(Source::Default) => Ok(()),
            Some(source) => write!(f, " ({source})"),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that was asked for does not exist.
    #[error("no file at: {}", .0.display())]
    NoFile(PathBuf),
    /// The file cannot be read.
    #[error("could not load config file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Values are wrong: all of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
}

/// A configuration, and what its user should know about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings, as whole sentences: unknown settings, settings of Kong that have no effect, and the
    /// like.
    pub notices: Vec<String>,
}

/// Puts a configuration together.
///
/// A new loader knows the defaults only. Layers, each stronger than the one before: the file,
/// `KONG_<NAME>`, `SILVERBACK_<NAME>`, [`set`](Self::set).
#[derive(Clone, Default)]
pub struct Loader {
    file: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    overrides: Vec<(String, String)>,
    plugins: Option<Vec<String>>,
}

impl Loader {
    /// Looked at, in this order, when no file is named.
    pub const DEFAULT_FILES: [&'static str; 2] =
        ["/etc/silverback/silverback.conf", "/etc/silverback.conf"];

    /// The defaults only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With the environment of this process, and the first of [`DEFAULT_FILES`](Self::DEFAULT_FILES)
    /// that exists.
    #[must_use]
    pub fn from_process() -> Self {
        let default = Self::DEFAULT_FILES
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.exists());
        Self {
            file: default,
            environment: std::env::vars_os().collect(),
            ..Self::default()
        }
    }

    /// Reads this file instead of the one found so far; it must exist. `None` changes nothing.
    #[must_use]
    pub fn file(mut self, path: Option<&Path>) -> Self {
        if let Some(path) = path {
            self.file = Some(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        }
        self
    }

    /// Uses these environment variables instead of the ones found so far.
    #[must_use]
    pub fn environment<K: Into<OsString>, V: Into<OsString>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.environment = variables
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        self
    }

    /// Sets one value, stronger than everything else.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.overrides.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets names in `plugins` be checked against what the binary offers.
    #[must_use]
    pub fn plugins<S: Into<String>>(mut self, offers: impl IntoIterator<Item = S>) -> Self {
        self.plugins = Some(offers.into_iter().map(Into::into).collect());
        self
    }

    /// The configuration of the node that runs at `prefix`: the file that it was started or last
    /// reloaded with. This is what a node loads when it is told to reload.
    #[must_use]
    pub fn running_at(mut self, prefix: &Path) -> Self {
        if let Ok(recorded) = std::fs::read_to_string(record(prefix)) {
            let path = recorded.trim();
            self.file = (!path.is_empty()).then(|| path.into());
        }
        self.set("prefix", &prefix.to_string_lossy())
    }

    /// The prefix alone, whatever else is wrong with the configuration.
    ///
    /// # Errors
    /// When the file does not exist or cannot be read.
    pub fn prefix(&self) -> Result<PathBuf, ConfigError> {
        let (config, ..) = self.assemble()?;
        Ok(config.prefix)
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    /// See [`ConfigError`]; every problem is in it.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let (config, mut problems, mut notices) = self.assemble()?;
        super::check::check(
            &config,
            self.plugins.as_deref(),
            &mut problems,
            &mut notices,
        );
        if problems.is_empty() {
            Ok(Loaded { config, notices })
        } else {
            Err(ConfigError::Invalid(problems))
        }
    }

    fn assemble(&self) -> Result<(Config, Vec<Problem>, Vec<String>), ConfigError> {
        let mut layers = Layers::default();
        if let Some(path) = &self.file {
            layers.read_file(path)?;
        }
        layers.read_environment(&self.environment);
        for (name, value) in &self.overrides {
            layers.give(name, value.clone(), Source::CommandLine);
        }
        let Layers {
            given,
            mut problems,
            notices,
        } = layers;

        let sources = given
            .iter()
            .map(|(name, given)| (*name, given.source.clone()))
            .collect();
        let origin = Origin {
            file: self.file.clone(),
            sources,
        };
        let text = |name| given.get(name).map(|given| given.text.clone());
        let config = Config::read(origin.clone(), text, |name, message| {
            let secret = Setting::find(name).is_some_and(|setting| setting.secret);
            let message = if secret {
                format!("{name} has an invalid value")
            } else {
                message
            };
            problems.push(Problem {
                message,
                source: Some(origin.of(name).clone()),
            });
        });
        let Some(mut config) = config else {
            let message = "the table of settings holds a default that is not valid".to_owned();
            return Err(ConfigError::Invalid(vec![Problem {
                message,
                source: None,
            }]));
        };
        // Through components, so that a trailing slash makes no difference.
        config.prefix = std::path::absolute(&config.prefix)
            .unwrap_or(config.prefix)
            .components()
            .collect();
        Ok((config, problems, notices))
    }
}

impl std::fmt::Debug for Loader {
    /// Without the environment, which holds secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// Where a running node keeps the path of its configuration file.
pub(crate) fn record(prefix: &Path) -> PathBuf {
    prefix.join(".silverback_conf")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

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
    fn defaults_alone_are_a_configuration() {
        let loaded = Loader::new().load().unwrap();
        assert_eq!(loaded.notices, Vec::<String>::new());
        assert_eq!(loaded.config.pg_port, 5432);
        assert_eq!(loaded.config.prefix, Path::new("/usr/local/silverback"));
        assert_eq!(loaded.config.origin().of("pg_port"), &Source::Default);
    }

    #[test]
    fn all_problems_are_reported_at_once_with_where_they_are() {
        let result = with_file(
            "pg_port = x\nlog_level = loud\nnonsense\nadmin_listen = 0.0.0.0:8001\nretry_budget_ttl = 99\n",
        );
        let problems = problems(result);
        assert_eq!(problems.len(), 5, "{problems:#?}");
        assert!(
            problems
                .iter()
                .any(|p| p.starts_with("pg_port is not a number: 'x' (") && p.ends_with(":1)"))
        );
        assert!(
            problems
                .iter()
                .any(|p| p.starts_with("log_level has an invalid value: 'loud' (debug,"))
        );
        assert!(
            problems
                .iter()
                .any(|p| p.starts_with("expected 'name = value'") && p.ends_with(":3)"))
        );
        assert!(problems.iter().any(|p| p.contains("admin_allow_remote")));
        assert!(
            problems
                .iter()
                .any(|p| p.starts_with("retry_budget_ttl must be between 1 and 30"))
        );
    }

    #[test]
    fn secrets_appear_nowhere() {
        let secret = "hunter2";
        let key = "-----BEGIN PRIVATE KEY-----\\nhunter2";
        let loader = Loader::new().environment([
            ("SILVERBACK_PG_PASSWORD", secret),
            ("SILVERBACK_SSL_CERT", "/no/such/file"),
            ("SILVERBACK_SSL_CERT_KEY", key),
        ]);
        assert!(!format!("{loader:?}").contains(secret));
        let text = loader.load().unwrap_err().to_string();
        assert!(text.contains("ssl_cert_key: failed loading key"), "{text}");
        assert!(!text.contains(secret), "{text}");
        let loaded = Loader::new().set("pg_password", secret).load().unwrap();
        assert!(!format!("{loaded:?}").contains(secret));
        assert_eq!(
            loaded
                .config
                .pg_password
                .as_ref()
                .map(super::super::Secret::expose),
            Some(secret)
        );
    }

    #[test]
    fn an_empty_value_unsets_what_may_be_unset_and_only_that() {
        let loaded = Loader::new()
            .environment([("KONG_PG_PASSWORD", "")])
            .load()
            .unwrap();
        assert_eq!(loaded.config.pg_password, None);
        assert_eq!(problems(with_file("pg_host =\n")).len(), 1);
    }

    #[test]
    fn a_missing_file_is_an_error_of_its_own() {
        let error = Loader::new()
            .file(Some(Path::new("/no/such/silverback.conf")))
            .load()
            .unwrap_err();
        assert_eq!(error.to_string(), "no file at: /no/such/silverback.conf");
    }

    #[test]
    fn the_prefix_is_found_even_when_the_rest_is_wrong() {
        let file = file("prefix = /somewhere\npg_port = x\n");
        assert_eq!(
            Loader::new().file(Some(file.path())).prefix().unwrap(),
            Path::new("/somewhere")
        );
    }

    #[test]
    fn a_running_node_is_loaded_from_the_file_it_recorded() {
        let prefix = tempfile::tempdir().unwrap();
        let file = file("pg_host = recorded\nprefix = /ignored\n");
        std::fs::write(record(prefix.path()), file.path().to_str().unwrap()).unwrap();
        let config = Loader::new()
            .running_at(prefix.path())
            .load()
            .unwrap()
            .config;
        assert_eq!(config.pg_host, "recorded");
        assert_eq!(config.prefix, prefix.path());
    }
}
