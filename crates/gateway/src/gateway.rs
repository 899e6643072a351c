//! [`Gateway`]: which plugins there are, and the command line over it.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use silverback_plugin::{Handler, PluginDef};
use silverback_telemetry::logging::{self, ErrorTarget, LogConfig, LogHandle};

use crate::cli::{self, AdminToken, Commands, Declarative, Migrations, Ready};
use crate::config::{Config, Loader, Target};
use crate::node::{Node, Stop};
use crate::{VERSION, declarative, pg, tokens};

/// A gateway program: `Gateway::bundled().plugin::<Mine>().main()`.
pub struct Gateway {
    plugins: Vec<PluginDef>,
}

impl Gateway {
    /// With the plugins that come with Silverback.
    pub fn bundled() -> Self {
        Gateway {
            plugins: silverback_bundled::all(),
        }
    }

    /// Without any plugin.
    pub fn bare() -> Self {
        Gateway {
            plugins: Vec::new(),
        }
    }

    /// With one more plugin. One of the same name as an earlier one takes its place.
    pub fn plugin<P: Handler>(mut self) -> Self {
        self.plugins.retain(|p| p.name != P::NAME);
        self.plugins.push(PluginDef::of::<P>());
        self
    }

    /// Does what the command line of this process says.
    pub fn main(self) -> ExitCode {
        cli::main(&self)
    }

    /// The plugins that a node with these settings loads.
    ///
    /// # Errors
    /// When the setting `plugins` names one that there is not.
    pub fn selected(&self, config: &Config) -> anyhow::Result<Vec<PluginDef>> {
        let offers: Vec<&str> = self.plugins.iter().map(|p| p.name).collect();
        let chosen = config
            .plugins
            .select(&offers)
            .map_err(|e| anyhow::anyhow!(e.join("\n")))?;
        Ok(self
            .plugins
            .iter()
            .filter(|p| chosen.contains(&p.name))
            .cloned()
            .collect())
    }
}

impl Commands for Gateway {
    fn run(&self, config: Config, ready: Ready) -> anyhow::Result<()> {
        let log = init_logging(&config)?;
        let node = Node::start(&config, self.selected(&config)?, log.clone())?;
        ready.notify();
        tracing::info!(version = VERSION, "ready");
        let stop = node.until_signalled(|access_log| reload(&config, &node, &log, access_log));
        let grace = match stop {
            Stop::Gracefully => config.graceful_stop_timeout,
            Stop::Now => Duration::ZERO,
        };
        node.stop(grace);
        tracing::info!("stopped");
        Ok(())
    }

    fn migrations(&self, config: &Config, migrations: &Migrations) -> anyhow::Result<u8> {
        pg::migrations(config, migrations)
    }

    fn declarative(
        &self,
        config: &Config,
        what: &Declarative,
        say: &mut dyn FnMut(&str),
    ) -> anyhow::Result<()> {
        declarative::command(config, &self.selected(config)?, what, say)
    }

    fn declarative_example(&self, file: &Path) -> anyhow::Result<()> {
        declarative::init(file)
    }

    fn admin_token(&self, config: &Config, what: &AdminToken) -> anyhow::Result<u8> {
        tokens::run(config, what)
    }

    fn plugins(&self) -> Vec<String> {
        self.plugins.iter().map(|p| p.name.to_owned()).collect()
    }

    fn versions(&self) -> Vec<(String, String)> {
        let own = [
            ("Silverback".to_owned(), VERSION.to_owned()),
            (
                "Admin API of Kong".to_owned(),
                silverback_admin::KONG_VERSION.to_owned(),
            ),
            (
                "Pingora".to_owned(),
                silverback_proxy::PINGORA_VERSION.to_owned(),
            ),
            ("OpenSSL".to_owned(), openssl::version::version().to_owned()),
        ];
        let plugins = self
            .plugins
            .iter()
            .map(|p| (format!("plugin {}", p.name), p.version.to_owned()));
        own.into_iter().chain(plugins).collect()
    }
}

fn init_logging(config: &Config) -> anyhow::Result<LogHandle> {
    let target = match &config.proxy_error_log {
        Target::Off => ErrorTarget::File("/dev/null".into()),
        Target::File(path) => ErrorTarget::parse(&path.display().to_string(), &config.prefix),
    };
    let level = config.log_level.as_str().parse()?;
    let log = logging::init(&LogConfig {
        level,
        target,
        ..LogConfig::default()
    })?;
    // A panic that is caught is still told, with its place.
    std::panic::set_hook(Box::new(|info| tracing::error!("{info}")));
    Ok(log)
}

/// SIGHUP: reopens the logs and takes what can change while running.
fn reload(
    running: &Config,
    node: &Node,
    log: &LogHandle,
    access_log: &silverback_telemetry::AccessLog,
) {
    access_log.reopen();
    if let Err(e) = log.reopen() {
        tracing::error!("the error log cannot be reopened: {e}");
    }
    let loaded = match Loader::from_process().running_at(&running.prefix).load() {
        Ok(loaded) => loaded,
        Err(e) => {
            tracing::error!("the settings are not taken over: {e}");
            return;
        }
    };
    for setting in running.differences(&loaded.config) {
        if !setting.reload {
            tracing::warn!("{} changed: this takes a restart", setting.name);
        }
    }
    let level = loaded
        .config
        .log_level
        .as_str()
        .parse()
        .context("log_level");
    if let Err(e) = level.and_then(|level| Ok(node.configure_log_level(level)?)) {
        tracing::error!("the log level stays: {e:#}");
    }
    tracing::info!("reloaded");
}
